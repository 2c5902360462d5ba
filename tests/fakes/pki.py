"""An honest PKI without keys: it issues only for what was registered, and forgets when told."""

from datetime import UTC, datetime, timedelta

from pki import IssuedLeaf, PkiError


class FakePki:
    """`now` is its clock; leaves live for 24 hours."""

    def __init__(self, now: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> None:
        self.now = now
        self.registered: dict[tuple[str, int], tuple[str, ...]] = {}
        self.issued: list[tuple[str, int]] = []

    async def register_app(self, app: str, generation: int, hosts: list[str]) -> None:
        self.registered[(app, generation)] = tuple(hosts)

    async def forget_app(self, app: str, generation: int | None = None) -> list[str]:
        gone = [key for key in self.registered if key[0] == app and generation in (None, key[1])]
        for key in gone:
            del self.registered[key]
        return [f"{len(self.issued)}" for _ in gone]

    async def issue_app(self, app: str, generation: int, csr_pem: bytes) -> IssuedLeaf:
        if (app, generation) not in self.registered or generation == 0:
            raise PkiError(f"{app}/{generation} is not registered", reason="unknown_app")
        self.issued.append((app, generation))
        return IssuedLeaf(
            chain_pem=b"chain",
            serial=str(len(self.issued)),
            not_before=self.now,
            not_after=self.now + timedelta(hours=24),
        )

    def has_host(self, host: str) -> bool:
        return any(host in hosts for hosts in self.registered.values())

    async def fetch_bundle(self) -> bytes:
        return b"roots"

    async def fetch_status(self) -> dict[str, object]:
        return {}

    async def close(self) -> None:
        pass
