"""Who may get a leaf: apps, their generations and their hosts, as the runner registered them.

Invariants: a name gets in only by `register`; a host belongs to one app; the file is replaced as a
whole before a change is visible in memory.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from pki.errors import KeystoreError, NameTakenError, UnknownNameError
from pki.identity import check_generation, check_hosts, parse_app_name
from pki.keystore import read_private, write_private

RESERVED = 0
"""In place of a generation: hosts that an app holds before, and whether or not, it runs. No leaf of
an app is ever issued for it."""

Apps = dict[str, dict[int, tuple[str, ...]]]
_APPS = TypeAdapter(Apps)


class Registry:
    """Apps by name, each with its generations and their hosts."""

    def __init__(self, path: Path, trust_domain: str) -> None:
        """Load the file, or begin empty; raises `KeystoreError`."""
        self._path = path
        self._trust_domain = trust_domain
        self._apps = _load(path)
        self._owners = _index(self._apps)

    def __repr__(self) -> str:
        return f"<Registry {self._path}: {len(self._apps)} apps>"

    @property
    def apps(self) -> Mapping[str, Mapping[int, tuple[str, ...]]]:
        """Every registration."""
        return self._apps

    def check(self, app: str, generation: int, hosts: Sequence[str]) -> tuple[str, ...] | None:
        """The hosts to register, None if they are already; raises what `register` would.

        `IdentityError` for a name outside its grammar, `NameTakenError` for another app's host.
        """
        parse_app_name(app)
        if generation != RESERVED:
            check_generation(generation)
        checked = check_hosts(hosts, self._trust_domain)
        for host in checked:
            owner = self.find_owner(host)
            if owner not in (None, app):
                raise NameTakenError(f"the host {host} belongs to the app {owner}")
        return None if self._apps.get(app, {}).get(generation) == checked else checked

    def register(self, app: str, generation: int, hosts: Sequence[str]) -> None:
        """Add or replace one generation's hosts; raises as `check`, and OSError."""
        checked = self.check(app, generation, hosts)
        if checked is not None:
            self._save({**self._apps, app: {**self._apps.get(app, {}), generation: checked}})

    def forget(self, app: str, generation: int | None) -> tuple[str, ...]:
        """Drop one generation or all, if there; returns the hosts that nobody has now."""
        before = self._list_hosts(app)
        kept = {
            number: hosts
            for number, hosts in self._apps.get(app, {}).items()
            if generation is not None and number != generation
        }
        apps = {name: generations for name, generations in self._apps.items() if name != app}
        if kept:
            apps[app] = kept
        if apps != self._apps:
            self._save(apps)
        return tuple(sorted(before - self._list_hosts(app)))

    def require_generation(self, app: str, generation: int) -> None:
        """Raises `UnknownNameError` unless it is registered."""
        if generation not in self._apps.get(app, {}):
            raise UnknownNameError(f"generation {generation} of the app {app!a} is not registered")

    def require_host(self, host: str) -> None:
        """Raises `UnknownNameError` unless some generation is registered with exactly this host."""
        if self.find_owner(host) is None:
            raise UnknownNameError(f"the host {host[:253]!a} is not registered")

    def find_owner(self, host: str) -> str | None:
        """The app that holds the host."""
        return self._owners.get(host)

    def _list_hosts(self, app: str) -> set[str]:
        return {host for hosts in self._apps.get(app, {}).values() for host in hosts}

    def _save(self, apps: Apps) -> None:
        content = {"v": 1, "apps": apps}
        write_private(self._path, json.dumps(content, indent=1, sort_keys=True).encode() + b"\n")
        self._apps, self._owners = apps, _index(apps)


def _index(apps: Apps) -> dict[str, str]:
    return {
        host: app
        for app, generations in apps.items()
        for hosts in generations.values()
        for host in hosts
    }


def _load(path: Path) -> Apps:
    if not path.exists():
        return {}
    try:
        content = json.loads(read_private(path))
        if content["v"] != 1:
            raise KeystoreError(f"{path} is of version {content['v']}, not 1")
        return _APPS.validate_python(content["apps"])
    except (ValueError, KeyError, TypeError, ValidationError):
        raise KeystoreError(f"{path} is not a registry") from None
