"""Which leaves count as valid."""

from datetime import UTC, datetime, timedelta

from pki.issued import IssuedSet
from pki.profiles import Claim, Kind

NOW = datetime(2030, 6, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
TD = "td.x"


def build() -> IssuedSet:
    """Two generations of an app, another app, a gateway and two hosts."""
    issued = IssuedSet()
    issued.add("a1", Claim(Kind.app, TD, "hello", 1), NOW + DAY)
    issued.add("a2", Claim(Kind.app, TD, "hello", 2), NOW + DAY)
    issued.add("b1", Claim(Kind.app, TD, "other", 1), NOW + DAY)
    issued.add("g", Claim(Kind.gateway, TD, "hello"), NOW + DAY)
    issued.add("v", Claim(Kind.visitor, TD, "hello"), NOW + DAY)
    issued.add("w", Claim(Kind.visitor, TD, "w.localhost"), NOW + 2 * DAY)
    return issued


def test_finding_by_app_and_host() -> None:
    """An app's leaves are its own: no gateway's, no host's of the same name."""
    issued = build()
    assert issued.find_app("hello", None) == ["a1", "a2"]
    assert issued.find_app("hello", 2) == ["a2"]
    assert issued.find_app("never", None) == []
    assert issued.find_hosts(["w.localhost", "x"]) == ["w"]
    assert issued.find_hosts([]) == []


def test_dropping_is_idempotent() -> None:
    """What is dropped is gone, and dropping it again is no error."""
    issued = build()
    issued.drop(["a1", "a1", "zzz"])
    assert len(issued) == 5
    assert issued.find_app("hello", None) == ["a2"]


def test_expired_leaves_are_pruned() -> None:
    """From its end on a leaf is not in the set."""
    issued = build()
    issued.prune(NOW + DAY - timedelta(seconds=1))
    assert len(issued) == 6
    issued.prune(NOW + DAY)
    assert issued.find_hosts(["w.localhost"]) == ["w"]
    assert len(issued) == 1


def test_the_journal_tells_what_is_valid() -> None:
    """Replaying its lines gives what was issued and neither forgotten nor expired."""

    def issue(serial: str, days: int) -> dict[str, object]:
        return {
            "event": "issued",
            "kind": "app",
            "name": "hello",
            "generation": 1,
            "serial": serial,
            "not_after": (NOW + days * DAY).isoformat(),
        }

    issued = IssuedSet()
    lines = [issue("old", -1), issue("gone", 1), {"event": "registered"}]
    lines += [{"event": "forgotten", "serials": ["gone"]}, issue("new", 1), {"event": "refused"}]
    issued.replay(lines, NOW)
    assert issued.find_app("hello", 1) == ["new"]
    assert repr(issued) == "<IssuedSet 1>"
