"""From the records of all apps to the one route table that the gateway serves.

Invariants: pure; an app whose published generation has no known address still has its hosts in the
table, with the state and reason that its visitors are told.
"""

from collections.abc import Mapping, Sequence

from gateway import RouteEntry, TableDocument, UpstreamEntry
from pki import build_app_dns_name, build_app_id, parse_size
from runner.store import AppRecord

REASON_LIMIT_CHARS = 512
Addresses = Mapping[tuple[str, int], str]


def build_upstream_name(app: str, number: int) -> str:
    """`hello/3`."""
    return f"{app}/{number}"


def build_upstream(app: str, number: int, address: str, trust_domain: str) -> UpstreamEntry:
    """A generation as the gateway dials and identifies it."""
    return UpstreamEntry(
        name=build_upstream_name(app, number),
        app=app,
        address=address,
        server_name=build_app_dns_name(app, trust_domain),
        spiffe_id=str(build_app_id(trust_domain, app, number)),
    )


def build_table(
    version: int, records: Sequence[AppRecord], addresses: Addresses, trust_domain: str
) -> TableDocument:
    """The table of every app that was ever deployed; `addresses` is keyed by (app, generation)."""
    routes, upstreams = [], []
    for record in records:
        hosts = tuple(record.spec.get("hosts", ()))
        if not hosts:
            continue
        published = next((g for g in record.generations if g.state == "published"), None)
        address = addresses.get((record.name, published.number)) if published else None
        upstream = None
        if published is not None and address is not None:
            entry = build_upstream(record.name, published.number, address, trust_domain)
            upstreams.append(entry)
            upstream = entry.name
        routes.append(
            RouteEntry(
                hosts=hosts,
                app=record.name,
                upstream=upstream,
                state=record.state,
                reason=record.reason[:REASON_LIMIT_CHARS],
                max_body_bytes=parse_size(limit)
                if (limit := record.spec.get("max_upload"))
                else None,
            )
        )
    return TableDocument(version=version, routes=tuple(routes), upstreams=tuple(upstreams))


def find_host_owner(
    records: Sequence[AppRecord], name: str, hosts: Sequence[str]
) -> tuple[str, str] | None:
    """(host, app) of the first of `hosts` that another app has, or None."""
    for record in records:
        if record.name != name:
            for host in record.spec.get("hosts", ()):
                if host in hosts:
                    return host, record.name
    return None
