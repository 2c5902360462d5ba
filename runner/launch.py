"""Starts a generation and proves that it answers: identity, container, probe.

Invariants: a container is started only on a volume that was proved a moment before; the agent's key
and the app's secrets go into RAM directories that only their uid can read; the probe takes the very
path of traffic.
"""

import asyncio
import json
import random
from datetime import UTC, datetime
from itertools import chain, repeat

from gateway import GatewayError, ProbeReport, UpstreamEntry
from pki import make_key_and_csr, pick_renewal_time
from runner.engines import (
    SHM,
    TMP,
    ContainerSpec,
    ContainerState,
    EnginePaths,
    ObservedContainer,
    Places,
    Resources,
    Tmpfs,
    build_mounts,
)
from runner.errors import RunnerError
from runner.layout import VolumeLayout
from runner.logs import read_tail
from runner.parts import Parts
from runner.routing import build_upstream
from runner.spec.model import AppSpec, build_app_argv, build_app_env, spec_hash
from runner.store import AppRecord, GenerationRecord
from runner.urls import build_url
from runner.work import Work, need_record

PROBE_TIMEOUT_S = 5.0
PROBE_PAUSES_S = (0.05, 0.05, 0.1, 0.1, 0.2)
PROBE_PAUSE_S = 0.3
TAIL_LINES = 20
LOG_MAX_BYTES = 10 * 1024 * 1024
LOG_FILES = 2
GRACE_S = 10.0
RESERVED = 0
COOKIE_PURPOSE = "streamlit cookie"
RAM_TARGETS = (TMP, "/var/tmp", SHM)  # noqa: S108 - inside the container


async def reserve_hosts(parts: Parts, app: str, spec: AppSpec) -> None:
    """Hold the hosts for the app, so that its visitors get a certificate while nothing runs."""
    await parts.pki.register_app(app, RESERVED, list(spec.hosts))


async def identify(parts: Parts, work: Work, layout: VolumeLayout) -> str:
    """Register the generation, get its leaf, put key, leaf and secrets into RAM."""
    spec, record = work.need_spec(), need_record(parts, work.app)
    owners = parts.find_owners(record)
    await parts.pki.register_app(work.app, work.number, list(spec.hosts))
    secrets = build_delivery(parts, record, spec)
    await asyncio.to_thread(
        parts.handover.write_secrets, work.app, work.number, secrets, owners.app
    )
    mounts = build_mounts(
        Places(
            agent=parts.agent_dir,
            generation=layout.generation(work.number),
            environment=layout.environment(work.env_hash),
            scratch=layout.scratch,
            logs=layout.logs,
            identity=parts.handover.identity_dir(work.app, work.number),
            secrets=parts.handover.secrets_dir(work.app, work.number),
        )
    )
    tmpfs = tuple(Tmpfs(target, spec.temp.size) for target in RAM_TARGETS)
    paths = parts.engine.paths(work.app, work.number, record.slot, mounts, tmpfs)
    settings = build_agent_json(spec, parts, work.number, paths)
    expires = await issue_leaf(parts, work.app, work.number, owners.agent, settings)
    work.container = ContainerSpec(
        app=work.app,
        generation=work.number,
        uuid=record.uuid,
        slot=record.slot,
        spec_hash=spec_hash(spec),
        argv=paths.agent_argv,
        mounts=mounts,
        tmpfs=tmpfs,
        resources=Resources(spec.resources.memory, spec.resources.cpus, spec.resources.pids),
    )
    return f"until {expires:%Y-%m-%d %H:%M} UTC"


def build_delivery(parts: Parts, record: AppRecord, spec: AppSpec) -> dict[str, str]:
    """The secrets that the app gets: all but those that only fetch its code."""
    fetch_only = {spec.source.token, spec.source.deploy_key}
    secrets = {
        name: value
        for name, value in parts.vault.read_secrets(record.uuid).items()
        if name not in fetch_only
    }
    if spec.is_streamlit:
        cookie = parts.vault.platform_secret(record.uuid, COOKIE_PURPOSE).hex()
        secrets.setdefault("STREAMLIT_SERVER_COOKIE_SECRET", cookie)
    return secrets


def build_agent_json(
    spec: AppSpec, parts: Parts, number: int, paths: EnginePaths
) -> dict[str, object]:
    """What the agent is told, in its own paths; nothing in it is secret."""
    url = build_url(spec.hosts[0], parts.config.gateway.https)
    env = build_app_env(
        spec, url, spec.hosts[0], paths.app_port, venv=paths.venv, secrets_dir=paths.secrets
    )
    return {
        "listen": paths.listen,
        "app_port": paths.app_port,
        "argv": build_app_argv(spec, paths.app_port),
        "cwd": paths.agent_cwd,
        "env": {**env, "HOME": paths.home, "TMPDIR": paths.tmp, "LOCKGATE_SCRATCH": paths.scratch},
        "agent_uid": paths.agent_uid,
        "app_uid": paths.app_uid,
        "identity_dir": paths.agent_identity,
        "secrets_dir": paths.agent_secrets,
        "log_path": f"{paths.agent_logs}/app-{number}.log",
        "log_max_bytes": LOG_MAX_BYTES,
        "log_files": LOG_FILES,
        "peer_prefix": f"spiffe://{parts.config.trust_domain}/gateway/",
        "home": paths.agent_home,
        "grace_s": GRACE_S,
        "sandbox_argv": list(paths.sandbox_argv),
    }


async def issue_leaf(
    parts: Parts, app: str, number: int, uid: int | None, settings: dict[str, object]
) -> datetime:
    """A fresh key and leaf in the agent's RAM directory, swapped in whole; returns its expiry."""
    fresh = make_key_and_csr()
    leaf = await parts.pki.issue_app(app, number, fresh.csr_pem)
    files = {
        "tls.key": fresh.key_pem,
        "tls.crt": leaf.chain_pem,
        "ca.crt": await parts.pki.fetch_bundle(),
        "agent.json": json.dumps(settings, indent=1).encode(),
    }
    await asyncio.to_thread(parts.handover.write_identity, app, number, files, uid)
    parts.leaves[(app, number)] = (leaf.not_before, leaf.not_after)
    return leaf.not_after


async def renew_leaf(parts: Parts, app: str, number: int) -> datetime:
    """Like `issue_leaf` for a generation that runs: its settings stay."""
    record = need_record(parts, app)
    settings = json.loads(
        await asyncio.to_thread(parts.handover.read_identity, app, number, "agent.json")
    )
    return await issue_leaf(parts, app, number, parts.find_owners(record).agent, settings)


def is_renewal_due(parts: Parts, app: str, generation: GenerationRecord) -> bool:
    """Whether the leaf of a generation that runs is past half its life, give or take a tenth.

    One of unknown age is due: an earlier runner issued it, and this one could not yet.
    """
    key = (app, generation.number)
    life = parts.leaves.get(key)
    if key not in parts.addresses or life is None:
        return key in parts.addresses
    # The same leaf always gets the same jitter: a leaf has one renewal time.
    jitter = random.Random(f"{key}{life[0]}").uniform(-1, 1)  # noqa: S311
    now = datetime.fromtimestamp(parts.wall_clock(), UTC)
    return now >= pick_renewal_time(life[0], life[1], jitter)


async def start(parts: Parts, work: Work) -> str:
    """Prove the volume, then start the container."""
    record = need_record(parts, work.app)
    if work.container is None:
        raise RunnerError("a container can only be started after its identity was issued")
    key = parts.vault.volume_key(record.uuid)
    await parts.driver.prove(parts.mountpoint(work.app), key)
    work.started = await parts.engine.start(work.container)
    if work.started.address is not None:
        parts.addresses[(work.app, work.number)] = work.started.address
    return ""


async def probe(parts: Parts, work: Work, layout: VolumeLayout) -> str:
    """Ask until the app answers, exits or has used up its time; returns how it answered."""
    spec = work.need_spec()
    address = parts.addresses.get((work.app, work.number))
    if address is None:
        raise RunnerError("the container has no address: did it exit at once?")
    upstream = build_upstream(work.app, work.number, address, parts.config.trust_domain)
    deadline = parts.clock() + spec.health.timeout
    pauses = chain(PROBE_PAUSES_S, repeat(PROBE_PAUSE_S))
    while True:
        left_s = deadline - parts.clock()
        timeout_s = max(0.1, min(PROBE_TIMEOUT_S, left_s))
        report = await _ask(parts, upstream, spec, timeout_s)
        if report.ok:
            return f"{spec.health_path} answered {report.status}"
        await refuse_exited(parts, work, layout)
        if left_s <= 0:
            said = f"answered {report.status}" if report.status else report.reason
            raise build_app_error(
                layout,
                work.number,
                f"the app did not answer {spec.health_path} within"
                f" {spec.health.timeout:g} s (last try: {said})",
            )
        await asyncio.sleep(next(pauses))


async def _ask(
    parts: Parts, upstream: UpstreamEntry, spec: AppSpec, timeout_s: float
) -> ProbeReport:
    """One try. A gateway that is being started again is no verdict on the app."""
    try:
        return await parts.gateway.probe(
            upstream, spec.hosts[0], spec.health_path, timeout_s=timeout_s
        )
    except GatewayError as error:
        return ProbeReport(ok=False, status=None, reason=str(error))


async def refuse_exited(parts: Parts, work: Work, layout: VolumeLayout) -> None:
    """Raise with the exit code and the app's last lines if its container has exited."""
    for container in await parts.engine.observe():
        if (container.app, container.generation) == (work.app, work.number):
            if container.state is ContainerState.exited:
                raise build_app_error(layout, work.number, describe_exit(container))
            return
    raise build_app_error(layout, work.number, "the container is gone")


def describe_exit(container: ObservedContainer) -> str:
    """`the app exited with code 1`, in the words of whoever reads `status`."""
    if container.oom_killed:
        return "the app was killed: it used more memory than `resources.memory` allows"
    code = container.exit_code
    if code is None:
        return "the app is gone"
    if code > 128:
        return f"the app was ended by signal {code - 128}"
    return f"the app exited with code {code}"


def build_app_error(layout: VolumeLayout, number: int, text: str) -> RunnerError:
    """An error with the last lines that the app wrote."""
    path = layout.app_log(number)
    return RunnerError(text, log_tail=read_tail(path, TAIL_LINES), log_path=str(path))
