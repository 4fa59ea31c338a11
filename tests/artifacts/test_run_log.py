from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from medsweep.artifacts.run_log import EVENTS, RunLog, read_log, read_log_from
from medsweep.errors import ArtifactError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "below" / "run_log.jsonl"


def test_events_are_read_in_order_with_the_time_they_were_told(path: Path) -> None:
    with RunLog(path) as log:
        log.append("note", text="# ä\nzwei")
        log.append("end", seconds=1.5)
    first, second = read_log(path)
    assert (first["event"], first["text"]) == ("note", "# ä\nzwei")
    assert (second["event"], second["seconds"]) == ("end", 1.5)
    assert second["time"] >= first["time"] > 1.7e9
    assert path.read_text(encoding="utf-8").count("\n") == 2


def test_each_event_is_on_the_disk_before_append_returns(path: Path) -> None:
    log = RunLog(path)
    log.append("note", text="a")
    assert [each["event"] for each in read_log(path)] == ["note"]
    log.append("end", seconds=0)
    assert [each["event"] for each in read_log(path)] == ["note", "end"]
    log.close()


def test_a_log_goes_on_where_it_was(path: Path) -> None:
    for seconds in (1, 2):
        with RunLog(path) as log:
            log.append("end", seconds=seconds)
    assert [each["seconds"] for each in read_log(path)] == [1, 2]


@pytest.mark.parametrize("torn", [b'{"event": "no', b"\xc3", b'{"event": "end", "time": 1, "seconds": 2}'])
def test_a_line_torn_by_a_crash_is_left_out_and_cut_off(torn: bytes, path: Path) -> None:
    with RunLog(path) as log:
        log.append("note", text="a")
    with path.open("ab") as stream:
        stream.write(torn)
    assert [each["event"] for each in read_log(path)] == ["note"]
    with RunLog(path) as log:
        log.append("end", seconds=1)
    assert [each["event"] for each in read_log(path)] == ["note", "end"]
    assert torn not in path.read_bytes().splitlines()


def test_a_log_that_is_only_a_torn_line_starts_anew(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b'{"event"')
    with RunLog(path) as log:
        log.append("end", seconds=1)
    assert [each["event"] for each in read_log(path)] == ["end"]


def test_damage_before_the_last_line_is_one_line(path: Path) -> None:
    with RunLog(path) as log:
        log.append("note", text="a")
        log.append("end", seconds=1)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0][:10] + b"\n" + lines[1])
    with pytest.raises(ArtifactError, match=r"run_log\.jsonl: is damaged .*dvc checkout") as raised:
        list(read_log(path))
    assert "\n" not in str(raised.value)


def test_a_follower_reads_whole_lines_only(path: Path) -> None:
    assert read_log_from(path, 0) == ([], 0)
    with RunLog(path) as log:
        log.append("note", text="ä")
    events, offset = read_log_from(path, 0)
    assert [each["event"] for each in events] == ["note"] and offset == path.stat().st_size
    line = json.dumps({"event": "end", "time": 1, "seconds": 2}).encode()
    with path.open("ab") as stream:
        stream.write(line[:9])
    assert read_log_from(path, offset) == ([], offset)
    with path.open("ab") as stream:
        stream.write(line[9:] + b"\n")
    events, end = read_log_from(path, offset)
    assert [each["seconds"] for each in events] == [2] and end == path.stat().st_size
    assert read_log_from(path, end) == ([], end)


@pytest.mark.parametrize(
    ("event", "named"),
    [("finish", {"seconds": 1}), ("end", {}), ("end", {"seconds": 1, "minutes": 2}), ("note", {"txt": "a"})],
)
def test_events_and_fields_that_are_not_in_the_table_are_refused(event: str, named: dict[str, int], path: Path) -> None:
    with RunLog(path) as log, pytest.raises(ArtifactError, match=f"event '{event}'"):
        log.append(event, **named)
    assert path.read_bytes() == b""


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_is_refused_and_leaves_no_half_line(value: float, path: Path) -> None:
    with RunLog(path) as log:
        with pytest.raises(ValueError, match="JSON compliant"):
            log.append("metrics", values={"auroc": value})
        log.append("end", seconds=1)
    assert [each["event"] for each in read_log(path)] == ["end"]


def test_threads_never_share_a_line(path: Path) -> None:
    with RunLog(path) as log:
        threads = [
            threading.Thread(target=lambda n=n: [log.append("note", text=str(n) * 3000) for _ in range(10)])
            for n in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    found = [each["text"] for each in read_log(path)]
    assert len(found) == 40 and all(set(text) == {text[0]} and len(text) == 3000 for text in found)


def test_no_event_has_a_field_that_would_hide_its_time() -> None:
    assert not any({"event", "time"} & fields for fields in EVENTS.values())
