"""The life of an upstream."""

import itertools

import pytest

from gateway.upstream import TRANSITIONS, Event, State, TransitionError, Upstream


def build_upstream(state: State = State.healthy) -> Upstream:
    """An upstream in a state."""
    upstream = Upstream("hello/3", "10.0.0.2:8443", "hello.apps.test", "spiffe://t/app/hello/3")
    upstream.state = state
    return upstream


@pytest.mark.parametrize(("state", "event"), TRANSITIONS)
def test_listed_event_leads_to_the_listed_state(state: State, event: Event) -> None:
    """The table is what happens."""
    upstream = build_upstream(state)
    assert upstream.apply(event) is TRANSITIONS[state, event]
    assert upstream.state is TRANSITIONS[state, event]


@pytest.mark.parametrize(
    ("state", "event"),
    [pair for pair in itertools.product(State, Event) if pair not in TRANSITIONS],
)
def test_any_other_event_raises_and_changes_nothing(state: State, event: Event) -> None:
    """An illegal event is a mistake that leaves no trace."""
    upstream = build_upstream(state)
    before = repr(upstream)
    with pytest.raises(TransitionError, match=event.value):
        upstream.apply(event)
    assert repr(upstream) == before


def test_every_state_can_be_reached_and_gone_is_the_end() -> None:
    """All states are lived through, and nothing comes back from gone."""
    assert {State.adding, *TRANSITIONS.values()} == set(State)
    assert not any(state is State.gone for state, _ in TRANSITIONS)


@pytest.mark.parametrize("state", State)
def test_only_a_healthy_upstream_accepts(state: State) -> None:
    """A new request is admitted by a healthy upstream and by no other."""
    upstream = build_upstream(state)
    assert upstream.can_accept is (state is State.healthy)
    if upstream.can_accept:
        upstream.acquire()
        assert upstream.in_flight == 1
    else:
        with pytest.raises(TransitionError, match="no new request"):
            upstream.acquire()
        assert upstream.in_flight == 0


def test_new_upstream_has_to_prove_itself() -> None:
    """A new upstream is being added, idle, and says so."""
    upstream = Upstream("hello/3", "10.0.0.2:8443", "hello.apps.test", "spiffe://t/app/hello/3")
    assert upstream.state is State.adding
    assert upstream.is_idle
    assert repr(upstream) == (
        "Upstream('hello/3' at 10.0.0.2:8443, adding, in_flight=0, sockets=0)"
    )


def test_work_is_counted_up_and_down() -> None:
    """A request that became a tunnel is counted as a socket, also while draining."""
    upstream = build_upstream()
    upstream.acquire()
    upstream.apply(Event.drain)
    upstream.open_socket()
    upstream.release()
    assert (upstream.in_flight, upstream.sockets, upstream.is_idle) == (0, 1, False)
    upstream.close_socket()
    assert upstream.is_idle


def test_counts_never_go_below_zero() -> None:
    """What was not acquired cannot be released, and no socket comes of nothing."""
    upstream = build_upstream()
    for act in (upstream.release, upstream.open_socket, upstream.close_socket):
        with pytest.raises(TransitionError):
            act()
    assert upstream.is_idle
