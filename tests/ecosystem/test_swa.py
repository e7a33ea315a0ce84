"""INNA with torch.optim.swa_utils: the example, and its averages computed by hand."""

import pytest

pytest.importorskip("torch.nn")  # without PyTorch, torch alone is the folder tests/torch

import torch

pytest.importorskip("sklearn")

from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from example_programs import load_example
from inna.torch import INNA


def test_averages_and_resumption(tmp_path, capsys):
    """The mean of the iterates since the second epoch; weights and momentum are those of a loop without averaging."""
    example = load_example("weight_averaging_digits")
    example.main(tmp_path)
    assert "the same weights: True" in capsys.readouterr().out

    model = example.network()
    optimizer = INNA(model.parameters(), lr=0.5, alpha=0.5, beta=0.5)
    iterates = []
    steps_since = 0
    for epoch in range(3):
        for x, y in example.batches():
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
            if epoch >= 1:
                steps_since += 1
                done = min(steps_since / 15, 1.0)
                # SWALR's cosine from 0.5 to 0.1
                angle = torch.tensor(torch.pi * done, dtype=torch.float64)
                optimizer.param_groups[0]["lr"] = (0.1 + (0.5 - 0.1) * (1 + torch.cos(angle)) / 2).item()
                iterates.append([param.detach().double().clone() for param in model.parameters()])
    for folder in ("whole", "resumed"):
        checkpoint = torch.load(tmp_path / folder / "epoch-2.pt")
        torch.testing.assert_close(checkpoint["model"], model.state_dict(), rtol=1e-4, atol=1e-5)
        ours, theirs = checkpoint["optimizer"]["state"], optimizer.state_dict()["state"]
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5)
        averages = [value for name, value in checkpoint["averaged"].items() if name.endswith(("weight", "bias"))]
        for average, *values in zip(averages, *iterates, strict=True):
            torch.testing.assert_close(average.double(), torch.stack(values).mean(0), rtol=1e-4, atol=1e-5)


def test_an_exponential_average_follows_the_iterates():
    """EMA after every step, in float64: e <- 0.9 e + 0.1 theta."""
    param = torch.nn.Parameter(torch.tensor([1.0, -2.0], dtype=torch.float64))
    model = torch.nn.Module()
    model.weight = param
    averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9))
    optimizer = INNA([param], lr=0.1, alpha=0.5, beta=0.1, initial_speed=1.0)
    expected = None
    for _ in range(20):
        param.grad = torch.tensor([1.0, 4.0], dtype=torch.float64) * param.detach()
        optimizer.step()
        averaged.update_parameters(model)
        theta = param.detach().clone()
        expected = theta if expected is None else 0.9 * expected + 0.1 * theta
    torch.testing.assert_close(averaged.module.weight.detach(), expected, rtol=1e-14, atol=0)
