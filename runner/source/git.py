"""How git is told to fetch from one repository and nothing else: addresses, settings, ssh's files.

Invariants: pure; a secret is never in an argument list or in a settings file, only in the
environment of git (a token) or in the text of a file that the caller keeps in RAM (a deploy key).
"""

import base64
import hashlib
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal
from urllib.parse import quote, urlsplit

Kind = Literal["local", "https", "ssh"]

ANY_USER = "x-access-token"
CONNECT_TIMEOUT_S = 15
KEPT_VARIABLES = (
    *("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "NO_PROXY", "no_proxy"),
    *("GIT_SSL_CAINFO", "SSL_CERT_FILE", "SSL_CERT_DIR"),
)
RSA_ALGORITHMS = "rsa-sha2-512,rsa-sha2-256,ssh-rsa"


@dataclass(frozen=True, slots=True)
class Address:
    """A repository's address: what git gets as URL, and where it is for people and known_hosts."""

    kind: Kind
    url: str
    host: str
    port: int | None = None


def parse_address(repo: str, kind: Kind) -> Address:
    """`repo` as written in an app's YAML → an address; a folder becomes a file:// URL."""
    if kind == "local":
        path = urlsplit(repo).path if repo.startswith("file://") else quote(repo)
        return Address(kind, f"file://{path}", repo.removeprefix("file://"))
    if kind == "ssh" and "://" not in repo:
        place, _, path = repo.partition(":")
        return Address(kind, repo, place.rpartition("@")[2])
    parts = urlsplit(repo)
    return Address(kind, repo, parts.hostname or "", parts.port)


def build_settings(kind: Kind, local_path: str, *, has_token: bool = False) -> str:
    """Git's only settings file: one way out, no hooks, no stored passwords, checked objects.

    For a local repository its folder is declared safe, whoever owns it. A token would be sent along
    with a redirect, to whatever host it names, so then none is followed.
    """
    protocol = "file" if kind == "local" else kind
    lines = [
        "[protocol]",
        "\tallow = never",
        f'[protocol "{protocol}"]',
        "\tallow = always",
        "[core]",
        "\thooksPath = /dev/null",
        "\tfsmonitor = false",
        "\tautocrlf = false",
        "[credential]",
        "\thelper =",
        "[transfer]",
        "\tfsckObjects = true",
        "[fetch]",
        "\trecurseSubmodules = false",
        "[gc]",
        "\tauto = 0",
        "[http]",
        f"\tfollowRedirects = {'false' if has_token else 'initial'}",
        "\tlowSpeedLimit = 1",
        f"\tlowSpeedTime = {2 * CONNECT_TIMEOUT_S}",
        "[advice]",
        "\tdetachedHead = false",
    ]
    if kind == "local":
        escaped = local_path.replace("\\", "\\\\").replace('"', '\\"')
        lines += ["[safe]", *(f'\tdirectory = "{escaped}{end}"' for end in ("", "/.git"))]
    return "\n".join(lines) + "\n"


def build_env(
    settings: str, home: str, inherited: Mapping[str, str], token: str | None, ssh_config: str
) -> dict[str, str]:
    """Git's whole environment; `settings`, `home` and `ssh_config` are paths."""
    env = {name: inherited[name] for name in KEPT_VARIABLES if inherited.get(name)}
    env |= {
        "HOME": home,
        "LC_ALL": "C",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": settings,
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ASKPASS": "/bin/false",
        "GIT_LFS_SKIP_SMUDGE": "1",
        "GIT_SSH_VARIANT": "ssh",
        "GIT_SSH_COMMAND": f"ssh -F {shlex.quote(ssh_config)}",
    }
    if token:
        env |= {
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": "http.extraHeader",
            "GIT_CONFIG_VALUE_0": f"Authorization: {build_basic(token)}",
        }
    return env


def build_basic(token: str) -> str:
    """RFC 7617 credentials; `user:token` as it is, else with a user name that hosts accept."""
    pair = token if ":" in token else f"{ANY_USER}:{token}"
    return "Basic " + base64.b64encode(pair.encode()).decode()


def build_ssh_config(folder: str, host_key: str) -> str:
    """ssh's only settings: this key, that host key, no agent, no questions."""
    folder = folder.replace("%", "%%")
    algorithm = host_key.partition(" ")[0]
    algorithms = RSA_ALGORITHMS if algorithm == "ssh-rsa" else algorithm
    return f"""\
Host *
  IdentityFile "{folder}/key"
  IdentitiesOnly yes
  IdentityAgent none
  UserKnownHostsFile "{folder}/known_hosts"
  GlobalKnownHostsFile /dev/null
  StrictHostKeyChecking yes
  UpdateHostKeys no
  HostKeyAlgorithms {algorithms}
  PreferredAuthentications publickey
  BatchMode yes
  ConnectTimeout {CONNECT_TIMEOUT_S}
  ServerAliveInterval 15
  ForwardAgent no
  ForwardX11 no
  ClearAllForwardings yes
  PermitLocalCommand no
  RequestTTY no
"""


def build_known_hosts(address: Address, host_key: str) -> str:
    """The pinned key as a known_hosts line (sshd(8))."""
    port = address.port or 22
    name = address.host if port == 22 else f"[{address.host}]:{port}"
    return f"{name} {host_key}\n"


def build_key_file(deploy_key: str) -> str:
    """The private key as OpenSSH insists on it: line feeds, and one at the end."""
    return deploy_key.replace("\r\n", "\n").strip() + "\n"


def build_fingerprint(host_key: str) -> str:
    """`SHA256:…` of a public key, as ssh prints it."""
    raw = base64.b64decode(host_key.split()[1])
    return "SHA256:" + base64.b64encode(hashlib.sha256(raw).digest()).decode().rstrip("=")


def list_patterns(ref: str) -> tuple[str, ...]:
    """What to ask ls-remote for; the `^{}` is the commit that an annotated tag names."""
    if ref == "HEAD" or ref.startswith("refs/"):
        return (ref, f"{ref}^{{}}")
    return (f"refs/heads/{ref}", f"refs/tags/{ref}", f"refs/tags/{ref}^{{}}")


def parse_refs(output: str) -> dict[str, str]:
    """ls-remote's lines → name → object."""
    pairs = (line.split("\t") for line in output.splitlines() if "\t" in line)
    return {name: number for number, name in pairs}


def is_commit(ref: str) -> bool:
    """Whether a ref is a whole commit number (SHA-1 or SHA-256) in hex."""
    return len(ref) in {40, 64} and all(char in "0123456789abcdef" for char in ref.lower())
