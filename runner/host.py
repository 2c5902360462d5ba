"""Programs of the host: an argument list in, an exit code and bounded output out.

Invariants: the only caller of `subprocess` in the runner; never a shell; a program that was run
does not outlive its deadline or the caller's cancellation, nor do the processes left in its group;
what is written to a program's stdin never touches a disk; an error is one line for an operator.
"""

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from runner.errors import RunnerError

LineSink = Callable[[str], None]

OUTPUT_LIMIT_BYTES = 4 * 1024 * 1024
LINE_LIMIT_BYTES = 16 * 1024
REASON_LIMIT_CHARS = 400
PIPE_GRACE_S = 1.0
REAP_GRACE_S = 5.0
SYSTEM_FOLDERS = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

DEBIAN_PACKAGES = {
    "bwrap": "bubblewrap",
    "cryptsetup": "cryptsetup-bin",
    "dockerd": "docker.io",
    "e2fsck": "e2fsprogs",
    "fusermount3": "fuse3",
    "git": "git",
    "gocryptfs": "gocryptfs",
    "ip": "iproute2",
    "losetup": "mount",
    "mkfs.ext4": "e2fsprogs",
    "mmdebstrap": "mmdebstrap",
    "mount": "mount",
    "nft": "nftables",
    "resize2fs": "e2fsprogs",
    "runsc": "runsc",
    "setpriv": "util-linux",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
    "ssh-keyscan": "openssh-client",
    "systemd-run": "systemd",
    "tar": "tar",
    "umount": "mount",
    "unshare": "util-linux",
    "xz": "xz-utils",
    "zstd": "zstd",
}


class HostError(RunnerError):
    """A program could not be run or did not do what was asked; the text is one line."""


class HostDeadlineError(HostError):
    """A program was still at work at its deadline and was killed, with its group."""


@dataclass(frozen=True, slots=True)
class Completed:
    """What a program left: `code` is negative for the signal that ended it.

    Of each stream the last `OUTPUT_LIMIT_BYTES` are kept; `is_truncated` tells of a cut.
    """

    code: int
    stdout: bytes
    stderr: bytes
    is_truncated: bool = False

    def build_reason(self) -> str:
        """The last non-empty line it wrote (stderr first), or its exit code: one bounded line."""
        for stream in (self.stderr, self.stdout):
            lines = [line.strip() for line in stream.decode(errors="replace").splitlines()]
            if said := [line for line in lines if line]:
                return said[-1][:REASON_LIMIT_CHARS]
        return describe_code(self.code)


class Child:
    """A started program that its owner waits for or terminates; signals go to its whole group."""

    def __init__(self, process: subprocess.Popen[bytes], name: str, leads_group: bool) -> None:
        self._process = process
        self._leads_group = leads_group
        self._exit: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._pidfd = os.pidfd_open(process.pid)
        asyncio.get_running_loop().add_reader(self._pidfd, self._reap)
        self.name = name

    def __repr__(self) -> str:
        state = f"exited {self._exit.result()}" if self._exit.done() else "running"
        return f"<Child {self.name} pid={self.pid} {state}>"

    @property
    def pid(self) -> int:
        """The process id, valid until `wait` has returned."""
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether its exit has not been seen yet."""
        return not self._exit.done()

    async def wait(self) -> int:
        """Its exit code, negative for a signal; may be awaited by several, and again."""
        return await asyncio.shield(self._exit)

    async def wait_with(self, others: Iterable[asyncio.Future[None]]) -> int:
        """Like `wait`, but an error in one of `others` ends it first."""
        pending: set[asyncio.Future[int] | asyncio.Future[None]] = {self._exit, *others}
        while self.is_running:
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            for future in done:
                future.result()
        return self._exit.result()

    async def terminate(self, grace_s: float) -> int:
        """SIGTERM, up to `grace_s` seconds, then SIGKILL to the group; return the exit code."""
        if self.is_running:
            self.send(signal.SIGTERM)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(grace_s):
                    await self.wait()
        self.kill()
        return await self.wait()

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the program, and to its group if it leads one; gone is no error."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if self._leads_group:
                os.killpg(self.pid, number)
            elif self.is_running:
                os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL to the program and to what it left in its group."""
        self.send(signal.SIGKILL)

    def _reap(self) -> None:
        code = self._process.poll()
        if code is None:
            return
        asyncio.get_running_loop().remove_reader(self._pidfd)
        os.close(self._pidfd)
        if not self._exit.done():
            self._exit.set_result(code)


class _Stream(asyncio.Protocol):
    """Collects one output pipe: a bounded tail, and each line to the sink."""

    def __init__(self, on_line: LineSink | None) -> None:
        self.kept = bytearray()
        self.is_truncated = False
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._on_line = on_line
        self._line = bytearray()

    def data_received(self, data: bytes) -> None:
        self.kept += data
        if len(self.kept) > OUTPUT_LIMIT_BYTES:
            del self.kept[: len(self.kept) - OUTPUT_LIMIT_BYTES]
            self.is_truncated = True
        if self._on_line is not None:
            self._pass_lines(data)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._pass_lines(b"\n")
        if not self.closed.done():
            self.closed.set_result(None)

    def _pass_lines(self, data: bytes) -> None:
        self._line += data.replace(b"\r", b"\n")
        while self._line:
            cut = self._line.find(b"\n")
            if cut < 0 and len(self._line) < LINE_LIMIT_BYTES:
                return
            cut = min(cut if cut >= 0 else LINE_LIMIT_BYTES, LINE_LIMIT_BYTES)
            line = bytes(self._line[:cut])
            del self._line[: cut + (self._line[cut : cut + 1] == b"\n")]
            self._pass_line(line)

    def _pass_line(self, line: bytes) -> None:
        if self._on_line is None or not line or self.closed.done():
            return
        try:
            self._on_line(line.decode(errors="replace"))
        except Exception as error:  # the caller's sink failed: its error ends the run
            self.closed.set_exception(error)


async def run(
    argv: Sequence[str],
    *,
    deadline_s: float,
    env: Mapping[str, str] | None = None,
    cwd: Path | str | None = None,
    uid: int | None = None,
    gid: int | None = None,
    stdin: bytes | None = None,
    on_line: LineSink | None = None,
    pass_fds: Sequence[int] = (),
) -> Completed:
    """Run a program to its end and return what it left, whatever its exit code.

    `env` replaces the environment (None inherits it); `uid`/`gid` need root and drop every other
    group; `on_line` gets each line of either stream as it comes. Raises `HostError` if it cannot be
    started, `HostDeadlineError` after `deadline_s` seconds.
    """
    launch = _Launch(argv, env, cwd, uid, gid, pass_fds)
    streams = (_Stream(on_line), _Stream(on_line))
    closed = [stream.closed for stream in streams]
    child, transports = await _start_piped(launch, streams, stdin)
    try:
        async with asyncio.timeout(deadline_s) as limit:
            code = await child.wait_with(closed)
            await asyncio.wait(closed, timeout=PIPE_GRACE_S)
    except TimeoutError:
        if not limit.expired():
            raise
        raise HostDeadlineError(f"{child.name}: not done after {deadline_s:g} s") from None
    finally:
        await _finish(child, transports)
    for future in closed:
        if future.done():
            future.result()
    out, err = (bytes(stream.kept) for stream in streams)
    return Completed(code, out, err, any(stream.is_truncated for stream in streams))


async def run_checked(
    argv: Sequence[str],
    *,
    deadline_s: float,
    env: Mapping[str, str] | None = None,
    stdin: bytes | None = None,
) -> Completed:
    """Like `run`, but an exit code other than 0 is a `HostError` with the program's last line."""
    done = await run(argv, deadline_s=deadline_s, env=env, stdin=stdin)
    if done.code != 0:
        raise HostError(f"{Path(argv[0]).name}: {done.build_reason()}")
    return done


async def spawn(
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | str | None = None,
    uid: int | None = None,
    gid: int | None = None,
    stdout: Path | int | None = None,
    pass_fds: Sequence[int] = (),
    new_session: bool = True,
) -> Child:
    """Start a long-lived program and return at once; it lives on if its owner dies.

    `stdout` takes both output streams: a file to append to (made 0600), a file descriptor, or None
    to inherit ours. Without `new_session` it stays in our group and terminal, and signals reach it
    alone. Raises `HostError` if it cannot be started.
    """
    launch = _Launch(argv, env, cwd, uid, gid, pass_fds)
    if not isinstance(stdout, Path):
        process = launch.open(subprocess.DEVNULL, stdout, stdout, new_session=new_session)
        return Child(process, launch.name, leads_group=new_session)
    try:
        opened = os.open(stdout, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise HostError(f"{stdout}: {_say(error)}") from None
    try:
        process = launch.open(subprocess.DEVNULL, opened, opened, new_session=new_session)
    finally:
        os.close(opened)
    return Child(process, launch.name, leads_group=new_session)


def find_program(name: str, path: str | None = None) -> str:
    """Absolute path of a program, also looked for in the system folders; raises `HostError`."""
    folders = os.pathsep.join(filter(None, (path or os.environ.get("PATH"), SYSTEM_FOLDERS)))
    found = shutil.which(name, path=folders)
    if found is not None:
        return found
    package = DEBIAN_PACKAGES.get(name)
    remedy = f" (Debian: apt-get install {package})" if package else ""
    raise HostError(f"{name} is not installed{remedy}")


def describe_code(code: int) -> str:
    """An exit code in words: `exit code 3`, `killed by SIGKILL`."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"


async def _start_piped(
    launch: "_Launch", streams: tuple[_Stream, _Stream], stdin: bytes | None
) -> tuple[Child, list[asyncio.BaseTransport]]:
    loop = asyncio.get_running_loop()
    source = subprocess.DEVNULL if stdin is None else _open_memory(stdin)
    try:
        process = launch.open(source, subprocess.PIPE, subprocess.PIPE, new_session=True)
    finally:
        if stdin is not None:
            os.close(source)
    child = Child(process, launch.name, leads_group=True)
    transports: list[asyncio.BaseTransport] = []
    try:
        for stream, pipe in zip(streams, (process.stdout, process.stderr), strict=True):
            transport, _ = await loop.connect_read_pipe(partial(_same, stream), pipe)
            transports.append(transport)
    except BaseException:
        await _finish(child, transports)
        raise
    return child, transports


def _same(stream: _Stream) -> _Stream:
    return stream


async def _finish(child: Child, transports: Sequence[asyncio.BaseTransport]) -> None:
    """Kill what is left of the group, close our ends, and reap."""
    child.kill()
    for transport in transports:
        transport.close()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(REAP_GRACE_S):
            await child.wait()


@dataclass(frozen=True, slots=True)
class _Launch:
    """What to start and as whom; dropping to a uid drops every supplementary group with it."""

    argv: Sequence[str]
    env: Mapping[str, str] | None
    cwd: Path | str | None
    uid: int | None
    gid: int | None
    pass_fds: Sequence[int]

    @property
    def name(self) -> str:
        return Path(self.argv[0]).name

    def open(
        self, stdin: int, stdout: int | None, stderr: int | None, *, new_session: bool
    ) -> subprocess.Popen[bytes]:
        path = find_program(self.argv[0], None if self.env is None else self.env.get("PATH"))
        if self.cwd is not None and not Path(self.cwd).is_dir():
            raise HostError(f"{self.name}: working directory {self.cwd} does not exist")
        drops = self.uid is not None or self.gid is not None
        try:
            return subprocess.Popen(
                [path, *self.argv[1:]],
                env=None if self.env is None else {"PATH": SYSTEM_FOLDERS, **self.env},
                cwd=self.cwd,
                user=self.uid,
                group=self.gid if self.gid is not None else self.uid,
                extra_groups=() if drops else None,
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                pass_fds=self.pass_fds,
                start_new_session=new_session,
            )
        except OSError as error:
            raise HostError(f"cannot run {self.name}: {_say(error)}") from None


def _open_memory(content: bytes) -> int:
    """A descriptor that reads `content` from RAM: no writer to await, no pipe to break."""
    descriptor = os.memfd_create("stdin", os.MFD_CLOEXEC)
    try:
        view = memoryview(content)
        while view:
            view = view[os.write(descriptor, view) :]
        os.lseek(descriptor, 0, os.SEEK_SET)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _say(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
