"""An app's YAML as a value: what is wanted, with defaults filled in, and what it is started with.

**Invariants**: pure; an `AppSpec` is complete and valid (hosts decided, paths absolute), so whoever
gets one checks nothing again; it names secrets and never holds one.
"""

import hashlib
import json
import posixpath
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self, cast

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from pki import ConfigError, Document, Duration, Section, Size, build_model, format_size
from pki import parse_app_name as check_app_name
from runner.spec.grammar import (
    PORT,
    SpecError,
    build_absolute_repo,
    check_env,
    check_host,
    check_host_key,
    check_inside,
    check_python,
    check_ref,
    check_repo,
    check_secret_name,
    check_url_path,
    find_repo_kind,
    parse_command,
)
from runner.spec.streamlit import build_streamlit_env, is_streamlit_command

GiB, MiB = 1024**3, 1024**2

AppName = Annotated[str, AfterValidator(check_app_name)]
Host = Annotated[str, AfterValidator(check_host)]
SecretName = Annotated[str, AfterValidator(check_secret_name)]
InsidePath = Annotated[str, AfterValidator(check_inside)]


class Source(Section):
    """Where the code comes from; `token` and `deploy_key` name secrets of the app.

    What they name is used to fetch and never reaches the app.
    """

    repo: Annotated[str, AfterValidator(check_repo)]
    ref: Annotated[str, AfterValidator(check_ref)] = "HEAD"
    subdirectory: InsidePath = "."
    token: SecretName | None = None
    deploy_key: SecretName | None = None
    host_key: Annotated[str, AfterValidator(check_host_key)] | None = None

    @property
    def kind(self) -> Literal["local", "https", "ssh"]:
        """How it is fetched."""
        return cast(Literal["local", "https", "ssh"], find_repo_kind(self.repo))

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.token and self.kind != "https":
            raise SpecError("`token` is for https:// addresses", "ssh takes a `deploy_key`")
        if self.deploy_key and self.kind != "ssh":
            raise SpecError("`deploy_key` is for ssh addresses", "https:// takes a `token`")
        if self.host_key and self.kind != "ssh":
            raise SpecError("`host_key` is for ssh addresses", "remove it")
        if self.kind == "ssh" and not self.host_key:
            raise SpecError(
                "over ssh the server's key must be pinned",
                "add `host_key`: what `ssh-keyscan HOST` prints, compared with the server's own",
            )
        return self


class Health(Section):
    """When the app counts as up: `path` answers 2xx or 3xx within `timeout` seconds.

    `path` None: `/_stcore/health` of a Streamlit app, else `/`.
    """

    path: Annotated[str, AfterValidator(check_url_path)] | None = None
    timeout: Annotated[Duration, Field(gt=0, le=3600)] = 60.0


class Resources(Section):
    """Limits: bytes of memory (no swap on top), cores, processes and threads."""

    memory: Annotated[Size, Field(ge=64 * MiB)] = 1 * GiB
    cpus: Annotated[float, Field(gt=0, le=1024)] = 1.0
    pids: Annotated[int, Field(ge=16, le=1_000_000)] = 256


class Volume(Section):
    """The encrypted volume with code, environment, scratch and logs; bytes."""

    size: Annotated[Size, Field(ge=64 * MiB)] = 4 * GiB


class Temp(Section):
    """RAM for temporary files and uploads, counted in the memory limit; bytes."""

    size: Annotated[Size, Field(ge=1 * MiB)] = 256 * MiB


class _Wanted(Section):
    """What the file and the finished spec have in common."""

    name: AppName
    source: Source
    entrypoint: InsidePath | None = None
    command: Annotated[tuple[str, ...], BeforeValidator(parse_command)] | None = None
    python: Annotated[str, AfterValidator(check_python)] | None = None
    health: Health = Health()
    resources: Resources = Resources()
    volume: Volume = Volume()
    temp: Temp = Temp()
    env: Annotated[dict[str, str], AfterValidator(check_env)] = Field(default_factory=dict)
    drain: Annotated[Duration, Field(ge=0, le=7 * 86400)] = 3600.0
    max_upload: Size | None = None


class AppFile(_Wanted):
    """An app's YAML as it is written: `host` or `hosts`, or neither."""

    host: Host | None = None
    hosts: Annotated[tuple[Host, ...], Field(min_length=1, max_length=32)] | None = None


class AppSpec(_Wanted):
    """All that is wanted of an app. Exactly one of `entrypoint` and `command` is set."""

    hosts: Annotated[tuple[Host, ...], Field(min_length=1, max_length=32)]

    @property
    def is_streamlit(self) -> bool:
        """Whether the command starts Streamlit's server."""
        return self.entrypoint is not None or is_streamlit_command(self.command or ())

    @property
    def health_path(self) -> str:
        """The path that is probed."""
        return self.health.path or ("/_stcore/health" if self.is_streamlit else "/")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.entrypoint is None) == (self.command is None):
            raise SpecError("neither or both of entrypoint and command", "write one of them")
        if len(set(self.hosts)) != len(self.hosts):
            raise SpecError("a host is named twice", "name it once")
        return self


class AppLimits(Section):
    """The most that an app may ask for; None = no limit. Bytes, cores, tasks."""

    memory: Size | None = None
    cpus: Annotated[float, Field(gt=0)] | None = None
    pids: Annotated[int, Field(ge=16)] | None = None
    volume: Size | None = None


class AppDefaults(Section):
    """What an app gets that does not say; bytes, cores, tasks, seconds."""

    memory: Annotated[Size, Field(ge=64 * MiB)] = 1 * GiB
    cpus: Annotated[float, Field(gt=0, le=1024)] = 1.0
    pids: Annotated[int, Field(ge=16, le=1_000_000)] = 256
    temp: Annotated[Size, Field(ge=1 * MiB)] = 256 * MiB
    drain: Annotated[Duration, Field(ge=0, le=7 * 86400)] = 3600.0


@dataclass(frozen=True, slots=True)
class Ground:
    """What a file leaves open: `domain` makes the default host; the rest is the operator's."""

    domain: str
    defaults: AppDefaults
    volume_bytes: int
    limits: AppLimits


def parse_spec(document: Document, folder: str, ground: Ground) -> AppSpec:
    """The spec that a YAML document describes; raises `ConfigError`.

    `folder` (absolute) is where a relative repo path starts.
    """
    if document.value is None:
        raise ConfigError(
            document.file, None, "", "the file is empty", "see configs/apps/reference.yaml"
        )
    file = build_model(AppFile, document)
    _check_start(file, document)
    spec = AppSpec.model_construct(
        **{key: getattr(file, key) for key in _Wanted.model_fields},
        hosts=_pick_hosts(file, ground.domain, document),
    )
    source = file.source.model_copy(update={"repo": build_absolute_repo(file.source.repo, folder)})
    spec = _fill_defaults(spec, file, ground).model_copy(update={"source": source})
    _check_limits(spec, ground.limits, document)
    return spec


def _check_start(file: AppFile, document: Document) -> None:
    if file.entrypoint is not None and file.command is not None:
        raise document.build_error(
            ("command",), "both entrypoint and command are written", "keep one of them"
        )
    if file.entrypoint is None and file.command is None:
        raise document.build_error(
            ("entrypoint",),
            "nothing says how to start the app",
            "add entrypoint: FILE.py for Streamlit, or command: … with {port} for anything else",
        )
    if file.entrypoint is not None and not file.entrypoint.endswith(".py"):
        raise document.build_error(
            ("entrypoint",), f"{file.entrypoint} is not a .py file", "name a Streamlit script"
        )
    words = (*(file.command or ()), *file.env.values())
    is_told = is_streamlit_command(file.command or ()) or any(PORT in word for word in words)
    if file.command and not is_told:
        raise document.build_error(
            ("command",),
            "it does not say {port}",
            "pass the port: --port {port}, or env: PORT: '{port}' if the app reads a variable",
        )
    if (name := _find_reserved(file)) is not None:
        raise document.build_error(("env", name), "Lockgate sets this itself", "remove it")


def _find_reserved(file: AppFile) -> str | None:
    """The first variable under `env` that Lockgate enforces."""
    is_streamlit = file.entrypoint is not None or is_streamlit_command(file.command or ())
    enforced = build_streamlit_env((), "https://x", 0, "")[1] if is_streamlit else {}
    return next((n for n in file.env if n.startswith("LOCKGATE_") or n in enforced), None)


def _pick_hosts(file: AppFile, domain: str, document: Document) -> tuple[str, ...]:
    if file.host is not None and file.hosts is not None:
        raise document.build_error(("hosts",), "both host and hosts are written", "keep one")
    hosts = file.hosts or (file.host or f"{file.name}.{domain}",)
    for index, host in enumerate(hosts):
        if host in hosts[:index]:
            raise document.build_error(("hosts", index), f"{host} is named twice", "name it once")
    return hosts


def _fill_defaults(spec: AppSpec, file: AppFile, ground: Ground) -> AppSpec:
    """The operator's defaults in place of ours, where the file says nothing."""
    names = ("memory", "cpus", "pids")
    written = spec.resources.model_fields_set
    resources = {name: getattr(ground.defaults, name) for name in names if name not in written}
    update: dict[str, Any] = {"resources": spec.resources.model_copy(update=resources)}
    if "size" not in spec.volume.model_fields_set:
        update["volume"] = Volume.model_construct(size=ground.volume_bytes)
    if "size" not in spec.temp.model_fields_set:
        update["temp"] = Temp.model_construct(size=ground.defaults.temp)
    if "drain" not in file.model_fields_set:
        update["drain"] = ground.defaults.drain
    return spec.model_copy(update=update)


def _check_limits(spec: AppSpec, limits: AppLimits, document: Document) -> None:
    asked: dict[str, tuple[tuple[str, str], float]] = {
        "memory": (("resources", "memory"), spec.resources.memory),
        "cpus": (("resources", "cpus"), spec.resources.cpus),
        "pids": (("resources", "pids"), spec.resources.pids),
        "volume": (("volume", "size"), spec.volume.size),
    }
    for name, (at, value) in asked.items():
        most = getattr(limits, name)
        if most is not None and value > most:
            shown = format_size(most) if name in ("memory", "volume") else f"{most:g}"
            raise document.build_error(
                at, f"more than this machine allows ({shown})", f"see runner.limits.{name}"
            )
    if spec.temp.size >= spec.resources.memory:
        raise document.build_error(
            ("temp", "size"), "as large as the memory that it counts in", "keep it well below"
        )


def spec_hash(spec: AppSpec) -> str:
    """SHA-256 (hex) of the canonical JSON: equal specs, equal hashes, whatever the YAML's order."""
    text = json.dumps(spec.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def build_app_argv(spec: AppSpec, port: int) -> list[str]:
    """The app's command line; its first word is looked up in the environment's PATH."""
    if spec.entrypoint is not None:
        return ["python", "-m", "streamlit", "run", spec.entrypoint]
    return [word.replace(PORT, str(port)) for word in spec.command or ()]


def build_app_env(
    spec: AppSpec,
    url: str,
    host: str,
    port: int,
    *,
    venv: str = "/app/venv",
    secrets_dir: str = "/run/lockgate/secrets",
) -> dict[str, str]:
    """The app's environment but for its secrets: ours, then the operator's, then what is enforced.

    `url` is the address that visitors use, `host` its name, `port` where the app listens.
    """
    env = {
        "PATH": posixpath.join(venv, "bin") + ":/usr/local/bin:/usr/bin:/bin",
        "VIRTUAL_ENV": venv,
        "LANG": "C.UTF-8",
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "GRADIO_ANALYTICS_ENABLED": "False",
    }
    enforced = {"LOCKGATE_APP": spec.name, "LOCKGATE_URL": url}
    if spec.is_streamlit:
        hosts = tuple(dict.fromkeys((host, *spec.hosts)))
        secrets_file = posixpath.join(secrets_dir, "secrets.toml")
        ours, streamlit = build_streamlit_env(hosts, url, port, secrets_file)
        env |= ours
        enforced |= streamlit
    given = {name: value.replace(PORT, str(port)) for name, value in spec.env.items()}
    return {**env, **given, **enforced}
