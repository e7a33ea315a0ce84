"""The built-in data sets: description, networks, files, addresses and checksums.

No framework is imported.

``mnist[:10000]`` is mnist with its first 10,000 training images.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from inna.checks import check_range, did_you_mean

__all__ = [
    "CATALOGUE",
    "DatasetEntry",
    "PublishedFile",
    "builtin_model",
    "check_images",
    "check_network",
    "entry",
    "networks_for",
    "split_subset",
    "split_width",
    "subset",
    "with_width",
]

_WIDE = "nin"  # the network that has widths
SMALLEST_WIDTH = 0.01
SMALLEST_FOR_NIN = 20  # pixels; fewer would be mostly padding


@dataclass(frozen=True)
class PublishedFile:
    """A file as it is published.

    Attributes:
        name: the file's name; ``.gz`` contains one file, ``.tar.gz`` several.
        size: in bytes.
        sha256: checksum of the published file.
        addresses: where it can be downloaded, tried in this order.
        contents: the members that are read, each with the checksum of an unpacked copy: ``sha256:...``, or ``md5:...``
            if only the publisher's MD5 is known. Without a checksum only the packed file is used.
    """

    name: str
    size: int
    sha256: str
    addresses: tuple[str, ...]
    contents: Mapping[str, str]


@dataclass(frozen=True)
class DatasetEntry:
    """A data set of images in classes.

    Attributes:
        name: the name that commands and functions take.
        title: what the images show.
        shape: (channels, height, width) of an image; of a file of one's own also (features,).
        classes: number of classes.
        train, test: number of images to train on and to test on.
        terms: the licence, or the publisher's conditions.
        source: the publication to cite.
        files: empty if the data come with a package.
        folders: further folders within the data folder where its files are looked for.
        networks: names of the networks for it, the default first.
    """

    name: str
    title: str
    shape: tuple[int, ...]
    classes: int
    train: int
    test: int
    terms: str
    source: str
    files: tuple[PublishedFile, ...] = ()
    folders: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()


def _idx_files(bases: tuple[str, ...], described: Mapping[str, tuple[int, str, str]]) -> tuple[PublishedFile, ...]:
    """Return the four files of MNIST's layout.

    ``described`` is name -> (bytes, SHA-256, checksum of the content).
    """
    return tuple(
        PublishedFile(f"{name}.gz", size, sha256, tuple(f"{base}{name}.gz" for base in bases), {name: checksum})
        for name, (size, sha256, checksum) in described.items()
    )


def _cifar_file(name: str, size: int, sha256: str, contents: Mapping[str, str]) -> tuple[PublishedFile, ...]:
    bases = ("https://www.cs.toronto.edu/~kriz/", "https://cave.cs.toronto.edu/kriz/")
    return (PublishedFile(name, size, sha256, tuple(f"{base}{name}" for base in bases), contents),)


CIFAR_TERMS = "none stated"
CIFAR_SOURCE = 'A. Krizhevsky, "Learning multiple layers of features from tiny images", report, Toronto, 2009'

DIGITS = DatasetEntry(
    name="digits",
    title="handwritten digits",
    shape=(1, 8, 8),
    classes=10,
    train=1437,
    test=360,
    terms="CC BY 4.0",
    source='E. Alpaydin, C. Kaynak, "Optical recognition of handwritten digits", UCI repository, 1998',
    networks=("small-cnn",),
)

MNIST = DatasetEntry(
    name="mnist",
    title="handwritten digits",
    shape=(1, 28, 28),
    classes=10,
    train=50_000,
    test=10_000,
    terms="CC BY-SA 3.0",
    source='Y. LeCun, C. Cortes, C. Burges, "The MNIST database of handwritten digits", 1998',
    networks=("lenet5", "nin"),
    # The authors' own server is the last one: it rejects programs. The others are authorised copies.
    files=_idx_files(
        (
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
            "http://yann.lecun.com/exdb/mnist/",
        ),
        {
            "train-images-idx3-ubyte": (
                9_912_422,
                "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
                "sha256:ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            ),
            "train-labels-idx1-ubyte": (
                28_881,
                "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
                "sha256:65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            ),
            "t10k-images-idx3-ubyte": (
                1_648_877,
                "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
                "sha256:0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            ),
            "t10k-labels-idx1-ubyte": (
                4_542,
                "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
                "sha256:ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
            ),
        },
    ),
    folders=("MNIST/raw",),
)

FASHION_MNIST = DatasetEntry(
    name="fashion-mnist",
    title="articles of clothing",
    shape=(1, 28, 28),
    classes=10,
    train=50_000,
    test=10_000,
    terms="MIT",
    source='H. Xiao, K. Rasul, R. Vollgraf, "Fashion-MNIST: a novel image dataset", arXiv 1708.07747, 2017',
    networks=("lenet5", "nin"),
    files=_idx_files(
        (
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
            "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
            "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
        ),
        {
            "train-images-idx3-ubyte": (
                26_421_880,
                "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
                "",
            ),
            "train-labels-idx1-ubyte": (
                29_515,
                "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
                "",
            ),
            "t10k-images-idx3-ubyte": (
                4_422_102,
                "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
                "",
            ),
            "t10k-labels-idx1-ubyte": (
                5_148,
                "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
                "",
            ),
        },
    ),
    folders=("FashionMNIST/raw",),
)

CIFAR10 = DatasetEntry(
    name="cifar10",
    title="photographs of animals and vehicles",
    shape=(3, 32, 32),
    classes=10,
    train=50_000,
    test=10_000,
    terms=CIFAR_TERMS,
    source=CIFAR_SOURCE,
    networks=("nin",),
    files=_cifar_file(
        "cifar-10-binary.tar.gz",
        170_052_171,
        "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
        {
            "cifar-10-batches-bin/data_batch_1.bin": (
                "sha256:cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5"
            ),
            "cifar-10-batches-bin/data_batch_2.bin": (
                "sha256:a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed"
            ),
            "cifar-10-batches-bin/data_batch_3.bin": (
                "sha256:bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67"
            ),
            "cifar-10-batches-bin/data_batch_4.bin": (
                "sha256:014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48"
            ),
            "cifar-10-batches-bin/data_batch_5.bin": (
                "sha256:755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add"
            ),
            "cifar-10-batches-bin/test_batch.bin": (
                "sha256:8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b"
            ),
        },
    ),
)

CIFAR100 = DatasetEntry(
    name="cifar100",
    title="photographs in a hundred classes",
    shape=(3, 32, 32),
    classes=100,
    train=50_000,
    test=10_000,
    terms=CIFAR_TERMS,
    source=CIFAR_SOURCE,
    networks=("nin",),
    files=_cifar_file(
        "cifar-100-binary.tar.gz",
        168_513_733,
        "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
        {
            "cifar-100-binary/train.bin": "md5:6172c7755cfe09b2fe270c85cebc1b15",
            "cifar-100-binary/test.bin": "md5:4499cfba6c016c1be1438163640a0898",
        },
    ),
)

CATALOGUE: Mapping[str, DatasetEntry] = {
    described.name: described for described in (DIGITS, MNIST, FASHION_MNIST, CIFAR10, CIFAR100)
}


def entry(name: str) -> DatasetEntry:
    """Return the data set of that name.

    Raises:
        ValueError: there is none; the message lists those that exist.

    >>> entry("mnist").shape
    (1, 28, 28)
    """
    if name not in CATALOGUE:
        raise ValueError(f"the data sets are {', '.join(CATALOGUE)}; got {name!r}{did_you_mean(name, CATALOGUE)}")
    return CATALOGUE[name]


def builtin_model(name: str, model: str = "") -> str:
    """Return the name of a built-in task's network.

    ``model``, or its first if that is "". Data are not loaded.

    Raises:
        ValueError: the task or the network does not exist, or the data set has fewer images.

    >>> builtin_model("mnist"), builtin_model("mnist[:100]", "nin")
    ('lenet5', 'nin')
    """
    whole, images = split_subset(name)
    if whole not in CATALOGUE:
        known = ", ".join(CATALOGUE)
        raise ValueError(
            f"dataset must be one of {known}, a file of arrays ending in .npz, or your own task as file.py:function; "
            f"got {name!r}"
            f"{did_you_mean(whole, CATALOGUE)}"
        )
    check_images(name, images, CATALOGUE[whole].train)
    return check_network(whole, CATALOGUE[whole].networks, model)


def check_images(name: str, images: int | None, available: int) -> None:
    """Check the number of images of a part of a data set, such as ``mnist[:100]``.

    Args:
        name: of the part.
        images: those asked for; None for all.
        available: training images of the data set.

    Raises:
        ValueError: there are not so many.
    """
    if images is not None and not 0 < images <= available:
        raise ValueError(f"{split_subset(name)[0]} has {available} training images, so {name} does not exist")


def check_network(dataset: str, networks: tuple[str, ...], model: str) -> str:
    """Return ``model``, or the first of ``networks`` if that is "".

    >>> check_network("cifar10", ("nin",), ""), check_network("cifar10", ("nin",), "nin-w0.5")
    ('nin', 'nin-w0.5')

    Raises:
        ValueError: the network is none of ``networks``.
    """
    if model not in ("", *networks) and not (_WIDE in networks and split_width(model)[0] == _WIDE):
        raise ValueError(
            f"the networks for {dataset} are {', '.join(networks)}; got {model!r}{did_you_mean(model, networks)}"
        )
    return model or networks[0]


def with_width(model: str, width: float) -> str:
    """Return the name of a network with ``width`` times its channels.

    Network in Network is the one that has widths.

    Args:
        model: "nin", or "" for it.
        width: in [0.01, 1].

    Raises:
        ValueError: the width is out of range, or ``model`` has none.

    >>> with_width("nin", 0.333), with_width("mlp", 1.0)
    ('nin-w0.333', 'mlp')
    """
    number = check_range("width", width, minimum=SMALLEST_WIDTH)
    if number > 1:
        raise ValueError(f"width must be a number from {SMALLEST_WIDTH:g} to 1, got {width:g}")
    if number == 1:
        return model
    if model not in ("", _WIDE):
        raise ValueError(f"width is for the network {_WIDE}, got {model!r} with width {width:g}")
    return f"{_WIDE}-w{number:g}"


def split_width(model: str) -> tuple[str, float]:
    """Split the name of a network into the whole name and the width.

    >>> split_width("nin-w0.333"), split_width("lenet5")
    (('nin', 0.333), ('lenet5', 1.0))
    """
    match = re.fullmatch(rf"{_WIDE}-w(0\.\d+)", model)
    if match and float(match[1]) >= SMALLEST_WIDTH and model == with_width(_WIDE, float(match[1])):
        return _WIDE, float(match[1])
    return model, 1.0


def networks_for(shape: tuple[int, ...]) -> tuple[str, ...]:
    """Return the names of the networks for samples of a shape, the default first.

    Args:
        shape: (channels, height, width) or (features,).

    >>> networks_for((1, 8, 8)), networks_for((3, 64, 48)), networks_for((20,))
    (('small-cnn', 'mlp'), ('nin', 'mlp'), ('mlp',))
    """
    builtin = [
        network for described in CATALOGUE.values() if described.shape == shape for network in described.networks
    ]
    if not builtin and len(shape) == 3 and min(shape[1:]) >= SMALLEST_FOR_NIN:
        builtin = ["nin"]
    return (*dict.fromkeys(builtin), "mlp")


def subset(name: str, images: int) -> str:
    """Return the name of the first ``images`` training images of ``name``.

    >>> subset("mnist", 10000)
    'mnist[:10000]'
    """
    return f"{name}[:{images}]"


def split_subset(name: str) -> tuple[str, int | None]:
    """Split a name into the whole data set and its number of images.

    None for all training images.

    >>> split_subset("mnist[:10000]"), split_subset("mnist")
    (('mnist', 10000), ('mnist', None))
    """
    match = re.fullmatch(r"(.+)\[:(\d+)\]", name)
    return (match[1], int(match[2])) if match else (name, None)
