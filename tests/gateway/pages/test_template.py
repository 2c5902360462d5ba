"""The template's words and colours."""

import re

import pytest

from gateway.errors import REFUSALS, STATUS_TITLES
from gateway.pages.template import ADVICE, PAGE, REFRESHED, TITLES, TONES


def test_words_belong_to_reasons_that_exist() -> None:
    """No heading, advice or refresh is for a reason that nobody raises."""
    assert set(TITLES) | set(ADVICE) | REFRESHED <= set(REFUSALS)
    assert set(TONES) <= set(STATUS_TITLES)


def luminance(colour: str) -> float:
    """Relative luminance of #rgb or #rrggbb (WCAG 2.2)."""
    digits = colour.lstrip("#")
    if len(digits) == 3:
        digits = "".join(digit * 2 for digit in digits)
    channels = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    """Contrast ratio of two colours (WCAG 2.2 section 1.4.3)."""
    light, dark = sorted([luminance(one), luminance(other)], reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", [0, 1])
def test_contrast_is_enough_in_light_and_dark(scheme: int) -> None:
    """Text reaches 7:1 and the sign 4.5:1 on both the paper and the card."""
    blocks = re.findall(r":root\{{1,2}([^}]*)\}", PAGE)
    colours = dict(re.findall(r"--(\w+):(#[0-9a-f]{3,6})", blocks[scheme]))
    for ground in ("paper", "card"):
        for ink in ("ink", "soft"):
            assert contrast(colours[ink], colours[ground]) >= 7
        for sign in ("calm", "warn", "bad"):
            assert contrast(colours[sign], colours[ground]) >= 4.5
