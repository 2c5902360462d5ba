"""Limits and decided heads."""

import pytest

from gateway.heads import DEFAULT_LIMITS, Body, ResponseHead


def test_limits_are_those_that_are_documented() -> None:
    """The defaults are 32 KiB and 100 fields for visitors, 64 KiB and 200 for apps."""
    assert (DEFAULT_LIMITS.head_bytes, DEFAULT_LIMITS.fields) == (32768, 100)
    assert (DEFAULT_LIMITS.response_head_bytes, DEFAULT_LIMITS.response_fields) == (65536, 200)
    assert (DEFAULT_LIMITS.url_bytes, DEFAULT_LIMITS.trailer_bytes) == (8192, 8192)


@pytest.mark.parametrize(
    ("status", "is_upgrade", "is_interim"),
    [(100, False, True), (103, False, True), (101, True, False), (200, False, False)],
)
def test_interim_is_what_another_response_follows(
    status: int, is_upgrade: bool, is_interim: bool
) -> None:
    """Every 1xx but an accepted upgrade is provisional."""
    head = ResponseHead(status, (), Body.none, None, is_upgrade=is_upgrade)
    assert head.is_interim is is_interim


def test_heads_cannot_be_changed() -> None:
    """A decision, once made, stays."""
    head = ResponseHead(200, (), Body.none, None)
    with pytest.raises(AttributeError):
        head.status = 500  # type: ignore[misc]
