"""What Streamlit's server is told, by the environment variables that it reads.

Variables, not flags: a Streamlit that does not know an option refuses its flag and ignores its
variable. Precedence in Streamlit: the project's config.toml < variables < flags.

**Invariants**: pure; `browser.gatherUsageStats` and the upload limit stay the app's own choice.
"""

import itertools
from collections.abc import Sequence
from urllib.parse import urlsplit

COOKIE_SECRET = "STREAMLIT_SERVER_COOKIE_SECRET"  # noqa: S105 - a variable's name
"""Delivered with the app's secrets: stable over restarts, so that nobody is logged out by one."""


def is_streamlit_command(argv: Sequence[str]) -> bool:
    """Whether a command starts Streamlit: `streamlit run …` or `python -m streamlit run …`."""
    if argv and argv[0].rsplit("/", 1)[-1] == "streamlit":
        return True
    return ("-m", "streamlit") in itertools.pairwise(argv)


def build_streamlit_env(
    hosts: Sequence[str], url: str, port: int, secrets_file: str
) -> tuple[dict[str, str], dict[str, str]]:
    """(defaults that an operator may override, values that are enforced); the first host is shown.

    Both addresses are set because Streamlit otherwise asks an outside service for its own; hosts
    and cross-site checks stay on because the gateway preserves `Host`.
    """
    address = urlsplit(url)
    defaults = {
        "STREAMLIT_CLIENT_SHOW_ERROR_DETAILS": "false",
        "STREAMLIT_SERVER_FILE_WATCHER_TYPE": "none",
    }
    enforced = {
        "STREAMLIT_SERVER_HEADLESS": "true",
        "STREAMLIT_SERVER_ADDRESS": "127.0.0.1",
        "STREAMLIT_SERVER_PORT": str(port),
        "STREAMLIT_SERVER_ENABLE_CORS": "true",
        "STREAMLIT_SERVER_ENABLE_XSRF_PROTECTION": "true",
        "STREAMLIT_SERVER_ALLOWED_HOSTS": " ".join(hosts),
        "STREAMLIT_BROWSER_SERVER_ADDRESS": next(iter(hosts), ""),
        "STREAMLIT_BROWSER_SERVER_PORT": str(address.port or 443),
        "STREAMLIT_SECRETS_FILES": secrets_file,
    }
    return defaults, enforced
