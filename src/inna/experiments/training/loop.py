"""One run in progress: network, optimizer, data and history."""

from __future__ import annotations

import contextlib
import itertools
import math
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from inna.experiments.rows.run import Run
from inna.experiments.tasks.exits import ExitGuard
from inna.experiments.tasks.seeds import THREADS, derive, reseed
from inna.experiments.tasks.task import Task
from inna.experiments.training import optimizers
from inna.experiments.training.batches import EVALUATION_BATCH, Batches
from inna.experiments.training.checkpoint import (
    DamagedCheckpointError,
    load_checkpoint,
    own_attributes,
    save_checkpoint,
)
from inna.experiments.training.cuda_graph import GraphedEpochs, graph_settings
from inna.experiments.training.devices import PRECISIONS
from inna.experiments.training.divergence import (
    DivergedError,
    check_epoch,
    diverged_in_batch,
    diverged_in_replayed_batch,
)
from inna.experiments.training.hardware import hardware, versions
from inna.experiments.training.schedule import factor_of, iterations_per_epoch
from inna.torch.measures.constant_loss import constant_loss
from inna.torch.steps.arguments import closure_needed, takes_loss

__all__ = ["OnEpoch", "OnNote", "Pace", "StoppedError", "Training"]

WARM_UP = 2  # iterations before time is taken

OnEpoch = Callable[[dict[str, Any]], object]
OnNote = Callable[[str], object]


class StoppedError(Exception):
    """Training was asked to stop before its last epoch, and did."""


class Pace(NamedTuple):
    """Seconds of an epoch with the evaluation of both sets, and of that alone."""

    epoch: float
    evaluation: float


class Training:
    """A run in progress: its network, optimizer, data and history."""

    def __init__(self, run: Run, task: Task, device: torch.device) -> None:
        if run.precision not in PRECISIONS:
            raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, got {run.precision!r}")
        if run.batch_size < 1 and not isinstance(task.train, DataLoader):
            raise ValueError(f"batch_size must be a whole number >= 1, got {run.batch_size}")
        if run.loss_samples and isinstance(task.train, DataLoader):
            raise ValueError(f"loss_samples must be 0, since task {task.name} has a DataLoader; got {run.loss_samples}")
        self.run, self.task, self.device = run, task, device
        self.guard = ExitGuard()
        self.dtype, self.layers = PRECISIONS[run.precision]
        self.layout = torch.channels_last if task.channels_last else torch.preserve_format
        with self._code_of("model"):
            network = task.model().to(device, self.dtype)
            self.network: torch.nn.Module = network.to(memory_format=self.layout)  # type: ignore[call-overload]
            self._code_of("data")
            self.train_set, self.test_set = (Batches(data, device, self.dtype) for data in (task.train, task.test))
        recorded = graph_settings(optimizers.class_of(run)) if self._recordable() else None
        with self._code_of("optimizer"):
            self.optimizer = optimizers.build(run, self.network, recorded or {})
            self.closure = closure_needed(self.optimizer)
            self.takes_loss = takes_loss(self.optimizer)
        self.shares = optimizers.lr_shares(run, self.optimizer)
        self.graphed = None if recorded is None else self._graphed()
        self.decay = factor_of(run, task.train)
        self.iteration = 0
        self.last_loss = math.nan
        self.sampled_loss = math.nan  # the last epoch's, of the samples that the other epochs evaluate
        self.history: list[dict[str, Any]] = []
        self.seconds = 0.0

    def results(
        self,
        checkpoint: Path | None,
        checkpoint_seconds: float,
        on_epoch: OnEpoch | None,
        on_note: OnNote,
        stop: Callable[[], bool],
        leave_checkpoint: bool,
    ) -> dict[str, Any]:
        """Train from the checkpoint, if any, to the last epoch; see `measure`."""
        if checkpoint is not None and self._restore(checkpoint, on_note) > self.run.epochs:
            checkpoint = None  # a longer run's is not overwritten
        started = saved = time.perf_counter()
        before = self.seconds
        divergence = None
        try:
            if len(self.history) > self.run.epochs:  # its checkpoint was left after the last epoch
                with self._code_of("model"):
                    self._evaluate_whole()
            for epoch in range(len(self.history), self.run.epochs + 1):
                with self._code_of("model"):
                    self._epoch(epoch)
                now = time.perf_counter()
                self.seconds = before + now - started
                stopping = epoch < self.run.epochs and stop()
                last = epoch == self.run.epochs  # a result follows
                due = now - saved >= checkpoint_seconds and not (last and checkpoint_seconds)
                if checkpoint is not None and (stopping or due or (last and leave_checkpoint)):
                    saved = now
                    with self._code_of("model"):
                        state = self._state()
                    save_checkpoint(checkpoint, state)
                if on_epoch is not None:
                    on_epoch(self.history[-1])
                if stopping:
                    raise StoppedError(f"stopped after epoch {epoch} of {self.run.epochs}")
        except DivergedError as error:
            divergence = self._divergence(error)
        self.seconds = before + time.perf_counter() - started
        return self._result(divergence)

    def pace(self, seconds: float) -> Pace:
        """Time about ``seconds`` of iterations, and an evaluation."""
        train, test = self.train_set.data, self.test_set.data
        if isinstance(train, DataLoader) or isinstance(test, DataLoader):
            raise ValueError(f"task {self.task.name}: its pace is not known in advance, because it has a DataLoader")
        self._mode(training=True)
        times: list[float] = []
        with self._code_of("model"), contextlib.suppress(DivergedError):
            for inputs, targets in itertools.chain.from_iterable(map(self._shuffled, itertools.count(1))):
                started = self._now()
                self._iterate(inputs, targets)
                times.append(self._now() - started)
                if len(times) >= WARM_UP + 3 and sum(times[WARM_UP:]) >= seconds:
                    break
        part = (train[0][:EVALUATION_BATCH], train[1][:EVALUATION_BATCH])
        with self._code_of("model"):
            self._mode(training=False)
            self._measure([part], scored=False)
            started = self._now()
            self._measure([part], scored=False)
        samples = min(self.run.loss_samples or len(train[0]), len(train[0]))
        evaluation = (self._now() - started) * (samples + len(test[0])) / len(part[0])
        iterations = iterations_per_epoch(self.run, train)
        return Pace(iterations * statistics.median(times[WARM_UP:] or times or [0.0]) + evaluation, evaluation)

    def _epoch(self, epoch: int) -> None:
        """Train for one epoch (not for epoch 0), evaluate both sets, extend the history."""
        reseed(derive(self.run.seed, "epoch", epoch))
        self._mode(training=True)
        started = self._now()
        if epoch > 0 and self.graphed is not None:
            self._replay(self.graphed, epoch)
        elif epoch > 0:
            self._code_of("data")
            for inputs, targets in self._shuffled(epoch):
                self._iterate(inputs, targets)
                self._code_of("data")
        seconds = self._now() - started
        reseed(derive(self.run.seed, "evaluation", epoch))
        self._mode(training=False)
        train_loss, _ = self._measure(self.train_set.in_turn(self.run.loss_samples), scored=False)
        check_epoch(self.network, train_loss, self.history[0]["train_loss"] if self.history else None)
        test_loss, scores = self._measure(self.test_set.in_turn(), scored=True)
        self.history.append(
            {
                "epoch": epoch,
                "lr": self._lr(max(0, self.iteration - 1)),
                "train_loss": train_loss,
                "test_loss": test_loss,
            }
            | scores
            | optimizers.guard_measures(self.optimizer)
            | {"seconds": seconds}
        )
        if epoch == self.run.epochs:
            self._evaluate_whole()

    def _evaluate_whole(self) -> None:
        """Replace the last epoch's training loss of some samples by that of all."""
        self.sampled_loss = self.history[-1]["train_loss"]
        if self.run.loss_samples:
            reseed(derive(self.run.seed, "evaluation", self.run.epochs))
            self._mode(training=False)
            train_loss, _ = self._measure(self.train_set.in_turn(), scored=False)
            check_epoch(self.network, train_loss, self.history[0]["train_loss"])
            self.history[-1] |= {"train_loss": train_loss}

    def _iterate(self, inputs: Tensor, targets: Tensor) -> None:
        lr = self._lr(self.iteration)
        for group, share in zip(self.optimizer.param_groups, self.shares, strict=True):
            group["lr"] = share * lr

        def backward() -> Tensor:
            self._code_of("optimizer")
            self.optimizer.zero_grad(set_to_none=True)
            outputs = self._outputs(inputs)
            self._code_of("loss")
            loss = self.task.loss(outputs, targets)
            value = loss.item()
            if not math.isfinite(value):
                raise diverged_in_batch(self.network, loss, value)
            self.last_loss = value
            self._code_of("model")
            loss.backward()
            self._code_of("optimizer")
            return loss

        self._code_of("optimizer")
        if self.closure:
            self.optimizer.step(backward)  # type: ignore[arg-type]
        else:
            loss = backward()
            if self.takes_loss:
                step: Any = self.optimizer.step
                step(loss=loss.detach())
            else:
                self.optimizer.step()
        self.iteration += 1

    def _code_of(self, part: str) -> ExitGuard:
        """Return the guard for code of ``part``.

        Within its block, name the part whose code comes next.
        """
        owner = f"optimizer {self.run.optimizer}" if part == "optimizer" else f"task {self.task.name}: its {part}"
        self.guard.part = owner
        return self.guard

    def _outputs(self, inputs: Tensor) -> Any:
        self._code_of("model")
        inputs = inputs.to(memory_format=self.layout)
        if self.layers is None:
            return self.network(inputs)
        with torch.autocast(self.device.type, self.layers):
            outputs = self.network(inputs)
        return outputs.to(self.dtype) if isinstance(outputs, Tensor) and outputs.is_floating_point() else outputs

    def _recordable(self) -> bool:
        """Return whether device, data and precision allow a CUDA graph."""
        # torch's fused SGD reads its learning rate from the device in float32 only.
        return (
            self.device.type == "cuda"
            and not isinstance(self.train_set.data, DataLoader)
            and self.dtype is torch.float32
        )

    def _graphed(self) -> GraphedEpochs:
        assert not isinstance(self.train_set.data, DataLoader)

        def loss(inputs: Tensor, targets: Tensor) -> Tensor:
            outputs = self._outputs(inputs)
            self._code_of("loss")
            return self.task.loss(outputs, targets)

        return GraphedEpochs(loss, self.optimizer, *self.train_set.data, self.run.batch_size)

    def _replay(self, graphed: GraphedEpochs, epoch: int) -> None:
        """Train for one epoch on the device alone; the losses are checked afterwards."""
        order = self.train_set.order(self.run.seed, epoch, len(graphed.inputs))
        count = math.ceil(len(order) / self.run.batch_size)
        losses = graphed.epoch(order, [self._lr(self.iteration + k) for k in range(count)]).tolist()
        for loss in losses:
            if not math.isfinite(loss):
                raise diverged_in_replayed_batch(self.network, loss)
            self.last_loss = loss
            self.iteration += 1

    def _divergence(self, error: DivergedError) -> dict[str, Any]:
        """Return the row's ``divergence``."""
        iteration = max(0, self.iteration - error.steps_back)
        return {
            "iteration": iteration,
            "epoch": len(self.history),  # the one that it left unfinished
            "parameter": error.parameter,
            "lr": self._lr(iteration),
            "last_finite_loss": self.last_loss,
            "reason": error.reason,
        }

    def _lr(self, iteration: int) -> float:
        return float(self.run.lr * self.decay(iteration))

    def _mode(self, training: bool) -> None:
        self._code_of("model")
        self.network.train(training)
        # Schedule-free optimizers keep two sets of weights and have this switch too.
        self._code_of("optimizer")
        switch = getattr(self.optimizer, "train" if training else "eval", None)
        if callable(switch):
            switch()

    def _shuffled(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        return self.train_set.shuffled(self.run.seed, epoch, self.run.batch_size)

    @torch.no_grad()
    def _measure(self, batches: Iterable[tuple[Tensor, Tensor]], scored: bool) -> tuple[float, dict[str, float]]:
        """Return the mean loss over a whole set and, if ``scored``, the metrics."""
        total, count = 0.0, 0
        outputs, aims = [], []
        self._code_of("data")
        for inputs, targets in batches:
            output = self._outputs(inputs)
            self._code_of("loss")
            total += self.task.loss(output, targets).item() * len(targets)
            count += len(targets)
            if scored and self.task.metrics:
                outputs.append(output)
                aims.append(targets)
            self._code_of("data")
        if not count:
            raise ValueError(f"task {self.task.name}: its DataLoader yields no data")
        scores = {}
        if outputs:
            output, target = torch.cat(outputs), torch.cat(aims)
            for name, (function, _) in self.task.metrics.items():
                self._code_of(f"metric {name}")
                scores[f"test_{name}"] = float(function(output, target))
        return total / count, scores

    def _constant_loss(self) -> float | None:
        """Return `constant_loss` of the training set.

        None where a DataLoader yields it, or the task's code fails.
        """
        data = self.train_set.data
        if isinstance(data, DataLoader):
            return None
        # Training is over: what the network says of one sample, or the loss of a constant, must not lose its result.
        with contextlib.suppress(Exception), self._code_of("model"):
            self.network.eval()
            with torch.no_grad():
                output = self._outputs(data[0][:1])
            self._code_of("loss")
            return constant_loss(output, data[1], self.task.loss, batch_size=EVALUATION_BATCH)
        return None

    def _now(self) -> float:
        self._synchronize()
        return time.perf_counter()

    def _synchronize(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def _state(self) -> dict[str, Any]:
        network = self.network.state_dict()
        history = self.history
        if len(history) > self.run.epochs:  # a longer run continues with the loss that it would have measured itself
            history = [*history[:-1], history[-1] | {"train_loss": self.sampled_loss}]
        self._code_of("optimizer")
        return {
            "run": self.run.trajectory.key,
            "network": network,
            "optimizer": self.optimizer.state_dict(),
            "attributes": own_attributes(self.optimizer),
            "iteration": self.iteration,
            "last_loss": self.last_loss,
            "history": history,
            "seconds": self.seconds,
        }

    def _restore(self, path: Path, on_note: OnNote) -> int:
        """Restore the state of the checkpoint, unless it is of a longer run.

        Return its epochs.
        """
        try:
            state = load_checkpoint(path)
        except FileNotFoundError:
            return 0
        except DamagedCheckpointError as error:
            on_note(f"{error}; the run starts from the beginning")
            return 0
        if state.get("run") != self.run.trajectory.key:
            on_note(f"{path}: the checkpoint of another run; this one starts from the beginning")
            return 0
        epochs = len(state["history"]) - 1
        if epochs <= self.run.epochs:
            with self._code_of("model"):
                self.network.load_state_dict(state["network"])
                self._code_of("optimizer")
                self.optimizer.load_state_dict(state["optimizer"])
            for name, value in state.get("attributes", {}).items():
                setattr(self.optimizer, name, value.to(self.device) if isinstance(value, Tensor) else value)
            self.iteration, self.last_loss = state["iteration"], state["last_loss"]
            self.history, self.seconds = state["history"], state["seconds"]
        return epochs

    def _result(self, divergence: dict[str, Any] | None) -> dict[str, Any]:
        columns = ["train_loss", "test_loss", *(f"test_{name}" for name in self.task.metrics)]
        last = self.history[-1] if divergence is None else dict.fromkeys(columns, math.nan)
        epochs = [entry["seconds"] for entry in self.history[1:]]
        parameters = sum(p.numel() for p in self.network.parameters())
        result = {"status": "done" if divergence is None else "diverged"} | {name: last[name] for name in columns}
        result |= {
            "seconds_per_epoch": statistics.median(epochs) if epochs else math.nan,
            "seconds": self.seconds,
            "history": self.history,
            "state_bytes_per_parameter": _state_bytes(self.optimizer) / max(1, parameters),
            "parameters": parameters,
            "iterations": self.iteration,
            "constant_loss": self._constant_loss() if divergence is None else None,
            "threads": THREADS,
            "cuda_graph": self.graphed is not None,
            "versions": versions(),
            "hardware": hardware(self.device),
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        return result if divergence is None else result | {"divergence": divergence}


def _state_bytes(optimizer: torch.optim.Optimizer) -> int:
    """Return the size of the tensors of the state, wherever it is kept."""
    groups = [value for group in optimizer.param_groups for name, value in group.items() if name != "params"]
    # A tensor in a group is a setting on the device; lists are the state of optimizers such as DoG.
    kept = [value for value in groups if isinstance(value, list)]
    return _tensor_bytes([*optimizer.state.values(), *kept])


def _tensor_bytes(value: Any) -> int:
    if isinstance(value, Tensor):
        return value.numel() * value.element_size()
    if isinstance(value, dict):
        value = list(value.values())
    return sum(map(_tensor_bytes, value)) if isinstance(value, list) else 0
