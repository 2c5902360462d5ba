"""What Streamlit is told must hold."""

import pytest

from runner.spec.streamlit import build_streamlit_env, is_streamlit_command


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (("streamlit", "run", "app.py"), True),
        (("/app/venv/bin/streamlit", "run", "app.py"), True),
        (("python", "-m", "streamlit", "run", "app.py"), True),
        (("python", "streamlit.py"), False),
        (("gunicorn", "streamlit"), False),
        ((), False),
    ],
)
def test_streamlit_is_recognised_by_how_it_is_started(argv: list[str], expected: bool) -> None:
    """Only a command that starts Streamlit's server counts as Streamlit."""
    assert is_streamlit_command(argv) is expected


def test_both_addresses_are_set_so_that_no_outside_service_is_asked() -> None:
    """Streamlit looks up its own address elsewhere unless both are known."""
    _, enforced = build_streamlit_env(("a.example",), "https://a.example:8443", 8501, "/s.toml")
    assert enforced["STREAMLIT_SERVER_ADDRESS"] == "127.0.0.1"
    assert enforced["STREAMLIT_BROWSER_SERVER_ADDRESS"] == "a.example"
    assert enforced["STREAMLIT_BROWSER_SERVER_PORT"] == "8443"


def test_the_visitors_port_is_443_when_the_address_names_none() -> None:
    """An https address without a port means 443."""
    _, enforced = build_streamlit_env(("a.example",), "https://a.example", 8501, "/s.toml")
    assert enforced["STREAMLIT_BROWSER_SERVER_PORT"] == "443"


def test_usage_statistics_stay_the_choice_of_the_app() -> None:
    """Neither gatherUsageStats nor the upload limit is touched."""
    defaults, enforced = build_streamlit_env(("a",), "https://a", 1, "/s.toml")
    names = {*defaults, *enforced}
    assert not any("USAGE_STATS" in name or "UPLOAD" in name for name in names)


def test_every_host_is_allowed() -> None:
    """A list option is separated by blanks, as Streamlit's command line reads it."""
    _, enforced = build_streamlit_env(("a.example", "b.example"), "https://a", 1, "/s.toml")
    assert enforced["STREAMLIT_SERVER_ALLOWED_HOSTS"] == "a.example b.example"
