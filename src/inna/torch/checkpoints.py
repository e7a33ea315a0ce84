"""Checkpoints of a training run on one process or many: whole or not there, verified before they are loaded."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import warnings
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from torch.optim.optimizer import Optimizer

import inna
from inna.files import DamagedFileError, read_document, write_document

__all__ = ["Checkpoint", "Checkpoints", "DamagedCheckpointError"]

MANIFEST = "manifest.json"
FORMAT = 1
NAME = re.compile(r"step-(\d{10})")

T = TypeVar("T")


class DamagedCheckpointError(DamagedFileError):
    """A checkpoint that cannot be trusted: cut short, altered, or not a checkpoint at all."""


class Checkpoint(NamedTuple):
    """What `Checkpoints.load` found: the number of steps taken, and the progress that was saved with it."""

    step: int
    progress: dict[str, Any]


class Checkpoints:
    """The checkpoints of one training run, in a folder that all its processes see.

    ``torch.distributed.checkpoint`` writes the state, each process its own shards, and reads it back for another number
    of processes or another placement. Around it, a checkpoint is a folder ``step-0000000100`` that also holds
    ``manifest.json``: step, progress, and size and SHA-256 of every file. It is written under another name, the
    manifest last, and then renamed, so a folder of that name is complete. Nothing in it is unpickled before its
    checksum has been verified. A checksum tells damage, not malice: load only checkpoints that you would run code from.

    All methods but `steps` are called on all processes, with the same arguments. Without a process group they
    work for the one process. With one, the constructor makes a group of its own over gloo, so that saving in the
    background does not mix with the training's own communication.

    Args:
        folder: where the checkpoints lie; made at the first save.
        keep: how many are kept, >= 1. The default 2 leaves the one before where the newest is damaged later.

    Raises:
        ValueError: keep is out of its range.

    Example:
        >>> import tempfile
        >>> from inna.torch import INNA
        >>> model = torch.nn.Linear(3, 1)
        >>> optimizer = INNA(model.parameters())
        >>> checkpoints = Checkpoints(tempfile.mkdtemp())
        >>> checkpoints.load(model, optimizer) is None
        True
        >>> checkpoints.save(100, model, optimizer, {"tokens": 6400}).name
        'step-0000000100'
        >>> checkpoints.load(model, optimizer)
        Checkpoint(step=100, progress={'tokens': 6400})
    """

    def __init__(self, folder: str | os.PathLike[str], *, keep: int = 2) -> None:
        if isinstance(keep, bool) or not isinstance(keep, int) or keep < 1:
            raise ValueError(f"keep must be a whole number >= 1, got {keep!r}")
        self.folder = Path(folder)
        self._keep = keep
        self._loaded = False
        self._group = _own_group()
        self._rank, self._processes = _place(self._group)
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoints")
        self._pending: Future[Path] | None = None

    def steps(self) -> list[int]:
        """The steps of the checkpoints in the folder, ascending; complete ones, verified or not."""
        if not self.folder.is_dir():
            return []
        matches = (NAME.fullmatch(path.name) for path in self.folder.iterdir() if path.is_dir())
        return sorted(int(match[1]) for match in matches if match)

    def save(
        self,
        step: int,
        model: torch.nn.Module,
        optimizers: Optimizer | Iterable[Optimizer],
        progress: Mapping[str, Any] | None = None,
    ) -> Path:
        """Write the checkpoint of ``step``, and remove those that ``keep`` leaves no room for.

        After a `load`, checkpoints of later steps are removed too: they belong to a course that was left.

        Args:
            step: how many steps have been taken, >= 0; names the checkpoint.
            model, optimizers: what is trained. An optimizer that has not stepped yet is given its state by a step with
                lr = 0, which changes nothing else in INNA and INNAprop.
            progress: what else is needed to go on, as plain JSON, the same on all processes: tokens seen, seeds, a
                scheduler's ``state_dict()``.

        Returns:
            The folder of the checkpoint.

        Raises:
            ValueError: step is out of its range, or progress is not plain JSON.
            FileExistsError: the folder has later checkpoints and `load` was not called: another run's, it seems.
            OSError: a process could not write; the checkpoints that there are stay as they are.
        """
        self.wait()
        document = self._prepare(step, progress)
        return self._write(step, document, _state(model, optimizers))

    def save_async(
        self,
        step: int,
        model: torch.nn.Module,
        optimizers: Optimizer | Iterable[Optimizer],
        progress: Mapping[str, Any] | None = None,
    ) -> Future[Path]:
        """As `save`, but return once the state is copied to the host's memory, and write in the background.

        Training may go on at once. Errors in writing are raised by `wait`, by the next save or load, and by the
        future's ``result()``. Call `wait` before the process group is destroyed.
        """
        from torch.distributed.checkpoint.staging import DefaultStager, StagingOptions

        self.wait()
        document = self._prepare(step, progress)
        stager = DefaultStager(StagingOptions(False, False, False, False))
        try:
            staged: Any = stager.stage(_state(model, optimizers))
        finally:
            stager.close()
        self._pending = self._executor.submit(self._write, step, document, staged)
        return self._pending

    def wait(self) -> None:
        """Wait for a save in the background to end.

        Raises:
            OSError: it could not be written.
        """
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def load(
        self, model: torch.nn.Module, optimizers: Optimizer | Iterable[Optimizer], step: int | None = None
    ) -> Checkpoint | None:
        """Load the newest checkpoint that is intact, or that of ``step``; gradients are dropped.

        Model and optimizers may be sharded in another way, over another number of processes. Every tensor is loaded bit
        for bit. Parameters that had never been stepped when the checkpoint was written start afresh.

        Returns:
            Step and progress; None where there is no checkpoint, and nothing is changed then.

        Raises:
            DamagedCheckpointError: the checkpoint of ``step`` is damaged, or all are. A damaged one with an intact one
                before it gives a warning that says what is wrong.
            FileNotFoundError: there is no checkpoint of ``step``.
            ValueError: the checkpoint is of another model or of optimizers with other settings: names, shapes or dtypes
                differ. Nothing is changed then.
        """
        self.wait()
        known = self._gathered(self.steps())[0]
        if step is not None and step not in known:
            raise FileNotFoundError(f"{self.folder}: no checkpoint of step {step}; there are {known}")
        refused: list[str] = []
        for candidate in reversed(known) if step is None else [step]:
            manifest, why = self._verified(candidate)
            if not why:
                break
            refused.append(why)
        else:
            if not refused:
                return None
            raise DamagedCheckpointError("; ".join(refused))
        for why in refused:
            warnings.warn(f"{why}; loading the checkpoint of step {candidate} instead", stacklevel=2)
        self._read(candidate, model, optimizers)
        self._loaded = True
        return Checkpoint(candidate, manifest["progress"])

    def _path(self, step: int) -> Path:
        return self.folder / f"step-{step:010d}"

    def _prepare(self, step: int, progress: Mapping[str, Any] | None) -> dict[str, Any]:
        """What is known of the manifest before writing, and an empty folder to write into."""
        if isinstance(step, bool) or not isinstance(step, int) or step < 0:
            raise ValueError(f"step must be a whole number >= 0, got {step!r}")
        try:
            kept = json.loads(json.dumps(dict(progress or {}), allow_nan=False))
        except (TypeError, ValueError) as error:
            raise ValueError(f"progress must be plain JSON, without NaN and infinities: {error}") from None
        later = [known for known in self.steps() if known > step]
        if any(self._gathered(bool(later))) and not self._loaded:
            raise FileExistsError(
                f"{self.folder} has checkpoints of later steps than {step}: load one, or choose another folder"
            )

        def empty_folder() -> None:
            for partial in self.folder.glob(".step-*"):
                shutil.rmtree(partial)
            self._partial(step).mkdir(parents=True)

        self._on_first(empty_folder, step)
        return {
            "format": FORMAT,
            "step": step,
            "progress": kept,
            "processes": self._processes,
            "torch": torch.__version__,
            "inna": inna.__version__,
        }

    def _partial(self, step: int) -> Path:
        return self.folder / f".{self._path(step).name}.partial"

    def _write(self, step: int, document: dict[str, Any], state: dict[str, Any]) -> Path:
        from torch.distributed.checkpoint.api import CheckpointException
        from torch.distributed.checkpoint.filesystem import FileSystemWriter
        from torch.distributed.checkpoint.state_dict_saver import save

        partial, path = self._partial(step), self._path(step)
        replaced = self.folder / f".{path.name}.replaced"
        try:
            _expect_one_process(self._group)
            save(
                state,
                storage_writer=FileSystemWriter(partial),
                process_group=self._group,
                no_dist=self._group is None,
            )
        except CheckpointException as error:
            self._on_first(lambda: shutil.rmtree(partial), step)
            raise OSError(self._not_written(step, _reasons(error))) from error
        own = [file for file in sorted(partial.iterdir()) if _writer(file.name) == self._rank]
        files: dict[str, Any] = {}
        for described in self._on_all(lambda: {file.name: _describe(file) for file in own}, step):
            files |= described

        def publish() -> None:
            write_document(partial / MANIFEST, {**document, "files": files})
            _sync(partial)
            if path.exists():
                path.replace(replaced)
            partial.replace(path)
            _sync(self.folder)
            known = self.steps()
            earlier = [other for other in known if other <= step]
            for other in known:
                if other not in earlier[-self._keep :]:
                    shutil.rmtree(self._path(other))
            if replaced.exists():
                shutil.rmtree(replaced)

        self._on_first(publish, step)
        return path

    def _verified(self, step: int) -> tuple[dict[str, Any], str]:
        """The manifest, and why the checkpoint is damaged; empty where it is intact. The same on all processes."""
        path = self._path(step)
        manifest: dict[str, Any] = {}
        try:
            manifest = _read_manifest(path, step)
            names = sorted(manifest["files"])
            # Each process looks at a part of the files.
            why = next(
                filter(None, (_damage(path, manifest, name) for name in names[self._rank :: self._processes])), ""
            )
        except (DamagedFileError, OSError) as error:
            why = str(error)
        return manifest, next(filter(None, self._gathered(why)), "")

    def _read(self, step: int, model: torch.nn.Module, optimizers: Optimizer | Iterable[Optimizer]) -> None:
        from torch.distributed.checkpoint.api import CheckpointException
        from torch.distributed.checkpoint.filesystem import FileSystemReader
        from torch.distributed.checkpoint.state_dict import set_state_dict
        from torch.distributed.checkpoint.state_dict_loader import load

        from inna.torch.checkpoint_reading import StrictLoadPlanner

        optimizers = _all(optimizers)
        # State is made anew, so that parameters which the checkpoint has none for start afresh.
        before = [dict(optimizer.state) for optimizer in optimizers]
        for optimizer in optimizers:
            optimizer.zero_grad(set_to_none=True)
            optimizer.state.clear()
        try:
            state = _state(model, optimizers)
            _expect_one_process(self._group)
            load(
                state,
                storage_reader=FileSystemReader(self._path(step)),
                planner=StrictLoadPlanner(),
                process_group=self._group,
                no_dist=self._group is None,
            )
        except CheckpointException as error:
            for optimizer, values in zip(optimizers, before, strict=True):
                optimizer.state.clear()
                optimizer.state.update(values)
            raise ValueError(f"{self._path(step)} does not fit: {_reasons(error)}") from error
        set_state_dict(model, optimizers, model_state_dict=state["model"], optim_state_dict=state["optimizer"])

    def _gathered(self, mine: T) -> list[T]:
        """What each process says, by rank."""
        if self._group is None:
            return [mine]
        everybody: list[Any] = [None] * self._processes
        torch.distributed.all_gather_object(everybody, mine, group=self._group)
        return everybody

    def _on_all(self, task: Callable[[], T], step: int) -> list[T]:
        """What ``task`` returns on each process; an error on one is an error on all."""
        value, failure = None, ""
        try:
            value = task()
        except OSError as error:
            failure = f"{type(error).__name__}: {error}"
        answers = self._gathered((value, failure))
        failures = [f"rank {rank}: {why}" for rank, (_, why) in enumerate(answers) if why]
        if failures:
            raise OSError(self._not_written(step, "; ".join(failures)))
        return [answer for answer, _ in answers]  # type: ignore[misc]

    def _on_first(self, task: Callable[[], object], step: int) -> None:
        self._on_all(task if self._rank == 0 else lambda: None, step)

    def _not_written(self, step: int, why: str) -> str:
        return f"{self._path(step)} could not be written ({why}); earlier checkpoints are as they were"


def _own_group() -> Any:
    """A group over gloo of all processes; None where there is no process group."""
    distributed = torch.distributed
    if not (distributed.is_available() and distributed.is_initialized()):
        return None
    return distributed.new_group(backend="gloo")


def _place(group: Any) -> tuple[int, int]:
    """The rank of this process, and how many there are."""
    if group is None:
        return 0, 1
    return torch.distributed.get_rank(group), torch.distributed.get_world_size(group)


def _expect_one_process(group: Any) -> None:
    """Without a process group, torch warns at every save and load that it assumes one process. So do we assume."""
    if group is None:
        warnings.filterwarnings("ignore", message="torch.distributed is disabled, unavailable or uninitialized")


def _all(optimizers: Optimizer | Iterable[Optimizer]) -> list[Optimizer]:
    return [optimizers] if isinstance(optimizers, Optimizer) else list(optimizers)


def _state(model: torch.nn.Module, optimizers: Optimizer | Iterable[Optimizer]) -> dict[str, Any]:
    """The state by parameter names, its tensors those of the model and the optimizers."""
    from torch.distributed.checkpoint.state_dict import get_state_dict

    weights, moments = get_state_dict(model, _all(optimizers))
    return {"model": weights, "optimizer": moments}


def _reasons(error: Any) -> str:
    """What the processes report in a CheckpointException, in a line."""
    reasons = [(rank, f"{type(failure).__name__}: {failure}") for rank, (failure, _) in error.failures.items()]
    texts = {text for _, text in reasons}
    if len(texts) == 1:
        return " ".join(texts.pop().split())
    return " ".join("; ".join(f"rank {rank}: {text}" for rank, text in reasons).split())


def _writer(name: str) -> int:
    """The rank that wrote a file: ``__RANK_NUMBER.distcp`` holds its shards, the first process wrote the rest."""
    match = re.match(r"__(\d+)_", name)
    return int(match[1]) if match else 0


def _describe(file: Path) -> dict[str, Any]:
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return {"bytes": file.stat().st_size, "sha256": digest}


def _read_manifest(path: Path, step: int) -> dict[str, Any]:
    if not (path / MANIFEST).is_file():
        raise DamagedCheckpointError(f"{path}: {MANIFEST} is missing")
    manifest = read_document(path / MANIFEST)
    if manifest.get("format") != FORMAT:
        raise DamagedCheckpointError(f"{path}: format {manifest.get('format')!r}; this inna reads format {FORMAT}")
    if manifest.get("step") != step:
        raise DamagedCheckpointError(f"{path}: its manifest is that of step {manifest.get('step')!r}")
    return manifest


def _damage(path: Path, manifest: dict[str, Any], name: str) -> str:
    """What is wrong with a file that the manifest lists; empty where it is intact."""
    file, expected = path / name, manifest["files"][name]
    if Path(name).name != name or not file.is_file():
        return f"{file} is missing"
    size = file.stat().st_size
    if size != expected["bytes"]:
        return f"{file} has {size} bytes instead of {expected['bytes']}"
    return "" if _describe(file) == expected else f"{file}: the checksum does not match; it was altered or damaged"


def _sync(folder: Path) -> None:
    """Let a folder's entries reach the disk, where the system can say so."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
