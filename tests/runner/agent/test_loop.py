"""The event loop."""

import os
import socket

import pytest

from runner.agent.loop import GONE, READ, WRITE, Loop


class Script:
    """A loop with two connected sockets, and what was called."""

    def __init__(self) -> None:
        self.errors: list[Exception] = []
        self.events: list[int] = []
        self.loop = Loop(self.errors.append)
        self.near, self.far = socket.socketpair()

    def note(self, events: int) -> None:
        """Remember and end."""
        self.events.append(events)
        self.loop.stop()

    def run(self, limit_s: float = 0.2) -> None:
        """Until stopped, or for `limit_s`."""
        self.loop._is_running = True
        timer = self.loop.call_after(limit_s, self.loop.stop)
        self.loop.run()
        timer.cancel()


@pytest.fixture
def script():
    """Ready to run."""
    made = Script()
    yield made
    made.loop.close()
    made.near.close()
    made.far.close()


def test_reports_what_is_ready(script):
    """A readable file calls back with READ, again and again until it was read."""
    script.loop.watch(script.near.fileno(), READ, script.note)
    script.far.send(b"x")
    script.run()
    script.run()
    assert script.events == [READ, READ]


def test_changes_of_mask_take_effect(script):
    """After a change only the new mask is reported; None reports nothing at all."""
    fd = script.near.fileno()
    script.loop.watch(fd, READ, script.note)
    script.loop.change(fd, WRITE)
    script.run()
    assert script.events == [WRITE]
    script.loop.change(fd, None)
    script.far.close()
    script.run(0.05)
    assert script.events == [WRITE]
    script.loop.change(fd, 0)
    script.run()
    assert script.events[1] & GONE


def test_unwatched_files_are_silent(script):
    """Unwatching twice, or a parked file, is no error."""
    fd = script.near.fileno()
    script.loop.watch(fd, READ, script.note)
    script.far.send(b"x")
    script.loop.change(fd, None)
    script.loop.unwatch(fd)
    script.loop.unwatch(fd)
    script.run(0.05)
    assert script.events == []


def test_timers_run_in_order_and_cancelled_ones_never(script):
    """Due calls come by their time, not by their order of creation."""
    called: list[str] = []
    script.loop.call_after(0.03, lambda: (called.append("second"), script.loop.stop()))
    script.loop.call_after(0.01, lambda: called.append("first"))
    script.loop.call_after(0.02, lambda: called.append("never")).cancel()
    script.run()
    assert called == ["first", "second"]


def test_a_callback_that_raises_loses_its_file_only(script):
    """An error in one callback is reported and the loop goes on."""
    read, write = os.pipe()
    os.write(write, b"x")

    def fail(_events: int) -> None:
        raise ValueError("once")

    script.loop.watch(read, READ, fail)
    script.loop.call_after(0.01, lambda: 1 // 0)
    script.loop.watch(script.near.fileno(), READ, lambda _: None)
    script.run(0.05)
    os.close(read)
    os.close(write)
    assert [type(error) for error in script.errors] == [ValueError, ZeroDivisionError]
