"""Reasons, statuses and sentences of refusals."""

import re
from pathlib import Path

import pytest

from gateway.errors import REFUSALS, STATUS_TITLES, Refusal, pick_state_reason

GATEWAY = Path(__file__).parents[2] / "gateway"


@pytest.mark.parametrize("reason", REFUSALS)
def test_every_reason_is_a_log_word_with_a_status_and_a_sentence(reason: str) -> None:
    """A reason is one lower-case word, its status has a heading, its text is a sentence."""
    status, text = REFUSALS[reason]
    assert re.fullmatch(r"[a-z][a-z0-9_]*", reason)
    assert status in STATUS_TITLES
    assert text[0].isupper()
    assert text.endswith(".")


def test_no_heading_is_left_over() -> None:
    """Every heading belongs to a status that some refusal has."""
    assert set(STATUS_TITLES) == {status for status, _ in REFUSALS.values()}


def test_every_reason_that_the_gateway_raises_is_in_the_table() -> None:
    """No room raises a word that the table lacks."""
    sources = [path.read_text() for path in GATEWAY.rglob("*.py")]
    raised = {word for text in sources for word in re.findall(r'Refusal\.of\(\s*"(\w+)"', text)}
    assert raised
    assert raised <= set(REFUSALS)


def test_reason_outside_the_table_cannot_be_refused_with() -> None:
    """An unknown word is a mistake of ours and raises at once."""
    with pytest.raises(KeyError):
        Refusal.of("no_such_reason")


def test_refusal_says_what_it_is() -> None:
    """A refusal carries status, word and text, closes by default, and shows all in its repr."""
    refusal = Refusal.of("bad_host")
    assert (refusal.status, refusal.reason, refusal.close) == (400, "bad_host", True)
    assert refusal.text == REFUSALS["bad_host"][1]
    assert str(refusal) == "400 bad_host"
    assert repr(Refusal.of("unknown_host", close=False)) == (
        "Refusal('unknown_host', status=404, close=False)"
    )


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        ("starting", "app_starting"),
        ("failed", "app_failed"),
        ("stopped", "app_stopped"),
        ("asleep", "app_asleep"),
        ("healthy", "app_unavailable"),
        ("never-heard-of", "app_unavailable"),
    ],
)
def test_state_of_an_app_has_a_word(state: str, reason: str) -> None:
    """States that explain an absent upstream have their own word; the others share one."""
    assert pick_state_reason(state) == reason
    assert REFUSALS[reason][0] == 503
