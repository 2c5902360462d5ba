"""What the Docker Engine API answers, as our values and judgements.

Invariants: pure; an answer that lacks what we need is an `EngineError`, never a guess.
"""

import errno
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from runner.engines import ContainerState, EngineError, ObservedContainer
from runner.engines.container import (
    AGENT_PORT,
    LABEL_APP,
    LABEL_GENERATION,
    LABEL_SPEC_HASH,
    LABEL_UUID,
)

RUNNING = frozenset({"running", "paused", "restarting"})
PROCESS_REMEDY = "or set runner.engine.kind to process"


@dataclass(frozen=True, slots=True)
class EngineTraits:
    """How this Docker engine differs: options every container needs, and what to tell."""

    version: str
    security_options: tuple[str, ...]
    remaps_users: bool
    notes: tuple[str, ...]


def parse_socket(host: str) -> str:
    """The path of a `unix://` address; raises `EngineError` for an engine on another machine."""
    if not host.startswith("unix://"):
        raise EngineError(
            f"Docker at {host} cannot be used: Lockgate mounts directories of this machine,"
            f" so it needs the engine's Unix socket; unset DOCKER_HOST, {PROCESS_REMEDY}"
        )
    return host.removeprefix("unix://")


def describe_unreachable(socket: str, error: OSError | None, group: str, user: str) -> str:
    """One line with the remedy for a socket that does not answer; `group` owns the socket."""
    code = error.errno if error else None
    if code == errno.ENOENT:
        return (
            f"no Docker engine: {socket} does not exist; install and start it"
            f" (Debian: apt-get install docker.io), {PROCESS_REMEDY}"
        )
    if code in {errno.EACCES, errno.EPERM}:
        return (
            f"no permission on {socket}: add {user} to the group {group}"
            f" (usermod -aG {group} {user}, then log in again), {PROCESS_REMEDY}"
        )
    if code == errno.ECONNREFUSED:
        return f"no Docker engine listens on {socket}: start it (systemctl start docker), " + (
            PROCESS_REMEDY
        )
    reason = error.strerror if error and error.strerror else "it does not answer"
    return f"Docker engine at {socket}: {reason.lower()}; {PROCESS_REMEDY.removeprefix('or ')}"


def judge_info(info: Mapping[str, Any]) -> EngineTraits:
    """Refuse engines whose containers we could not reach; collect quirks (`GET /info`)."""
    options = {str(option).partition(",")[0] for option in info.get("SecurityOptions") or ()}
    if "name=rootless" in options:
        raise EngineError(
            "a rootless Docker engine cannot be used: its container addresses are not reachable"
            f" from this machine; use the system's engine, {PROCESS_REMEDY}"
        )
    if "Docker Desktop" in str(info.get("OperatingSystem")):
        raise EngineError(
            "Docker Desktop cannot be used: its containers run in another machine;"
            f" use the Docker engine of this machine, {PROCESS_REMEDY}"
        )
    notes = []
    security: tuple[str, ...] = ()
    if "name=selinux" in options:
        security = ("label=disable",)
        notes.append("SELinux labels are off for app containers: volumes carry no container label")
    if "name=seccomp" not in options:
        notes.append("this Docker engine has no seccomp filter")
    for key, text in (
        ("MemoryLimit", "memory limits are not enforced by this kernel"),
        ("SwapLimit", "swap limits are not enforced by this kernel: turn swap off or encrypt it"),
        ("PidsLimit", "task limits are not enforced by this kernel"),
    ):
        if info.get(key) is False:
            notes.append(text)
    version = str(info.get("ServerVersion") or "unknown")
    return EngineTraits(version, security, "name=userns" in options, tuple(notes))


def refuse_ordinary_user(uid: int) -> None:
    """Agent and app have a uid each, and nobody but root can give them their files."""
    if uid != 0:
        raise EngineError(
            "the Docker engine needs Lockgate to run as root, to give agent and app a uid each:"
            f" start it as root, {PROCESS_REMEDY}"
        )


def parse_observed(inspected: Mapping[str, Any]) -> ObservedContainer:
    """`GET /containers/{id}/json` of one of our app containers → what the engine holds."""
    labels: Mapping[str, str] = inspected["Config"].get("Labels") or {}
    state: Mapping[str, Any] = inspected["State"]
    is_running = state.get("Status") in RUNNING
    address = _find_address(inspected) if is_running else None
    was_started = state.get("Status") not in {"created", "removing"}
    try:
        return ObservedContainer(
            app=labels[LABEL_APP],
            generation=int(labels[LABEL_GENERATION]),
            uuid=labels[LABEL_UUID],
            spec_hash=labels[LABEL_SPEC_HASH],
            state=ContainerState.running if is_running else ContainerState.exited,
            address=address,
            exit_code=int(state["ExitCode"]) if not is_running and was_started else None,
            oom_killed=bool(state.get("OOMKilled")),
        )
    except (KeyError, ValueError) as error:
        name = inspected.get("Name", "?")
        raise EngineError(f"container {name} has unreadable labels: {error}") from None


def parse_subnets(networks: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Name of each network → its first IPv4 subnet, where it has one (`GET /networks`)."""
    found: dict[str, str] = {}
    for network in networks:
        for config in (network.get("IPAM") or {}).get("Config") or ():
            if "." in str(config.get("Subnet")):
                found.setdefault(str(network["Name"]), str(config["Subnet"]))
    return found


def parse_tags(listed: Sequence[Mapping[str, Any]]) -> set[str]:
    """Every tag and digest under which the engine holds an image (`GET /images/json`)."""
    names = ((image.get("RepoTags") or [], image.get("RepoDigests") or []) for image in listed)
    return {str(name) for tags, digests in names for name in (*tags, *digests)}


def find_os_error(error: BaseException | None) -> OSError | None:
    """The system's error at the bottom of a library's: in its arguments, cause or context."""
    seen: list[object] = [error]
    while seen:
        one = seen.pop(0)
        if isinstance(one, OSError) and one.errno is not None:
            return one
        if isinstance(one, BaseException):
            seen += [*one.args, one.__cause__, one.__context__]
    return None


def _find_address(inspected: Mapping[str, Any]) -> str | None:
    networks = (inspected.get("NetworkSettings") or {}).get("Networks") or {}
    for endpoint in networks.values():
        if endpoint.get("IPAddress"):
            return f"{endpoint['IPAddress']}:{AGENT_PORT}"
    return None
