"""The engine's own view of an app's container.

Invariants: looks only; the container is found by label and by the installation's directory.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.leftovers import inspect_containers, run_docker


@dataclass(frozen=True, slots=True)
class Container:
    """What `docker inspect` says of one container."""

    facts: dict[str, Any]

    @property
    def id(self) -> str:
        """The long id."""
        return str(self.facts["Id"])

    @property
    def pid(self) -> int:
        """The agent's pid on the host."""
        return int(self.facts["State"]["Pid"])

    @property
    def host_config(self) -> dict[str, Any]:
        """Limits, mounts, capabilities."""
        return dict(self.facts["HostConfig"])

    @property
    def network(self) -> dict[str, Any]:
        """The one network it is in."""
        (network,) = self.facts["NetworkSettings"]["Networks"].values()
        return dict(network)

    @property
    def address(self) -> str:
        """What the gateway dials."""
        return str(self.network["IPAddress"])

    @property
    def bridge(self) -> str:
        """The host's interface of that network."""
        return f"br-{self.network['NetworkID'][:12]}"


def find_containers_of(root: Path, app: str) -> list[Container]:
    """The app's containers of the installation at `root`, newest first."""
    found = [
        Container(facts)
        for facts in inspect_containers()
        if facts["Config"]["Labels"].get("lockgate.app") == app
        and any(mount.get("Source", "").startswith(f"{root}/") for mount in facts["Mounts"])
    ]
    return sorted(found, key=lambda container: str(container.facts["Created"]), reverse=True)


def find_container(root: Path, app: str) -> Container:
    """The app's one container."""
    (container,) = find_containers_of(root, app)
    return container


def read_data_root() -> Path:
    """Where the engine keeps its files."""
    return Path(json.loads(run_docker("info", "--format", "{{json .DockerRootDir}}")))
