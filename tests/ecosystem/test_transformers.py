"""INNAprop in Hugging Face's Trainer and INNA under Accelerate: checkpoints, resumption, and the plain loop."""

import pytest

from example_programs import load_example, needs

needs("transformers")
needs("accelerate")

import torch  # noqa: E402
from accelerate import Accelerator  # noqa: E402
from transformers import BertForSequenceClassification, get_scheduler  # noqa: E402

from inna.schedules import power_decay  # noqa: E402
from inna.torch import INNA, INNAprop, param_groups  # noqa: E402


def test_the_trainer(tmp_path, capsys):
    """Three epochs, and two after a resumption, end at the weights and the state of a loop by hand."""
    example = load_example("hugging_face_trainer")
    example.main(tmp_path)
    assert "the same weights: True" in capsys.readouterr().out

    model = example.tiny_bert()
    optimizer = INNAprop(param_groups(model, weight_decay=1e-3), **example.SETTINGS)
    schedule = get_scheduler("cosine", optimizer, num_warmup_steps=5, num_training_steps=30)
    for _ in range(3):
        for batch in torch.utils.data.DataLoader(example.WhichIsMoreFrequent(), batch_size=16):
            optimizer.zero_grad()
            model(**batch).loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
    for folder in ("whole", "resumed"):
        last = tmp_path / folder / "checkpoint-30"
        trained = BertForSequenceClassification.from_pretrained(last)
        torch.testing.assert_close(trained.state_dict(), model.state_dict(), rtol=1e-4, atol=1e-6)
        state = torch.load(last / "optimizer.pt")["state"]
        torch.testing.assert_close(state, optimizer.state_dict()["state"], rtol=1e-4, atol=1e-6)


def linear_regression():
    torch.manual_seed(0)
    model = torch.nn.Linear(6, 1)
    data = torch.utils.data.TensorDataset(torch.randn(48, 6), torch.randn(48, 1))
    optimizer = INNA(model.parameters(), lr=0.1, alpha=0.5, beta=0.5, initial_speed=1.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, power_decay(0.25))
    return model, optimizer, torch.utils.data.DataLoader(data, batch_size=8), schedule


def under_accelerate(epochs, folder, resume=False):
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=2)
    model, optimizer, loader, schedule = accelerator.prepare(*linear_regression())
    if resume:
        accelerator.load_state(folder)
    for _ in epochs:
        for x, y in loader:
            with accelerator.accumulate(model):
                accelerator.backward(torch.nn.functional.mse_loss(model(x), y))
                optimizer.step()
                schedule.step()
                optimizer.zero_grad()
    accelerator.save_state(folder)
    return model, optimizer.optimizer


def test_accelerate_accumulates_and_resumes(tmp_path):
    """Two micro-batches of 8 are a batch of 16; one epoch, a checkpoint and two more are three epochs."""
    model, optimizer, loader, schedule = linear_regression()
    for _ in range(3):
        for x, y in torch.utils.data.DataLoader(loader.dataset, batch_size=16):
            optimizer.zero_grad()
            torch.nn.functional.mse_loss(model(x), y).backward()
            optimizer.step()
            schedule.step()
    under_accelerate(range(1), tmp_path / "first")
    runs = [
        under_accelerate(range(3), tmp_path / "whole"),
        under_accelerate(range(1, 3), tmp_path / "first", resume=True),
    ]
    for trained, its_optimizer in runs:
        torch.testing.assert_close(trained.state_dict(), model.state_dict(), rtol=1e-5, atol=1e-7)
        ours, theirs = its_optimizer.state_dict(), optimizer.state_dict()
        torch.testing.assert_close(ours["state"], theirs["state"], rtol=1e-5, atol=1e-7)
        assert ours["param_groups"][0]["lr"] == pytest.approx(theirs["param_groups"][0]["lr"], rel=1e-12)
