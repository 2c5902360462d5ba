"""Which app answers for a host."""

import timeit

import pytest

from gateway.routes import EMPTY_TABLE, Route, build_table

HELLO = Route(("hello.test", "www.hello.test"), "hello", "hello/3")
WILD = Route(("*.apps.test",), "wild", "wild/1")
ONE = Route(("One.Apps.Test.",), "one", None, "starting", "the first start")


def test_host_leads_to_its_route() -> None:
    """Every host of a route leads to it, whatever its spelling in the table."""
    table = build_table([HELLO, WILD, ONE])
    assert table.lookup("hello.test") is HELLO
    assert table.lookup("www.hello.test") is HELLO
    assert table.lookup("one.apps.test") is ONE
    assert table.routes == (HELLO, WILD, ONE)
    assert len(table) == 3


def test_exact_host_wins_over_a_wildcard() -> None:
    """A wildcard serves only what no route names."""
    table = build_table([WILD, ONE])
    assert table.lookup("one.apps.test") is ONE
    assert table.lookup("two.apps.test") is WILD


@pytest.mark.parametrize(
    "host",
    ["", "test", "apps.test", "a.b.apps.test", "xapps.test", "*.apps.test.evil"],
)
def test_unknown_host_leads_nowhere(host: str) -> None:
    """A wildcard stands for exactly one label that is there."""
    table = build_table([HELLO, WILD])
    assert table.lookup(host) is None


def test_table_without_wildcards_looks_no_further() -> None:
    """An empty table, and one of exact hosts, know nothing else."""
    assert EMPTY_TABLE.lookup("hello.test") is None
    assert build_table([HELLO]).lookup("x.hello.test") is None


@pytest.mark.parametrize(
    ("routes", "message"),
    [
        ([HELLO, Route(("HELLO.test.",), "other")], "claimed by hello and by other"),
        ([WILD, Route(("*.apps.test",), "other")], "claimed by wild and by other"),
        ([Route(("",), "x")], "not a host"),
        ([Route(("*.",), "x")], "not a host"),
        ([Route(("a.*.test",), "x")], "not a host"),
        ([Route(("*.*.test",), "x")], "not a host"),
    ],
)
def test_contradiction_builds_no_table(routes: list[Route], message: str) -> None:
    """A host has one app, and a pattern that means nothing is not accepted."""
    with pytest.raises(ValueError, match=message):
        build_table(routes)


def test_table_does_not_change_after_it_was_built() -> None:
    """Neither the source list nor the table's own maps can be used to change it."""
    routes = [HELLO]
    table = build_table(routes)
    routes.append(WILD)
    assert table.lookup("x.apps.test") is None
    with pytest.raises(TypeError):
        table._exact["x"] = WILD  # type: ignore[index]


def test_repr_counts() -> None:
    """The repr says how much is in it."""
    assert repr(build_table([HELLO, WILD])) == "RouteTable(2 routes, 3 hosts)"


def test_look_up_costs_the_same_with_many_routes() -> None:
    """Ten thousand apps make a look-up no slower than one does (factor 3 for noise)."""
    few = build_table([Route(("app0.test",), "app0")])
    many = build_table([Route((f"app{i}.test",), f"app{i}") for i in range(10_000)])
    small = min(timeit.repeat(lambda: few.lookup("app0.test"), number=2000, repeat=9))
    large = min(timeit.repeat(lambda: many.lookup("app9999.test"), number=2000, repeat=9))
    assert large < 3 * small
