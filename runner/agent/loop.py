"""The event loop: one epoll instance, level-triggered, and a few timers.

Invariants: one thread; a callback that raises loses its own file, never the loop; a callback may be
called for nothing (an event of a closed file whose number was used again) and must take EAGAIN.
"""

from __future__ import annotations

import heapq
import select
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

READ = select.EPOLLIN
WRITE = select.EPOLLOUT
GONE = select.EPOLLHUP | select.EPOLLERR

_MAX_EVENTS = 256


class Timer:
    """One call in the future; `cancel()` makes it never happen."""

    __slots__ = ("at", "call")

    def __init__(self, at: float, call: Callable[[], None]) -> None:
        self.at = at
        self.call: Callable[[], None] | None = call

    def __lt__(self, other: Timer) -> bool:
        return self.at < other.at

    def cancel(self) -> None:
        """Forget the call and everything it holds."""
        self.call = None


class Loop:
    """Calls back when files become ready and when times have come, until `stop()`.

    `on_error(error)` is told of each exception that a callback let through.
    """

    def __init__(self, on_error: Callable[[Exception], None]) -> None:
        self._epoll = select.epoll()
        self._callbacks: dict[int, Callable[[int], None]] = {}
        self._masks: dict[int, int | None] = {}
        self._timers: list[Timer] = []
        self._on_error = on_error
        self._is_running = True

    def watch(self, fd: int, mask: int, callback: Callable[[int], None]) -> None:
        """Call `callback(events)` when `fd` is ready for `mask`; GONE is always reported."""
        self._epoll.register(fd, mask)
        self._callbacks[fd] = callback
        self._masks[fd] = mask

    def change(self, fd: int, mask: int | None) -> None:
        """Another mask for a watched `fd`; None: report nothing, not even GONE, until changed."""
        before = self._masks[fd]
        if mask == before:
            return
        if mask is None:
            self._epoll.unregister(fd)
        elif before is None:
            self._epoll.register(fd, mask)
        else:
            self._epoll.modify(fd, mask)
        self._masks[fd] = mask

    def unwatch(self, fd: int) -> None:
        """Forget `fd`, before it is closed. Not watched is no error."""
        if self._callbacks.pop(fd, None) is not None and self._masks.pop(fd) is not None:
            self._epoll.unregister(fd)

    def call_after(self, delay_s: float, call: Callable[[], None]) -> Timer:
        """Call once, `delay_s` from now, unless cancelled."""
        timer = Timer(time.monotonic() + delay_s, call)
        heapq.heappush(self._timers, timer)
        return timer

    def stop(self) -> None:
        """Let `run()` return after the events at hand."""
        self._is_running = False

    def run(self) -> None:
        """Until `stop()`."""
        poll, callbacks = self._epoll.poll, self._callbacks
        while self._is_running:
            for fd, events in poll(self._wait_s() if self._timers else -1, _MAX_EVENTS):
                callback = callbacks.get(fd)
                if callback is not None:
                    try:
                        callback(events)
                    except Exception as error:
                        self.unwatch(fd)
                        self._on_error(error)
            if self._timers:
                self._call_due()

    def close(self) -> None:
        """Let go of the epoll instance."""
        self._epoll.close()

    def _wait_s(self) -> float:
        timers = self._timers
        while timers and timers[0].call is None:
            heapq.heappop(timers)
        return max(0.0, timers[0].at - time.monotonic()) if timers else -1

    def _call_due(self) -> None:
        now = time.monotonic()
        while self._timers and (self._timers[0].call is None or self._timers[0].at <= now):
            call = heapq.heappop(self._timers).call
            if call is not None:
                try:
                    call()
                except Exception as error:
                    self._on_error(error)
