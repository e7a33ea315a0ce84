"""The charting library: made once, kept whole, and made again where what is kept is damaged."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from inna.experiments.charts import library
from inna.experiments.charts.library import charting_library, library_file_name
from inna.experiments.kept import cache_folder


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[list[str]]:
    """The scripts that were put together; the user's cache folder is empty."""
    scripts: list[str] = []

    def bundle() -> str:
        scripts.append(f"script {len(scripts)}")
        return scripts[-1]

    monkeypatch.setattr("pooch.os_cache", lambda name: tmp_path / name)
    monkeypatch.setattr(library, "_bundle", bundle)
    charting_library.cache_clear()
    yield scripts
    charting_library.cache_clear()


def library_file() -> Path:
    return cache_folder() / library_file_name()


def asked_again() -> str:
    charting_library.cache_clear()
    return charting_library()


def test_it_is_made_once(made: list[str]) -> None:
    assert [asked_again() for _ in range(3)] == ["script 0"] * 3
    assert made == ["script 0"]
    assert [path.name for path in library_file().parent.iterdir()] == [library_file().name]


@pytest.mark.parametrize("damage", ["cut", "altered", "foreign", "folder"])
def test_a_damaged_copy_is_made_again(made: list[str], damage: str) -> None:
    asked_again()
    kept = library_file()
    whole = kept.read_bytes()
    if damage == "folder":
        kept.unlink()
        kept.mkdir()
    else:
        kept.write_bytes(
            {"cut": whole[:-5], "altered": whole.replace(b"script 0", b"script 7"), "foreign": b"{}"}[damage]
        )
    assert asked_again() == "script 1"
    assert asked_again() == ("script 2" if damage == "folder" else "script 1")


def test_without_a_cache_folder_it_is_made_each_time(made: list[str], tmp_path: Path) -> None:
    (tmp_path / "inna").write_text("no folder")
    assert [asked_again(), asked_again()] == ["script 0", "script 1"]


def test_other_versions_have_a_file_of_their_own(made: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    asked_again()
    monkeypatch.setattr(library, "version", lambda package: "0.0.1")
    assert asked_again() == "script 1"


def test_a_script_that_would_end_early_is_refused(made: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "_bundle", lambda: "'</SCRIPT>'")
    with pytest.raises(RuntimeError, match="cannot be inlined"):
        asked_again()
    assert not library_file().exists()
