"""Giving up privilege: what the kernel is asked so that agent and app hold the least they need.

Invariants: nothing here gains anything; every call that must have worked raises `OSError` when it
did not, so that the caller can stop before the first stranger is heard.

Python's own modules have setresuid but neither prctl nor capset, hence ctypes.
"""

from __future__ import annotations

import ctypes
import os
import resource

CAP_KILL = 5

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_KEEPCAPS = 8
_PR_CAPBSET_DROP = 24
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_CLEAR_ALL = 4
_LINUX_CAPABILITY_VERSION_3 = 0x20080522
_CAPABILITIES = 64

_libc = ctypes.CDLL(None, use_errno=True)
_libc.prctl.argtypes = (ctypes.c_int, *(ctypes.c_ulong,) * 4)


def _check(result: int, call: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{call}: {os.strerror(number)}")


def _prctl(option: int, argument: int = 0) -> int:
    return int(_libc.prctl(option, argument, 0, 0, 0))


def _set_capabilities(mask: int) -> None:
    """Permitted and effective become `mask`, inheritable becomes empty."""
    head = (ctypes.c_uint32 * 2)(_LINUX_CAPABILITY_VERSION_3, 0)
    low, high = mask & 0xFFFFFFFF, mask >> 32
    sets = (ctypes.c_uint32 * 6)(low, low, 0, high, high, 0)
    _check(_libc.capset(head, sets), "capset")


class ActingAs:
    """For the length of a `with`: effective uid `uid`, when we are uid 0 and `uid` is another.

    Root without CAP_DAC_OVERRIDE cannot read another's folder; its owner can.
    """

    def __init__(self, uid: int | None) -> None:
        self._uid = uid if os.geteuid() == 0 and uid else None

    def __enter__(self) -> None:
        if self._uid is not None:
            os.seteuid(self._uid)

    def __exit__(self, *_error: object) -> None:
        if self._uid is not None:
            os.seteuid(0)


def limit_core_dumps() -> None:
    """No core file: memory holds keys, secrets and what visitors typed."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def raise_open_files(wanted: int) -> int:
    """Let this process open up to `wanted` files if its hard limit allows; the limit now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    ceiling = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < ceiling:
        resource.setrlimit(resource.RLIMIT_NOFILE, (ceiling, hard))
        return ceiling
    return ceiling if soft == resource.RLIM_INFINITY else soft


def drop_bounding_set() -> None:
    """Empty the bounding and ambient sets as far as the kernel lets us (it wants CAP_SETPCAP)."""
    _libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    for capability in range(_CAPABILITIES):
        if _prctl(_PR_CAPBSET_DROP, capability) != 0:
            break  # EPERM, or EINVAL past the last capability of this kernel


def forbid_new_privileges() -> None:
    """From here on no exec grants anything (prctl(2), PR_SET_NO_NEW_PRIVS)."""
    _check(_prctl(_PR_SET_NO_NEW_PRIVS, 1), "no_new_privs")


def become_app(uid: int | None) -> None:
    """Be `uid` with its own group, no other groups and no capability."""
    if uid is not None:
        _leave_groups(uid)
        os.setresuid(uid, uid, uid)
        _set_capabilities(0)


def become_agent(uid: int | None) -> None:
    """Be `uid` holding CAP_KILL alone, and readable in /proc by nobody but root.

    CAP_KILL lets the agent signal the app, whose uid is another. Raises `OSError`.
    """
    drop_bounding_set()
    if uid is not None and os.geteuid() == 0:
        _leave_groups(uid)
        _check(_prctl(_PR_SET_KEEPCAPS, 1), "keepcaps")
        os.setresuid(uid, uid, uid)
        _set_capabilities(1 << CAP_KILL)
        _check(_prctl(_PR_SET_KEEPCAPS, 0), "keepcaps")
    if uid is not None and os.getresuid() != (uid, uid, uid):
        raise PermissionError(f"cannot become uid {uid}")
    _check(_prctl(_PR_SET_DUMPABLE, 0), "dumpable")


def _leave_groups(uid: int) -> None:
    if os.geteuid() == 0:
        os.setgroups([])
    os.setresgid(uid, uid, uid)


def die_with_parent(parent: int, signum: int) -> None:
    """Get `signum` when the process `parent` ends; raises `OSError` if it has ended already.

    To be called after the last change of uid, which would clear it (prctl(2)).
    """
    _check(_prctl(_PR_SET_PDEATHSIG, signum), "pdeathsig")
    if os.getppid() != parent:
        raise ProcessLookupError("the agent is gone")


def adopt_orphans() -> None:
    """Become the parent of every descendant that loses its own."""
    _check(_prctl(_PR_SET_CHILD_SUBREAPER, 1), "child_subreaper")
