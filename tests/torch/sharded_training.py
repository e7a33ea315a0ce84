"""A small training run, in one process and distributed in every way that torch has, for the ranks of the tests."""

from __future__ import annotations

import itertools
import warnings

import pytest
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import CPUOffloadPolicy, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard, distribute_tensor
from torch.distributed.tensor.parallel import ColwiseParallel, SequenceParallel, parallelize_module
from torch.nn.parallel import DistributedDataParallel
from torch.utils._python_dispatch import TorchDispatchMode

from inna.torch import INNA, INNAprop, INNApropLRFree
from inna.torch.measures.guard import Products

STEPS = 4
BATCH = 8
PATHS = {
    "single": {"foreach": False},
    "foreach": {"foreach": True},
    "fused": {"fused": True},
    "default": {},
    "on device": {"fused": False, "capturable": True},
}
SETTINGS = {
    INNA: {"lr": 0.05, "alpha": 0.6, "beta": 0.3, "weight_decay": 0.1, "initial_speed": 1.0},
    INNAprop: {"lr": 0.01, "alpha": 0.4, "beta": 0.5, "weight_decay": 0.1, "initial_speed": 1.0},
    "guarded": {"lr": 1.5, "alpha": 0.6, "beta": 0.3, "initial_speed": 1.0, "loss_bound": 0.0},
    "distance": {"lr": 1.5, "alpha": 0.6, "beta": 0.3, "loss_bound": 0.0, "time_step": 0.2, "initial_distance": 1e-3},
    INNApropLRFree: {"lr": 1.0, "alpha": 0.4, "beta": 0.5, "weight_decay": 0.1, "initial_distance": 1e-3},
}
# Sizes that neither 2 nor 4 divide, and one that leaves ranks without a row.
SIZES = (6, 7, 3)


class Network(torch.nn.Module):
    """Two layers and a normalisation; ``branch`` gets a gradient on request, ``idle`` never."""

    def __init__(self, sizes=SIZES):
        super().__init__()
        inputs, width, outputs = sizes
        self.first = torch.nn.Linear(inputs, width)
        self.norm = torch.nn.LayerNorm(width)
        self.last = torch.nn.Linear(width, outputs)
        self.branch = torch.nn.Linear(inputs, outputs)
        self.idle = torch.nn.Linear(2, 3)

    def forward(self, x, branch=False):
        y = self.last(torch.tanh(self.norm(self.first(x))))
        return y + self.branch(x) if branch else y


def network(dtype=torch.float64, sizes=SIZES):
    torch.manual_seed(0)
    return Network(sizes).to(dtype)


def batch(step, dtype=torch.float64, inputs=SIZES[0]):
    generator = torch.Generator().manual_seed(step)
    return 2 * torch.randn(BATCH, inputs, generator=generator, dtype=torch.float64).to(dtype)


def loss(outputs):
    return (outputs - 1).square().mean()


def own_part(x):
    return x.chunk(dist.get_world_size())[dist.get_rank()]


def train(model, optimizer, dtype=torch.float64, *, split=False, clip=None, branch=lambda: False, steps=range(STEPS)):
    """Train; with ``split`` on this rank's part of each batch, where the wrapper of the model averages gradients."""
    norms = []
    for step in steps:
        x = batch(step, dtype, model_inputs(model))
        outputs = model(own_part(x) if split else x, branch())
        if isinstance(outputs, DTensor):
            outputs = outputs.full_tensor()
        loss(outputs).backward()
        if clip:
            norms.append(whole(torch.nn.utils.clip_grad_norm_(model.parameters(), clip)))
        optimizer.step()
        optimizer.zero_grad()
    return norms


def model_inputs(model):
    return getattr(model, "module", model).first.in_features


def whole(tensor):
    return (tensor.full_tensor() if isinstance(tensor, DTensor) else tensor).detach().clone()


def weights(model):
    return {name.removeprefix("module."): whole(tensor) for name, tensor in model.state_dict().items()}


def reference(kind, dtype=torch.float64, sizes=SIZES, *, clip=None, **flags):
    """The same in one process."""
    model = network(dtype, sizes)
    optimizer = kind(model.parameters(), **SETTINGS[kind], **flags)
    norms = train(model, optimizer, dtype, clip=clip)
    return weights(model), norms


def same(model, expected, dtype=torch.float64, scale=1.0):
    """Assert that the weights are those of one process: to 1e-12 in float64, a few roundings in float32."""
    tolerance = scale * (1e-12 if dtype is torch.float64 else 2e-6)
    torch.testing.assert_close(weights(model), expected, rtol=tolerance, atol=tolerance)


def every_path(kinds=(INNA, INNAprop), paths=PATHS, dtypes=(torch.float64, torch.float32)):
    for kind in kinds:
        for path in paths:
            for dtype in dtypes:
                yield kind, PATHS[path], dtype


def data_parallel(paths):
    for kind, flags, dtype in every_path(paths=paths):
        model = DistributedDataParallel(network(dtype), find_unused_parameters=True)
        train(model, kind(model.parameters(), **SETTINGS[kind], **flags), dtype, split=True)
        same(model, reference(kind, dtype, **flags)[0], dtype)


def without_gradients_on_some_ranks(paths):
    """Only rank 0 takes the branch. The others have no gradient of their own for it, and all step it alike."""
    for kind, flags, dtype in every_path(paths=paths, dtypes=(torch.float64,)):
        model = DistributedDataParallel(network(dtype), find_unused_parameters=True)
        optimizer = kind(model.parameters(), **SETTINGS[kind], **flags)
        train(model, optimizer, dtype, split=True, branch=lambda: dist.get_rank() == 0)
        alone = network(dtype)
        one = kind(alone.parameters(), **SETTINGS[kind], **flags)
        for step in range(STEPS):
            for rank, part in enumerate(batch(step, dtype).chunk(dist.get_world_size())):
                (loss(alone(part, rank == 0)) / dist.get_world_size()).backward()
            one.step()
            one.zero_grad()
        same(model, weights(alone), dtype)
        assert "idle.weight" not in {n for n, p in model.module.named_parameters() if p in optimizer.state}


def shards_without_gradients_on_some_ranks(paths):
    """Stepping shards does not synchronise: a rank without a gradient does not move, the others step."""
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    for kind, flags, dtype in every_path(paths=paths, dtypes=(torch.float64,)):
        rows = torch.arange(15, dtype=dtype).reshape(5, 3)
        theta = torch.nn.Parameter(distribute_tensor(rows, mesh, [Shard(0)]))
        before = theta.to_local().detach().clone()
        if dist.get_rank() == 0:
            theta.grad = torch.ones_like(theta)
        kind([theta], **SETTINGS[kind], **flags).step()
        assert torch.equal(theta.to_local(), before) is (dist.get_rank() != 0)


def loss_of_dtensors():
    """The loss may be a DTensor, also a partial sum, as tensor parallelism leaves it."""
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    rows = torch.arange(15, dtype=torch.float64).reshape(5, 3)
    for flags in PATHS.values():
        lengths = []
        for placement in (None, Replicate(), Partial("sum")):
            theta = torch.nn.Parameter(distribute_tensor(rows, mesh, [Shard(0)]))
            optimizer = INNA([theta], **SETTINGS["guarded"] | flags)
            theta.grad = torch.ones_like(theta)
            part = torch.tensor(3.0 / (dist.get_world_size() if placement == Partial("sum") else 1))
            optimizer.step(loss=part if placement is None else DTensor.from_local(part, mesh, [placement]))
            lengths.append(optimizer.last_lr)
        assert 0 < lengths[0] < SETTINGS["guarded"]["lr"]
        assert lengths[1:] == lengths[:1] * 2


def sums_with_ranks_without_gradients():
    """A rank whose shards of a parameter have no gradient takes part in the sums, and steps the others alike."""
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    kinds = ((INNA, "guarded"), (INNA, "distance"), (INNApropLRFree, INNApropLRFree))
    for path, (kind, name), others in itertools.product(PATHS, kinds, (False, True)):
        rows = torch.arange(15, dtype=torch.float64).reshape(5, 3)
        sharded = [torch.nn.Parameter(distribute_tensor(rows, mesh, [Shard(0)])) for _ in range(2)]
        plain = torch.nn.Parameter(rows.clone())
        params = [plain, *sharded] if others else sharded[:1]
        optimizer = kind(params, **SETTINGS[name] | PATHS[path])
        for step in range(3):
            for param in params[::2]:
                param.grad = torch.ones_like(param)
            if step == 1 or dist.get_rank() == 0:
                sharded[0].grad = torch.ones_like(sharded[0])
            optimizer.step(**({"loss": 3.0} if kind is INNA else {}))
            optimizer.zero_grad()
        found = [None] * dist.get_world_size()
        scalars = [optimizer.last_lr if kind is INNA else optimizer.distance, plain.tolist()]
        dist.all_gather_object(found, scalars)
        assert all(values == found[0] for values in found), found


def shard(model, mesh, **policies):
    for module in (model.first, model.last, model.idle):
        fully_shard(module, mesh=mesh, **policies)
    return fully_shard(model, mesh=mesh, **policies)


def fully_sharded(paths, shape=None, clip=None, sizes=SIZES, **policies):
    """FSDP2; a mesh of two dimensions replicates the shards of the second over the first."""
    names = ("replicate", "shard")[-len(shape or (0,)) :]
    mesh = init_device_mesh("cpu", shape or (dist.get_world_size(),), mesh_dim_names=names)
    for kind, flags, dtype in every_path(paths=paths):
        model = shard(network(dtype, sizes), mesh, **policies)
        optimizer = kind(model.parameters(), **SETTINGS[kind], **flags)
        norms = train(model, optimizer, dtype, split=True, clip=clip)
        expected, their_norms = reference(kind, dtype, sizes, clip=clip, **flags)
        same(model, expected, dtype)
        torch.testing.assert_close(norms, their_norms, rtol=1e-5, atol=0)
        for values in optimizer.state.values():
            assert isinstance(values["momentum"], DTensor)


def offloaded(paths):
    fully_sharded(paths, offload_policy=CPUOffloadPolicy(pin_memory=False))


def ignored_by_fsdp(paths):
    """Plain parameters and DTensors in one optimizer, as in pytorch issue 183207."""
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    for kind, flags, dtype in every_path(paths=paths):
        model = network(dtype)
        plain = {model.first.bias, model.norm.weight, model.last.bias}
        for module in (model.first, model.last, model):
            fully_shard(module, mesh=mesh, ignored_params=plain)
        assert len({isinstance(param, DTensor) for param in model.parameters()}) == 2
        optimizer = kind(model.parameters(), **SETTINGS[kind], **flags)
        # Every rank sees the whole batch, so that the gradients of the plain parameters need no averaging.
        train(model, optimizer, dtype)
        same(model, reference(kind, dtype, **flags)[0], dtype)


def mixed_precision(paths):
    """bfloat16 in forward and backward, float32 in the sum over the ranks and in the step."""
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    for kind, flags, dtype in every_path(paths=paths, dtypes=(torch.float32,)):
        model = fully_shard(network(dtype), mesh=mesh, mp_policy=policy)
        train(model, kind(model.parameters(), **SETTINGS[kind], **flags), dtype, split=True)
        alone = network(dtype)
        one = kind(alone.parameters(), **SETTINGS[kind], **flags)
        for step in range(STEPS):
            params = dict(alone.named_parameters())
            total = {}
            for part in batch(step, dtype).chunk(dist.get_world_size()):
                half = {name: param.detach().bfloat16().requires_grad_() for name, param in params.items()}
                loss(torch.func.functional_call(alone, half, (part.bfloat16(),))).backward()
                for name, param in half.items():
                    if param.grad is not None:
                        total[name] = total.get(name, 0) + param.grad.float() / dist.get_world_size()
            for name, grad in total.items():
                params[name].grad = grad
            one.step()
        same(model, weights(alone), dtype)


def half_precision_parameters(paths):
    """bfloat16 parameters with float32 momentum and Kahan summation; the kernels make the bits of one process."""
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    for kind, flags, dtype in every_path(paths=paths, dtypes=(torch.bfloat16,)):
        model, alone = network(dtype), network(dtype)
        shard(model, mesh)
        ours, theirs = (kind(m.parameters(), **SETTINGS[kind], **flags) for m in (model, alone))
        for step in range(STEPS):
            # The same gradients for both: sums over ranks round in another order.
            for param, other in zip(model.parameters(), alone.parameters(), strict=True):
                torch.manual_seed(step)
                other.grad = torch.randn_like(other)
                param.grad = distributed_like(param, other.grad)
            ours.step()
            theirs.step()
        # torch's own operations round the ends of a tensor in another way than its middle, and shards have more ends.
        exact = flags.get("fused", True) and "foreach" not in flags
        for param, other in zip(model.parameters(), alone.parameters(), strict=True):
            for ours_, theirs_ in [
                (param, other),
                *((ours.state[param][n], v) for n, v in theirs.state[other].items()),
            ]:
                bound = 0 if exact else torch.finfo(torch.bfloat16).eps
                torch.testing.assert_close(whole(ours_), theirs_.detach(), rtol=bound, atol=bound)


def distributed_like(param, tensor):
    return distribute_tensor(tensor, param.device_mesh, param.placements)


def tensor_parallel(paths, mesh=None, data_mesh=None):
    """Sharded layers, a normalisation whose gradients are partial sums, and plain parameters, in one optimizer."""
    mesh = mesh or init_device_mesh("cpu", (dist.get_world_size(),))
    for kind, flags, dtype in every_path(paths=paths):
        model = network(dtype)
        plan = {
            "first": ColwiseParallel(output_layouts=Shard(0)),
            "norm": SequenceParallel(sequence_dim=0),
            "last": ColwiseParallel(input_layouts=Shard(0), output_layouts=Replicate()),
        }
        parallelize_module(model, mesh, plan)
        if data_mesh is not None:
            fully_shard(model, mesh=data_mesh)
        optimizer = kind(model.parameters(), **SETTINGS[kind], **flags)
        train(model, optimizer, dtype)
        same(model, reference(kind, dtype, **flags)[0], dtype)


def tensor_and_data_parallel(paths):
    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("data", "tensor"))
    tensor_parallel(paths, mesh["tensor"], mesh["data"])


def zero_redundancy(paths):
    """The state of each parameter on one rank only."""
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", DeprecationWarning
        )  # what torch.distributed.optim imports is deprecated by torch
        from torch.distributed.optim import ZeroRedundancyOptimizer

    for kind, flags, dtype in every_path(paths=paths):
        model = DistributedDataParallel(network(dtype), find_unused_parameters=True)
        optimizer = ZeroRedundancyOptimizer(model.parameters(), optimizer_class=kind, **SETTINGS[kind], **flags)
        train(model, optimizer, dtype, split=True)
        same(model, reference(kind, dtype, **flags)[0], dtype)
        own = sum(len(group["params"]) for group in optimizer.optim.param_groups)
        assert own < len(list(model.parameters()))
        optimizer.consolidate_state_dict(to=0)
        if dist.get_rank() == 0:
            saved = optimizer.state_dict()["state"]
            assert all(values["momentum"].dtype is dtype for values in saved.values() if values)


def from_the_meta_device(paths):
    """Shard before allocating memory; every rank then creates only its own shards."""
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    for kind, flags, dtype in every_path(paths=paths):
        with torch.device("meta"):
            model = network(dtype)
        shard(model, mesh)
        assert all(param.is_meta for param in model.parameters())
        model.to_empty(device="cpu")
        for param, value in zip(model.parameters(), network(dtype).parameters(), strict=True):
            with torch.no_grad():
                param.copy_(distributed_like(param, value.detach()))
        train(model, kind(model.parameters(), **SETTINGS[kind], **flags), dtype, split=True)
        same(model, reference(kind, dtype, **flags)[0], dtype)


def without_a_learning_rate(wrappings, shape=None):
    """The distance is that of one process, found from sums over all shards, with two groups."""
    for wrapping in wrappings:
        for flags in (PATHS["single"], PATHS["foreach"], PATHS["on device"]):
            model, alone = network(), network()
            model, split, options = wrapped(model, wrapping, shape)
            settings = SETTINGS[INNApropLRFree] | flags
            groups = [[], []]
            for name, param in model.named_parameters():
                groups["bias" in name].append(param)
            one = INNApropLRFree(
                [
                    {"params": [param for name, param in alone.named_parameters() if "bias" not in name]},
                    {"params": [param for name, param in alone.named_parameters() if "bias" in name], "lr": 0.5},
                ],
                **settings,
            )
            arguments = [{"params": groups[0]}, {"params": groups[1], "lr": 0.5}]
            optimizer = options.pop("make", INNApropLRFree)(arguments, **settings, **options)
            local = getattr(optimizer, "optim", optimizer)
            train(model, optimizer, split=split, steps=range(20))
            train(alone, one, steps=range(20))
            torch.testing.assert_close(weights(model), weights(alone), rtol=1e-10, atol=1e-10)
            assert one.distance > 1e-2
            assert abs(local.distance / one.distance - 1) < 1e-10
            found = [None] * dist.get_world_size()
            dist.all_gather_object(found, [group["correlation"].item() for group in local.param_groups])
            assert all(values == found[0] for values in found)


def guarded(wrappings, shape=None):
    """The guard's factor is that of one process, from sums over all shards and the mean of the losses.

    So is a cap by the distance.
    """
    decays = ({}, {"weight_decay": 0.1}, {"decoupled_weight_decay": True})
    kinds = [*(("guarded", decay) for decay in decays), ("distance", decays[1])]
    for wrapping in wrappings:
        for path, (kind, decay) in itertools.product(PATHS, kinds):
            model, alone = network(), network()
            model, split, options = wrapped(model, wrapping, shape, INNA)
            settings = SETTINGS[kind] | {"weight_decay": 0.1 if decay else 0.0} | decay | PATHS[path]
            one = INNA(two_groups(alone), **settings)
            optimizer = options.pop("make", INNA)(two_groups(model), **settings, **options)
            local = getattr(optimizer, "optim", optimizer)
            lengths = []
            for step in range(8):
                for each, stepped, part in ((model, optimizer, split), (alone, one, False)):
                    x = batch(step)
                    outputs = each(own_part(x) if part else x)
                    value = loss(outputs.full_tensor() if isinstance(outputs, DTensor) else outputs)
                    value.backward()
                    stepped.step(loss=value)
                    stepped.zero_grad()
                lengths.append([local.last_lr, one.last_lr])
            ours, theirs = map(torch.tensor, zip(*lengths, strict=True))
            torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)
            assert (theirs < settings["lr"]).any()
            torch.testing.assert_close(weights(model), weights(alone), rtol=1e-10, atol=1e-10)


def one_all_reduce(wrapping, shape=None, extra=1):
    """Beside INNA and INNAprop, a step without a learning rate sums a few numbers over the ranks, ``extra`` times."""

    def collectives(kind, settings):
        model, split, options = wrapped(network(), wrapping, shape, kind)
        if kind is not INNApropLRFree and settings.get("loss_bound") is None:
            options.pop("sum_over_ranks", None)
        optimizer = options.pop("make", kind)(two_groups(model), **settings, **options)
        found = []
        for step in range(3):
            x = batch(step)
            outputs = model(own_part(x) if split else x)
            value = loss(outputs.full_tensor() if isinstance(outputs, DTensor) else outputs)
            value.backward()
            with Collectives() as calls:
                optimizer.step(**({"loss": value.detach()} if kind is INNA else {}))
            found.append(calls.sizes)
            optimizer.zero_grad()
        assert found[1] == found[2]  # in the first step, state may be made
        return found[2]

    for path, (kind, name) in itertools.product(
        PATHS, ((INNA, "guarded"), (INNA, "distance"), (INNApropLRFree, INNApropLRFree))
    ):
        usual = INNA if kind is INNA else INNAprop
        without = collectives(usual, SETTINGS[usual] | PATHS[path])
        sizes = collectives(kind, SETTINGS[name] | PATHS[path])
        expected = 0 if wrapping == "DDP" and kind is INNApropLRFree else extra
        assert len(sizes) - len(without) == expected, (path, name, sizes, without)
        assert all(size <= 2 * len(Products._fields) + 1 for size in sizes[len(without) :])


class Collectives(TorchDispatchMode):
    """The collective operations that are called while it is entered, as the numbers of entries that they send."""

    def __enter__(self):
        self.sizes = []
        return super().__enter__()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.namespace in ("c10d", "_c10d_functional") and not func.__name__.startswith(("wait", "_wrap")):
            sent = args[0][0] if isinstance(args[0], (list, tuple)) else args[0]
            self.sizes.append(sent.numel())
        return func(*args, **(kwargs or {}))


def two_groups(model):
    """The weights, and the biases at half the learning rate."""
    groups = [[], []]
    for name, param in model.named_parameters():
        groups["bias" in name].append(param)
    return [{"params": groups[0]}, {"params": groups[1], "lr": SETTINGS["guarded"]["lr"] / 2}]


def wrapped(model, wrapping, shape, kind=INNApropLRFree):
    """The model distributed, whether each rank takes its part of a batch, and what the optimizer needs."""
    if wrapping == "FSDP2":
        names = ("replicate", "shard")[-len(shape or (0,)) :]
        mesh = init_device_mesh("cpu", shape or (dist.get_world_size(),), mesh_dim_names=names)
        return shard(model, mesh), True, {}
    if wrapping == "mixture":
        mesh = init_device_mesh("cpu", (dist.get_world_size(),))
        return fully_shard(model, mesh=mesh, ignored_params={model.norm.weight, model.first.bias}), False, {}
    if wrapping in ("tensor parallel", "FSDP2 on tensor parallel"):
        plan = {
            "first": ColwiseParallel(output_layouts=Shard(0)),
            "norm": SequenceParallel(sequence_dim=0),
            "last": ColwiseParallel(input_layouts=Shard(0), output_layouts=Replicate()),
        }
        if wrapping == "tensor parallel":
            parallelize_module(model, init_device_mesh("cpu", (dist.get_world_size(),)), plan)
        else:
            mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("data", "tensor"))
            parallelize_module(model, mesh["tensor"], plan)
            fully_shard(model, mesh=mesh["data"])  # what the plan does not name is on this mesh only
        return model, False, {}
    model = DistributedDataParallel(model, find_unused_parameters=True)
    if wrapping == "DDP":
        return model, True, {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # torch's own
        from torch.distributed.optim import ZeroRedundancyOptimizer
    return model, True, {"make": ZeroRedundancyOptimizer, "optimizer_class": kind, "sum_over_ranks": True}


def scaled_gradients(paths):
    """GradScaler: an infinite gradient on one rank's shard makes all of them skip the step."""
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    for kind, flags, dtype in every_path(paths=paths, dtypes=(torch.float32,)):
        if flags.get("capturable"):
            continue
        model = shard(network(dtype), mesh)
        optimizer = kind(model.parameters(), **SETTINGS[kind], **flags)
        scaler = torch.amp.GradScaler("cpu", init_scale=256.0)
        for step in range(STEPS):
            scaler.scale(loss(model(own_part(batch(step, dtype))))).backward()
            if step == 1:
                before = weights(model)
                local = model.first.weight.grad.to_local()
                if dist.get_rank() == dist.get_world_size() - 1:
                    local[0, 0] = torch.inf
            scaler.step(optimizer)
            scaler.update()
            if step == 1:
                same(model, before, dtype, scale=0)
            optimizer.zero_grad()
        alone = network(dtype)
        one = kind(alone.parameters(), **SETTINGS[kind], **flags)
        train(alone, one, dtype, steps=[0, 2, 3])
        same(model, weights(alone), dtype)


def misplaced_state():
    """Whole tensors instead of shards are refused with a clear message, on every path."""
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    for kind, flags, dtype in every_path(dtypes=(torch.float64,)):
        model = shard(network(dtype), mesh)
        optimizer = kind(model.parameters(), **SETTINGS[kind], **flags)
        train(model, optimizer, dtype, split=True, steps=[0])
        state = optimizer.state[model.first.weight]
        state["momentum"] = state["momentum"].full_tensor()
        with pytest.raises(RuntimeError, match="momentum is a Tensor beside a parameter that is a DTensor"):
            train(model, optimizer, dtype, split=True, steps=[1])


def clipped_mixture():
    """The recipe of docs/large-models.md: one norm over plain gradients and shards, as in one process."""
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    model, alone = network(), network()
    fully_shard(model, mesh=mesh, ignored_params={model.norm.weight, model.first.bias})
    for each in (model, alone):
        loss(each(batch(0), True)).backward()
    expected = torch.nn.utils.clip_grad_norm_(alone.parameters(), 0.1)
    moved = [param for param in model.parameters() if param.grad is not None]
    kinds = [[p for p in moved if isinstance(p, DTensor) is sharded] for sharded in (True, False)]
    norm = torch.linalg.vector_norm(
        torch.stack([whole(torch.nn.utils.get_total_norm([p.grad for p in kind])) for kind in kinds])
    )
    torch.testing.assert_close(norm, expected, rtol=1e-12, atol=0)
    for kind in kinds:
        torch.nn.utils.clip_grads_with_norm_(kind, 0.1, norm)
    for param, other in zip(model.parameters(), alone.parameters(), strict=True):
        if other.grad is not None:
            torch.testing.assert_close(whole(param.grad), other.grad, rtol=1e-12, atol=1e-12)


def on_gpus():
    """FSDP2 over NCCL, with the state on the GPUs and in pinned memory of the host, and DDP."""
    rank = torch.device("cuda", dist.get_rank())
    mesh = init_device_mesh("cuda", (dist.get_world_size(),))

    def run(model, kind, flags):
        optimizer = kind(model.parameters(), **SETTINGS[kind], **flags)
        for step in range(STEPS):
            loss(model(own_part(batch(step, torch.float64)).to(rank))).backward()
            optimizer.step()
            optimizer.zero_grad()
        return {name: tensor.cpu() for name, tensor in weights(model).items()}

    for kind, flags, dtype in every_path(dtypes=(torch.float64,)):
        expected = reference(kind, dtype, **{name: value for name, value in flags.items() if name != "fused"})[0]
        spread = [shard(network(dtype).to(rank), mesh)]
        spread.append(DistributedDataParallel(network(dtype).to(rank), find_unused_parameters=True))
        if not flags.get("capturable"):
            spread.append(shard(network(dtype), mesh, offload_policy=CPUOffloadPolicy()))
        for model in spread:
            torch.testing.assert_close(run(model, kind, flags), expected, rtol=1e-12, atol=1e-12)
