"""The files of the data sets, fetched from a server on loopback that misbehaves in every way servers do."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import io
import random
import socket
import subprocess
import sys
import tarfile
import threading
import types
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from inna.experiments.tasks import downloads
from inna.experiments.tasks.catalogue import CATALOGUE, DatasetEntry, PublishedFile, entry
from inna.experiments.tasks.downloads import contents, fetch
from inna.experiments.tasks.local_files import DataError, data_folder, file_states
from waiting import PATIENCE, wait_until

PLAIN = random.Random(0).randbytes(200_000)
PACKED = gzip.compress(PLAIN, mtime=0)


def sha256(content):
    return hashlib.sha256(content).hexdigest()


class Answers(BaseHTTPRequestHandler):
    """The path says how to answer for PACKED."""

    def do_GET(self):
        manner = self.path.strip("/")
        self.server.asked.append(manner)
        if manner == "missing":
            self.send_error(404)
            return
        body = {"foreign": b"<html>Sign in to the guest network</html>", "corrupt": PACKED[:-9] + b"?" + PACKED[-8:]}
        body = {"truncated-file": PACKED[:-100], "endless": PACKED * 100} | body
        content = body.get(manner, PACKED)
        self.send_response(200)
        if manner == "chunked":
            self.send_header("Transfer-Encoding", "chunked")
        elif manner != "endless":
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if manner in ("cut", "stalled"):
            self.wfile.write(content[: len(content) // 2])
            self.wfile.flush()
            if manner == "stalled":
                self.server.released.wait(PATIENCE)
            return
        if manner == "chunked":
            pieces = [content[start : start + 8192] for start in range(0, len(content), 8192)]
            content = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in [*pieces, b""])
        try:
            self.wfile.write(content)
        except ConnectionError:
            self.server.asked.append("hung up")

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    served = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    served.asked, served.released = [], threading.Event()
    thread = threading.Thread(target=served.serve_forever, args=(0.02,))
    thread.start()
    yield served
    served.released.set()
    served.shutdown()
    served.server_close()
    thread.join()


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    """Pooch waits a second before it tries the next address."""
    monkeypatch.setattr("pooch.core.time", types.SimpleNamespace(sleep=lambda seconds: None))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("INNA_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


def tiny(server, *manners, **changes):
    addresses = tuple(f"http://127.0.0.1:{server.server_port}/{manner}" for manner in manners)
    values = {"name": "plain.gz", "size": len(PACKED), "sha256": sha256(PACKED), "addresses": addresses}
    file = PublishedFile(**values | {"contents": {"plain": f"sha256:{sha256(PLAIN)}"}} | changes)
    return DatasetEntry("tiny", "numbers", (1, 1, 1), 2, 1, 1, "none", "this test", (file,), ("Other/raw",))


def files_in(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_file_is_fetched_once_checked_kept_and_read(server, folder, capsys):
    described = tiny(server, "good")
    assert [state.place for state in file_states(described)] == [None]
    assert contents(described) == {"plain": PLAIN}
    assert contents(described) == {"plain": PLAIN}
    assert server.asked == ["good"]
    assert files_in(folder) == ["tiny/plain.gz"]
    assert [state.place for state in file_states(described)] == [folder / "tiny" / "plain.gz"]
    shown = capsys.readouterr()
    assert (shown.out, shown.err.count("\n")) == ("", 1)
    assert shown.err.startswith("downloading plain.gz (")


def test_an_answer_in_chunks_of_8192_bytes_is_taken(server, folder):
    assert contents(tiny(server, "chunked")) == {"plain": PLAIN}
    assert server.asked == ["chunked"]


def test_a_file_that_was_fetched_can_be_read_by_whom_the_umask_lets(server, folder):
    fetch(tiny(server, "good"))
    (folder / "beside").touch()
    assert (folder / "tiny" / "plain.gz").stat().st_mode == (folder / "beside").stat().st_mode


@pytest.mark.parametrize(
    ("manner", "reason"),
    [
        ("missing", "HTTP status 404"),
        ("foreign", "a damaged or another file"),
        ("corrupt", "a damaged or another file"),
        ("truncated-file", "a damaged or another file"),
        ("endless", "a damaged or another file"),
        ("cut", "the response broke off"),
        ("stalled", "no connection, or it was lost"),
    ],
)
def test_a_bad_answer_leaves_nothing_says_why_in_one_line_and_heals(server, folder, monkeypatch, manner, reason):
    if manner == "stalled":
        monkeypatch.setattr(downloads, "TIMEOUT", 1.0)
    with pytest.raises(DataError) as caught:
        contents(tiny(server, manner))
    assert f"127.0.0.1:{server.server_port}: {reason}" in str(caught.value)
    assert "plain.gz is not in" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert files_in(folder) == []
    assert contents(tiny(server, "good")) == {"plain": PLAIN}
    # The next address is tried.
    (folder / "tiny" / "plain.gz").unlink()
    assert contents(tiny(server, manner, "good")) == {"plain": PLAIN}
    assert files_in(folder) == ["tiny/plain.gz"]
    if manner == "endless":  # whose whole answer would be a hundred times the file
        wait_until(lambda: server.asked.count("hung up") == 2)


def test_a_server_that_is_not_there_and_every_address_failing(server, folder):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    described = tiny(server, "missing", "foreign")
    nobody = dataclasses.replace(described.files[0], addresses=(f"http://127.0.0.1:{port}/x",))
    both = dataclasses.replace(nobody, addresses=nobody.addresses + described.files[0].addresses)
    with pytest.raises(DataError, match=r"no connection.*404.*another file.*Put plain\.gz into .*tiny.*INNA_DATA"):
        contents(dataclasses.replace(described, files=(both,)))


@pytest.mark.parametrize("content", [PACKED[:500], b"", PACKED + b"x", PLAIN])
def test_a_damaged_file_of_ours_is_replaced(server, folder, capsys, content):
    (folder / "tiny").mkdir(parents=True)
    (folder / "tiny" / "plain.gz").write_bytes(content)
    described = tiny(server, "missing")
    (state,) = file_states(described)
    assert (state.place, state.damaged) == (None, (folder / "tiny" / "plain.gz",))
    with pytest.raises(DataError, match=r"plain\.gz is damaged or another file .*the download failed"):
        contents(described)
    assert (folder / "tiny" / "plain.gz").read_bytes() == content
    capsys.readouterr()
    assert contents(tiny(server, "good")) == {"plain": PLAIN}
    assert "was damaged or another file (its checksum differs) and is replaced" in capsys.readouterr().err
    assert files_in(folder) == ["tiny/plain.gz"]


def test_a_file_of_somebody_elses_is_left_alone(server, folder, capsys):
    folder.mkdir()
    (folder / "plain.gz").write_bytes(b"another data set, whose files have the same names")
    assert contents(tiny(server, "good")) == {"plain": PLAIN}
    assert "is kept; an intact copy is in" in capsys.readouterr().err
    assert (folder / "plain.gz").read_bytes().startswith(b"another")
    assert files_in(folder) == ["plain.gz", "tiny/plain.gz"]
    assert contents(tiny(server, "missing")) == {"plain": PLAIN}
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("place", ["", "tiny", "Other/raw"])
@pytest.mark.parametrize(("name", "content"), [("plain.gz", PACKED), ("plain", PLAIN)])
def test_files_that_lie_there_are_found_packed_and_unpacked_without_a_server(server, folder, place, name, content):
    (folder / place).mkdir(parents=True)
    (folder / place / name).write_bytes(content)
    described = tiny(server, "missing")
    assert contents(described) == {"plain": PLAIN}
    assert [state.place for state in file_states(described)] == [folder / place / name]
    assert server.asked == []
    (folder / place / name).write_bytes(content[:-1])
    assert [state.damaged for state in file_states(described)] == [(folder / place / name,)]


def test_an_unpacked_file_without_a_known_checksum_is_not_taken(server, folder):
    folder.mkdir()
    (folder / "plain").write_bytes(PLAIN)
    with pytest.raises(DataError, match="the download failed"):
        contents(tiny(server, "missing", contents={"plain": ""}))


def test_a_folder_that_cannot_be_written_is_one_line(server, folder):
    folder.write_text("a file where the folder should be")
    with pytest.raises(DataError, match=f"{folder.name}.*(cannot be written|cannot be read)"):
        contents(tiny(server, "good"))


def test_an_interruption_leaves_nothing(server, folder, monkeypatch):
    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(downloads._Bar, "update", interrupt)
    with pytest.raises(KeyboardInterrupt):
        fetch(tiny(server, "good"))
    assert files_in(folder) == []


def test_what_a_killed_download_left_is_cleared_up_by_the_next(server, folder):
    code = f"""
import sys, types
sys.path[:0] = {[str(Path(__file__).parents[each]) for each in (0, 2)]!r}
from test_downloads import contents, tiny
contents(tiny(types.SimpleNamespace(server_port={server.server_port}), "stalled"))
"""
    with subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL) as process:
        wait_until(lambda: any(path.stat().st_size for path in folder.rglob("*") if path.is_file()), process)
        process.kill()
    assert files_in(folder) not in ([], ["tiny/plain.gz"])
    assert contents(tiny(server, "good")) == {"plain": PLAIN}
    assert files_in(folder) == ["tiny/plain.gz"]


def an_archive(members, **changes):
    """A .tar.gz of (name, content, type, where a link leads) and the entry that vouches for it."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content, kind, target in members:
            member = tarfile.TarInfo(name)
            member.type, member.linkname, member.size = kind, target, len(content)
            archive.addfile(member, io.BytesIO(content))
    packed = buffer.getvalue()
    file = PublishedFile("a.tar.gz", len(packed), sha256(packed), (), {"in/one": ""})
    return packed, DatasetEntry("tiny", "", (1, 1, 1), 2, 1, 1, "", "", (dataclasses.replace(file, **changes),))


@pytest.mark.parametrize("escape", ["../escaped", "/absolute-escaped", "in/../../escaped", "."])
def test_members_that_would_leave_the_folder_go_nowhere(folder, tmp_path, monkeypatch, escape):
    monkeypatch.chdir(tmp_path)
    regular = tarfile.REGTYPE
    escape = escape.replace("/absolute", f"{tmp_path}/absolute")
    packed, described = an_archive([(escape, b"!", regular, ""), ("in/one", b"1", regular, "")])
    (folder / "tiny").mkdir(parents=True)
    (folder / "tiny" / "a.tar.gz").write_bytes(packed)
    before = files_in(tmp_path)
    assert contents(described) == {"in/one": b"1"}
    assert files_in(tmp_path) == before


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_in_the_place_of_a_member_are_refused(folder, tmp_path, kind):
    (tmp_path / "secret").write_text("secret")
    packed, described = an_archive([("in/one", b"", kind, str(tmp_path / "secret"))])
    folder.mkdir()
    (folder / "a.tar.gz").write_bytes(packed)
    with pytest.raises(DataError, match="its member in/one is not a regular file"):
        contents(described)
    packed, described = an_archive([("in/two", b"2", tarfile.REGTYPE, "")])
    (folder / "a.tar.gz").write_bytes(packed)
    with pytest.raises(DataError, match="contains no file in/one"):
        contents(described)


def test_two_processes_that_fetch_one_file_do_not_disturb_each_other(server, folder):
    described = tiny(server, "good")
    threads = [threading.Thread(target=fetch, args=(described,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert files_in(folder) == ["tiny/plain.gz"]
    assert contents(described) == {"plain": PLAIN}


def test_a_bar_is_drawn_on_a_terminal(server, folder, capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")  # which makes rich believe in a terminal
    monkeypatch.setenv("COLUMNS", "100")
    fetch(tiny(server, "good"))
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "plain.gz" in shown.err
    assert "━" in shown.err


def test_the_folder_is_the_variable_or_the_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("INNA_DATA", "~/somewhere")
    assert data_folder() == Path.home() / "somewhere"
    monkeypatch.delenv("INNA_DATA")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert data_folder() == tmp_path / "inna"


def test_every_entry_of_the_catalogue_is_complete():
    with pytest.raises(ValueError, match=f"the data sets are {', '.join(CATALOGUE)}; got 'x'"):
        entry("x")
    for described in CATALOGUE.values():
        assert described.terms
        assert described.source
        for file in described.files:
            assert len(bytes.fromhex(file.sha256)) == 32
            assert len(file.addresses) > 1
            assert all(address.endswith(f"/{file.name}") for address in file.addresses)
            for checksum in filter(None, file.contents.values()):
                assert len(checksum.partition(":")[2]) == {"sha256": 64, "md5": 32}[checksum.partition(":")[0]]
