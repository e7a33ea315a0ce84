"""``python -m inna`` and the command ``inna``."""

from __future__ import annotations

import contextlib
import sys

from inna.interrupts import STOPPED, exit_status, handle_interrupts, ignore_interrupts
from inna.streams import close_streams, spell_missing_letters


def main() -> None:
    """Run the command line and exit with its status: 0 done, 1 failed, 2 wrong usage."""
    handle_interrupts()
    spell_missing_letters()
    try:
        from inna.cli import run
    except ModuleNotFoundError as error:
        sys.exit(f"inna: the command line needs {error.name}: pip install 'inna[experiments]'")
    try:
        status = run(sys.argv[1:])
        ignore_interrupts()  # so that exit handlers are not interrupted
    except KeyboardInterrupt as error:
        with contextlib.suppress(OSError, AttributeError):  # nobody reads stderr, or there is none
            sys.stderr.write(f"inna: {STOPPED}\n")
        status = exit_status(error)
    close_streams()
    sys.exit(status)


if __name__ == "__main__":
    main()
