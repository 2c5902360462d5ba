"""Names of header fields and lists of tokens."""

import pytest

from gateway.fields import (
    LONGEST_NAME_BYTES,
    has_controls,
    is_hop_by_hop,
    is_own,
    is_token,
    may_nominate,
    parse_list,
    read_name,
)


@pytest.mark.parametrize(
    ("name", "folded", "is_plain"),
    [
        (b"Accept", b"accept", True),
        (b"X-XSRFToken", b"x-xsrftoken", True),
        (b"X_Forwarded_For", b"x_forwarded_for", False),
        (b"X.Forwarded.For", b"x.forwarded.for", False),
        (b"x-a~b", b"x-a~b", False),
        (b"n" * LONGEST_NAME_BYTES, b"n" * LONGEST_NAME_BYTES, True),
    ],
)
def test_name_is_folded_and_judged(name: bytes, folded: bytes, is_plain: bool) -> None:
    """A name comes back in lower case with the answer whether CGI could misread it."""
    assert read_name(name) == (folded, is_plain)


@pytest.mark.parametrize(
    "name", [b"", b"a b", b"a:", b"a\r\n", b"\xc3\xa9", b"a\x00", b"n" * (LONGEST_NAME_BYTES + 1)]
)
def test_what_is_no_name_raises(name: bytes) -> None:
    """Anything but a token of sane length is no name."""
    with pytest.raises(ValueError, match="not the name"):
        read_name(name)


def test_strangers_cannot_fill_the_cache_with_long_names() -> None:
    """A name beyond the limit leaves no trace in the cache."""
    before = read_name.cache_info().currsize
    with pytest.raises(ValueError):
        read_name(b"z" * (LONGEST_NAME_BYTES + 1))
    assert read_name.cache_info().currsize == before


@pytest.mark.parametrize("code", [*range(0x20), 0x7F])
def test_controls_are_seen_in_values(code: int) -> None:
    """Every control byte but the tab is seen."""
    assert has_controls(b"a" + bytes([code]) + b"b") is (code != 0x09)


def test_text_has_no_controls() -> None:
    """Printable and high bytes are text."""
    assert not has_controls(bytes(range(0x20, 0x7F)) + bytes(range(0x80, 0x100)))


def test_token_is_told_from_text() -> None:
    """A token is what RFC 9110 says it is."""
    assert is_token(b"!#$%&'*+-.^_`|~09azAZ")
    assert not any(map(is_token, [b"", b"a b", b'"', b"a,b", b"a\n", b"(x)", b"\x80"]))


@pytest.mark.parametrize(
    "name",
    [
        b"connection",
        b"keep-alive",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"http2-settings",
        b"proxy-connection",
        b"proxy-authorization",
        b"proxy-authenticate",
        b"proxy",
    ],
)
def test_hop_by_hop_names_are_known(name: bytes) -> None:
    """What is meant for the next hop is known, `Proxy` (httpoxy) with it."""
    assert is_hop_by_hop(name)


@pytest.mark.parametrize("name", [b"cookie", b"host", b"sec-websocket-key", b"proxy-status"])
def test_end_to_end_names_are_not_hop_by_hop(name: bytes) -> None:
    """What is meant for the app is not taken for the next hop's."""
    assert not is_hop_by_hop(name)


@pytest.mark.parametrize(
    "name",
    [
        b"x-forwarded-for",
        b"x-forwarded-client-cert",
        b"x-forwarded",
        b"forwarded",
        b"via",
        b"x-real-ip",
        b"x-request-id",
        b"x-original-url",
        b"x-auth-request-email",
        b"remote-user",
        b"ssl-client-s-dn",
        b"client-cert",
        b"x-envoy-external-address",
        b"x-lockgate-user",
        b"true-client-ip",
    ],
)
def test_names_that_only_the_gateway_writes_are_known(name: bytes) -> None:
    """Forwarded and identity names are ours, and nobody may nominate them."""
    assert is_own(name)
    assert not may_nominate(name)


@pytest.mark.parametrize("name", [b"authorization", b"x-xsrftoken", b"x-custom", b"origin"])
def test_other_names_are_the_visitors(name: bytes) -> None:
    """Ordinary fields belong to the visitor, who may nominate them."""
    assert not is_own(name)
    assert may_nominate(name)


@pytest.mark.parametrize(
    "name", [b"host", b"content-length", b"transfer-encoding", b"cookie", b"sec-websocket-key"]
)
def test_governing_names_may_not_be_nominated(name: bytes) -> None:
    """A field that decides what the message is cannot be asked away."""
    assert not may_nominate(name)


@pytest.mark.parametrize(
    ("values", "members"),
    [
        ([b"keep-alive"], {b"keep-alive"}),
        ([b"Keep-Alive, Upgrade"], {b"keep-alive", b"upgrade"}),
        ([b" close ,\t", b",x-a"], {b"close", b"x-a"}),
        ([b""], set()),
    ],
)
def test_list_is_parsed(values: list[bytes], members: set[bytes]) -> None:
    """Members are folded; empty ones and white space do not count."""
    assert parse_list(values) == frozenset(members)


@pytest.mark.parametrize(
    "values", [[b"a b"], [b"close;x"], [b'"close"'], [b"close\x0b"], [b"a," * 600]]
)
def test_list_of_no_tokens_is_no_list(values: list[bytes]) -> None:
    """A member that is no token, or an endless list, spoils the whole."""
    assert parse_list(values) is None
