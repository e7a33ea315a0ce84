"""Write results of `inna reproduce` into docs/reproduction.md and docs/images.

    python docs/write_reproduction.py results/mnist-lenet5 results/figure-1

A folder fills the section of the page that is marked with its name:

    <!-- reproduction mnist-lenet5: begin -->
    <!-- reproduction mnist-lenet5: end -->

Missing marks are added at the end. Text outside the marks is written by hand and is kept. Without arguments, all
sections of the page are rewritten from the folders of the same names in results/.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from reproduction_markdown import (
    WRITTEN,
    fill,
    picture_prefix,
    result_section,
    sections,
)

from inna.experiments.charts.pictures import write_pictures
from inna.files import write_whole
from inna.paper.reproduction import read_reproduction

DOCS = Path(__file__).resolve().parent
RESULTS = DOCS.parent / "results"
# Pixels of a picture per pixel of the page: sharp on a dense screen.
SCALE = 2


def write_page(page: Path, folders: list[Path], *, pictures: bool = True) -> list[Path]:
    """Fill ``page`` from ``folders``, by default from those of its sections.

    Returns:
        The paths of the page and the pictures.
    """
    text = page.read_text(encoding="utf-8")
    for name, paragraphs in WRITTEN.items():
        text = fill(text, name, "\n\n".join(paragraphs()))
    folders = folders or [RESULTS / name for name in sections(text) if name not in WRITTEN]
    written = []
    for folder in folders:
        reproduction = read_reproduction(folder)
        name = folder.resolve().name
        text = fill(text, name, result_section(name, reproduction))
        if pictures:
            images = page.parent / "images"
            written += write_pictures(reproduction.figures, images, ["png"], prefix=picture_prefix(name), scale=SCALE)
    write_whole(page, text.encode())
    return [page, *written]


def main() -> int:
    """Run the program with the arguments of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="*", metavar="FOLDER", help="a folder written by inna reproduce")
    parser.add_argument("--page", type=Path, default=DOCS / "reproduction.md", help="(default: docs/reproduction.md)")
    parser.add_argument("--no-pictures", action="store_true", help="do not write docs/images")
    arguments = parser.parse_args()
    try:
        written = write_page(arguments.page, arguments.folders, pictures=not arguments.no_pictures)
    except (OSError, ValueError) as error:
        parser.exit(1, f"{parser.prog}: {error}\n")
    for path in written:
        sys.stdout.write(f"{path}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
