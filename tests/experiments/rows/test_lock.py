"""The lock of a folder: what stands in its place."""

from __future__ import annotations

import pytest

from inna.experiments.rows.lock import LOCK, lock
from inna.files import DamagedFileError


@pytest.mark.parametrize("make", ["mkdir", "symlink_to"])
def test_a_folder_or_a_link_in_place_of_the_lock_is_named(tmp_path, make):
    path = tmp_path / LOCK
    getattr(path, make)(*([tmp_path / "missing"] if make == "symlink_to" else []))
    with pytest.raises(DamagedFileError, match=rf"{LOCK} is no regular file"), lock(tmp_path):
        pass
    assert not (tmp_path / "missing").exists()
