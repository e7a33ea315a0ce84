"""``python -m inna`` and the command ``inna``."""

from __future__ import annotations

import signal
import sys


def main() -> None:
    """Run the command line and leave with its exit status: 0 done, 1 failed, 2 wrong usage.

    The first Ctrl-C interrupts. Pressed again, it breaks off neither the clearing up nor the programs started for it.
    """
    signal.signal(signal.SIGINT, _interrupt_once)
    try:
        from inna.cli import run
    except ModuleNotFoundError as error:
        sys.exit(f"inna: the command line needs {error.name}: pip install 'inna[experiments]'")
    except KeyboardInterrupt:
        sys.exit(1)
    sys.exit(run(sys.argv[1:]))


def _interrupt_once(signum: int, frame: object) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
