"""What may be written for each value of an app's YAML, and what to write instead.

**Invariants**: pure; a value is accepted as it is or refused, never repaired (but for the plain
spelling of a path); every refusal is a `SpecError` with a remedy.
"""

import posixpath
import re
import shlex
from typing import Any

from pki import IdentityError, parse_app_name, parse_host

PORT = "{port}"

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_SCP = re.compile(r"(?:[A-Za-z0-9._-]+@)?[A-Za-z0-9.-]+:(?!/)\S+")
_REF = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._/+-]{0,199}")
_HOST_KEY = re.compile(
    r"(?:ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp(?:256|384|521)|sk-[a-z0-9@.-]+) [A-Za-z0-9+/]+={0,2}"
)
_PYTHON = re.compile(r"3\.[0-9]{1,2}(?:\.[0-9]{1,2})?")
_SHELL_WORDS = frozenset({"&&", "||", "|", ";", "&", ">", ">>", "<", "2>&1"})


class SpecError(ValueError):
    """A value that cannot be used: what is wrong, and what to write instead."""

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(f"{problem} ({remedy})")
        self.problem = problem
        self.remedy = remedy


def is_app_name(name: str) -> bool:
    """Whether it is an app's name."""
    try:
        parse_app_name(name)
    except IdentityError:
        return False
    return True


def is_secret_name(name: str) -> bool:
    """Whether it can name a secret, which is to say an environment variable that is not ours."""
    return _VARIABLE.fullmatch(name) is not None and not name.startswith("LOCKGATE_")


def check_host(host: str) -> str:
    """A DNS name that one certificate can be issued for."""
    if "/" in host or ":" in host:
        raise SpecError("a host is a name alone", "leave out scheme, port and path")
    if host.startswith("*"):
        raise SpecError("an app cannot take a wildcard", "name each host")
    if host != host.lower():
        raise SpecError("a host is written in lower case", f"write {host.lower()}")
    return parse_host(host)


def check_secret_name(name: str) -> str:
    """The name of a secret; a value in its place is not repeated in the message."""
    if not is_secret_name(name):
        raise SpecError(
            "this is not the name of a secret",
            "write a name like GIT_TOKEN and store the value with `lockgate secrets set`",
        )
    return name


def check_inside(path: str) -> str:
    """A relative path that stays inside the repository."""
    if not path or path.startswith(("/", "-", "~")) or ".." in path.split("/"):
        raise SpecError(f"{path!r} is not a path inside the repository", "no leading / and no ..")
    if "\\" in path or not path.isprintable():
        raise SpecError(f"{path!r} has characters that no path needs", "write it with / only")
    return posixpath.normpath(path)


def check_ref(ref: str) -> str:
    """A branch, a tag or a commit."""
    if not _REF.fullmatch(ref) or ".." in ref:
        raise SpecError(f"{ref!r} is not a ref", "write a branch, a tag or a commit")
    return ref


def check_repo(repo: str) -> str:
    """An https or ssh address, or a folder of this machine."""
    scheme = _SCHEME.match(repo)
    if not repo or repo.startswith(("-", "~")) or not repo.isprintable() or " " in repo:
        raise SpecError(
            "this is not a repository's address", "write https://…, git@host:path or a folder"
        )
    if scheme and scheme[1].lower() not in {"https", "ssh", "file"}:
        raise SpecError(
            f"{scheme[1]}:// is not encrypted or not supported", "use https:// or ssh://"
        )
    if scheme and scheme[1].lower() == "https" and "@" in repo.split("/")[2]:
        raise SpecError(
            "an address with a user or a token in it",
            "store the token with `lockgate secrets set` and name that secret in `token`",
        )
    return repo


def find_repo_kind(repo: str) -> str:
    """`local`, `https` or `ssh`: how it is fetched."""
    scheme = _SCHEME.match(repo)
    if scheme is not None:
        return {"https": "https", "ssh": "ssh"}.get(scheme[1].lower(), "local")
    is_ssh = not repo.startswith((".", "/")) and _SCP.fullmatch(repo) is not None
    return "ssh" if is_ssh else "local"


def build_absolute_repo(repo: str, folder: str) -> str:
    """A local repo's absolute path, taken from `folder` (absolute); other addresses unchanged."""
    if find_repo_kind(repo) != "local" or _SCHEME.match(repo):
        return repo
    return posixpath.normpath(posixpath.join(folder, repo))


def check_host_key(key: str) -> str:
    """`type base64`, as in a known_hosts line without its first word."""
    if not _HOST_KEY.fullmatch(key):
        raise SpecError(
            "not a server's public key", "write `ssh-ed25519 AAAA…`, as ssh-keyscan prints it"
        )
    return key


def check_python(version: str) -> str:
    """`3.12` or `3.12.4`."""
    if not _PYTHON.fullmatch(version):
        raise SpecError(f"{version!r} is not a version of Python 3", 'write it in quotes: "3.12"')
    return version


def check_url_path(path: str) -> str:
    """An absolute path with an optional query."""
    if not re.fullmatch(r"/[!-~]*", path) or "#" in path:
        raise SpecError(f"{path!r} is not a path to ask for", "it starts with / and has no spaces")
    return path


def check_env(env: dict[str, str]) -> dict[str, str]:
    """Names that a shell would take and values that the kernel takes."""
    for name, value in env.items():
        if not _VARIABLE.fullmatch(name):
            raise SpecError(f"{name!r} is not a variable's name", "use A-Z, 0-9 and _")
        if "\0" in value:
            raise SpecError(f"{name} has a NUL byte", "encode it (base64)")
    return env


def parse_command(value: Any) -> tuple[str, ...]:
    """A command as a list, or as text that is split as a shell would but is run by none."""
    if isinstance(value, list | tuple) and all(isinstance(word, str) for word in value):
        words = list(value)
    elif isinstance(value, str):
        words = _split(value)
    else:
        raise SpecError("a command is text or a list of texts", "put numbers in quotes")
    if not words or not words[0]:
        raise SpecError("the command is empty", "write what starts the app")
    if any("\0" in word for word in words):
        raise SpecError("the command has a NUL byte", "remove it")
    return tuple(words)


def _split(text: str) -> list[str]:
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise SpecError(f"cannot be split into words: {error}", "close the quote") from None
    if shell := sorted(_SHELL_WORDS.intersection(words)):
        raise SpecError(
            f"no shell runs it, so {shell[0]} would be passed to the program",
            'write ["sh", "-c", "…"] if a shell is needed',
        )
    return words
