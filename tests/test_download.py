"""Archives are fetched whole or not at all: resumed, checked by MD5, unpacked without trusting their paths."""

from __future__ import annotations

import hashlib
import io
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from swrec_prod.errors import DataError
from swrec_prod.raw.download import Archive

CONTENT = {
    "Toy/data/log.csv": b"a,b\n" + np.random.default_rng(1).bytes(3_000_000),
    "Toy/data/users.csv": b"u\n1\n",
    "Toy/data/statistics.csv": b"not asked for",
    "../outside.csv": b"must not be written",
}


def packed() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in CONTENT.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


class Server(ThreadingHTTPServer):
    """Serves one body.

    asked: the Range headers that came. stop_at: where the connection is cut once. ranges: whether it knows them.
    """

    def __init__(self, body: bytes) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.body = body
        self.asked: list[str | None] = []
        self.stop_at: int | None = None
        self.ranges = True

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/Toy.tar.gz"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.server.asked.append(wanted)
        if self.path != "/Toy.tar.gz":
            self.send_error(404, "Not Found")
            return
        first = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and self.server.ranges else 0
        if first >= len(self.server.body):
            self.send_error(416, "Range Not Satisfiable")
            return
        self.send_response(206 if first else 200)
        self.send_header("Content-Length", str(len(self.server.body) - first))
        self.end_headers()
        self.wfile.write(self.server.body[first : self.server.stop_at])
        self.server.stop_at = None

    def log_message(self, format: str, *args: object) -> None:
        return


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server(packed())
    thread = threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield running
    running.shutdown()
    thread.join()
    running.server_close()


def archive(server: Server, *members: str) -> Archive:
    return Archive(
        server.url, hashlib.md5(server.body).hexdigest(), members or ("Toy/data/log.csv", "Toy/data/users.csv")
    )


def test_members_are_unpacked_flat_and_nothing_else_is(server: Server, tmp_path: Path) -> None:
    lines: list[str] = []
    files = archive(server).fetch(tmp_path / "cache" / "toy", "do it by hand", lines.append)
    assert [file.read_bytes() for file in files] == [CONTENT["Toy/data/log.csv"], CONTENT["Toy/data/users.csv"]]
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["cache", "log.csv", "toy", "users.csv"]
    assert lines[-1] == "Toy.tar.gz: 3 of 3 MB"
    assert archive(server).fetch(tmp_path / "cache" / "toy", "", lines.append) == files
    assert server.asked == [None]


def test_a_download_goes_on_where_it_broke_off(server: Server, tmp_path: Path) -> None:
    server.stop_at = 1_000_000
    with pytest.raises(DataError, match=r"the download broke off .*run it again to go on, or do it by hand"):
        archive(server).fetch(tmp_path / "toy", "do it by hand", lambda line: None)
    assert not (tmp_path / "toy").exists()
    files = archive(server).fetch(tmp_path / "toy", "", lambda line: None)
    assert server.asked == [None, "bytes=1000000-"]
    assert files[0].read_bytes() == CONTENT["Toy/data/log.csv"]
    assert [path.name for path in tmp_path.iterdir()] == ["toy"]


def test_a_server_that_knows_no_ranges_sends_everything_again(server: Server, tmp_path: Path) -> None:
    server.ranges = False
    (tmp_path / ".toy.part").write_bytes(b"x" * 1000)
    assert (
        archive(server).fetch(tmp_path / "toy", "", lambda line: None)[1].read_bytes() == CONTENT["Toy/data/users.csv"]
    )


def test_a_whole_part_is_not_fetched_again(server: Server, tmp_path: Path) -> None:
    (tmp_path / ".toy.part").write_bytes(server.body)
    archive(server).fetch(tmp_path / "toy", "", lambda line: None)
    assert server.asked == [f"bytes={len(server.body)}-"] and (tmp_path / "toy" / "log.csv").is_file()


def test_another_file_than_was_published_is_refused_and_removed(server: Server, tmp_path: Path) -> None:
    right = hashlib.md5(server.body).hexdigest()
    with pytest.raises(DataError, match=f"MD5 is {right}, expected 00; run it again, or do it by hand"):
        Archive(server.url, "00", ("Toy/data/log.csv",)).fetch(tmp_path / "toy", "do it by hand", lambda line: None)
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_had_is_named(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"Toy/data/none\.csv is not in the archive"):
        archive(server, "Toy/data/users.csv", "Toy/data/none.csv").fetch(tmp_path / "toy", "", lambda line: None)
    with pytest.raises(DataError, match="404 Not Found; do it by hand"):
        Archive(server.url + "x", "", ("a",)).fetch(tmp_path / "other", "do it by hand", lambda line: None)
    assert not (tmp_path / "toy").exists() and not (tmp_path / "other").exists()
    server.shutdown()
    server.server_close()
    with pytest.raises(DataError, match="the download broke off"):
        Archive(server.url, "", ("a",)).fetch(tmp_path / "other", "", lambda line: None)
