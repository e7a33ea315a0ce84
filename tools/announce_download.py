"""Say how large the download of torch will be, where pip is about to fetch a build with CUDA libraries.

Runs before the installation, with the interpreter of the virtual environment; the standard library and pip suffice.
Prints nothing where torch is installed already or a CPU build is at hand. Never fails: it only informs.
"""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys
import urllib.request

ADVICE = """\
This includes the CUDA libraries. Without a GPU the CPU build (about 0.2 GB) does the same: point pip at an index that
has it and start again, PIP_INDEX_URL=ADDRESS make demo (README, "Installation", says where the address is found)."""


def planned(*arguments: str) -> list[str]:
    """The addresses of the files that pip would install for ``arguments``."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--report", "-", *arguments]
    report = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return [item["download_info"]["url"] for item in json.loads(report)["install"]]


def size(address: str) -> int:
    """Bytes behind ``address``, as its server says; 0 for a local file."""
    if not address.startswith("http"):
        return 0
    with urllib.request.urlopen(urllib.request.Request(address, method="HEAD"), timeout=20) as answer:
        return int(answer.headers["Content-Length"])


def main(constraints: str) -> None:
    """Print the size, if there is something to say."""
    try:
        importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        pass
    else:
        return
    try:
        (torch,) = planned("--no-deps", "-c", constraints, "torch")
        if not torch.startswith("http") or "cpu" in torch or not sys.platform.startswith("linux"):
            return
        print("No CPU build of torch is at hand; asking how large the download is ...", flush=True)
        total = sum(size(address) for address in planned("-c", constraints, "torch"))
    except (OSError, subprocess.CalledProcessError, ValueError, KeyError, TypeError):
        print("pip will fetch torch; how large the download is could not be found out.", file=sys.stderr)
        return
    print(f"pip will download {total / 1e9:.1f} GB for torch. {ADVICE}")


if __name__ == "__main__":
    main(sys.argv[1])
