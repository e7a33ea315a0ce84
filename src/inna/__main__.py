"""``python -m inna`` and the command ``inna``."""

from __future__ import annotations

import sys

from inna.interrupts import STOPPED, handle_interrupts, ignore_interrupts


def main() -> None:
    """Run the command line and exit with its status: 0 done, 1 failed, 2 wrong usage."""
    handle_interrupts()
    try:
        from inna.cli import run
    except ModuleNotFoundError as error:
        sys.exit(f"inna: the command line needs {error.name}: pip install 'inna[experiments]'")
    try:
        status = run(sys.argv[1:])
        ignore_interrupts()  # so that exit handlers are not interrupted
    except KeyboardInterrupt:
        sys.exit(f"inna: {STOPPED}")
    sys.exit(status)


if __name__ == "__main__":
    main()
