"""A disk that is full before a command has written everything, and then is not any more.

As root on Linux the disk is a tmpfs of a few pages, and writes fail with ENOSPC. Elsewhere the operating system limits
the size of files instead (RLIMIT_FSIZE), and writes fail with EFBIG; the account says which it was.
"""

from __future__ import annotations

import functools
import resource
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from faults.account import Account, complaint
from faults.commands import Command, sweep_command_line, training
from faults.contents import contents, differences

__all__ = ["Way", "fill_the_disk", "way_here"]

Way = Literal["tmpfs", "limit"]
# Bytes: nothing fits; a first file fits; some do; nearly all do.
TRAINING_SIZES = (4096, 700_000, 1_500_000, 2_200_000)
SWEEP_SIZES = (4096, 16_384, 80_000, 200_000)
# A limit of the size of each file can only refuse the files that are larger.
TRAINING_LIMITS = (1000, 10_000, 500_000)
SWEEP_LIMITS = (500, 2000)
ENOUGH = 256 * 2**20


def way_here() -> Way:
    """The best way of this machine: a tmpfs where it can be mounted."""
    with tempfile.TemporaryDirectory(prefix="inna-faults-") as place:
        try:
            with _tmpfs(Path(place), 4096):
                return "tmpfs"
        except (OSError, subprocess.CalledProcessError):
            return "limit"


def fill_the_disk(way: Way, report: Callable[[str], object] = lambda text: None, *, short: bool = False) -> Account:
    """Run a training and a sweep on disks that are too small; then give them space and run them again.

    The short version has fewer epochs, and leaves out the sweep and the sizes between.
    """
    account = Account(
        fault="full disk: " + ("a tmpfs too small (ENOSPC)" if way == "tmpfs" else "files limited in size (EFBIG)"),
        expected="one line and status 1; with space, the same command ends as an undisturbed one",
    )
    sizes = TRAINING_SIZES if way == "tmpfs" else TRAINING_LIMITS
    plans = [(training(epochs=6), (sizes[0], sizes[-1])) if short else (training(), sizes)]
    if not short:
        plans.append((sweep_command_line(), SWEEP_SIZES if way == "tmpfs" else SWEEP_LIMITS))
    for command, sizes in plans:
        with tempfile.TemporaryDirectory(prefix="inna-faults-") as place:
            usual = Path(place) / "usual"
            _try(command, usual)
            expected = contents(usual)
            for size in sizes:
                folder = Path(place) / f"disk{size}"
                folder.mkdir()
                outcome, losses = (_on_a_tmpfs if way == "tmpfs" else _under_a_limit)(command, folder, size, expected)
                account.outcomes[outcome] += 1
                account.losses += [f"{command.name}, {size} bytes: {loss}" for loss in losses]
                report(f"full disk: {command.name}, {size} bytes: {outcome}, {len(account.losses)} losses")
    return account


def _on_a_tmpfs(command: Command, folder: Path, size: int, expected: dict[str, object]) -> tuple[str, list[str]]:
    with _tmpfs(folder, size):
        outcome, losses = _judge(*_try(command, folder), folder)
        subprocess.run(["mount", "-o", f"remount,size={ENOUGH}", str(folder)], check=True)
        _try(command, folder)
        return outcome, losses + differences(expected, contents(folder))


def _under_a_limit(command: Command, folder: Path, size: int, expected: dict[str, object]) -> tuple[str, list[str]]:
    limited = Command(command.name, functools.partial(_limited, size, command.work), command.kinds)
    outcome, losses = _judge(*_try(limited, folder), folder)
    _try(command, folder)
    losses += differences(expected, contents(folder))
    shutil.rmtree(folder)
    return outcome, losses


def _judge(status: int, errors: str, folder: Path) -> tuple[str, list[str]]:
    """What became of a command without space, and what is not as it should be."""
    if status == 0:
        return "there was enough space", []
    losses = [f"{name} is damaged" for name, content in contents(folder).items() if content is None]
    unclear = complaint(status, errors)
    if unclear is None and not any(words in errors for words in ("No space left", "File too large")):
        unclear = f"the message does not say why: {errors.strip()}"
    return "refused in one line", losses + ([unclear] if unclear else [])


def _try(command: Command, folder: Path) -> tuple[int, str]:
    return command.start(folder).wait()


def _limited(size: int, work: Callable[[Path], object], folder: Path) -> None:
    # The limit holds for the errors too, which are short.
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    work(folder)


@contextmanager
def _tmpfs(folder: Path, size: int) -> Iterator[None]:
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], check=True, capture_output=True
    )
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)
