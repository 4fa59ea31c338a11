from __future__ import annotations

import hashlib
import io
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from rich.console import Console

from medsweep.errors import DataError, MedsweepError, ParamsError
from medsweep.sources.fetch import fetch
from medsweep.sources.medmnist_catalog import MedmnistSet

CONTENT = bytes(range(256)) * 12_000


class Handler(BaseHTTPRequestHandler):
    """Serves CONTENT; below /cut it ends early, below /none there is nothing."""

    def do_GET(self) -> None:
        if self.path.startswith("/none"):
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT[: len(CONTENT) // 2] if self.path.startswith("/cut") else CONTENT)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def server() -> Iterator[str]:
    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{running.server_port}"
    running.shutdown()
    thread.join()
    running.server_close()


def catalog(files: str, content: bytes = CONTENT) -> dict[str, MedmnistSet]:
    md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
    return {
        "toymnist": MedmnistSet(
            "binary", 1, (1, 1, 1), "CC0", ("a", "b"), dict.fromkeys((28, 64, 128, 224), md5), files
        )
    }


def console() -> Console:
    return Console(file=io.StringIO(), width=400)


@pytest.mark.parametrize(("size", "name"), [(28, "toymnist.npz"), (64, "toymnist_64.npz")])
def test_a_set_arrives_whole_and_is_not_fetched_twice(tmp_path: Path, server: str, size: int, name: str) -> None:
    screen = console()
    path = fetch("toymnist", size, tmp_path / "raw", screen, catalog=catalog(server))
    assert path == tmp_path / "raw" / name
    assert path.read_bytes() == CONTENT
    assert [each.name for each in path.parent.iterdir()] == [name]
    assert fetch("toymnist", size, tmp_path / "raw", screen, catalog=catalog("http://127.0.0.1:9")) == path
    assert "already there" in screen.file.getvalue()


@pytest.mark.parametrize("below", ["/cut", "/none"])
def test_what_does_not_arrive_whole_is_deleted(tmp_path: Path, server: str, below: str) -> None:
    with pytest.raises(
        MedsweepError, match=r"toymnist\.npz: could not be downloaded from http://127.*by hand"
    ) as caught:
        fetch("toymnist", 28, tmp_path, console(), catalog=catalog(server + below))
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_md5_is_told_and_the_file_deleted(tmp_path: Path, server: str) -> None:
    with pytest.raises(MedsweepError, match=r"has the md5 [0-9a-f]{32}, and [0-9a-f]{32} was published"):
        fetch("toymnist", 28, tmp_path, console(), catalog=catalog(server, b"other"))
    assert list(tmp_path.iterdir()) == []


def test_no_network_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(MedsweepError) as caught:
        fetch("toymnist", 28, tmp_path, console(), catalog=catalog("http://127.0.0.1:9"))
    said = str(caught.value)
    assert "\n" not in said
    for part in ("http://127.0.0.1:9/toymnist.npz?download=1", "Check the network", str(tmp_path / "toymnist.npz")):
        assert part in said
    assert list(tmp_path.iterdir()) == []


def test_another_file_of_that_name_is_left_alone(tmp_path: Path, server: str) -> None:
    (tmp_path / "toymnist.npz").write_bytes(b"mine")
    with pytest.raises(DataError, match="already there, and its md5 is not"):
        fetch("toymnist", 28, tmp_path, console(), catalog=catalog(server))
    assert (tmp_path / "toymnist.npz").read_bytes() == b"mine"


def test_unknown_names_and_sizes_are_answered_with_the_valid_ones(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match=r"'foo'.*pathmnist.*organsmnist"):
        fetch("foo", 28, tmp_path, console())
    with pytest.raises(ParamsError, match=r"size '32'.*28, 64, 128, 224"):
        fetch("pathmnist", 32, tmp_path, console())
