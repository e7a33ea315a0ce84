"""INNA in Lightning: the example, its checkpoints and resumption, and the plain loop."""

import pytest

from example_programs import load_example, needs

needs("lightning")

import torch  # noqa: E402

from inna.schedules import power_decay  # noqa: E402
from inna.torch import INNA, param_groups  # noqa: E402

# Lightning's own: an old name in PyTorch, its advice on workers, and that the resumed run writes elsewhere.
OTHERS = [
    "`isinstance:FutureWarning",
    "The 'train_dataloader' does not:UserWarning",
    "The dirpath has changed:UserWarning",
]


@pytest.mark.filterwarnings(*(f"ignore:{other}" for other in OTHERS))
def test_training_in_lightning(tmp_path, capsys):
    """Three epochs, and two after a resumption, end at the weights and the state of a loop by hand."""
    example = load_example("lightning_digits")
    example.main(tmp_path)
    assert "the same weights: True" in capsys.readouterr().out

    model = example.Classifier()
    optimizer = INNA(param_groups(model, weight_decay=1e-4), lr=0.5, alpha=0.5, beta=0.5)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, power_decay(0.25))
    for _ in range(3):
        for x, y in example.batches():
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model.network(x), y).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimizer.step()
            schedule.step()
    for folder in ("whole", "resumed"):
        checkpoint = torch.load(tmp_path / folder / "epoch=2.ckpt", weights_only=True)
        torch.testing.assert_close(checkpoint["state_dict"], model.state_dict(), rtol=1e-4, atol=1e-6)
        (state,) = checkpoint["optimizer_states"]
        torch.testing.assert_close(state["state"], optimizer.state_dict()["state"], rtol=1e-4, atol=1e-6)
        (scheduler,) = checkpoint["lr_schedulers"]
        assert scheduler["last_epoch"] == schedule.last_epoch
