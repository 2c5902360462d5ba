"""The table in force, the life of upstreams under it, and the work that is counted."""

import pytest

from gateway import RouteEntry, TableDocument
from gateway.upstream import TransitionError
from tests.support.gateway import HOST, GatewayLab


class Job:
    """A piece of work that notes that it was cut."""

    def __init__(self) -> None:
        self.is_cut = False

    def cut(self) -> None:
        self.is_cut = True


def publish(lab: GatewayLab, address: str, name: str = "hello/1") -> None:
    """One route to one upstream."""
    route = RouteEntry(hosts=(HOST,), app="hello", upstream=name)
    lab.site.publish(
        TableDocument(version=1, routes=(route,), upstreams=(lab.build_entry(address, name),))
    )


async def test_keeps_an_upstream_that_did_not_change(lab: GatewayLab) -> None:
    """The same entry in the next table is the same upstream, with its counts."""
    publish(lab, "127.0.0.1:1")
    first = lab.site.upstreams["hello/1"]
    publish(lab, "127.0.0.1:1")
    assert lab.site.upstreams["hello/1"] is first


async def test_moved_upstream_is_another_one(lab: GatewayLab) -> None:
    """A new address under the old name drains the old and takes requests at once."""
    publish(lab, "127.0.0.1:1")
    job = Job()
    first = lab.site.upstreams["hello/1"]
    lab.site.admit(first, job)
    publish(lab, "127.0.0.1:2")
    assert [(r.state, r.in_flight) for r in lab.site.report()] == [("healthy", 0), ("draining", 1)]
    lab.site.dismiss(first, job)
    assert [r.state for r in lab.site.report()] == ["healthy"]


async def test_upstream_that_comes_back_is_restored(lab: GatewayLab) -> None:
    """A rollback to an upstream that still drains uses it again."""
    publish(lab, "127.0.0.1:1", "hello/1")
    old = lab.site.upstreams["hello/1"]
    lab.site.admit(old, Job())
    publish(lab, "127.0.0.1:2", "hello/2")
    assert old.state.value == "draining"
    publish(lab, "127.0.0.1:1", "hello/1")
    assert (lab.site.upstreams["hello/1"], old.state.value) == (old, "healthy")


async def test_draining_upstream_admits_nothing(lab: GatewayLab) -> None:
    """What left the table is not given another request."""
    publish(lab, "127.0.0.1:1")
    old = lab.site.upstreams["hello/1"]
    lab.site.publish(TableDocument(version=2))
    with pytest.raises(TransitionError):
        lab.site.admit(old, Job())


async def test_bad_table_changes_nothing(lab: GatewayLab) -> None:
    """A table that contradicts itself is refused before anything is drained."""
    publish(lab, "127.0.0.1:1")
    table, upstreams = lab.site.table, lab.site.upstreams
    route = RouteEntry(hosts=(HOST,), app="hello", upstream="nobody")
    with pytest.raises(ValueError, match="nobody"):
        lab.site.publish(TableDocument(version=2, routes=(route,)))
    assert (lab.site.table, lab.site.upstreams) == (table, upstreams)


async def test_cuts_what_is_under_way_on_one_upstream(lab: GatewayLab) -> None:
    """A cut reaches the work of the named upstream, draining or not, and no other."""
    publish(lab, "127.0.0.1:1", "hello/1")
    first, second = Job(), Job()
    lab.site.admit(lab.site.upstreams["hello/1"], first)
    publish(lab, "127.0.0.1:2", "hello/2")
    lab.site.admit(lab.site.upstreams["hello/2"], second)
    lab.site.cut("hello/1")
    assert (first.is_cut, second.is_cut) == (True, False)
    lab.site.cut()
    assert second.is_cut


async def test_request_ids_are_unique(lab: GatewayLab) -> None:
    """No two requests share an id."""
    assert len({lab.site.build_request_id() for _ in range(1000)}) == 1000
