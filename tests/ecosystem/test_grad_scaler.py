"""GradScaler in Lightning's and Accelerate's own code, with the optimizers' default flags: as with AdamW."""

import pytest

from example_programs import needs

needs("lightning")
needs("accelerate")

import torch  # noqa: E402
from accelerate import Accelerator  # noqa: E402
from accelerate.optimizer import AcceleratedOptimizer  # noqa: E402
from lightning.pytorch.plugins.precision import MixedPrecision  # noqa: E402

from inna.torch import INNA, INNAprop  # noqa: E402

CLASSES = [torch.optim.AdamW, INNA, INNAprop]


@pytest.mark.parametrize("cls", CLASSES)
def test_lightning_clips_true_gradients(cls):
    model = torch.nn.Linear(2, 1)
    plugin = MixedPrecision("16-mixed", "cpu", scaler=torch.amp.GradScaler("cpu"))
    optimizer = cls(model.parameters())
    plugin.scaler.scale(model(torch.ones(1, 2)).sum()).backward()
    plugin.scaler.unscale_(optimizer)
    plugin.clip_gradients(optimizer, clip_val=0.5)
    norm = torch.nn.utils.get_total_norm([param.grad for param in model.parameters()])
    torch.testing.assert_close(norm, torch.tensor(0.5), rtol=1e-4, atol=0)
    before = model.weight.detach().clone()
    plugin.scaler.step(optimizer)
    assert not torch.equal(before, model.weight)


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize("fill", [torch.inf, 1.0])
def test_accelerate_reports_a_skipped_step(cls, fill):
    Accelerator(cpu=True)
    param = torch.nn.Parameter(torch.ones(2))
    scaler = torch.amp.GradScaler("cpu")
    scaler.scale(torch.ones(1))
    optimizer = AcceleratedOptimizer(cls([param]), device_placement=False, scaler=scaler)
    param.grad = torch.full((2,), fill)
    before = param.detach().clone()
    optimizer.step()
    assert optimizer.step_was_skipped is (fill == torch.inf)
    assert torch.equal(before, param) is (fill == torch.inf)
