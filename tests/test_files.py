"""Files that are whole or not there, and locks that tell a live writer from a dead one."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import inna.files
from inna.files import (
    FRESH,
    DamagedFileError,
    LockedFile,
    is_locked,
    read_document,
    read_file,
    remove_abandoned,
    replacing,
    temporary_folder,
    write_whole,
)

WRITER = """
import os, sys, time
from pathlib import Path
from inna.files import LockedFile, replacing
if sys.argv[2] == "announce":
    LockedFile(Path(sys.argv[1], "announced")).write(b"here")
    print(os.getpid(), flush=True)
    sys.stdin.read()
with replacing(Path(sys.argv[1], "whole")) as temporary:
    temporary.write_bytes(b"half")
    print(os.getpid(), flush=True)
    sys.stdin.read()
"""


@contextlib.contextmanager
def writer(folder, what, *before):
    """Another process in the middle of a write, or with an announcement; it ends as the block does, by SIGKILL."""
    command = [*before, sys.executable, "-c", WRITER, str(folder), what]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline()
            yield process
        finally:
            process.kill()


def temporaries(folder):
    return [path for path in folder.iterdir() if path.suffix == ".tmp"]


def test_what_a_live_writer_holds_is_kept_and_what_a_killed_one_left_is_removed(tmp_path):
    with writer(tmp_path, "write") as process:
        (held,) = temporaries(tmp_path)
        assert is_locked(held)
        # Its number may mean nothing here, or another process.
        renamed = held.rename(tmp_path / held.name.replace(f"-{process.pid}-", "-999999999-"))
        remove_abandoned(tmp_path)
        assert temporaries(tmp_path) == [renamed]
    process.wait()
    assert not is_locked(renamed)
    write_whole(tmp_path / "whole", b"content")
    remove_abandoned(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["whole"]


def test_of_other_machines_only_old_leftovers_are_removed(tmp_path):
    for name, age in (("young", 0.0), ("old", FRESH + 60)):
        left = tmp_path / f".elsewhere-1-{name}.tmp"
        left.mkdir() if name == "young" else left.touch()
        os.utime(left, (left.stat().st_atime, left.stat().st_mtime - age))
    (tmp_path / f".{socket.gethostname()}-1-folder.tmp").mkdir()
    (tmp_path / "kept.tmp").touch()
    remove_abandoned(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {".elsewhere-1-young.tmp", "kept.tmp"}


def test_a_temporary_folder_is_held_and_removed(tmp_path):
    with temporary_folder(tmp_path / "data") as folder:
        (folder / "part").touch()
        remove_abandoned(tmp_path / "data")
        assert (folder / "part").exists()
    assert list((tmp_path / "data").iterdir()) == []


def test_a_writer_in_another_pid_namespace_is_alive(tmp_path):
    apart = [shutil.which("unshare") or "", "--user", "--map-root-user", "--pid", "--fork", "--kill-child"]
    if not apart[0] or subprocess.run([*apart, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no PID namespaces here")
    with writer(tmp_path, "write", *apart) as process:
        (held,) = temporaries(tmp_path)
        assert f"-{process.pid}-" not in held.name
        remove_abandoned(tmp_path)
        assert temporaries(tmp_path) == [held]


def test_a_locked_file_is_locked_through_every_write_and_until_its_writer_ends(tmp_path):
    file = LockedFile(tmp_path / "folder" / "announced")
    for content in (b"first", b"second"):
        file.write(content)
        assert is_locked(file.path)
        assert read_file(file.path) == content
    assert [path.name for path in file.path.parent.iterdir()] == ["announced"]
    file.close()
    assert not file.path.exists()
    file.close()
    with writer(tmp_path, "announce") as process:
        assert is_locked(tmp_path / "announced")
    process.wait()
    assert not is_locked(tmp_path / "announced")


def test_a_file_taken_for_abandoned_before_it_was_locked_is_made_again(tmp_path, monkeypatch):
    created, make = [], inna.files._created

    def removed_at_first(folder):
        path = make(folder)
        created.append(path)
        if len(created) == 1:
            monkeypatch.setattr(inna.files.fcntl, "flock", unlink_first(path, inna.files.fcntl.flock))
        return path

    def unlink_first(path, flock):
        def lock(descriptor, operation):
            path.unlink(missing_ok=True)
            flock(descriptor, operation)

        return lock

    monkeypatch.setattr(inna.files, "_created", removed_at_first)
    write_whole(tmp_path / "whole", b"content")
    assert len(created) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["whole"]


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_writers_and_those_who_remove_what_was_abandoned_do_not_disturb_each_other(tmp_path, kind):
    """At any moment between the creation of a temporary file, its lock and its use."""
    errors, ended = [], threading.Event()

    def write(number):
        try:
            for i in range(100):
                if kind == "file":
                    write_whole(tmp_path / f"{number}-{i}", b"content")
                else:
                    with temporary_folder(tmp_path) as folder:
                        (folder / "part").write_bytes(b"content")
                        (folder / "part").replace(tmp_path / f"{number}-{i}")
        except BaseException as error:
            errors.append(error)

    def remove():
        while not ended.is_set():
            remove_abandoned(tmp_path)

    writers = [threading.Thread(target=write, args=(number,)) for number in range(2)]
    removers = [threading.Thread(target=remove) for _ in range(2)]
    for thread in [*writers, *removers]:
        thread.start()
    for thread in writers:
        thread.join()
    ended.set()
    for thread in removers:
        thread.join()
    assert errors == []
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        f"{number}-{i}" for number in range(2) for i in range(100)
    )
    assert all(path.read_bytes() == b"content" for path in tmp_path.iterdir())


def test_a_file_taken_for_abandoned_before_it_was_opened_is_made_again(tmp_path, monkeypatch):
    created, made = inna.files._created, []

    def removed_at_once(folder):
        path = created(folder)
        made.append(path)
        if len(made) == 1:
            path.unlink()
        return path

    monkeypatch.setattr(inna.files, "_created", removed_at_once)
    write_whole(tmp_path / "whole", b"content")
    assert (tmp_path / "whole").read_bytes() == b"content"
    assert len(made) == 2


def test_without_locks_a_file_counts_as_held_while_it_is_fresh(tmp_path, monkeypatch):
    monkeypatch.setattr("inna.files.fcntl", None)
    with replacing(tmp_path / "whole") as temporary:
        remove_abandoned(tmp_path)
        assert is_locked(temporary)
        os.utime(temporary, (0, 0))
        assert not is_locked(temporary)
        temporary.write_bytes(b"content")
    assert read_file(tmp_path / "whole") == b"content"


def make_socket(path):
    with contextlib.chdir(path.parent), socket.socket(socket.AF_UNIX) as bound:
        bound.bind(path.name)


@pytest.mark.parametrize(
    "make",
    [os.mkfifo, Path.mkdir, make_socket, lambda path: path.symlink_to("/dev/zero")],
    ids=["pipe", "folder", "socket", "device"],
)
def test_what_is_no_regular_file_is_refused_without_waiting(tmp_path, make):
    path = tmp_path / "odd.row.json"
    make(path)
    for read in (read_file, read_document):
        with pytest.raises(DamagedFileError, match=r"odd.row.json: not a regular file"):
            read(path)


def test_a_killed_write_leaves_the_file_as_it_was(tmp_path):
    write_whole(tmp_path / "whole", b"before")
    with writer(tmp_path, "write") as process:
        pass
    assert process.wait() == -signal.SIGKILL
    assert read_file(tmp_path / "whole") == b"before"
