"""Bytes of a program's output into lines of text.

Invariants: pure; a line is bounded, so a program that never ends one costs no memory.
"""

LINE_LIMIT_BYTES = 16 * 1024


class LineSplitter:
    """Collects output; a carriage return ends a line too, empty lines are dropped."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, chunk: bytes) -> list[str]:
        """The lines that `chunk` completes."""
        *whole, self._rest = (self._rest + chunk).replace(b"\r", b"\n").split(b"\n")
        while len(self._rest) >= LINE_LIMIT_BYTES:
            whole.append(self._rest[:LINE_LIMIT_BYTES])
            self._rest = self._rest[LINE_LIMIT_BYTES:]
        return [line.decode(errors="replace") for line in whole if line]

    def flush(self) -> list[str]:
        """What is left when the output has ended."""
        return self.feed(b"\n")
