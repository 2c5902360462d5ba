"""What uv says, as one line. Texts are those of uv 0.13."""

import pytest

from runner.building.reasons import explain_build

FETCH = """\
error: Failed to fetch: https://index.example/simple/idna/
  cause: error sending request for url (https://index.example/simple/idna/)
  cause: client error (Connect)
  cause: """


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (
            "error: No solution found when resolving dependencies\n"
            "  cause: Because nosuch was not found in the package registry and you require nosuch,"
            " we can conclude that your requirements are unsatisfiable.",
            "dependency not found: nosuch",
        ),
        (
            "error: No solution found when resolving dependencies\n"
            "  cause: Because there is no version of streamlit==99.0 and you require"
            " streamlit==99.0, we can conclude that your requirements are unsatisfiable.",
            "no version of streamlit==99.0 fits: Because there is no version",
        ),
        (
            "error: No solution found when resolving dependencies\n"
            "  cause: Because the current Python version (3.11.2) does not satisfy Python>=3.12"
            " and x==1 depends on Python>=3.12, we can conclude that",
            "a dependency wants Python>=3.12, and the image has Python 3.11.2",
        ),
        (
            "error: The requested interpreter resolved to Python 3.11.2, which is incompatible"
            " with the project's Python requirement: `>=3.13` (from `project.requires-python`)",
            "the project wants Python >=3.13, and the image has 3.11.2",
        ),
        (
            "error: Couldn't parse requirement in `requirements.txt` at position 0\n"
            "  cause: Unexpected end of version specifier, expected version\n"
            "         six===\n            ^^^",
            "Unexpected end of version specifier, expected version six=== ^^^",
        ),
        (
            FETCH + "invalid peer certificate: UnknownIssuer",
            "the TLS certificate of index.example is not trusted: set runner.build.ca_bundle",
        ),
        (FETCH + "dns error", "index.example is unreachable: no such host"),
        (
            FETCH + "tcp connect error\n  cause: Connection refused (os error 111)",
            "index.example is unreachable: Connection refused (os error 111)",
        ),
        (
            "error: Failed to fetch: `https://index.example/simple/x/`\n"
            "  cause: HTTP status client error (401 Unauthorized) for url (https://i/)",
            "index.example answered 401 Unauthorized",
        ),
        (
            "error: Failed to write to the client cache\n"
            "  cause: failed to write to file `/c/x`: No space left on device (os error 28)",
            "no space left on the app's volume: raise `volume.size`",
        ),
        (
            "error: The build backend returned an error\n  cause: Call to"
            " `setuptools.build_meta:__legacy__.get_requires_for_build_wheel` failed (exit"
            " status: 1)\n\n         [stderr]\n         I do not build",
            "a dependency could not be built: I do not build",
        ),
        ("Resolved 1 package\nkilled: out of memory", "the build ran out of memory: raise"),
        ("error: something else", "something else"),
        ("only words", "only words"),
        ("", "the build failed without a word"),
    ],
)
def test_reasons(said, told):
    """Each failure is told in one line by its cause, with the key that helps if there is one."""
    reason = explain_build(said.splitlines())
    assert reason.startswith(told)
    assert "\n" not in reason
