"""What must hold of names."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pki.errors import IdentityError
from pki.identity import (
    SpiffeId,
    build_app_dns_name,
    build_app_id,
    build_gateway_dns_name,
    build_gateway_id,
    check_generation,
    check_hosts,
    parse_app_name,
    parse_generation,
    parse_host,
    parse_spiffe_id,
    parse_trust_domain,
)

# The grammar of the SPIFFE ID specification, stated a second time.
GRAMMAR = re.compile(r"spiffe://[a-z0-9._-]{1,255}(/(?!\.{1,2}(/|\Z))[A-Za-z0-9._-]+)+")
APPS = st.from_regex(r"[a-z]([a-z0-9-]{0,38}[a-z0-9])?", fullmatch=True)
GENERATIONS = st.integers(1, 2**31 - 1)


@given(APPS, GENERATIONS)
def test_built_app_ids_parse_back(app: str, generation: int) -> None:
    """Whatever is built is inside the grammar and parses to the same value."""
    identity = build_app_id("lockgate.internal", app, generation)
    assert str(identity) == f"spiffe://lockgate.internal/app/{app}/{generation}"
    assert parse_spiffe_id(str(identity)) == identity
    assert GRAMMAR.fullmatch(str(identity))


@given(st.text(max_size=60) | st.from_regex(r"spiffe://[a-z.%]{0,9}(/[^\n]{0,9}){0,4}"))
def test_parsing_accepts_the_grammar_and_nothing_else(text: str) -> None:
    """A text parses exactly if it is in the specification's grammar, and is then unchanged."""
    is_valid = GRAMMAR.fullmatch(text) is not None and len(text) <= 2048
    try:
        assert str(parse_spiffe_id(text)) == text
        assert is_valid
    except IdentityError:
        assert not is_valid


@given(st.from_regex(r"spiffe://[a-z0-9._-]{1,9}(/[\w.-]+)+", fullmatch=True))
def test_ids_of_the_grammar_parse(text: str) -> None:
    """Ids that mostly are in the grammar: the same rule, from the other side."""
    try:
        assert str(parse_spiffe_id(text)) == text
    except IdentityError:
        assert not GRAMMAR.fullmatch(text) or len(text) > 2048


@pytest.mark.parametrize(
    "text",
    [
        "",
        "spiffe://",
        "spiffe://td",
        "spiffe://td/",
        "spiffe:///app/x/1",
        "SPIFFE://td/app/x/1",
        "https://td/app/x/1",
        "spiffe://TD/app/x/1",
        "spiffe://td/app/../x",
        "spiffe://td/./x",
        "spiffe://td/app//x",
        "spiffe://td/app/x/",
        "spiffe://td/app/x?y=1",
        "spiffe://td/app/x#y",
        "spiffe://td/app/%2e%2e/x",
        "spiffe://td:443/app/x",
        "spiffe://user@td/app/x",
        "spiffe://td/app/x\x00",
        "spiffe://td/app/x\n",
        "spiffe://td/app/ü",
        f"spiffe://td/{'x' * 2048}",
    ],
)
def test_ids_outside_the_grammar_are_refused(text: str) -> None:
    """Each of the tricks that a URI parser might forgive is refused."""
    with pytest.raises(IdentityError):
        parse_spiffe_id(text)


def test_an_id_cannot_be_made_outside_the_grammar() -> None:
    """Not even the constructor makes a bad one."""
    with pytest.raises(IdentityError):
        SpiffeId("td", ("..", "x"))
    with pytest.raises(IdentityError):
        SpiffeId("td", ())


def test_gateway_and_dns_names() -> None:
    """The names that gateway and agent know each other by."""
    assert str(build_gateway_id("td.x")) == "spiffe://td.x/gateway/main"
    assert build_app_dns_name("hello", "td.x") == "hello.apps.td.x"
    assert build_gateway_dns_name("main", "td.x") == "main.gateway.td.x"


@pytest.mark.parametrize("name", ["a", "hello", "a-b-c", "a1", "a" * 40])
def test_app_names(name: str) -> None:
    """Names inside the grammar are returned unchanged."""
    assert parse_app_name(name) == name


@pytest.mark.parametrize(
    "name", ["", "1a", "-a", "a-", "A", "a_b", "a.b", "a/b", "ä", "a\n", "a" * 41]
)
def test_bad_app_names(name: str) -> None:
    """Names outside the grammar are refused with the grammar in the message."""
    with pytest.raises(IdentityError, match="1 to 40"):
        parse_app_name(name)


@pytest.mark.parametrize("domain", ["lockgate.internal", "example.com", "localhost", "a" * 63])
def test_trust_domains(domain: str) -> None:
    """Lower-case DNS names of at most 64 characters."""
    assert parse_trust_domain(domain) == domain


@pytest.mark.parametrize(
    "domain", ["", "A.b", "a..b", ".a", "a.", "-a.b", "a_b", "a b", "a." + "b" * 63, "*.a"]
)
def test_bad_trust_domains(domain: str) -> None:
    """Everything else is refused."""
    with pytest.raises(IdentityError):
        parse_trust_domain(domain)


@pytest.mark.parametrize("host", ["hello.localhost", "*.example.com", "a.b.c.d", "localhost"])
def test_hosts(host: str) -> None:
    """Exact and wildcard hosts are returned unchanged."""
    assert parse_host(host) == host


@pytest.mark.parametrize(
    "host",
    ["", "*", "*.", "*.*.a", "a.*.b", "Hello.localhost", "10.0.0.1", "a.1", "a:80", "a b", "::1",
     "a..b", "a.", "x" * 64 + ".com", ".".join(["a" * 60] * 5)],
)  # fmt: skip
def test_bad_hosts(host: str) -> None:
    """Whatever a browser could read as something else is refused."""
    with pytest.raises(IdentityError):
        parse_host(host)


def test_hosts_are_sorted_and_unique() -> None:
    """The same hosts in another order are the same."""
    assert check_hosts(["b.x", "a.x", "b.x"], "td.x") == ("a.x", "b.x")


@pytest.mark.parametrize(
    "host", ["apps.td.x", "hello.apps.td.x", "*.apps.td.x", "main.gateway.td.x", "gateway.td.x"]
)
def test_inner_names_are_no_hosts(host: str) -> None:
    """No visitors' certificate can carry the name that an agent or a gateway goes by."""
    with pytest.raises(IdentityError, match="reserved"):
        check_hosts([host], "td.x")


def test_names_near_the_inner_ones_are_hosts() -> None:
    """An operator's trust domain may also be where his apps are visited."""
    assert check_hosts(["hello.td.x", "myapps.td.x"], "td.x") == ("hello.td.x", "myapps.td.x")


@pytest.mark.parametrize("text", ["0", "01", "-1", "+1", "1.0", "", " 1", "2147483648", "x"])
def test_bad_generations(text: str) -> None:
    """A generation has one spelling."""
    with pytest.raises(IdentityError):
        parse_generation(text)


@given(GENERATIONS)
def test_generations(generation: int) -> None:
    """Every 31-bit positive number is one."""
    assert parse_generation(str(generation)) == check_generation(generation) == generation


def test_messages_escape_and_shorten_what_a_stranger_wrote() -> None:
    """A name goes into a message as printable ASCII, never whole if it is long."""
    with pytest.raises(IdentityError) as caught:
        parse_app_name("\x1b[31m" + "x" * 1000)
    assert "\x1b" not in str(caught.value)
    assert len(str(caught.value)) < 300
