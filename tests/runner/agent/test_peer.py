"""Which names come in."""

import pytest

from runner.agent.peer import find_refusal, is_name

PREFIX = "spiffe://lockgate.internal/gateway/"


def build_certificate(*uris: str) -> dict[str, object]:
    """As `getpeercert()` gives it."""
    names = [("DNS", "main.gateway.lockgate.internal"), *(("URI", uri) for uri in uris)]
    return {"subjectAltName": tuple(names)}


def test_a_gateway_comes_in():
    """One URI name: the prefix and one name."""
    assert find_refusal(build_certificate(PREFIX + "main"), PREFIX) is None


@pytest.mark.parametrize("certificate", [None, {}])
def test_no_certificate_stays_out(certificate):
    """Nothing shown, nothing admitted."""
    assert find_refusal(certificate, PREFIX) == "no certificate"


@pytest.mark.parametrize("uris", [(), (PREFIX + "main", PREFIX + "other")])
def test_exactly_one_uri_name(uris):
    """None is no identity, two are ambiguous."""
    refusal = find_refusal(build_certificate(*uris), PREFIX)
    assert refusal == f"certificate has {len(uris)} URI names, not one"


def test_without_any_names_it_stays_out():
    """A certificate without the extension has no identity."""
    assert find_refusal({"subject": ()}, PREFIX) == "certificate has 0 URI names, not one"


@pytest.mark.parametrize(
    "uri",
    [
        "spiffe://lockgate.internal/app/hello/3",
        "spiffe://other.internal/gateway/main",
        "spiffe://lockgate.internal.evil/gateway/main",
        PREFIX,
        PREFIX + "main/",
        PREFIX + "main/3",
        PREFIX + "../app",
        PREFIX + ".",
        PREFIX + "main?x",
        PREFIX + "main%2f",
        PREFIX + "Main",
        PREFIX + "main\0",
        PREFIX + "main-",
        PREFIX + "1main",
        PREFIX + "m" * 41,
        " " + PREFIX + "main",
        PREFIX.upper() + "main",
    ],
)
def test_any_other_name_stays_out(uri):
    """Roles, trust domains and malformed names other than the gateway's are refused."""
    refusal = find_refusal(build_certificate(uri), PREFIX)
    assert refusal is not None
    assert refusal.endswith("is no gateway")
    assert refusal.isprintable()


@pytest.mark.parametrize("text", ["a", "main", "a-1", "m" * 40])
def test_names(text):
    """The grammar of app and gateway names."""
    assert is_name(text)


def test_reason_is_short():
    """A peer cannot fill the log with its name."""
    assert len(find_refusal(build_certificate("x" * 100000), PREFIX)) < 200
