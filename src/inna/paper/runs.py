"""The study that ``inna reproduce`` runs."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from inna.checks import check_range
from inna.experiments.rows.row_files import DamagedRowError
from inna.experiments.study.study import Study
from inna.experiments.tasks.catalogue import builtin_model, check_network
from inna.experiments.tasks.data_file import data_path, is_data_file, read_data_file
from inna.paper.protocol import INITIAL_SPEED, contenders, protocol_study, scale_of, united

__all__ = [
    "described",
    "study_of",
]


def study_of(
    figures: Collection[str],
    dataset: str = "digits",
    model: str = "",
    scale: str = "quick",
    *,
    device: str = "cpu",
    command: str = "",
    refinement: int = 0,
    initial_speed: float = INITIAL_SPEED,
    load: bool = True,
) -> Study | None:
    """Return the study for ``figures``; None for Figure 1 alone, which has none.

    Args:
        figures: of `inna.paper.protocol.FIGURES`.
        dataset: a built-in data set, or a file ending in ``.npz``.
        model: one of its networks; "" for its first.
        scale: "quick", "medium" or "paper".
        device: "cpu", "cuda", "cuda:1", or "auto".
        command: the command line, for the report.
        refinement: steps in a decade, 4 or 8, to which the best learning rates of the grid are refined; 0 for the grid.
        initial_speed: s >= 0 in INNA's initial velocity -s grad J(theta_0).
        load: load the data and check the task, so that its runs can start.

    Raises:
        ValueError: a name is unknown, the initial speed is negative, the file cannot be used, or the device is not
            available.
        DataError: the data are not available and could not be downloaded.

    >>> study = study_of(["fig2"], "digits")
    >>> len(study.contenders), study.model, study_of(["fig1"]) is None
    (4, 'small-cnn', True)
    """
    check_range("initial_speed", initial_speed, minimum=0.0)
    images, source = None, ""
    if is_data_file(dataset):
        data = read_data_file(data_path(dataset))
        images, source = data.entry.train, data.source
        model = check_network(dataset, data.entry.networks, model)
    elif ":" in dataset:
        raise ValueError(f"dataset must be a built-in one or a file for the paper's protocol; got {dataset!r}")
    else:
        model = builtin_model(dataset, model)
    scale_of(scale, model)
    from inna.experiments.tasks.load import load_task
    from inna.experiments.training.devices import resolve_device

    device = str(resolve_device(device))
    if not contenders(figures):
        return None
    study = protocol_study(
        dataset,
        model,
        scale,
        figures=figures,
        device=device,
        command=command,
        images=images,
        source=source,
        refinement=refinement,
        initial_speed=initial_speed,
    )
    if load:
        load_task(study.dataset, model=model)[0].check()
    return study


def described(study: Study, folder: Path) -> Study:
    """Add the optimizers of the study in ``folder`` if it is the same protocol."""
    try:
        return united(study, Study.load(folder))
    except (FileNotFoundError, DamagedRowError):
        return study
