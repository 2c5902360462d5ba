import pytest

from runner.urls import build_url


@pytest.mark.parametrize(
    ("https", "url"),
    [
        ("0.0.0.0:8443", "https://hello.localhost:8443"),
        ("0.0.0.0:443", "https://hello.localhost"),
        ("[::]:8443", "https://hello.localhost:8443"),
    ],
)
def test_the_port_is_named_unless_it_goes_without_saying(https: str, url: str) -> None:
    """443 is what a browser takes by itself."""
    assert build_url("hello.localhost", https) == url
