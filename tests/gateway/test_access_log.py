"""The access log's lines and how they get to the file."""

import json
import os
import threading
from pathlib import Path

from gateway.access_log import AccessLog, Line, build_line, strip_query

LINE = Line(
    event="request",
    time=1700000000.1234,
    status=200,
    duration_s=0.0123,
    reason="",
    request_id="ab12",
    peer_ip="192.0.2.1",
    bytes_in=1,
    bytes_out=2,
    app="hello",
    host="hello.localhost",
    method="GET",
    target=b"/a?b=c",
    upstream="hello/3",
)


def test_line_is_json_with_every_field() -> None:
    """A line parses as JSON and holds what is promised, times in milliseconds."""
    assert json.loads(build_line(LINE)) == {
        "time": 1700000000.123,
        "event": "request",
        "app": "hello",
        "host": "hello.localhost",
        "method": "GET",
        "path": "/a",
        "status": 200,
        "bytes_in": 1,
        "bytes_out": 2,
        "duration_ms": 12.3,
        "upstream": "hello/3",
        "reason": "",
        "request_id": "ab12",
        "peer_ip": "192.0.2.1",
    }


def test_line_escapes_what_a_terminal_would_obey() -> None:
    """Control characters, quotes and non-ASCII bytes of a visitor stay inside the string."""
    line = build_line(LINE._replace(target=b'/\x1b[2J"\n\xff', host='x"\r\n'))
    assert line.count("\n") == 1
    assert line.isascii()
    assert "\x1b" not in line
    assert json.loads(line)["path"] == '/\x1b[2J"\n\xff'


def test_path_has_no_query_and_an_end() -> None:
    """Whatever follows the question mark is gone, and a path has at most 1 KiB."""
    assert strip_query(b"/a?b?c") == "/a"
    assert len(strip_query(b"/" + b"a" * 5000)) == 1024


def test_writes_what_was_added(tmp_path: Path) -> None:
    """Every line is in the file after close, in order, readable for its owner only."""
    log = AccessLog.open(tmp_path / "access.log")
    for number in range(1000):
        log.add(LINE._replace(request_id=str(number)))
    log.close()
    lines = (tmp_path / "access.log").read_text().splitlines()
    assert [json.loads(line)["request_id"] for line in lines] == [str(n) for n in range(1000)]
    assert (tmp_path / "access.log").stat().st_mode & 0o777 == 0o600
    assert log.dropped == 0


def test_never_waits_for_a_reader() -> None:
    """A reader that does not read costs lines, which are counted, and never time."""
    reading, writing = os.pipe()
    log = AccessLog(writing)
    adder = threading.Thread(target=lambda: [log.add(LINE) for _ in range(200_000)], daemon=True)
    adder.start()
    adder.join(20)
    assert not adder.is_alive()
    assert log.dropped > 0
    os.close(reading)
    log.close()
