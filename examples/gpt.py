"""A small GPT on the source text of Python's own library, byte by byte: INNAprop beside AdamW, on one process or many.

    torchrun --nproc-per-node 2 examples/gpt.py train --optimizer innaprop --lr 0.01
    torchrun --nproc-per-node 2 examples/gpt.py compare
    python examples/gpt.py report

`train` writes sharded checkpoints; run it again to resume from the newest whole one, on any number of processes.
`compare` tunes the learning rate of both optimizers on the same grid with the same number of steps, trains each at its
best on further seeds, and skips finished runs. `report` draws the losses and prints the table. Every finished run is a
row in the folder. Needs `pip install -e ".[experiments]"`.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import math
import os
import shutil
import statistics
import sysconfig
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import cyclopts
import torch
import torch.distributed as dist
from torch.distributed import checkpoint
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import CPUOffloadPolicy, MixedPrecisionPolicy, OffloadPolicy, fully_shard

from inna.checks import check_whole
from inna.dynamics import INNAPROP_DEFAULTS
from inna.experiments.charts.drawing import configuration, log_axis, vega_lite_version
from inna.experiments.charts.themes import LIGHT
from inna.experiments.rows.row_files import load_rows, read_rows, write_row
from inna.experiments.rows.run import Run
from inna.files import DamagedFileError, read_document, write_document, write_whole
from inna.torch import INNAprop, param_groups

BYTES = 256  # the vocabulary
CONTEXT, WIDTH, LAYERS, HEADS = 128, 64, 4, 4
BATCH = 16  # sequences a step, over all processes
WEIGHT_DECAY, CLIP = 0.01, 1.0
WARM_UP, LAST = 0.1, 0.1  # shares: of the steps, and of lr at the end of the cosine
EVALUATE, BATCHES = 25, 8  # every so many steps, on so many batches
GRID = (0.001, 0.00316, 0.01, 0.0316)
TUNING_SEED, FINAL_SEEDS = 0, (1, 2, 3)
OPTIMIZERS = {"innaprop": "INNAprop", "adamw": "AdamW"}  # as they are called in the figure
KEEP = 2  # checkpoints of a run
PROGRESS = "progress.json"
FOLDER = Path("runs/gpt")

app = cyclopts.App(help=__doc__)


class Block(torch.nn.Module):
    """Causal self-attention and a two-layer MLP, each with a residual connection."""

    def __init__(self) -> None:
        super().__init__()
        self.norm_attention, self.norm_mlp = torch.nn.LayerNorm(WIDTH), torch.nn.LayerNorm(WIDTH)
        self.qkv, self.join = torch.nn.Linear(WIDTH, 3 * WIDTH), torch.nn.Linear(WIDTH, WIDTH)
        self.mlp = torch.nn.Sequential(
            torch.nn.Linear(WIDTH, 4 * WIDTH), torch.nn.GELU(), torch.nn.Linear(4 * WIDTH, WIDTH)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # (batch, length, WIDTH)
        heads = self.qkv(self.norm_attention(x)).unflatten(-1, (3 * HEADS, WIDTH // HEADS)).transpose(1, 2)
        attended = torch.nn.functional.scaled_dot_product_attention(*heads.chunk(3, dim=1), is_causal=True)
        x = x + self.join(attended.transpose(1, 2).flatten(-2))
        return x + self.mlp(self.norm_mlp(x))


class GPT(torch.nn.Module):
    """The logits of the next byte at each position."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes, self.positions = torch.nn.Embedding(BYTES, WIDTH), torch.nn.Embedding(CONTEXT, WIDTH)
        self.blocks = torch.nn.ModuleList(Block() for _ in range(LAYERS))
        self.norm, self.head = torch.nn.LayerNorm(WIDTH), torch.nn.Linear(WIDTH, BYTES, bias=False)
        for name, param in self.named_parameters():
            if param.ndim > 1:
                # Layers that add to the stream do so 2 * LAYERS times.
                adds = name.endswith(("join.weight", "mlp.2.weight"))
                torch.nn.init.normal_(param, std=0.02 / math.sqrt(2 * LAYERS if adds else 1))

    def forward(self, text: torch.Tensor) -> torch.Tensor:  # (batch, length) -> (batch, length, BYTES)
        x = self.bytes(text) + self.positions(torch.arange(text.shape[1], device=text.device))
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


@functools.cache
def text() -> tuple[torch.Tensor, torch.Tensor, str]:
    """The top modules of Python's library as bytes: training set, validation set (every tenth), and their digest."""
    parts: tuple[list[bytes], list[bytes]] = ([], [])
    for i, path in enumerate(sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))):
        parts[i % 10 == 9].append(path.read_bytes())
    joined = [b"\n".join(part) for part in parts]
    digest = hashlib.sha256(b"\0".join(joined)).hexdigest()[:16]
    train, validation = (torch.frombuffer(bytearray(part), dtype=torch.uint8) for part in joined)
    return train, validation, digest


def batch(source: torch.Tensor, seed: int, step: int) -> tuple[torch.Tensor, torch.Tensor]:
    """This process's part of the batch of a seed and step: sequences, and the bytes that follow."""
    generator = torch.Generator().manual_seed(1_000_003 * seed + step)
    starts = torch.randint(len(source) - CONTEXT, (BATCH, 1), generator=generator)
    windows = source[starts + torch.arange(CONTEXT + 1)].long()
    own = windows.chunk(processes())[rank()]
    return own[:, :-1], own[:, 1:]


def loss_of(model: torch.nn.Module, source: torch.Tensor, seed: int, step: int) -> torch.Tensor:
    inputs, targets = (part.to(device()) for part in batch(source, seed, step))
    return torch.nn.functional.cross_entropy(model(inputs).float().flatten(0, 1), targets.flatten())


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def processes() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def device() -> torch.device:
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
    return torch.device("cpu")


def mean(value: torch.Tensor) -> float:
    """The mean over all processes."""
    if dist.is_initialized():
        dist.all_reduce(value := value.detach().clone())
    return value.item() / processes()


def distributed(function: Any) -> Any:
    """Run ``function`` in a process group if torchrun has started the program."""

    @functools.wraps(function)
    def inside(*args: Any, **kwargs: Any) -> Any:
        if "RANK" not in os.environ:
            return function(*args, **kwargs)
        if device().type == "cuda":
            torch.cuda.set_device(device())
        dist.init_process_group("cuda:nccl,cpu:gloo" if device().type == "cuda" else "gloo")
        try:
            return function(*args, **kwargs)
        finally:
            dist.destroy_process_group()

    return inside


def sharded(model: torch.nn.Module, precision: str, offload: bool) -> torch.nn.Module:
    """Shard the model by FSDP2: each process keeps its part of every tensor, and gathers a block when it is needed."""
    half = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    policies: dict[str, Any] = {
        "mesh": init_device_mesh(device().type, (processes(),)),
        "mp_policy": half if precision == "bfloat16" else MixedPrecisionPolicy(),
        "offload_policy": CPUOffloadPolicy(pin_memory=device().type == "cuda") if offload else OffloadPolicy(),
    }
    for block in model.blocks:
        fully_shard(block, **policies)
    return fully_shard(model, **policies)


def make_optimizer(run: Run, model: torch.nn.Module) -> torch.optim.Optimizer:
    groups = param_groups(model, WEIGHT_DECAY)
    if run.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=run.lr)
    return INNAprop(groups, lr=run.lr, alpha=run.alpha, beta=run.beta)


def lr_factor(step: int, steps: int) -> float:
    """Linear to 1 over the first steps, then half a cosine down."""
    warm_up = max(round(WARM_UP * steps), 1)
    if step < warm_up:
        return (step + 1) / warm_up
    return LAST + (1 - LAST) * (1 + math.cos(math.pi * (step - warm_up) / max(steps - warm_up, 1))) / 2


def describe(optimizer: str, lr: float, steps: int, seed: int, precision: str) -> Run:
    """The run, with everything that decides its result."""
    check_whole("steps", steps, minimum=1)
    if BATCH % processes():
        raise ValueError(f"the {BATCH} sequences of a step cannot be divided among {processes()} processes")
    alpha, beta = (INNAPROP_DEFAULTS.alpha, INNAPROP_DEFAULTS.beta) if optimizer == "innaprop" else (None, None)
    return Run(
        "python-library",
        f"gpt-{LAYERS}x{WIDTH}",
        optimizer,
        lr,
        alpha,
        beta,
        settings=(("context", CONTEXT), ("steps", steps), ("weight_decay", WEIGHT_DECAY)),
        batch_size=BATCH,
        epochs=1,
        seed=seed,
        device=device().type,
        precision=precision,
        source=text()[2],
    )


def train_run(run: Run, folder: Path, *, offload: bool = False, every: int = 50, stop_after: int | None = None) -> None:
    """Train, from the newest whole checkpoint if there is one, and write the row."""
    train, validation, _ = text()
    steps = dict(run.settings)["steps"]
    torch.manual_seed(run.seed)
    model: torch.nn.Module = GPT().to(device())
    if dist.is_initialized():
        model = sharded(model, run.precision, offload)
    optimizer = make_optimizer(run, model)

    checkpoints = folder / "checkpoints" / run.key
    found = load_checkpoint(checkpoints, model, optimizer)
    first, history, seconds = 0, [], 0.0
    if found is not None:
        first, history, seconds = found["step"], found["history"], found["seconds"]
        log(f"resuming from step {first}")
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: lr_factor(first + step, steps))
    last = steps if stop_after is None else min(steps, first + stop_after)

    diverged, begun = False, time.perf_counter()
    for step in range(first, last):
        loss = loss_of(model, train, run.seed, step)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        optimizer.zero_grad()
        scheduler.step()
        done = step + 1
        if done % EVALUATE == 0 or done == steps:
            seconds += time.perf_counter() - begun
            entry = {"step": done, "train_loss": mean(loss), "validation_loss": evaluate(model, validation)}
            diverged = not math.isfinite(entry["train_loss"] + entry["validation_loss"])
            if diverged:
                break
            history.append(entry)
            losses = f"loss {entry['train_loss']:.3f}, validation {entry['validation_loss']:.3f}"
            log(f"step {done}: {losses}, {done * BATCH * CONTEXT / seconds:,.0f} tokens/s")
            begun = time.perf_counter()
        if done % every == 0 or done == last:
            progress = {"step": done, "history": history, "seconds": seconds + time.perf_counter() - begun}
            save_checkpoint(checkpoints, model, optimizer, progress)
    if last < steps and not diverged:
        log(f"stopped after step {last}; run the same command to resume")
    elif rank() == 0:
        result = {
            "status": "diverged" if diverged else "done",
            "train_loss": statistics.fmean(entry["train_loss"] for entry in history[-4:]) if history else math.nan,
            "validation_loss": history[-1]["validation_loss"] if history else math.nan,
            "tokens_per_second": steps * BATCH * CONTEXT / seconds,
            "processes": processes(),
            "parameters": sum(param.numel() for param in model.parameters()),
            "history": history,
        }
        log(f"{write_row(folder, run, result)}")
    if dist.is_initialized():
        dist.barrier()


@torch.no_grad()
def evaluate(model: torch.nn.Module, validation: torch.Tensor) -> float:
    """The loss on the same batches at each call."""
    return statistics.fmean(mean(loss_of(model, validation, 0, step)) for step in range(BATCHES))


def log(line: str) -> None:
    if rank() == 0:
        print(line, flush=True)


def save_checkpoint(
    folder: Path, model: torch.nn.Module, optimizer: torch.optim.Optimizer, progress: dict[str, Any]
) -> None:
    """Write a checkpoint: each process its own shards, into a new folder that is renamed when it is whole.

    Args:
        folder: the checkpoints of this run; the newest `KEEP` are kept.
        progress: ``step`` and whatever else is needed to resume, as plain JSON.

    Raises:
        OSError: a process could not write. Earlier checkpoints are unchanged.
    """
    step = progress["step"]
    path, partial = checkpoint_path(folder, step), folder / "partial"
    on_first(lambda: shutil.rmtree(partial) if partial.exists() else None)
    try:
        with one_process_expected():
            checkpoint.save(tensors(get_state_dict(model, optimizer)), checkpoint_id=partial)
    except checkpoint.CheckpointException as error:
        raise OSError(f"{path} could not be written: {reason(error)}; earlier checkpoints are unchanged") from error

    def publish() -> None:
        write_document(partial / PROGRESS, {**progress, "files": digests(partial)})
        # `load_checkpoint` takes the newest whole checkpoint: those of this step and later ones were damaged.
        for other in checkpoint_paths(folder):
            if other >= path:
                shutil.rmtree(other)
        partial.rename(path)
        for other in checkpoint_paths(folder)[:-KEEP]:
            shutil.rmtree(other)

    on_first(publish)


def load_checkpoint(folder: Path, model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any] | None:
    """Load the newest whole checkpoint, written by any number of processes; return its progress.

    Returns:
        None where there is no checkpoint. A damaged one is reported, and the one before it is loaded.

    Raises:
        ValueError: all checkpoints are damaged, or they are another model's.
    """

    def newest() -> tuple[Path | None, dict[str, Any]]:
        damages = []
        for path in reversed(checkpoint_paths(folder)):
            try:
                progress = verified(path)
            except DamagedFileError as error:
                damages.append(str(error))
                continue
            for damage in damages:
                log(f"{damage}; loading {path.name} instead")
            return path, progress
        if damages:
            raise ValueError(f"{'; '.join(damages)}; remove {folder} to start from step 0")
        return None, {}

    path, progress = on_first(newest)
    if path is None:
        return None
    weights, state = get_state_dict(model, optimizer)
    try:
        with one_process_expected():
            checkpoint.load(tensors((weights, state)), checkpoint_id=path)
    except checkpoint.CheckpointException as error:
        raise ValueError(f"{path} does not fit this model: {reason(error)}") from error
    set_state_dict(model, optimizer, model_state_dict=weights, optim_state_dict=state)
    return progress


def tensors(state: tuple[dict[str, Any], dict[str, Any]]) -> dict[str, Any]:
    """The weights and the optimizer's state without its settings: torch would unpickle those."""
    return {"model": state[0], "optimizer": state[1]["state"]}


def checkpoint_path(folder: Path, step: int) -> Path:
    return folder / f"step-{step:08d}"


def checkpoint_paths(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*"))


def verified(path: Path) -> dict[str, Any]:
    """The progress of a checkpoint whose files are those that were saved.

    Torch unpickles a checkpoint's metadata, so files are compared with their checksums first.

    Raises:
        DamagedFileError: a file is missing or has changed.
    """
    try:
        progress = read_document(path / PROGRESS)
    except FileNotFoundError:
        raise DamagedFileError(f"{path / PROGRESS} is missing") from None
    saved = progress.pop("files")
    present = digests(path)
    for name in sorted(saved):
        if present.get(name) != saved[name]:
            raise DamagedFileError(f"{path / name} is {'damaged' if name in present else 'missing'}")
    return progress


def digests(path: Path) -> dict[str, str]:
    """The SHA-256 of each file of a checkpoint. One process reads them all; a large model's would share the work."""
    found = {}
    for file in sorted(path.iterdir()):
        if file.name != PROGRESS:
            with file.open("rb") as stream:
                found[file.name] = hashlib.file_digest(stream, "sha256").hexdigest()
    return found


def on_first(task: Callable[[], Any]) -> Any:
    """Run ``task`` on the first process; all return its result or raise its error."""
    result, failure = None, None
    if rank() == 0:
        try:
            result = task()
        except (OSError, ValueError) as error:
            failure = error
    if dist.is_initialized():
        answer = [result, failure]
        dist.broadcast_object_list(answer)
        result, failure = answer
    if failure is not None:
        raise failure
    return result


@contextlib.contextmanager
def one_process_expected() -> Iterator[None]:
    """Silence torch's warning that it takes a program without a process group for a single process."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled, unavailable or uninitialized")
        yield


def reason(error: checkpoint.CheckpointException) -> str:
    """The first failure of a process, on one line."""
    rank, (failure, _) = next(iter(error.failures.items()))
    return " ".join(f"rank {rank}: {type(failure).__name__}: {failure}".split())


Folder = Annotated[Path, cyclopts.Parameter(help="The folder of rows and checkpoints.")]


@app.command
@distributed
def train(
    *,
    optimizer: Literal["innaprop", "adamw"] = "innaprop",
    lr: float = 0.01,
    steps: int = 300,
    seed: int = 1,
    precision: Literal["float32", "bfloat16"] = "float32",
    offload: bool = False,
    checkpoint_every: int = 50,
    stop_after: int | None = None,
    folder: Folder = FOLDER,
) -> None:
    """Train one model, or resume its training.

    Args:
        optimizer: innaprop or adamw.
        lr: the largest learning rate, > 0; it rises over the first tenth of the steps and falls as a cosine.
        steps: number of steps, each on 16 sequences of 128 bytes.
        seed: seed of the initial weights and of the order of the text.
        precision: precision of forward and backward; parameters and the step stay in float32. bfloat16 needs torchrun.
        offload: keep parameters, gradients and optimizer state in the host's memory. Needs torchrun.
        checkpoint_every: steps between checkpoints.
        stop_after: stop after this many steps of this call, for jobs with a time limit.
    """
    if not dist.is_initialized() and (offload or precision != "float32"):
        raise ValueError("--offload and --precision bfloat16 are FSDP2's: start with torchrun --nproc-per-node 1")
    run = describe(optimizer, lr, steps, seed, precision)
    check_whole("checkpoint_every", checkpoint_every, minimum=1)
    if stop_after is not None:
        check_whole("stop_after", stop_after, minimum=1)
    train_run(run, folder, offload=offload, every=checkpoint_every, stop_after=stop_after)


@app.command
@distributed
def compare(*, tuning_steps: int = 100, steps: int = 300, folder: Folder = FOLDER) -> None:
    """Tune both optimizers on the same grid, then train each at its best on further seeds. Finished runs are skipped.

    Args:
        tuning_steps: number of steps per point of the grid.
        steps: number of steps per final run.
    """
    best = {}
    for optimizer in OPTIMIZERS:
        losses = {}
        for lr in GRID:
            result = once(describe(optimizer, lr, tuning_steps, TUNING_SEED, "float32"), folder)
            losses[lr] = result["train_loss"] if result["status"] == "done" else math.inf
        best[optimizer] = min(GRID, key=losses.__getitem__)
        log(f"{optimizer}: best lr {best[optimizer]:g} of {losses}")
    for seed in FINAL_SEEDS:
        for optimizer in OPTIMIZERS:
            once(describe(optimizer, best[optimizer], steps, seed, "float32"), folder)


def once(run: Run, folder: Path) -> dict[str, Any]:
    """The result of a run, trained now unless it is finished."""
    if not folder.is_dir() or run not in read_rows(folder):
        log(f"{run.optimizer}, lr {run.lr:g}, seed {run.seed}")
        train_run(run, folder)
    return read_rows(folder)[run]


@app.command
def report(*, folder: Folder = FOLDER, picture: Path | None = None) -> None:
    """Print the table of a comparison and draw its losses.

    Args:
        picture: the file of the figure; loss.png in the folder by default.
    """
    rows = load_rows(folder)
    final = rows[(rows["seed"] != TUNING_SEED) & (rows["status"] == "done")]
    print(markdown("", "lr", "training loss", "validation loss", "bits per byte", "tokens/s", "runs"))
    print(markdown("---", *["---:"] * 6))
    for (optimizer, lr), group in final.groupby(["optimizer", "lr"], sort=False):
        losses = [group[name] for name in ("train_loss", "validation_loss")]
        spreads = [f"{loss.mean():.3f} [{loss.max():.3f}, {loss.min():.3f}]" for loss in losses]
        bits = f"{losses[1].mean() / math.log(2):.3f}"
        print(
            markdown(
                OPTIMIZERS[optimizer],
                f"{lr:g}",
                *spreads,
                bits,
                f"{group['tokens_per_second'].median():,.0f}",
                len(group),
            )
        )
    print("\nTraining loss after tuning:\n")
    print(markdown("lr", *(f"{lr:g}" for lr in GRID)))
    print(markdown("---", *["---:"] * len(GRID)))
    for optimizer, group in rows[rows["seed"] == TUNING_SEED].groupby("optimizer", sort=False):
        print(markdown(OPTIMIZERS[optimizer], *(f"{loss:.3f}" for loss in group.sort_values("lr")["train_loss"])))
    draw(final, picture or folder / "loss.png")


def markdown(*cells: object) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def draw(final: Any, path: Path) -> None:
    """The validation loss of each final run, as a PNG."""
    import altair as alt
    import vl_convert

    points = [
        {"optimizer": OPTIMIZERS[row.optimizer], "seed": row.seed, **entry}
        for row in final.itertuples()
        for entry in row.history
    ]
    chart = (
        alt.Chart(alt.InlineData(points))
        .mark_line(strokeWidth=1.6, opacity=0.8)
        .encode(
            alt.X("step:Q", title="step").scale(zero=True),
            alt.Y("validation_loss:Q", title="validation loss, nats per byte (log)", axis=log_axis()).scale(
                type="log", zero=False, nice=False
            ),
            alt.Color("optimizer:N", title=None).scale(domain=list(OPTIMIZERS.values()), range=["#0a2f7a", "#d55e00"]),
            alt.StrokeDash("optimizer:N", title=None).scale(domain=list(OPTIMIZERS.values()), range=[[1, 0], [7, 3]]),
            detail="seed:N",
        )
        .properties(width=520, height=300, title="A small GPT on Python's library, a line per seed")
    )
    specification = chart.configure(**configuration(LIGHT), background=LIGHT.background).to_dict()
    write_whole(path, vl_convert.vegalite_to_png(specification, vl_version=vega_lite_version(), scale=2))
    print(f"\n{path}")


if __name__ == "__main__":
    try:
        app()
    except (ValueError, OSError) as error:
        raise SystemExit(f"gpt.py: {error}") from error
