"""When a certificate is replaced: at half its life, spread by jitter.

Invariants: pure arithmetic on instants; the caller brings the clock and the dice.
"""

from datetime import datetime

_SPREAD = 0.1


def pick_renewal_time(not_before: datetime, not_after: datetime, jitter: float) -> datetime:
    """Half life ± 10 % of it; `jitter` in [-1, 1] picks the place. Raises ValueError outside.

    Many leaves are issued at once when a host starts; jitter keeps them from renewing at once.
    """
    if not -1 <= jitter <= 1:
        raise ValueError(f"jitter must be in [-1, 1], not {jitter}")
    half = (not_after - not_before) / 2
    return not_before + half * (1 + _SPREAD * jitter)


def is_past_half_life(not_before: datetime, not_after: datetime, now: datetime) -> bool:
    """Whether a replacement is due."""
    return now >= not_before + (not_after - not_before) / 2
