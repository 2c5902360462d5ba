"""What uv says when a build fails, as one line.

Invariants: pure. Theory: uv prints `error: …` and below it a chain of `cause: …`; the last cause is
the most exact, the first error the most general.
"""

import re
from collections.abc import Sequence

MARK = re.compile(r"^\s*(?:error|cause):\s*(.*)$")
NOT_FOUND = re.compile(r"Because (\S+) was not found in the package registry")
NO_VERSION = re.compile(r"there (?:is|are) (?:no version|only the following versions?) of (\S+)")
BAD_PYTHON = re.compile(
    r"Because the current Python version \((\S+)\) does not satisfy (Python\S+)"
)
PROJECT_PYTHON = re.compile(r"resolved to Python (\S+), which is incompatible .*?`([^`]+)`")
FAILED_FETCH = re.compile(r"Failed to (?:fetch|download)[^:]*:? `?(?:https?://)?([^/`\s]+)")
FAILED_BUILD = re.compile(r"Failed to build `?([^`\s]+)|Call to `([^`]+)` failed")
TEXT_LIMIT = 400


def explain_build(lines: Sequence[str]) -> str:
    """One line from a failed build's output."""
    text = re.sub(r"\s+", " ", " ".join(lines))
    if lines and lines[-1].startswith("killed: out of memory"):
        return "the build ran out of memory: raise `resources.memory` of the app"
    if "No space left on device" in text or "os error 28" in text:
        return "no space left on the app's volume: raise `volume.size`"
    if found := BAD_PYTHON.search(text):
        return f"a dependency wants {found[2].rstrip(',')}, and the image has Python {found[1]}"
    if found := PROJECT_PYTHON.search(text):
        return f"the project wants Python {found[2]}, and the image has {found[1]}"
    if found := NOT_FOUND.search(text):
        return f"dependency not found: {found[1]}"
    if found := NO_VERSION.search(text):
        return f"no version of {found[1].rstrip(',')} fits: {_last_cause(lines)}"
    if reason := _explain_network(text):
        return reason
    if "lockfile at `uv.lock` needs to be updated" in text:
        return "uv.lock does not match pyproject.toml: run `uv lock` and commit it"
    if FAILED_BUILD.search(text):
        return f"a dependency could not be built: {_last_word(lines)}"
    return _last_cause(lines) or _last_word(lines) or "the build failed without a word"


def _explain_network(text: str) -> str | None:
    found = FAILED_FETCH.search(text)
    if found is None:
        return None
    place = found[1]
    if "peer certificate" in text or "certificate" in text:
        return (
            f"the TLS certificate of {place} is not trusted: set runner.build.ca_bundle to the"
            " CA file of this network"
        )
    if "dns error" in text:
        return f"{place} is unreachable: no such host from where builds run"
    status = re.search(r"HTTP status (?:client|server) error \((\d+[^)]*)\)", text)
    if status:
        return f"{place} answered {status[1]}"
    return f"{place} is unreachable: {_tail_of_causes(text)}"


def _tail_of_causes(text: str) -> str:
    return text.rpartition("cause:")[2].strip()[:TEXT_LIMIT] or "no answer"


def _last_cause(lines: Sequence[str]) -> str:
    """The innermost cause with the lines that go on below it, up to the next mark."""
    found = ""
    for line in lines:
        mark = MARK.match(line)
        if mark:
            found = mark[1]
        elif found and line.startswith("   "):
            found = f"{found} {line.strip()}"
    return re.sub(r"\s+", " ", found).strip()[:TEXT_LIMIT]


def _last_word(lines: Sequence[str]) -> str:
    told = [line.strip() for line in lines if line.strip() and not line.startswith("hint:")]
    return told[-1][:TEXT_LIMIT] if told else ""
