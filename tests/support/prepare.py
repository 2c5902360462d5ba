"""What must stand before the tests can run: programs, a Docker engine, the base image.

Invariants: standard library only; stops what it started and nothing else; installs nothing unless
it is root on a Debian; an engine of its own keeps its files in `.test/`, never in the shared root.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).parents[2]
ENGINE_START_S = 60

# command -> Debian package that has it
PROGRAMS = {
    "git": "git",
    "docker": "docker.io",
    "dockerd": "docker.io",
    "iptables": "iptables",
    "ip": "iproute2",
    "bwrap": "bubblewrap",
    "mmdebstrap": "mmdebstrap",
    "chromium": "chromium",
    "certutil": "libnss3-tools",
    "tcpdump": "tcpdump",
    "nginx": "nginx-light",
    "sshd": "openssh-server",
    "ssh-keygen": "openssh-client",
    "gocryptfs": "gocryptfs",
    "fusermount3": "fuse3",
    "mkfs.ext4": "e2fsprogs",
    "wrk": "wrk",
}
# A server that is installed as a mere program must not be started by its package.
POLICY = Path("/usr/sbin/policy-rc.d")


def find_missing() -> dict[str, str]:
    """Commands that are not on this machine, with the Debian package of each."""
    path = os.environ.get("PATH", os.defpath) + ":/usr/local/sbin:/usr/sbin:/sbin"
    return {name: deb for name, deb in PROGRAMS.items() if not shutil.which(name, path=path)}


def fail(message: str) -> NoReturn:
    """One line, exit 1."""
    sys.exit(f"make test: {message}")


def install_missing() -> None:
    """As root on Debian, install what is missing; elsewhere say what it is and fail."""
    missing = find_missing()
    if not missing:
        return
    packages = sorted(set(missing.values()))
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        fail(
            f"missing: {', '.join(sorted(missing))} (Debian: apt-get install {' '.join(packages)})"
        )
    print("installing:", *packages, flush=True)
    with no_service_starts():
        apt("update")
        apt("install", "--yes", "--no-install-recommends", *packages)
    if still := find_missing():
        fail(f"still missing after the installation: {', '.join(sorted(still))}")


def apt(*argv: str) -> None:
    """Run apt-get without questions; its output is shown only when it fails."""
    env = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    command = ("apt-get", "-q", *argv)
    done = subprocess.run(
        command, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    if done.returncode:
        fail(f"{' '.join(command)} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")


@contextmanager
def no_service_starts() -> Iterator[None]:
    """While packages are installed, their servers stay stopped."""
    is_ours = not POLICY.exists()
    if is_ours:
        POLICY.write_text("#!/bin/sh\nexit 101\n")
        POLICY.chmod(0o755)
    try:
        yield
    finally:
        if is_ours:
            POLICY.unlink(missing_ok=True)


def is_engine_up(env: dict[str, str]) -> bool:
    """Whether `docker info` reaches an engine."""
    command = ("docker", "info", "--format", "{{.ServerVersion}}")
    done = subprocess.run(command, env=env, capture_output=True, stdin=subprocess.DEVNULL)
    return done.returncode == 0


@contextmanager
def docker_engine() -> Iterator[dict[str, str]]:
    """An environment in which `docker` reaches an engine: the running one, else one of our own."""
    env = dict(os.environ)
    if is_engine_up(env):
        yield env
        return
    if os.geteuid() != 0:
        fail("no Docker engine can be reached (start one, or join the group docker)")
    run_dir = Path(tempfile.mkdtemp(prefix="lockgate-engine-", dir="/run"))
    env["DOCKER_HOST"] = f"unix://{run_dir}/docker.sock"
    engine = start_engine(run_dir, env)
    try:
        yield env
    finally:
        stop_engine(engine)
        shutil.rmtree(run_dir, ignore_errors=True)


def start_engine(run_dir: Path, env: dict[str, str]) -> subprocess.Popen[bytes]:
    """Start dockerd with a data root in the checkout; its log goes to `.test/dockerd.log`."""
    data_root = ROOT / ".test" / "engine"
    data_root.mkdir(parents=True, exist_ok=True)
    log_path = ROOT / ".test" / "dockerd.log"
    argv = (
        *("dockerd", "--host", env["DOCKER_HOST"], "--data-root", str(data_root)),
        *("--exec-root", str(run_dir / "exec"), "--pidfile", str(run_dir / "pid")),
    )
    print("starting a Docker engine", flush=True)
    with log_path.open("wb") as log:
        engine = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    deadline = time.monotonic() + ENGINE_START_S
    while not is_engine_up(env):
        if engine.poll() is not None or time.monotonic() > deadline:
            stop_engine(engine)
            fail(f"dockerd does not start:\n{log_path.read_text()[-2000:]}")
        time.sleep(0.3)
    return engine


def stop_engine(engine: subprocess.Popen[bytes]) -> None:
    """SIGTERM, then SIGKILL; containers of the engine end with it."""
    engine.terminate()
    try:
        engine.wait(30)
    except subprocess.TimeoutExpired:
        engine.kill()
        engine.wait()


def make_base_image(env: dict[str, str]) -> None:
    """Once, so that tests that run side by side find it."""
    argv = (sys.executable, "-m", "tests.support.base_image")
    if subprocess.run(argv, cwd=ROOT, env=env, stdin=subprocess.DEVNULL).returncode:
        fail("the base image cannot be made: its reason is above")


def run_tests(arguments: Sequence[str], env: dict[str, str]) -> int:
    """pytest over everything: unit tests beside one serial group of host-wide tests."""
    argv = (
        *(sys.executable, "-m", "pytest", "-n", "auto", "--dist", "loadgroup"),
        *("-r", "fEsxX", "--durations", "15", *arguments),
    )
    return subprocess.run(argv, cwd=ROOT, env=env, stdin=subprocess.DEVNULL).returncode


def run_bench(arguments: Sequence[str], env: dict[str, str]) -> int:
    """The tables."""
    argv = (sys.executable, "-m", "tests.bench", *arguments)
    return subprocess.run(argv, cwd=ROOT, env=env, stdin=subprocess.DEVNULL).returncode


def main(argv: Sequence[str]) -> int:
    """Prepare, run, take down; the exit code is that of what ran."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    split = argv.index("--") if "--" in argv else len(argv)
    flags, rest = argv[:split], argv[split + 1 :]
    install_missing()
    with docker_engine() as env:
        make_base_image(env)
        return (run_bench if "--bench" in flags else run_tests)(rest, env)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
