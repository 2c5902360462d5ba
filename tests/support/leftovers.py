"""What an installation has on this machine outside its directory: the things that must vanish.

Invariants: looks only; finds what belongs to one root and nothing of other installations.
"""

import ipaddress
import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

SETTLE_S = 15


def find_leftovers(root: Path, address_pool: str) -> list[str]:
    """Mounts, loop devices, processes, containers and networks of the installation at `root`."""
    return [
        *find_mounts(root),
        *find_loops(root),
        *find_processes(root),
        *find_containers(root),
        *find_networks(address_pool),
    ]


def wait_for_nothing(root: Path, address_pool: str) -> list[str]:
    """The leftovers once they are gone, or what is left after a while."""
    deadline = time.monotonic() + SETTLE_S
    while (found := find_leftovers(root, address_pool)) and time.monotonic() < deadline:
        time.sleep(0.3)
    return found


def find_mounts(root: Path) -> list[str]:
    """Mount points below `root`, in this process's mount namespace."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    points = [line.split()[4] for line in lines]
    return [f"mount {point}" for point in points if point.startswith(f"{root}/")]


def find_loops(root: Path) -> list[str]:
    """Loop devices whose image lies below `root`, deleted or not."""
    loops = Path("/sys/block").glob("loop*/loop/backing_file")
    found = [(loop.parts[3], read_text(loop).strip()) for loop in loops]
    return [f"loop {name} of {image}" for name, image in found if image.startswith(f"{root}/")]


def find_processes(root: Path) -> list[str]:
    """Processes that name `root` in their command line or live in it."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        if int(process.name) == os.getpid():
            continue
        command = read_text(process / "cmdline").replace("\0", " ").strip()
        if f"{root}/" in command or read_link(process / "cwd").startswith(f"{root}/"):
            found.append(f"process {process.name}: {command[:200]}")
    return found


def find_containers(root: Path) -> list[str]:
    """Containers, running or not, with a mount of `root`."""
    return [
        f"container {entry['Name']}"
        for entry in inspect_containers()
        if any(mount.get("Source", "").startswith(f"{root}/") for mount in entry["Mounts"])
    ]


def inspect_containers() -> list[dict[str, Any]]:
    """Every container that carries our label."""
    ids = run_docker("ps", "--all", "--quiet", "--filter", "label=lockgate.installation").split()
    found = []
    for container in ids:  # one by one: any of them may vanish meanwhile
        found += json.loads(run_docker("inspect", container) or "[]")
    return found


def find_networks(address_pool: str) -> list[str]:
    """Engine networks with a subnet of the pool."""
    pool = ipaddress.ip_network(address_pool)
    found = []
    for name in run_docker("network", "ls", "--quiet").split():
        for network in json.loads(run_docker("network", "inspect", name) or "[]"):
            for block in network["IPAM"]["Config"] or []:
                subnet = ipaddress.ip_network(block.get("Subnet", "::/128"))
                if subnet.version == 4 and subnet.overlaps(pool):
                    found.append(f"network {network['Name']}")
    return found


def run_docker(*words: str) -> str:
    """Output of a docker command; nothing where there is no docker or it failed."""
    if not shutil.which("docker"):
        return ""
    done = subprocess.run(("docker", *words), capture_output=True, text=True)
    return done.stdout if done.returncode == 0 else ""


def read_text(path: Path) -> str:
    """A small file, or nothing when it vanished or is not ours to read."""
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def read_link(path: Path) -> str:
    """Where a link points, or nothing."""
    try:
        return os.readlink(path)
    except OSError:
        return ""
