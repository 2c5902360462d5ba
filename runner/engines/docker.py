"""The Docker engine: app and build containers through the Docker Engine API.

Invariants: the only importer of the Docker SDK; the SDK blocks, so every call runs in a thread of
this engine's own pool and is waited for even when its caller is cancelled; a container is created
from a document of `runner.engines.container` and from nothing else; containers of other
installations and of the operator are never touched.
"""

import asyncio
import contextlib
import getpass
import grp
import math
import os
import secrets
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import docker
import docker.errors
import requests.exceptions

from runner.engines import (
    TIMED_OUT,
    BuildSpec,
    ContainerSpec,
    ContainerState,
    EngineError,
    EngineFacts,
    EnginePaths,
    LineSink,
    Mount,
    ObservedContainer,
    Tmpfs,
)
from runner.engines import container as documents
from runner.engines import image as images
from runner.engines.facts import (
    EngineTraits,
    describe_unreachable,
    find_os_error,
    judge_info,
    parse_observed,
    parse_socket,
    parse_subnets,
    parse_tags,
    refuse_ordinary_user,
)
from runner.engines.lines import LineSplitter
from runner.engines.rootfs import detect_suite, open_rootfs
from runner.engines.threads import Threads

T = TypeVar("T")

THREADS = 32
CALL_TIMEOUT_S = 120
PROBE_TIMEOUT_S = 60.0
REMOVE_TRIES = 50
REMOVE_PAUSE_S = 0.2
DEFAULT_HOST = "unix:///var/run/docker.sock"


class DockerEngine:
    """One connection to the Docker engine of this machine, for one installation of Lockgate."""

    name = "docker"

    def __init__(
        self,
        installation: str,
        *,
        image: str = images.AUTO,
        address_pool: str = "10.201.0.0/16",
        uid_base: int = 200_000,
        docker_host: str | None = None,
    ) -> None:
        self._installation = installation
        self._wanted_image = image
        self._address_pool = address_pool
        self._uid_base = uid_base
        self._host = docker_host or os.environ.get("DOCKER_HOST") or DEFAULT_HOST
        self._threads = Threads(THREADS, "docker-engine")
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._client: Any = None
        self._traits: EngineTraits
        self._image_id = ""

    def __repr__(self) -> str:
        return f"<DockerEngine {self._host} installation={self._installation}>"

    async def check(self) -> EngineFacts:
        """See `Engine.check`; the first takes away builds that a killed runner left."""
        async with self._locks[""]:
            traits = self._traits = judge_info(await self._do(lambda: self._api().info()))
            refuse_ordinary_user(os.geteuid())
            if not self._image_id:
                await self._remove_all([f"{documents.LABEL_ROLE}={documents.ROLE_BUILD}"])
            image_id = await self._ensure_image()
            python = await self._probe_python(image_id)
            self._image_id = image_id
        return EngineFacts(
            name=self.name,
            version=traits.version,
            image_id=image_id,
            python=python.version,
            python_path=python.path,
            notes=traits.notes,
        )

    def paths(
        self,
        app: str,  # noqa: ARG002
        generation: int,  # noqa: ARG002
        slot: int,
        mounts: Sequence[Mount],  # noqa: ARG002
        tmpfs: Sequence[Tmpfs],  # noqa: ARG002
    ) -> EnginePaths:
        """See `Engine.paths`."""
        agent_uid = self._uid_base + 2 * slot
        return documents.build_paths(agent_uid, agent_uid + 1)

    def locate(self, mounts: Sequence[Mount], target: str) -> str:  # noqa: ARG002
        """See `Engine.locate`: containers see what they are told to."""
        return target

    async def observe(self) -> Sequence[ObservedContainer]:
        """See `Engine.observe`."""
        return await self._do(self._observe)

    async def build(self, spec: BuildSpec, on_line: LineSink) -> int:
        """See `Engine.build`; cancelled or late, the container is killed and removed."""
        async with self._locks[spec.app]:
            ground = await self._prepare_ground(spec.app, spec.slot)
        document = documents.build_build_container(spec, ground)
        return await self._run(spec.app, document, on_line, spec.timeout_s)

    async def start(self, spec: ContainerSpec) -> ObservedContainer:
        """See `Engine.start`; an exited container of the same generation makes way."""
        name = documents.build_container_name(spec.app, spec.generation, self._installation)
        async with self._locks[spec.app]:
            await self._do(lambda: self._make_way(name))
            try:
                ground = await self._prepare_ground(spec.app, spec.slot)
                document = documents.build_app_container(spec, ground)
                return await self._do(lambda: self._launch(document, name))
            except BaseException:
                await self._do(lambda: self._remove(name))
                await self._do(lambda: self._remove_network(spec.app, only_unused=True))
                raise

    async def stop(self, app: str, generation: int, grace_s: float) -> None:
        """See `Engine.stop`; the grace is rounded up to whole seconds."""
        name = documents.build_container_name(app, generation, self._installation)
        grace = math.ceil(max(grace_s, 0.0))

        def stop() -> None:
            with contextlib.suppress(docker.errors.NotFound):
                self._api().stop(name, timeout=grace)
            self._remove(name)

        await self._do(stop)

    async def remove_app(self, app: str) -> None:
        """See `Engine.remove_app`."""
        async with self._locks[app]:
            await self._remove_all([f"{documents.LABEL_APP}={app}"])
            await self._do(lambda: self._remove_network(app))

    async def close(self) -> None:
        """See `Engine.close`."""
        client, self._client = self._client, None
        if client is not None:
            await self._do(client.close)
        self._threads.close()

    async def _do(self, call: Callable[[], T]) -> T:
        return await self._threads.do(lambda: self._translated(call))

    def _translated(self, call: Callable[[], T]) -> T:
        try:
            return call()
        except docker.errors.APIError as error:
            reason = str(error.explanation or error).strip().replace("\n", " ")
            raise EngineError(f"Docker: {reason}") from None
        except (docker.errors.DockerException, requests.exceptions.RequestException) as error:
            raise EngineError(self._describe_unreachable(error)) from None

    def _api(self) -> Any:  # the SDK's own annotations cover only a part of it
        if self._client is None:
            parse_socket(self._host)
            self._client = docker.APIClient(self._host, version="auto", timeout=CALL_TIMEOUT_S)
        return self._client

    def _describe_unreachable(self, error: BaseException) -> str:
        socket = parse_socket(self._host)
        try:
            group = grp.getgrgid(os.stat(socket).st_gid).gr_name
        except (OSError, KeyError):
            group = "docker"
        try:
            user = getpass.getuser()
        except (OSError, KeyError):
            user = f"uid {os.getuid()}"
        return describe_unreachable(socket, find_os_error(error), group, user)

    async def _ensure_image(self) -> str:
        present = parse_tags(await self._do(lambda: self._api().images()))
        failures = []
        for step in images.plan_image(self._wanted_image, present, detect_suite()):
            try:
                return await self._obtain(step)
            except EngineError as error:
                failures.append(str(error))
        raise EngineError(images.describe_failure(self._wanted_image, failures))

    async def _obtain(self, step: images.ImageStep) -> str:
        if step.way is images.Way.make:
            async with open_rootfs(step.source) as tar:
                await self._do(lambda: self._import(tar, step.tag))
        else:
            await self._do(lambda: self._take(step))
        return await self._do(lambda: str(self._api().inspect_image(step.tag)["Id"]))

    def _take(self, step: images.ImageStep) -> None:
        """Pull if the step says so, then call the image by the step's tag."""
        if step.way is images.Way.pull:
            self._pull(step.source)
        if step.source != step.tag:
            repository, _, tag = step.tag.partition(":")
            self._api().tag(step.source, repository, tag, force=True)

    def _pull(self, name: str) -> None:
        """Bounded: each word of progress within seconds, the whole within minutes."""
        api = docker.APIClient(self._host, version="auto", timeout=images.PULL_WORD_TIMEOUT_S)
        ends = time.monotonic() + images.PULL_DEADLINE_S
        try:
            for event in api.pull(name, stream=True, decode=True):
                if "error" in event:
                    raise EngineError(f"pull {name}: {event['error']}")
                if time.monotonic() > ends:
                    raise EngineError(f"pull {name}: not done in {images.PULL_DEADLINE_S:g} s")
        except requests.exceptions.RequestException:
            raise EngineError(f"pull {name}: the registry does not answer") from None
        except docker.errors.APIError as error:
            raise EngineError(f"pull {name}: {error.explanation}") from None
        finally:
            api.close()

    def _import(self, tar: Path, tag: str) -> None:
        repository, _, version = tag.partition(":")
        self._api().import_image_from_file(str(tar), repository=repository, tag=version)

    async def _probe_python(self, image_id: str) -> images.ImagePython:
        lines: list[str] = []
        ground = documents.Ground(image_id, self._installation, None)
        document = documents.build_probe_container(images.PROBE_ARGV, ground)
        try:
            await self._run("probe", document, lines.append, PROBE_TIMEOUT_S)
        except EngineError as error:
            lines = [str(error)]
        return images.parse_python("\n".join(lines), self._wanted_image)

    async def _prepare_ground(self, app: str, slot: int) -> documents.Ground:
        if not self._image_id:
            await self.check()
        subnet = documents.pick_subnet(self._address_pool, slot)
        network = await self._do(lambda: self._ensure_network(app, subnet))
        options, remaps = self._traits.security_options, self._traits.remaps_users
        return documents.Ground(self._image_id, self._installation, network, options, remaps)

    def _ensure_network(self, app: str, subnet: str) -> str:
        """The app's bridge. One in another subnet is made anew unless containers are on it."""
        name = documents.build_network_name(app, self._installation)
        known = parse_subnets(self._api().networks())
        if known.get(name) == subnet:
            return name
        if name in known and self._api().inspect_network(name)["Containers"]:
            return name
        if name in known:
            self._api().remove_network(name)
        try:
            self._api().create_network(**documents.build_network(app, subnet, self._installation))
        except docker.errors.APIError as error:
            raise EngineError(
                f"network {subnet} for app {app}: {error.explanation}; set"
                " runner.engine.address_pool to a range that no other network on this machine uses"
            ) from None
        return name

    def _remove_network(self, app: str, *, only_unused: bool = False) -> None:
        name = documents.build_network_name(app, self._installation)
        with contextlib.suppress(docker.errors.NotFound):
            if only_unused and self._api().inspect_network(name)["Containers"]:
                return
            self._api().remove_network(name)

    def _observe(self) -> list[ObservedContainer]:
        found = []
        for listed in self._list([f"{documents.LABEL_ROLE}={documents.ROLE_APP}"]):
            with contextlib.suppress(docker.errors.NotFound):
                found.append(parse_observed(self._api().inspect_container(listed)))
        return found

    def _list(self, labels: Iterable[str]) -> list[str]:
        ours = f"{documents.LABEL_INSTALLATION}={self._installation}"
        filters = {"label": [ours, *labels]}
        return [str(c["Id"]) for c in self._api().containers(all=True, filters=filters)]

    async def _remove_all(self, labels: Sequence[str]) -> None:
        for identifier in await self._do(lambda: self._list(labels)):
            await self._do(partial(self._remove, identifier))

    def _make_way(self, name: str) -> None:
        with contextlib.suppress(docker.errors.NotFound):
            observed = parse_observed(self._api().inspect_container(name))
            if observed.state is ContainerState.running:
                raise EngineError(f"container {name} is running already")
            self._remove(name)

    def _launch(self, document: documents.Document, name: str) -> ObservedContainer:
        self._api().create_container_from_config(document, name)
        self._api().start(name)
        return parse_observed(self._api().inspect_container(name))

    def _remove(self, name: str) -> None:
        """Kill and remove, and wait until it is gone even if someone else removes it."""
        for _ in range(REMOVE_TRIES):
            try:
                self._api().remove_container(name, force=True, v=True)
            except docker.errors.NotFound:
                return
            except docker.errors.APIError as error:
                if "already in progress" not in str(error.explanation):
                    raise
            time.sleep(REMOVE_PAUSE_S)
        raise EngineError(f"container {name} could not be removed")

    async def _run(
        self, app: str, document: documents.Document, on_line: LineSink, timeout_s: float
    ) -> int:
        """Run a container to its end with its output attached, and remove it in any case."""
        name = f"lockgate-{app}-run-{secrets.token_hex(4)}.{self._installation[:6]}"
        loop = asyncio.get_running_loop()

        def emit(line: str) -> None:
            loop.call_soon_threadsafe(on_line, line)

        following: asyncio.Future[int] | None = None
        try:
            stream = await self._do(lambda: self._attach(document, name))
            following = self._threads.begin(
                lambda: self._translated(lambda: self._follow(name, stream, emit))
            )
            done, _ = await asyncio.wait({following}, timeout=timeout_s)
            if done:
                return following.result()
            on_line(f"not done after {timeout_s:g} s: stopped")
            return TIMED_OUT
        finally:
            await self._do(lambda: self._remove(name))
            if following is not None:
                await asyncio.wait({following})
                following.exception()

    def _attach(self, document: documents.Document, name: str) -> Any:
        """Create, attach, start: in this order no output is lost without an engine log."""
        self._api().create_container_from_config(document, name)
        stream = self._api().attach(name, stdout=True, stderr=True, stream=True)
        self._api().start(name)
        return stream

    def _follow(self, name: str, stream: Iterable[bytes], emit: LineSink) -> int:
        splitter = LineSplitter()
        for chunk in stream:
            for line in splitter.feed(chunk):
                emit(line)
        for line in splitter.flush():
            emit(line)
        code = int(self._api().wait(name, timeout=None)["StatusCode"])
        if self._api().inspect_container(name)["State"].get("OOMKilled"):
            emit("killed: out of memory")
        return code
