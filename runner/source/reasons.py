"""What git and ssh say when they fail, as one line that names the cause and the remedy.

Invariants: pure; a reason never repeats a URL's query, a token or a key.
"""

import re
from dataclasses import dataclass

from runner.source.git import Address, build_fingerprint

UNKNOWN_HOST = re.compile(r"could not resolve host(?:name)?", re.I)
REFUSED = re.compile(r"connection refused|failed to connect|couldn't connect", re.I)
SILENT = re.compile(
    r"timed out|timeout was reached|operation too slow|no route to host|network is unreachable",
    re.I,
)
BAD_TLS = re.compile(r"certificate|ssl|tls|gnutls", re.I)
BAD_LOGIN = re.compile(
    r"authentication failed|could not read (?:username|password)|returned error: 40[13]"
    r"|invalid username or password|invalid credentials",
    re.I,
)
NO_REPO = re.compile(
    r"repository .*not found|not found|does not appear to be a git repo|not a git repository"
    r"|does not exist|returned error: 404|no such file",
    re.I,
)
MOVED = re.compile(r"returned error: 30\d|unable to update url base", re.I)
OFFERED = re.compile(r"key sent by the remote host is\s+(SHA256:\S+?)\.?\s", re.I)
OTHER_TYPES = re.compile(r"no matching host key type found\. Their offer: (\S+)", re.I)
BAD_KEY_FILE = re.compile(r"error in libcrypto|invalid format|bad passphrase|incorrect passphrase")
NOT_OUR_REF = re.compile(
    r"not our ref|unadvertised object|couldn't find remote ref|no such remote ref"
    r"|remote error: upload-pack: not our ref|dumb http transport",
    re.I,
)
NO_SPACE = re.compile(r"no space left on device|disk quota exceeded", re.I)
PREFIX = re.compile(r"^(?:fatal|error|remote|ssh|warning):\s*", re.I)


@dataclass(frozen=True, slots=True)
class Asked:
    """Who was asked and with what."""

    repo: str
    address: Address
    host_key: str | None
    has_token: bool


def explain(said: str, asked: Asked) -> str:
    """One line from git's stderr."""
    if NO_SPACE.search(said):
        return "no space left on the app's volume for its code: raise `volume.size`"
    if asked.address.kind == "ssh" and (reason := explain_ssh(said, asked)):
        return reason
    host = asked.address.host
    unreachable = f"{asked.repo} is unreachable"
    if UNKNOWN_HOST.search(said):
        return f"{unreachable}: there is no host {host}"
    if BAD_LOGIN.search(said):
        return explain_login(asked)
    if MOVED.search(said):
        return f"{asked.repo} redirects: write its final address in `repo` (it may end in .git)"
    if NO_REPO.search(said):
        hint = "" if asked.has_token or asked.address.kind == "local" else " (or it wants a login)"
        return f"there is no repository at {asked.repo}{hint}"
    if REFUSED.search(said):
        return f"{unreachable}: {describe_place(asked.address)} refuses the connection"
    if SILENT.search(said):
        return f"{unreachable}: {describe_place(asked.address)} does not answer"
    if BAD_TLS.search(said):
        return f"{unreachable}: its TLS certificate is not trusted here ({last_line(said)})"
    return f"{asked.repo}: {last_line(said)}"


def explain_login(asked: Asked) -> str:
    """A login that was missing or refused."""
    if asked.has_token:
        return (
            f"authentication failed: {asked.address.host} refuses the token for {asked.repo};"
            " it must be valid and may read this repository"
        )
    return f"authentication failed: {asked.repo} wants a login; name a secret in `token`"


def explain_ssh(said: str, asked: Asked) -> str | None:
    """What only ssh says; None for what git says itself."""
    host, pinned = asked.address.host, asked.host_key or ""
    if offered := OFFERED.search(said + "\n"):
        return build_changed(host, pinned, f"fingerprint {offered[1]}")
    if other := OTHER_TYPES.search(said):
        return build_changed(host, pinned, f"keys of other types, {other[1]}")
    if "No user exists for uid" in said:
        return "ssh wants a user with a name: run Lockgate as one that /etc/passwd lists"
    if BAD_KEY_FILE.search(said):
        return "wrong deploy key: it is not a private key, or it has a passphrase"
    if "Permission denied (" in said:
        return (
            f"wrong deploy key: {host} refuses it; add its public half to {asked.repo} as a"
            " read-only deploy key"
        )
    return None


def build_changed(host: str, pinned: str, offer: str) -> str:
    """The most important sentence of all: whom we would have trusted."""
    return (
        f"host key changed: {host} offers {offer}, but {build_fingerprint(pinned)} is pinned;"
        " if its owner confirms the change, write the new key in `host_key`, else do not connect"
    )


def describe_place(address: Address) -> str:
    """`host` or `host:port`."""
    return f"{address.host}:{address.port}" if address.port else address.host


def last_line(said: str) -> str:
    """The last line that says something, without git's prefixes."""
    lines = [PREFIX.sub("", line.strip()) for line in said.splitlines()]
    told = [line for line in lines if line and not line.startswith(("Please make sure", "and the"))]
    return told[-1][:300] if told else "git failed without a word"
