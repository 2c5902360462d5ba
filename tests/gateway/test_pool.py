"""Which idle connection serves the next request."""

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from gateway.pool import FULL, OPEN, Answer, Pool


def open_in(pool: Pool[str], *names: str, upstream: str = "u") -> None:
    """Connections that are opened and leased."""
    for name in names:
        assert pool.acquire(upstream) is OPEN
        pool.adopt(upstream, name)


def test_youngest_idle_connection_serves_first() -> None:
    """Connections are handed out last in, first out."""
    pool: Pool[str] = Pool()
    open_in(pool, "a", "b", "c")
    for name in ("a", "b", "c"):
        assert pool.release(name, True, 0.0) == []
    assert [pool.acquire("u") for _ in range(4)] == ["c", "b", "a", OPEN]


def test_upstreams_do_not_share_connections() -> None:
    """A connection serves only the upstream that it was opened for."""
    pool: Pool[str] = Pool()
    open_in(pool, "a")
    pool.release("a", True, 0.0)
    assert pool.acquire("other") is OPEN


def test_spent_connection_is_closed() -> None:
    """What cannot be reused comes back to be closed."""
    pool: Pool[str] = Pool()
    open_in(pool, "a")
    assert pool.release("a", False, 0.0) == ["a"]
    assert pool.acquire("u") is OPEN


def test_oldest_idle_connection_makes_room() -> None:
    """Beyond the idle limit the one that was longest unused is closed."""
    pool: Pool[str] = Pool(idle_per_upstream=2)
    open_in(pool, "a", "b", "c")
    assert pool.release("b", True, 0.0) == []
    assert pool.release("a", True, 1.0) == []
    assert pool.release("c", True, 2.0) == ["b"]


def test_pool_without_idle_places_keeps_nothing() -> None:
    """An idle limit of zero means a new connection for every request."""
    pool: Pool[str] = Pool(idle_per_upstream=0)
    open_in(pool, "a")
    assert pool.release("a", True, 0.0) == ["a"]


def test_upstream_has_a_bounded_number_of_connections() -> None:
    """Leased ones and those being opened count; a place that is given back is free."""
    pool: Pool[str] = Pool(per_upstream=2)
    open_in(pool, "a")
    assert pool.acquire("u") is OPEN
    assert pool.acquire("u") is FULL
    pool.abandon("u")
    assert pool.acquire("u") is OPEN
    assert pool.acquire("other") is OPEN


def test_idle_connections_expire() -> None:
    """After its time, and not before, an idle connection is to be closed."""
    pool: Pool[str] = Pool(idle_s=10.0)
    open_in(pool, "a", "b")
    open_in(pool, "c", upstream="v")
    pool.release("a", True, 0.0)
    pool.release("b", True, 5.0)
    pool.release("c", True, 5.0)
    assert pool.expire(9.9) == []
    assert pool.expire(10.0) == ["a"]
    assert pool.acquire("u") == "b"
    assert pool.expire(15.0) == ["c"]
    assert pool.release("b", True, 15.0) == []


def test_retired_connections_are_not_reused() -> None:
    """After a retirement idle ones close at once and leased ones when they are done."""
    pool: Pool[str] = Pool()
    open_in(pool, "a", "b", "c")
    open_in(pool, "x", upstream="v")
    pool.release("a", True, 0.0)
    pool.release("b", True, 0.0)
    assert pool.retire("u") == ["a", "b"]
    assert pool.retire("nobody") == []
    open_in(pool, "d")
    assert pool.release("c", True, 1.0) == ["c"]
    assert pool.release("d", True, 1.0) == []
    assert pool.release("x", True, 1.0) == []
    assert sorted(pool.retire()) == ["d", "x"]
    assert repr(pool) == "Pool(upstreams=0, idle=0, leased=0, opening=0)"


def test_connection_that_ended_by_itself_is_forgotten() -> None:
    """Idle or leased, a dead connection is never handed out; strangers are ignored."""
    pool: Pool[str] = Pool()
    open_in(pool, "a", "b")
    pool.release("a", True, 0.0)
    pool.discard("a")
    pool.discard("b")
    pool.discard("stranger")
    assert pool.acquire("u") is OPEN


def test_repr_counts() -> None:
    """The repr says how many connections are in which state."""
    pool: Pool[str] = Pool()
    open_in(pool, "a", "b")
    pool.release("a", True, 0.0)
    pool.acquire("v")
    assert repr(pool) == "Pool(upstreams=2, idle=1, leased=1, opening=1)"


def test_mistakes_of_the_caller_raise() -> None:
    """A lease ends once, and only a reserved place can be taken."""
    pool: Pool[str] = Pool()
    with pytest.raises(ValueError, match="no place is reserved for u"):
        pool.adopt("u", "a")
    with pytest.raises(ValueError, match="not leased"):
        pool.release("a", True, 0.0)
    open_in(pool, "a")
    with pytest.raises(ValueError, match="no place is reserved for u"):
        pool.abandon("u")
    pool.release("a", True, 0.0)
    with pytest.raises(ValueError, match="not leased"):
        pool.release("a", True, 0.0)


class PoolMachine(RuleBasedStateMachine):
    """Any order of calls, beside a model that only knows who holds what."""

    leases = Bundle("leases")

    def __init__(self) -> None:
        super().__init__()
        self.pool: Pool[int] = Pool(per_upstream=3, idle_per_upstream=2, idle_s=5.0)
        self.now = 0.0
        self.count = 0
        self.leased: set[int] = set()
        self.closed: set[int] = set()

    @rule(target=leases, upstream=st.sampled_from("uv"))
    def take(self, upstream: str) -> int:
        """Acquire, opening if told to."""
        answer = self.pool.acquire(upstream)
        if answer is FULL:
            return -1
        if answer is OPEN:
            self.count += 1
            answer = self.count
            self.pool.adopt(upstream, answer)
        assert not isinstance(answer, Answer)
        assert answer not in self.leased | self.closed
        self.leased.add(answer)
        return answer

    @rule(connection=leases, reusable=st.booleans())
    def give_back(self, connection: int, reusable: bool) -> None:
        """Release what is still leased."""
        if connection in self.leased:
            self.leased.remove(connection)
            self.close(self.pool.release(connection, reusable, self.now))

    @rule(connection=leases)
    def die(self, connection: int) -> None:
        """A connection ends by itself, idle or leased."""
        self.pool.discard(connection)
        if connection > 0:
            self.leased.discard(connection)
            self.closed.add(connection)

    @rule(seconds=st.floats(min_value=0, max_value=6))
    def wait(self, seconds: float) -> None:
        """Time passes."""
        self.now += seconds
        self.close(self.pool.expire(self.now))

    @rule(upstream=st.sampled_from(["u", "v", None]))
    def retire(self, upstream: str | None) -> None:
        """A drain or a new leaf."""
        self.close(self.pool.retire(upstream))

    def close(self, connections: list[int]) -> None:
        """What the pool gives to close is neither leased nor closed before."""
        assert not set(connections) & (self.leased | self.closed)
        self.closed.update(connections)

    @invariant()
    def counts_are_bounded(self) -> None:
        """The pool's own counts agree with the model."""
        assert f"leased={len(self.leased)}," in repr(self.pool)
        for shelf in self.pool._shelves.values():
            assert 0 < shelf.size <= 3
            assert len(shelf.idle) <= 2
            assert shelf.retired <= shelf.leased


TestPoolMachine = PoolMachine.TestCase
