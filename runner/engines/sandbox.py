"""The bubblewrap command line that gives an app of the process engine a file system of its own.

Invariants: pure; the same layout as in a container; nothing of the host is visible but its programs
and libraries, a few settings that name resolution and TLS need, and the mounts that are asked for.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from runner.engines import (
    AGENT,
    CODE,
    HOME,
    IDENTITY,
    LOGS,
    SECRETS,
    SHM,
    TMP,
    Mount,
    Tmpfs,
)

AGENTS_OWN = frozenset({AGENT, IDENTITY, LOGS})
MIB = 1024 * 1024
SMALL_BYTES = 16 * MIB
SYSTEM_LINKS = ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
SETTINGS = (
    *("/etc/alternatives", "/etc/ca-certificates", "/etc/crypto-policies", "/etc/fonts"),
    *("/etc/gai.conf", "/etc/group", "/etc/host.conf", "/etc/hosts", "/etc/ld.so.cache"),
    *("/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/localtime", "/etc/mime.types"),
    *("/etc/nsswitch.conf", "/etc/os-release", "/etc/passwd", "/etc/pki/tls", "/etc/pki/ca-trust"),
    *("/etc/protocols", "/etc/resolv.conf", "/etc/services", "/etc/ssl/certs"),
    *("/etc/ssl/openssl.cnf", "/etc/timezone"),
)
OWN_USER_NAMESPACE = ("--unshare-user", "--disable-userns")
VARIANTS: tuple[tuple[str, ...], ...] = (OWN_USER_NAMESPACE, ("--unshare-user",), ())
"""Tried in this order: without nested namespaces, with them, with bubblewrap's setuid bit."""


@dataclass(frozen=True, slots=True)
class Tools:
    """What the sandbox is made with: bubblewrap's path and variant, the host's links, Python.

    `links` maps `/bin` and the like to where they point, or to None where they are directories.
    """

    bwrap: str
    variant: tuple[str, ...]
    links: Mapping[str, str | None]
    python_prefix: str


def build_sandbox(
    tools: Tools, name: str, mounts: Sequence[Mount], tmpfs: Sequence[Tmpfs], *, chdir: str = "/"
) -> tuple[str, ...]:
    """The words to put before a program's own; the agent's mounts stay outside."""
    sizes = {ram.target: ram.size_bytes for ram in tmpfs}
    shown = [mount for mount in mounts if mount.target not in AGENTS_OWN]
    return (
        tools.bwrap,
        *tools.variant,
        *("--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"),
        *("--hostname", name, "--die-with-parent", "--new-session", "--cap-drop", "ALL"),
        *_bind_system(tools),
        *("--proc", "/proc", "--dev", "/dev"),
        *_add_tmpfs(SHM, sizes.get(SHM, SMALL_BYTES)),
        *_add_tmpfs("/run", SMALL_BYTES),
        *_add_tmpfs(TMP, sizes.get(TMP, SMALL_BYTES)),
        *_add_tmpfs("/var/tmp", sizes.get("/var/tmp", SMALL_BYTES)),  # noqa: S108
        *_bind_python(tools.python_prefix),
        *("--dir", HOME),
        *("--symlink", f"{SECRETS}/secrets.toml", f"{HOME}/.streamlit/secrets.toml"),
        *(word for mount in sorted(shown, key=_depth) for word in _bind(mount)),
        *("--remount-ro", "/", "--chdir", chdir, "--"),
    )


def build_app_sandbox(
    tools: Tools, name: str, mounts: Sequence[Mount], tmpfs: Sequence[Tmpfs]
) -> tuple[str, ...]:
    """The sandbox of an app, which starts in its code."""
    return build_sandbox(tools, name, mounts, tmpfs, chdir=CODE)


def describe_losses(*, has_sandbox: bool, has_uids: bool) -> str:
    """The one line about what the process engine gives up against containers."""
    if has_sandbox:
        return (
            "apps run in a bubblewrap sandbox: they share this machine's network (a local user can"
            " reach their ports) and no memory, CPU or system call limit is enforced"
        )
    if has_uids:
        return (
            "apps run as plain processes with uids of their own: they see this machine's files and"
            " network, and no memory, CPU or system call limit is enforced"
        )
    return (
        "apps run as plain processes under your own uid: each can read your files and the keys and"
        " secrets of all others; install bubblewrap or Docker for isolation"
    )


def _bind_system(tools: Tools) -> tuple[str, ...]:
    words = ["--ro-bind", "/usr", "/usr"]
    for path in SYSTEM_LINKS:
        if path not in tools.links:
            continue
        target = tools.links[path]
        words += ["--symlink", target, path] if target else ["--ro-bind", path, path]
    for path in SETTINGS:
        words += ["--ro-bind-try", path, path]
    return tuple(words)


def _bind_python(prefix: str) -> tuple[str, ...]:
    is_shown = f"{prefix}/".startswith("/usr/")
    return () if is_shown else ("--ro-bind", prefix, prefix)


def _add_tmpfs(target: str, size_bytes: int) -> tuple[str, ...]:
    return ("--size", str(size_bytes), "--tmpfs", target)


def _bind(mount: Mount) -> tuple[str, ...]:
    return ("--bind" if mount.is_writable else "--ro-bind", str(mount.source), mount.target)


def _depth(mount: Mount) -> tuple[int, str]:
    """Outer mounts first, so that inner ones are not covered by them."""
    return mount.target.count("/"), mount.target
