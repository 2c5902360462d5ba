"""Output in, lines out."""

from runner.engines.lines import LINE_LIMIT_BYTES, LineSplitter


def test_lines_across_chunks():
    """A line is given out once it is complete, however it was cut."""
    splitter = LineSplitter()
    assert splitter.feed(b"on") == []
    assert splitter.feed(b"e\ntwo\r\nth") == ["one", "two"]
    assert splitter.flush() == ["th"]
    assert splitter.flush() == []


def test_progress_bars():
    """A carriage return ends a line, and empty lines are dropped."""
    assert LineSplitter().feed(b"10%\r20%\r\n\n") == ["10%", "20%"]


def test_endless_line():
    """A line without an end is cut, so memory stays bounded."""
    splitter = LineSplitter()
    lines = splitter.feed(b"x" * (2 * LINE_LIMIT_BYTES + 1))
    assert [len(line) for line in lines] == [LINE_LIMIT_BYTES, LINE_LIMIT_BYTES]
    assert splitter.flush() == ["x"]


def test_bytes_that_are_no_text():
    """Bytes that are not UTF-8 become replacement characters."""
    assert LineSplitter().feed(b"a\xff\n") == ["a\ufffd"]
