"""INNA in timm: registration, the example with its checkpoints and resumption, and the plain loop.

timm needs torchvision, whose usual build does not fit a CPU build of torch: it declares no operators there, and then
fails to import for want of them. No model here calls them, so declaring them is enough.
"""

import sys

import pytest

from example_programs import load_example, needs

needs("timm")

import torch  # noqa: E402

try:
    import torchvision  # noqa: F401
except RuntimeError as error:
    if "operator torchvision::nms does not exist" not in str(error):
        raise
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[name]
    missing = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        missing.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

import timm.optim  # noqa: E402

from inna.torch import INNA, INNAprop  # noqa: E402


@pytest.fixture(scope="module")
def example():
    return load_example("timm_digits")


def test_training_in_timm(tmp_path, capsys, example):
    """Three epochs, and two after a resumption, end at the weights and the state of a loop by hand."""
    example.main(tmp_path)
    assert "the same weights: True" in capsys.readouterr().out

    model = example.small_vit()
    data = example.batches()
    groups = timm.optim.param_groups_weight_decay(model, 1e-4, no_weight_decay_list=model.no_weight_decay())
    optimizer = INNA(groups, lr=0.03, alpha=0.5, beta=0.5)
    for k in range(3 * len(data)):
        warm, end = len(data), 3 * len(data)
        # timm's cosine, after a linear warm-up, counts from the very first step.
        angle = torch.tensor(torch.pi * k / end, dtype=torch.float64)
        lr = 0.03 + (0.3 - 0.03) * k / warm if k < warm else 0.3 / 2 * (1 + torch.cos(angle).item())
        for group in optimizer.param_groups:
            group["lr"] = lr
        x, y = data[k % len(data)]
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    for folder in ("whole", "resumed"):
        checkpoint = torch.load(tmp_path / folder / "checkpoint-2.pth.tar")
        torch.testing.assert_close(checkpoint["state_dict"], model.state_dict(), rtol=1e-3, atol=1e-5)
        state = checkpoint["optimizer"]["state"]
        torch.testing.assert_close(state, optimizer.state_dict()["state"], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(("name", "optimizer_class"), [("inna", INNA), ("innaprop", INNAprop)])
def test_registered_by_name(example, name, optimizer_class):
    model = example.small_vit()
    optimizer = timm.optim.create_optimizer_v2(model, name, lr=0.2, weight_decay=0.01, alpha=0.7, beta=0.3)
    assert type(optimizer) is optimizer_class
    expected = timm.optim.param_groups_weight_decay(model, 0.01, no_weight_decay_list=model.no_weight_decay())
    for ours, theirs in zip(optimizer.param_groups, expected, strict=True):
        assert (ours["lr"], ours["alpha"], ours["beta"]) == (0.2, 0.7, 0.3)
        assert ours["weight_decay"] == theirs["weight_decay"]
        assert list(map(id, ours["params"])) == list(map(id, theirs["params"]))
