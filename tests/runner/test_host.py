"""What running a program of the host must hold."""

import asyncio
import os
import signal
import time
from pathlib import Path

import pytest

from runner import host


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


async def _gone(pid: int) -> bool:
    for _ in range(100):
        if not _alive(pid):
            return True
        await asyncio.sleep(0.02)
    return False


async def test_returns_code_and_both_streams() -> None:
    """A non-zero exit is a result, not an error, with both streams kept apart."""
    done = await host.run(["sh", "-c", "echo out; echo err >&2; exit 3"], deadline_s=10)
    assert (done.code, done.stdout, done.stderr) == (3, b"out\n", b"err\n")
    assert done.build_reason() == "err"


async def test_arguments_are_never_a_shell_line() -> None:
    """Shell metacharacters in an argument arrive as they are."""
    done = await host.run(["printf", "%s", "$(id); `id` && x"], deadline_s=10)
    assert done.stdout == b"$(id); `id` && x"


async def test_stdin_arrives_whole_and_absent_stdin_is_empty() -> None:
    """More than a pipe's buffer of stdin arrives; without stdin the program reads nothing."""
    content = os.urandom(1_000_000)
    assert (await host.run(["cat"], deadline_s=10, stdin=content)).stdout == content
    assert (await host.run(["cat"], deadline_s=10)).stdout == b""


async def test_missing_program_names_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that is not there is one line with the package to install."""
    monkeypatch.setitem(host.DEBIAN_PACKAGES, "no-such-program", "some-package")
    with pytest.raises(
        host.HostError,
        match=r"^no-such-program is not installed \(Debian: apt-get install some-package\)$",
    ):
        await host.run(["no-such-program"], deadline_s=1)


async def test_missing_working_directory_is_told_apart(tmp_path: Path) -> None:
    """A missing working directory is not mistaken for a missing program."""
    with pytest.raises(host.HostError, match=r"working directory .*/nowhere does not exist"):
        await host.run(["true"], deadline_s=1, cwd=tmp_path / "nowhere")


async def test_unrunnable_file_is_a_host_error(tmp_path: Path) -> None:
    """A file the kernel cannot execute is a HostError in one line."""
    broken = tmp_path / "broken"
    broken.write_bytes(b"\x7fELF junk")
    broken.chmod(0o755)
    with pytest.raises(host.HostError, match="cannot run broken: exec format error"):
        await host.run([str(broken)], deadline_s=1)


async def test_deadline_kills_the_whole_group(tmp_path: Path) -> None:
    """At the deadline a grandchild that ignores SIGTERM is dead as well."""
    note = tmp_path / "pid"
    script = f"(trap '' TERM; echo $BASHPID > {note}; exec sleep 60) & wait"
    start = time.monotonic()
    with pytest.raises(host.HostDeadlineError, match=r"bash: not done after 0.5 s"):
        await host.run(["bash", "-c", script], deadline_s=0.5)
    assert time.monotonic() - start < 5
    assert await _gone(int(note.read_text()))


async def test_cancellation_kills_the_whole_group(tmp_path: Path) -> None:
    """A cancelled run leaves no process behind."""
    note = tmp_path / "pid"
    script = f"(echo $BASHPID > {note}; exec sleep 60) & wait"
    task = asyncio.ensure_future(host.run(["bash", "-c", script], deadline_s=60))
    while not (note.exists() and note.read_text().strip()):
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await _gone(int(note.read_text()))


async def test_background_remnant_does_not_hold_the_run() -> None:
    """A process left in the group that keeps the pipe open is ended soon after the program."""
    start = time.monotonic()
    done = await host.run(["sh", "-c", "sleep 60 & echo $!"], deadline_s=30)
    assert time.monotonic() - start < 10
    assert await _gone(int(done.stdout))


async def test_lines_come_as_they_are_written() -> None:
    """Each line reaches the sink before the program ends; carriage returns separate lines too."""
    seen: list[tuple[str, float]] = []
    script = "echo one; printf 'two\\rthree\\n'; sleep 0.5; printf four >&2"
    start = time.monotonic()
    await host.run(
        ["sh", "-c", script],
        deadline_s=10,
        on_line=lambda line: seen.append((line, time.monotonic() - start)),
    )
    assert [line for line, _ in seen] == ["one", "two", "three", "four"]
    assert seen[0][1] < 0.45


async def test_endless_line_is_cut_and_output_is_bounded() -> None:
    """Output without end or newline costs bounded memory and is told as truncated."""
    lengths: list[int] = []
    done = await host.run(
        ["head", "-c", str(host.OUTPUT_LIMIT_BYTES + 100_000), "/dev/zero"],
        deadline_s=20,
        on_line=lambda line: lengths.append(len(line)),
    )
    assert len(done.stdout) == host.OUTPUT_LIMIT_BYTES
    assert done.is_truncated
    assert max(lengths) <= host.LINE_LIMIT_BYTES


async def test_failing_line_sink_ends_the_run() -> None:
    """An error in the caller's sink comes back to the caller and the program is killed."""

    def refuse(line: str) -> None:
        raise ValueError(f"refused {line}")

    start = time.monotonic()
    with pytest.raises(ValueError, match="refused hello"):
        await host.run(["sh", "-c", "echo hello; sleep 60"], deadline_s=50, on_line=refuse)
    assert time.monotonic() - start < 10


async def test_signal_is_named() -> None:
    """A program ended by a signal has a negative code and a reason with the signal's name."""
    done = await host.run(["sh", "-c", "kill -9 $$"], deadline_s=10)
    assert done.code == -signal.SIGKILL
    assert done.build_reason() == "killed by SIGKILL"


async def test_checked_run_raises_the_last_line() -> None:
    """A checked run turns a bad exit into one line."""
    with pytest.raises(host.HostError, match=r"^sh: second$"):
        await host.run_checked(
            ["sh", "-c", "echo first >&2; echo second >&2; exit 1"], deadline_s=9
        )


async def test_environment_is_replaced() -> None:
    """A given environment replaces ours, with a search path so that programs still run."""
    done = await host.run(["env"], deadline_s=10, env={"A": "1"})
    assert sorted(done.stdout.decode().split()) == ["A=1", f"PATH={host.SYSTEM_FOLDERS}"]


async def test_only_named_descriptors_are_passed() -> None:
    """A program holds no descriptor of ours but those passed to it."""
    kept, given = os.pipe()
    try:
        done = await host.run(["ls", "/proc/self/fd"], deadline_s=10, pass_fds=[given])
    finally:
        os.close(kept)
        os.close(given)
    assert set(done.stdout.split()) <= {b"0", b"1", b"2", b"3", str(given).encode()}
    assert str(given).encode() in done.stdout.split()


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="changing the uid needs root")
async def test_uid_drops_groups() -> None:
    """With a uid the program has that uid and gid and none of our other groups."""
    ours = os.getgroups()
    os.setgroups([*ours, 64123])
    try:
        done = await host.run(["id"], deadline_s=10, uid=64999)
    finally:
        os.setgroups(ours)
    assert done.stdout.decode().split() == ["uid=64999", "gid=64999", "groups=64999"]


async def test_spawned_child_logs_and_terminates(tmp_path: Path) -> None:
    """A spawned program writes to its own private file and ends on SIGTERM with its group."""
    log = tmp_path / "log"
    child = await host.spawn(["sh", "-c", "echo up; sleep 60 & echo $!; wait"], stdout=log)
    while log.read_text().count("\n") < 2:
        await asyncio.sleep(0.01)
    assert log.stat().st_mode & 0o777 == 0o600
    assert child.is_running
    assert repr(child) == f"<Child sh pid={child.pid} running>"
    assert await child.terminate(grace_s=5) == -signal.SIGTERM
    assert await child.wait() == -signal.SIGTERM
    assert await _gone(int(log.read_text().split()[1]))


async def test_stubborn_child_is_killed_after_its_grace(tmp_path: Path) -> None:
    """A child that ignores SIGTERM is killed when its grace is over."""
    log = tmp_path / "log"
    child = await host.spawn(
        ["bash", "-c", "trap '' TERM; echo up; while :; do sleep 1; done"], stdout=log
    )
    while not log.read_text():
        await asyncio.sleep(0.01)
    assert await child.terminate(grace_s=0.2) == -signal.SIGKILL


async def test_many_run_at_once() -> None:
    """Fifty programs at once each get their own output."""
    done = await asyncio.gather(
        *(host.run(["sh", "-c", f"sleep 0.1; echo {n}"], deadline_s=30) for n in range(50))
    )
    assert [int(item.stdout) for item in done] == list(range(50))
