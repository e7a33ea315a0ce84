"""``python -m inna`` and the command ``inna``."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line and leave with its exit status: 0 done, 1 failed, 2 wrong usage."""
    try:
        from inna.cli import run
    except ModuleNotFoundError as error:
        sys.exit(f"inna: the command line needs {error.name}: pip install 'inna[experiments]'")
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
