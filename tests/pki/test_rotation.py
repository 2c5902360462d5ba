"""When certificates must be replaced."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pki.rotation import is_past_half_life, pick_renewal_time

START = datetime(2030, 1, 1, tzinfo=UTC)


@given(st.integers(60, 10**9), st.floats(-1, 1))
def test_renewal_is_near_half_life(seconds: int, jitter: float) -> None:
    """It is within ten percent of half the life, on the side that the jitter says."""
    life = timedelta(seconds=seconds)
    share = (pick_renewal_time(START, START + life, jitter) - START) / life
    assert 0.4499 < share < 0.5501
    assert (share - 0.5) * jitter >= -1e-6


@pytest.mark.parametrize("jitter", [-1.01, 1.01, float("nan"), float("inf")])
def test_jitter_outside_its_range_is_refused(jitter: float) -> None:
    """A wrong jitter is a bug, not a late renewal."""
    with pytest.raises(ValueError, match="jitter"):
        pick_renewal_time(START, START + timedelta(days=1), jitter)


@pytest.mark.parametrize(("days", "expected"), [(0, False), (44, False), (45, True), (91, True)])
def test_half_life(days: int, expected: bool) -> None:
    """An issuer of 90 days is due on day 45."""
    now = START + timedelta(days=days)
    assert is_past_half_life(START, START + timedelta(days=90), now) is expected
