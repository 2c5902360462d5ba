"""When an upstream has drained."""

from gateway.drain import ClosePlan, is_drained, plan_close
from gateway.upstream import Event, Upstream


def build_upstream(name: str, in_flight: int = 0, drains: bool = True) -> Upstream:
    """An upstream with requests under way."""
    upstream = Upstream(name, "10.0.0.2:8443", "a.test", "spiffe://t/app/a/1")
    upstream.apply(Event.probe_passed)
    for _ in range(in_flight):
        upstream.acquire()
    if drains:
        upstream.apply(Event.drain)
    return upstream


def test_drained_means_that_nothing_is_under_way() -> None:
    """One request or one socket is enough to wait for."""
    busy = build_upstream("a", 1)
    assert is_drained([])
    assert is_drained([build_upstream("b")])
    assert not is_drained([build_upstream("b"), busy])
    busy.open_socket()
    busy.release()
    assert not is_drained([busy])
    busy.close_socket()
    assert is_drained([busy])


def test_plan_tells_finished_from_cut_from_waiting() -> None:
    """Idle ones finish, overdue ones are cut, the others wait for the nearest deadline."""
    plan = plan_close(
        [
            build_upstream("idle"),
            build_upstream("overdue", 1),
            build_upstream("later", 1),
            build_upstream("latest", 1),
            build_upstream("patient", 1),
            build_upstream("serving", 1, drains=False),
        ],
        {"idle": 1.0, "overdue": 10.0, "later": 12.0, "latest": 20.0, "serving": 1.0},
        now=10.0,
    )
    assert plan == ClosePlan(finished=("idle",), cut=("overdue",), next_deadline=12.0)


def test_nothing_to_wait_for_has_no_deadline() -> None:
    """Without upstreams there is nothing to do and nothing to wait for."""
    assert plan_close([], {}, 0.0) == ClosePlan((), (), None)
