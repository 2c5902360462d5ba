"""The whole configuration: one YAML file, a section for each process, and the shared keys.

**Invariants**: frozen once loaded, unknown keys refused; everything that depends on who runs
Lockgate is decided here, so that what `save_config` writes means the same to every process.
"""

import ipaddress
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from gateway import GatewayConfig
from pki import (
    Duration,
    PkiConfig,
    RunDir,
    Section,
    Size,
    StateDir,
    TrustDomain,
    load_document,
    load_pki_config,
    load_section,
)
from runner.spec.grammar import SpecError, check_host
from runner.spec.model import AppDefaults, AppLimits, AppSpec, GiB, Ground, MiB, parse_spec

DEFAULT_PATH = Path("/etc/lockgate/lockgate.yaml")
SHARED = ("trust_domain", "state_dir", "run_dir")
GATEWAY_UID = 64052


def _check_pool(pool: str) -> str:
    try:
        network = ipaddress.IPv4Network(pool)
    except ValueError as error:
        raise SpecError(
            f"{pool!r} is not an IPv4 network ({error})", "write 10.201.0.0/16"
        ) from None
    if not network.is_private or network.prefixlen > 24:
        raise SpecError(f"{pool} is public or too small", "write a private network of /24 or more")
    return pool


def _check_absolute(path: Path) -> Path:
    if not path.is_absolute():
        raise SpecError(f"{path} is not absolute", "write the path from / on")
    return path


def _check_bundle(written: object) -> object:
    if isinstance(written, str) and written != "auto":
        return _check_absolute(Path(written))
    return written


AbsolutePath = Annotated[Path, AfterValidator(_check_absolute)]


class SealConfig(Section):
    """Where the master key comes from; `key_file` None means `<state_dir>/master.key`."""

    source: Literal["key-file"] = "key-file"
    key_file: AbsolutePath | None = None


class EngineConfig(Section):
    """What runs the containers. `image` auto: built here, from what the machine has.

    App number n gets the uids `uid_base` + 2n and + 2n + 1 and the n-th /28 of `address_pool`.
    """

    kind: Literal["auto", "docker", "process"] = "auto"
    image: Annotated[str, Field(min_length=1)] = "auto"
    address_pool: Annotated[str, AfterValidator(_check_pool)] = "10.201.0.0/16"
    uid_base: Annotated[int, Field(ge=65536, lt=2**31)] = 200000
    docker_host: str | None = None


class VolumesConfig(Section):
    """How app files are kept; `size` (bytes) is what an app gets that does not say."""

    encryption: Literal["auto", "fscrypt", "gocryptfs", "tmpfs", "none"] = "auto"
    size: Annotated[Size, Field(ge=64 * MiB)] = 4 * GiB


class BuildConfig(Section):
    """How environments are built; `timeout` in seconds.

    `ca_bundle`: PEM file for registries behind a proxy; auto: the host's, if it has one.
    """

    ca_bundle: Annotated[Literal["auto"] | Path | None, BeforeValidator(_check_bundle)] = "auto"
    index_url: str | None = None
    timeout: Annotated[Duration, Field(ge=10, le=86400)] = 900.0


class RunnerSection(Section):
    """The `runner` section with the shared keys."""

    trust_domain: TrustDomain
    state_dir: StateDir
    run_dir: RunDir
    domain: Annotated[str, AfterValidator(check_host)] = "localhost"
    apps_dir: AbsolutePath | None = None
    seal: SealConfig = SealConfig()
    engine: EngineConfig = EngineConfig()
    volumes: VolumesConfig = VolumesConfig()
    build: BuildConfig = BuildConfig()
    defaults: AppDefaults = AppDefaults()
    limits: AppLimits = AppLimits()


class LockgateConfig(RunnerSection):
    """Everything: the runner's own keys, and the sections of the other two."""

    gateway: GatewayConfig
    pki: PkiConfig

    @property
    def master_key_path(self) -> Path:
        """The key file; only `lockgate up` reads it."""
        return self.seal.key_file or self.state_dir / "master.key"

    @property
    def socket_path(self) -> Path:
        """Where the runner answers."""
        return self.run_dir / "runner.sock"

    @property
    def gateway_socket_path(self) -> Path:
        """Where the gateway's control socket is."""
        return self.run_dir / "gateway.sock"

    @property
    def pki_socket_path(self) -> Path:
        """Where the pki answers."""
        return self.run_dir / "pki.sock"

    @property
    def ground(self) -> Ground:
        """What an app's YAML leaves open."""
        return Ground(self.domain, self.defaults, self.volumes.size, self.limits)


def find_config_path(given: Path | None, env: Mapping[str, str]) -> Path | None:
    """`--config`, else `$LOCKGATE_CONFIG`, else the system's file if there is one, else None."""
    if given is not None:
        return given
    if named := env.get("LOCKGATE_CONFIG"):
        return Path(named)
    return DEFAULT_PATH if DEFAULT_PATH.exists() else None


def load_config(
    path: Path | None, *, uid: int | None = None, env: Mapping[str, str] | None = None
) -> LockgateConfig:
    """The configuration in `path` (None: built-in defaults) as seen by `uid` (None: ours).

    Raises `ConfigError`. As an ordinary user every process runs as that user.
    """
    uid = os.getuid() if uid is None else uid
    env = os.environ if env is None else env
    mine = load_section(path, "runner", RunnerSection, uid=uid, env=env)
    uids = {"uid": GATEWAY_UID if uid == 0 else uid, "runner_uid": uid}
    gateway = load_section(path, "gateway", GatewayConfig, defaults=uids, uid=uid, env=env)
    own = {name: getattr(mine, name) for name in RunnerSection.model_fields}
    return LockgateConfig.model_construct(
        **own, gateway=gateway, pki=load_pki_config(path, uid, env)
    )


def build_document(config: LockgateConfig) -> dict[str, Any]:
    """The configuration as the mapping that a file would hold, every key written out."""
    written = config.model_dump(mode="json")
    gateway, pki = written.pop("gateway"), written.pop("pki")
    shared = {key: written.pop(key) for key in SHARED}
    for section in (gateway, pki):
        for key in SHARED:
            section.pop(key, None)
    return {**shared, "pki": pki, "gateway": gateway, "runner": written}


def save_config(config: LockgateConfig, path: Path) -> None:
    """Write the whole configuration (JSON, which is YAML), readable by every process of ours."""
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_text(json.dumps(build_document(config), indent=2) + "\n")
    fresh.chmod(0o644)
    fresh.replace(path)


def load_spec(path: Path, config: LockgateConfig) -> AppSpec:
    """An app's YAML; raises `ConfigError`. Relative repos start at the file's own folder."""
    document = load_document(path)
    return parse_spec(document, str(path.absolute().parent), config.ground)
