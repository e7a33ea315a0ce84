"""The networks of the built-in tasks.

The run's seed decides the weights, so all optimizers start from the same ones.

The paper states a normal distribution without its variance. Here weights are drawn from N(0, 2 / fan_in), which keeps
the second moment of activations through a ReLU (K. He et al., ICCV 2015), and biases are zero.
"""

from __future__ import annotations

import math

from torch import nn

__all__ = ["lenet5", "mlp", "network_in_network", "normal_weights", "small_cnn"]

NIN_PIXELS = 32  # the least height and width


def normal_weights(network: nn.Module) -> nn.Module:
    """Draw all weights of the layers from N(0, 2 / fan_in), in place.

    Of convolutions and dense layers; their biases become zero.

    >>> layer = normal_weights(nn.Linear(1000, 500))
    >>> abs(layer.weight.var().item() * 1000 / 2 - 1) < 0.02, layer.bias.abs().max().item()
    (True, 0.0)
    """
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return network


def mlp(shape: tuple[int, ...], classes: int) -> nn.Module:
    """Return two hidden layers of 128 units with ReLU, for samples of any shape.

    (N, *shape) -> (N, classes) logits.

    >>> sum(p.numel() for p in mlp((20,), 3).parameters())
    19587
    """
    return normal_weights(
        nn.Sequential(
            nn.Flatten(),
            nn.Linear(math.prod(shape), 128),
            nn.ReLU(),
            nn.Linear(128, 128),
            nn.ReLU(),
            nn.Linear(128, classes),
        )
    )


def small_cnn(classes: int = 10) -> nn.Module:
    """Return one convolution and two dense layers for 8 x 8 images.

    8,714 parameters for ten classes.

    (N, 1, 8, 8) -> 3 x 3 convolution to 16 channels with stride 2, ReLU -> 32 units, ReLU -> (N, classes) logits. An
    iteration on 32 images is bound by the framework, not by arithmetic; a whole comparison takes minutes on a laptop.
    Test accuracy on digits is about 98 %.

    >>> sum(p.numel() for p in small_cnn().parameters())
    8714
    """
    return normal_weights(
        nn.Sequential(
            nn.Conv2d(1, 16, kernel_size=3, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(16 * 4 * 4, 32),
            nn.ReLU(),
            nn.Linear(32, classes),
        )
    )


def lenet5(classes: int = 10) -> nn.Module:
    """Return LeNet-5 with ReLU and max-pooling for 28 x 28 images.

    61,706 parameters for ten classes.

    (N, 1, 28, 28) -> (N, classes) logits. ReLU comes after the pooling: the two commute, values and gradients bit for
    bit, and there it has a quarter of the work.

    Source: Y. LeCun, L. Bottou, Y. Bengio, P. Haffner, "Gradient-based learning applied to document recognition",
    Proceedings of the IEEE 86(11), 1998; with today's activations and pooling.

    >>> sum(p.numel() for p in lenet5().parameters())
    61706
    """
    return normal_weights(
        nn.Sequential(
            nn.Conv2d(1, 6, 5, padding=2),
            nn.MaxPool2d(2),
            nn.ReLU(),
            nn.Conv2d(6, 16, 5),
            nn.MaxPool2d(2),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(16 * 5 * 5, 120),
            nn.ReLU(),
            nn.Linear(120, 84),
            nn.ReLU(),
            nn.Linear(84, classes),
        )
    )


def network_in_network(
    classes: int = 10, channels: int = 3, size: tuple[int, int] = (32, 32), width: float = 1.0
) -> nn.Module:
    """Return the paper's "slightly modified" Network in Network for 32 x 32 images.

    (N, channels, *size) -> (N, classes) logits. Three blocks of one k x k and two 1 x 1 convolutions, ReLU after each,
    pooling and dropout between them, no padding, and a dense layer after the last pooling, unlike the network of Lin,
    Chen and Yan. 967,096 parameters for 10 classes, 994,456 for 100.

    Args:
        classes: number of classes.
        channels: number of input channels.
        size: (height, width) of an image. One that is smaller than 32 x 32 is padded with zeros to that, since the last
            pooling would be left without pixels (957,496 parameters for one channel). For a larger one the dense layer
            has more inputs.

        width: fraction of the channels of every convolution but the last, in (0, 1], rounded to a multiple of 16 (at
            least 16), of which the processor's vectors are made. At 1/3 there are 64, 48 and 32 in place of 192, 160
            and 96.

    Source: the layers are those of the author's Keras networks of June 2019 (the paper names the network, its P of
    about 10^6 and ReLU, not its layers); M. Lin, Q. Chen, S. Yan, "Network in network", ICLR 2014.

    >>> [sum(p.numel() for p in network_in_network(classes).parameters()) for classes in (10, 100)]
    [967096, 994456]
    >>> sum(p.numel() for p in network_in_network(width=0.333).parameters())
    110984
    """

    def convolution(inputs: int, outputs: int, size: int) -> list[nn.Module]:
        return [nn.Conv2d(inputs, outputs, size), nn.ReLU()]

    wide, middle, narrow = (max(16, 16 * round(width * full / 16)) for full in (192, 160, 96))
    rows, columns = (max(0, NIN_PIXELS - pixels) for pixels in size)
    padding = (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2)
    left = math.prod(_pixels_after_nin(max(NIN_PIXELS, pixels)) for pixels in size)
    return normal_weights(
        nn.Sequential(
            *([nn.ZeroPad2d(padding)] if any(padding) else []),
            *convolution(channels, wide, 5),
            *convolution(wide, middle, 1),
            *convolution(middle, narrow, 1),
            nn.MaxPool2d(3, stride=2),
            nn.Dropout(0.5),
            *convolution(narrow, wide, 5),
            *convolution(wide, wide, 1),
            *convolution(wide, wide, 1),
            nn.AvgPool2d(3, stride=2),
            nn.Dropout(0.5),
            *convolution(wide, wide, 3),
            *convolution(wide, wide, 1),
            *convolution(wide, classes, 1),
            nn.AvgPool2d(2, stride=1),
            nn.Flatten(),
            nn.Linear(classes * left, classes),
        )
    )


def _pixels_after_nin(pixels: int) -> int:
    """Return the height after the last pooling of Network in Network.

    Of an image with ``pixels`` rows.
    """
    for convolution, pooling, stride in ((5, 3, 2), (5, 3, 2), (3, 2, 1)):
        pixels = (pixels - convolution + 1 - pooling) // stride + 1
    return pixels
