"""The tuned optimizers as code to paste and as commands that train with them."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping
from typing import Any, NamedTuple

from inna.experiments.formatting import count
from inna.experiments.report.sentences import measure_name
from inna.experiments.rows.results import finished, number
from inna.experiments.rows.run import SCHEDULES, Run
from inna.experiments.statistics.summary import TRAIN_LOSS, Entry, Summary
from inna.experiments.study.constructors import UNREAD, has_modes, step_arguments, takes_network
from inna.experiments.study.optimizer_names import NAMED, settings_of, target_of
from inna.experiments.tasks.catalogue import CATALOGUE, split_subset, split_width
from inna.experiments.tasks.data_file import is_data_file

__all__ = ["Recipe", "command", "constructor", "recipe"]

_WIDTH = 88


class Recipe(NamedTuple):
    """Code that makes one tuned optimizer, and the command that trains with it.

    Each is empty where it is unknown: the code without the optimizer's source, the command for a task that no name
    describes.
    """

    label: str
    code: str
    command: str


def recipe(summary: Summary, entry: Entry) -> Recipe | None:
    """Return the recipe of an optimizer; None if tuning chose nothing."""
    if entry.choice is None:
        return None
    run = summary.study.final_runs(entry.choice)[0]
    made = constructor(run)
    steps = next((int(result["iterations"]) for _, result in entry.finals.values() if _counted(result)), None)
    code = _module(run, made, steps, _heading(summary, entry, run)) if made else ""
    return Recipe(entry.label, code, command(run))


def constructor(run: Run) -> str:
    """Return the expression that makes the optimizer of a run for ``model``.

    With every setting; "" if its class is not known.

    >>> constructor(Run("digits", "small-cnn", "sgd", 0.1))
    'SGD(model.parameters(), lr=0.1, momentum=0, dampening=0, weight_decay=0)'
    """
    target = target_of(run.optimizer)
    if not target:
        return ""
    named = NAMED.get(run.optimizer)
    name = target.rpartition(":")[2] + (f".{named.make}" if named and named.make else "")
    parts = ["model" if takes_network(target) else "model.parameters()", *_arguments({"lr": run.lr} | settings_of(run))]
    line = f"{name}({', '.join(parts)})"
    if len(line) + len("optimizer = ") <= _WIDTH:
        return line
    inside = [", ".join(parts)]
    if len(inside[0]) + 4 > _WIDTH:
        inside = [f"{part}," for part in parts]
    return "\n".join([f"{name}(", *(f"    {each}" for each in inside), ")"])


def command(run: Run) -> str:
    """Return the command that does a run; "" if no command can name its task.

    >>> command(Run("digits", "small-cnn", "adam", 0.01, settings=(("betas", (0.9, 0.99)),), batch_size=0))
    "inna train 'adam:betas=(0.9,0.99)' --dataset digits --model small-cnn --lr 0.01 --epochs 15 --seed 0"
    """
    whole, _ = split_subset(run.dataset)
    own = ":" in whole and not is_data_file(run.dataset)
    # A Task object may have the name of a built-in task; only that has no fingerprint.
    if not own and not is_data_file(run.dataset) and (run.source or whole not in CATALOGUE):
        return ""
    written = ",".join(f"{name}={_as_text(value)}" for name, value in run.arguments.items())
    words = ["inna", "train", f"{run.optimizer}:{written}" if written else run.optimizer]
    words += ["--task" if own else "--dataset", run.dataset]
    if not own:
        model, width = split_width(run.model)
        words += ["--model", model, *(["--width", f"{width:g}"] if width != 1 else [])]
    words += ["--lr", repr(run.lr)]
    if run.decay != run.q:
        words += ["--schedule", run.schedule]
    elif run.q:
        words += ["--q", repr(run.q)]
    words += ["--epochs", str(run.epochs), "--seed", str(run.seed)]
    if run.batch_size:
        words += ["--batch-size", str(run.batch_size)]
    if run.loss_samples:
        words += ["--loss-samples", str(run.loss_samples)]
    if run.device != Run.device:
        words += ["--device", run.device]
    if run.precision != Run.precision:
        words += ["--precision", run.precision]
    return shlex.join(words)


def _module(run: Run, made: str, steps: int | None, heading: str) -> str:
    """Return the code: imports, optimizer, schedule."""
    module, _, name = target_of(run.optimizer).partition(":")
    imports, schedule = [f"from {module} import {name}"], _schedule(run, steps)
    if schedule:
        imports = ["from torch.optim.lr_scheduler import LambdaLR", *imports]
        imports.append(f"from inna.schedules import {schedule.partition('(')[0]}")
    lines = [f"# {heading}", *imports, "", f"optimizer = {made}"]
    if schedule:
        lines += [f"scheduler = LambdaLR(optimizer, {schedule})"]
    if has_modes(target_of(run.optimizer)):
        lines.append("# Before training: optimizer.train(). Before evaluating or saving the model: optimizer.eval()")
    lines += [f"# For each batch: optimizer.step({_step_argument(run)})"]
    lines[-1] += ", then scheduler.step()" if schedule else "; the learning rate is constant"
    return "\n".join(lines)


def _step_argument(run: Run) -> str:
    """Return what a step needs.

    The loss for a guarded INNA and MoMo, the closure for L-BFGS.
    """
    taken = step_arguments(target_of(run.optimizer))
    if taken.get("closure") is UNREAD:
        return "closure"
    named = NAMED.get(run.optimizer)
    unguarded = named is not None and named.dampings and settings_of(run).get("loss_bound") is None
    return "loss=loss" if "loss" in taken and not unguarded else ""


def _schedule(run: Run, steps: int | None) -> str:
    if run.decay == run.q:
        return f"power_decay({run.q!r})" if run.q else ""
    total = str(steps) if steps is not None else f"{run.epochs} * len(batches)"
    name, share = SCHEDULES[run.schedule]
    if share is None:
        return f"{name}({total})"
    part = str(math.floor(share * steps)) if steps is not None else f"int({share} * {total})"
    return f"{name}({total}, {part})"


def _heading(summary: Summary, entry: Entry, run: Run) -> str:
    batches = f", batches of {run.batch_size}" if run.batch_size else ""
    precision = f", {run.precision}" if run.precision != Run.precision else ""
    values = summary.spread(entry, TRAIN_LOSS)
    end = f": {measure_name(TRAIN_LOSS)} {values.mean:.2g}" if values else ""
    return f"{run.dataset}, {run.model}, {count(run.epochs, 'epoch')}{batches}{precision}{end}"


def _counted(result: Mapping[str, Any]) -> bool:
    return finished(result) and number(result.get("iterations")) > 0


def _arguments(settings: Mapping[str, Any]) -> list[str]:
    return [f"{name}={value!r}" for name, value in settings.items()]


def _as_text(value: Any) -> str:
    """Return a value as a specification writes it, without blanks."""
    return repr(value).replace(" ", "") if isinstance(value, (tuple, float)) else str(value)
