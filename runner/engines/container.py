"""How an app's or a build's container is fenced in, as the documents the Docker Engine API takes.

Invariants: pure; nothing secret is ever in a document; every limit is set in every document; a
container has no published port, no engine log, no swap, no core dump and a read-only root.
"""

import hashlib
import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from runner.engines import (
    AGENT,
    CODE,
    HOME,
    IDENTITY,
    LOGS,
    SCRATCH,
    SECRETS,
    SHM,
    TMP,
    VENV,
    BuildSpec,
    ContainerSpec,
    EngineError,
    EnginePaths,
    Mount,
    Resources,
    Tmpfs,
)

Document = dict[str, object]

AGENT_PORT = 8443
APP_PORT = 8501
SUBNET_PREFIX = 28
SHM_DEFAULT_BYTES = 64 * 1024 * 1024
AGENT_CAPABILITIES = ("SETUID", "SETGID", "KILL")
BRIDGE_ICC = "com.docker.network.bridge.enable_icc"

LABEL_INSTALLATION = "lockgate.installation"
LABEL_ROLE = "lockgate.role"
LABEL_APP = "lockgate.app"
LABEL_GENERATION = "lockgate.generation"
LABEL_UUID = "lockgate.uuid"
LABEL_SPEC_HASH = "lockgate.spec_hash"
ROLE_APP = "app"
ROLE_BUILD = "build"
ROLE_NETWORK = "network"


@dataclass(frozen=True, slots=True)
class Ground:
    """What a container stands on: image, network (None for no network) and the engine's quirks."""

    image_id: str
    installation: str
    network: str | None
    security_options: tuple[str, ...] = ()
    remaps_users: bool = False


def build_installation_id(state_dir: str) -> str:
    """Twelve hex digits that keep two installations on one engine apart."""
    return hashlib.sha256(f"lockgate installation {state_dir}".encode()).hexdigest()[:12]


def build_container_name(app: str, generation: int, installation: str) -> str:
    """`lockgate-hello-3.1f2e3d`."""
    return f"lockgate-{app}-{generation}.{installation[:6]}"


def build_network_name(app: str, installation: str) -> str:
    """`lockgate-hello.1f2e3d`."""
    return f"lockgate-{app}.{installation[:6]}"


def build_paths(agent_uid: int, app_uid: int) -> EnginePaths:
    """The same in every container, as each has its own file system and loopback."""
    return EnginePaths(
        agent_argv=("python3", "-I", "-S", "-B", AGENT, f"{IDENTITY}/agent.json"),
        agent_identity=IDENTITY,
        agent_secrets=SECRETS,
        agent_logs=LOGS,
        agent_cwd=CODE,
        agent_home=HOME,
        listen=f"0.0.0.0:{AGENT_PORT}",
        app_port=APP_PORT,
        code=CODE,
        venv=VENV,
        scratch=SCRATCH,
        secrets=SECRETS,
        home=HOME,
        tmp=TMP,
        agent_uid=agent_uid,
        app_uid=app_uid,
    )


def pick_subnet(address_pool: str, slot: int) -> str:
    """The `slot`-th /28 of the pool; raises `EngineError` when the pool ends before it."""
    pool = ipaddress.ip_network(address_pool)
    first = int(pool.network_address) + (slot << (32 - SUBNET_PREFIX))
    if pool.version != 4 or slot < 0 or first > int(pool.broadcast_address):
        raise EngineError(
            f"runner.engine.address_pool {address_pool} has no /{SUBNET_PREFIX} for app number"
            f" {slot}: set a larger IPv4 range"
        )
    return f"{ipaddress.IPv4Address(first)}/{SUBNET_PREFIX}"


def build_network(app: str, subnet: str, installation: str) -> dict[str, Any]:
    """The app's own bridge, as the SDK's arguments; containers on it cannot talk to each other."""
    return {
        "name": build_network_name(app, installation),
        "driver": "bridge",
        "check_duplicate": True,
        "ipam": {"Driver": "default", "Config": [{"Subnet": subnet}]},
        "options": {BRIDGE_ICC: "false"},
        "labels": {
            LABEL_INSTALLATION: installation,
            LABEL_ROLE: ROLE_NETWORK,
            LABEL_APP: app,
        },
    }


def build_app_container(spec: ContainerSpec, ground: Ground) -> Document:
    """The container of one generation: uid 0 with three capabilities, for the agent alone."""
    labels = {
        LABEL_ROLE: ROLE_APP,
        LABEL_APP: spec.app,
        LABEL_GENERATION: str(spec.generation),
        LABEL_UUID: spec.uuid,
        LABEL_SPEC_HASH: spec.spec_hash,
    }
    host = _build_host_config(spec.mounts, spec.tmpfs, spec.resources, ground)
    host["CapAdd"] = list(AGENT_CAPABILITIES)
    return _build_document(spec.argv, {}, "0:0", spec.app, labels, host, ground)


def build_build_container(spec: BuildSpec, ground: Ground) -> Document:
    """A throw-away container as the app's uid with no capability at all; its output is attached."""
    labels = {LABEL_ROLE: ROLE_BUILD, LABEL_APP: spec.app, LABEL_UUID: spec.uuid}
    host = _build_host_config(spec.mounts, spec.tmpfs, spec.resources, ground)
    user = f"{spec.uid}:{spec.uid}"
    document = _build_document(spec.argv, spec.env, user, spec.app, labels, host, ground)
    return document | {"AttachStdout": True, "AttachStderr": True}


def build_probe_container(argv: Sequence[str], ground: Ground) -> Document:
    """A container without network or mounts that tells what is in the image."""
    resources = Resources(memory_bytes=128 * 1024 * 1024, cpus=1.0, pids=16)
    host = _build_host_config((), (), resources, ground)
    labels = {LABEL_ROLE: ROLE_BUILD}
    document = _build_document(argv, {}, "65534:65534", "probe", labels, host, ground)
    return document | {"AttachStdout": True, "AttachStderr": True}


def _build_document(
    argv: Sequence[str],
    env: Mapping[str, str],
    user: str,
    hostname: str,
    labels: dict[str, str],
    host_config: Document,
    ground: Ground,
) -> Document:
    document: Document = {
        "Image": ground.image_id,
        "Entrypoint": list(argv),
        "Cmd": [],
        "Env": [f"{name}={value}" for name, value in ({"LANG": "C.UTF-8"} | dict(env)).items()],
        "User": user,
        "Hostname": hostname,
        "WorkingDir": "/",
        "Tty": False,
        "OpenStdin": False,
        "AttachStdout": False,
        "AttachStderr": False,
        "StopSignal": "SIGTERM",
        "Healthcheck": {"Test": ["NONE"]},
        "Labels": {LABEL_INSTALLATION: ground.installation} | labels,
        "HostConfig": host_config,
    }
    if ground.network is not None:
        document["NetworkingConfig"] = {"EndpointsConfig": {ground.network: {}}}
    return document


def _build_host_config(
    mounts: Sequence[Mount], tmpfs: Sequence[Tmpfs], resources: Resources, ground: Ground
) -> Document:
    shm = {ram.target: ram.size_bytes for ram in tmpfs}.get(SHM, SHM_DEFAULT_BYTES)
    config: Document = {
        "NetworkMode": ground.network or "none",
        "PublishAllPorts": False,
        "Privileged": False,
        "ReadonlyRootfs": True,
        "CapDrop": ["ALL"],
        "CapAdd": [],
        "SecurityOpt": ["no-new-privileges:true", *ground.security_options],
        "IpcMode": "private",
        "Init": False,
        "AutoRemove": False,
        "RestartPolicy": {"Name": "no"},
        "LogConfig": {"Type": "none", "Config": {}},
        "Mounts": [_build_mount(mount) for mount in mounts],
        "Tmpfs": {ram.target: _build_tmpfs(ram) for ram in tmpfs if ram.target != SHM},
        "ShmSize": shm,
        "Memory": resources.memory_bytes,
        "MemorySwap": resources.memory_bytes,
        "NanoCpus": round(resources.cpus * 1_000_000_000),
        "PidsLimit": resources.pids,
        "Ulimits": [{"Name": "core", "Soft": 0, "Hard": 0}],
    }
    if ground.remaps_users:
        config["UsernsMode"] = "host"
    return config


def _build_mount(mount: Mount) -> Document:
    """A `Mounts` entry: unlike `Binds`, the engine refuses a source that does not exist."""
    return {
        "Type": "bind",
        "Source": str(mount.source),
        "Target": mount.target,
        "ReadOnly": not mount.is_writable,
        "BindOptions": {"Propagation": "rprivate"},
    }


def _build_tmpfs(ram: Tmpfs) -> str:
    """Mount options; `exec` stays, as builds and some wheels run what they unpack there."""
    return f"size={ram.size_bytes},mode=1777,nosuid,nodev,exec"
