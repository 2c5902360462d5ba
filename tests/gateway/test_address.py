"""Authorities, targets, and paths that only the platform may ask for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.address import (
    Authority,
    decide_target,
    fold_host,
    is_private_path,
    parse_authority,
)
from gateway.errors import Refusal

HERE = Authority("app.test", 8443)


@pytest.mark.parametrize(
    ("value", "host", "port"),
    [
        (b"app.test", "app.test", None),
        (b"App.Test:8443", "app.test", 8443),
        (b"app.test.", "app.test", None),
        (b"app.test.:443", "app.test", 443),
        (b"a_b.test", "a_b.test", None),
        (b"192.0.2.1:1", "192.0.2.1", 1),
        (b"[2001:DB8::1]:65535", "[2001:db8::1]", 65535),
        (b"localhost", "localhost", None),
        (b"a" * 63 + b".test", "a" * 63 + ".test", None),
    ],
)
def test_authority_is_parsed(value: bytes, host: str, port: int | None) -> None:
    """A host has one spelling whatever case, dot and port it was sent with."""
    assert parse_authority(value) == Authority(host, port)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b":443",
        b".",
        b"a..b",
        b".a",
        b"a..",
        b"user@app.test",
        b"app.test,evil.test",
        b"app.test/",
        b"app.test?x",
        b"app.test#x",
        b"app.test\\x",
        b"app test",
        b"app.test:",
        b"app.test:0",
        b"app.test:65536",
        b"app.test:443:443",
        b"app.test:+443",
        b"app.test: 443",
        b"app.test:4_3",
        b"app.test\n",
        b"app.test\x00",
        b"app.t\xc3\xa9st",
        b"app%2etest",
        b"-a.test",
        b"a-.test",
        b"a" * 64 + b".test",
        b".".join([b"a" * 60] * 5),
        b"[::1",
        b"::1",
        b"[::1]x",
        b"[v1.a]",
        b"*.test",
        b"http://app.test",
    ],
)
def test_anything_else_is_no_authority(value: bytes) -> None:
    """What could be read as another site, or as more than a site, is refused."""
    assert parse_authority(value) is None


def test_host_is_folded_once() -> None:
    """Folding is idempotent and removes one dot only."""
    assert fold_host("App.Test.") == "app.test"
    assert fold_host("app.test") == "app.test"


@pytest.mark.parametrize(
    "url",
    [
        b"/",
        b"/a/b?c=d",
        b"/?",
        b'/a//b/../c;x=1?y=[]{}|^`"<>',
        b"/%2e%2e/%00?%zz",
        b"/?a=b\\c",
        b"//other.test/",
        b"/~user/@x:y",
    ],
)
def test_origin_form_passes_untouched(url: bytes) -> None:
    """The bytes that the app sees are the bytes that were asked for."""
    assert decide_target(b"GET", url, HERE) == url


@pytest.mark.parametrize(
    "url",
    [
        b"",
        b"a",
        b"?x",
        b"/a#b",
        b"/a?b#c",
        b"/a\\b",
        b"/\\evil.test",
        b"/a b",
        b"/a\tb",
        b"/a\r\nX: y",
        b"/a\x00",
        b"/\x7f",
        b"/\xc3\xbc",
        b"*",
        b"app.test:443",
        b"ftp://app.test/",
        b"http:/app.test/",
        b"http:///a",
        b"https://app.test:8443/#x",
        b"https://app.test:8443\\x",
        b"https://app.test:8443/\\x",
    ],
)
def test_other_targets_are_refused(url: bytes) -> None:
    """What is neither a path nor an absolute address of ours is a bad target."""
    with pytest.raises(Refusal, match="bad_target"):
        decide_target(b"GET", url, HERE)


@pytest.mark.parametrize(
    ("method", "url", "target"),
    [
        (b"GET", b"https://app.test:8443/a?b", b"/a?b"),
        (b"GET", b"HTTPS://APP.test.:8443/a", b"/a"),
        (b"GET", b"http://app.test:8443", b"/"),
        (b"GET", b"https://app.test:8443?b", b"/?b"),
        (b"OPTIONS", b"https://app.test:8443", b"*"),
        (b"OPTIONS", b"https://app.test:8443/", b"/"),
        (b"OPTIONS", b"https://app.test:8443?x", b"/?x"),
        (b"OPTIONS", b"*", b"*"),
    ],
)
def test_absolute_form_of_the_same_site_becomes_a_path(
    method: bytes, url: bytes, target: bytes
) -> None:
    """A full address of the site that Host names is forwarded in origin-form."""
    assert decide_target(method, url, HERE) == target


@pytest.mark.parametrize(
    ("url", "authority", "reason"),
    [
        (b"https://evil.test:8443/", HERE, "host_mismatch"),
        (b"https://app.test/", HERE, "host_mismatch"),
        (b"http://app.test:443/", Authority("app.test", None), "host_mismatch"),
        (b"https://app.test@evil.test/", HERE, "bad_host"),
        (b"https://app.test:8443,x/", HERE, "bad_host"),
    ],
)
def test_absolute_form_of_another_site_is_refused(
    url: bytes, authority: Authority, reason: str
) -> None:
    """Two names in one request are never reconciled."""
    with pytest.raises(Refusal, match=reason):
        decide_target(b"GET", url, authority)


@pytest.mark.parametrize("url", [b"https://app.test:443/", b"https://app.test/"])
def test_default_port_need_not_be_said(url: bytes) -> None:
    """`https://app.test:443` and `Host: app.test` are the same site."""
    assert decide_target(b"GET", url, Authority("app.test", None)) == b"/"


@pytest.mark.parametrize(
    "target",
    [
        b"/_stcore/metrics",
        b"/_stcore/metrics?families=active_sessions",
        b"/_stcore/metrics/",
        b"/_stcore/agent",
        b"/_stcore/agent/mcp",
        b"/_stcore/agent/openapi.json",
        b"/base/_stcore/metrics",
        b"/_STCORE/Metrics",
        b"//_stcore//metrics",
        b"/./_stcore/./metrics",
        b"/_stcore/x/../metrics",
        b"/../_stcore/metrics",
        b"/_stcore/metrics/../health",
        b"/x/..;/_stcore/metrics",
        b"/_stcore;a=b/metrics;c",
        b"/_stcore\\metrics",
        b"/%5fstcore/metrics",
        b"/_stcore/%6detrics",
        b"/_stcore%2fmetrics",
        b"/_stcore%2Fagent%2Fmcp",
        b"/%255fstcore/metrics",
        b"/_stcore/%25256detrics",
        b"/_stcore/metrics%00",
        b"/_stcore/metrics%20",
        b"/_stcore/metrics%3fx",
        b"/_stcore/%2e%2e/_stcore/metrics",
        b"/_stcore%5cmetrics",
        b"/%ff/_stcore/metrics",
    ],
)
def test_private_paths_are_seen_in_every_spelling(target: bytes) -> None:
    """However an app server may read it, metrics and the agent interface are private."""
    assert is_private_path(target)


@pytest.mark.parametrize(
    "target",
    [
        b"/",
        b"*",
        b"/_stcore/health",
        b"/_stcore/stream",
        b"/_stcore/host-config",
        b"/_stcore/upload_file/s/metrics",
        b"/_stcore/metricsx",
        b"/_stcore/agents",
        b"/metrics",
        b"/agent",
        b"/?q=/_stcore/metrics",
        b"/media/a%20b.png",
        b"/x_stcore/metrics",
    ],
)
def test_other_paths_are_not_private(target: bytes) -> None:
    """What apps need from their visitors is not shut off."""
    assert not is_private_path(target)


@given(st.binary(max_size=60))
def test_private_rule_answers_for_any_bytes(target: bytes) -> None:
    """The rule never raises, and a private path stays private below any base path."""
    if is_private_path(b"/" + target) and b"?" not in target and b"#" not in target:
        assert is_private_path(b"/base/" + target)
