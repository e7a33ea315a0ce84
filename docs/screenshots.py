"""Take the four pictures of a report: light and dark, 1280 and 390 pixels wide.

    python docs/screenshots.py runs/digits/report.html docs/images/digits

writes digits-light-1280.png and three more. Needs playwright and a Chromium on the PATH (or CHROMIUM=/path/to/it).
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from pathlib import Path

WIDTHS = {1280: 800, 390: 844}
FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]


def find_chromium() -> str | None:
    """The path of a Chromium, from $CHROMIUM or the PATH; None where there is none."""
    names = (os.environ.get("CHROMIUM"), "chromium", "chromium-browser", "google-chrome")
    return next((path for name in names if name and (path := shutil.which(name))), None)


def take_screenshots(report: Path, out: Path, *, whole_page: bool = True) -> list[Path]:
    """Write ``out``-light-1280.png and so on; ``whole_page`` goes on below the first screen."""
    from playwright.sync_api import sync_playwright

    executable = find_chromium()
    if executable is None:
        raise SystemExit("no Chromium on the PATH; install Debian's package chromium or set CHROMIUM")
    out.parent.mkdir(parents=True, exist_ok=True)
    paths = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=FLAGS)
        for scheme in ("light", "dark"):
            for width, height in WIDTHS.items():
                page = browser.new_page(
                    viewport={"width": width, "height": height}, color_scheme=scheme, device_scale_factor=2
                )
                page.goto(report.resolve().as_uri())
                page.wait_for_selector(f"html[data-drawn={scheme}]", timeout=30_000)
                path = out.with_name(f"{out.name}-{scheme}-{width}.png")
                page.screenshot(path=path, full_page=whole_page)
                page.close()
                paths.append(path)
        browser.close()
    return paths


def main() -> None:
    parser = argparse.ArgumentParser(description="Take the four pictures of a report.")
    parser.add_argument("report", type=Path, help="the page, report.html")
    parser.add_argument("out", type=Path, help="where to, without an ending: docs/images/digits")
    parser.add_argument("--first-screen", action="store_true", help="only what is seen without scrolling")
    arguments = parser.parse_args()
    for path in take_screenshots(arguments.report, arguments.out, whole_page=not arguments.first_screen):
        sys.stdout.write(f"{path}\n")


if __name__ == "__main__":
    main()
