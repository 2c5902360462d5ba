"""`lockgate doctor`: what this host can do, what is given up, what is amiss, and the remedy.

Invariants: changes nothing; a check that itself fails is a finding, not an error.
"""

from collections.abc import Awaitable, Callable, Sequence

from gateway import GatewayError
from pki import PkiError
from runner.errors import RunnerError
from runner.events import Check
from runner.parts import Parts
from runner.ram import has_swap

_FOREIGN = (RunnerError, GatewayError, PkiError, OSError)


async def examine(parts: Parts) -> Sequence[Check]:
    """Every check, in the order in which one would mend them."""
    examiners: Sequence[tuple[str, Callable[[Parts], Awaitable[Check]]]] = (
        ("engine", _examine_engine),
        ("volumes", _examine_volumes),
        ("swap", _examine_swap),
        ("master key", _examine_key),
        ("records", _examine_records),
        ("pki", _examine_pki),
        ("gateway", _examine_gateway),
    )
    checks = []
    for name, examiner in examiners:
        try:
            checks.append(await examiner(parts))
        except _FOREIGN as error:
            checks.append(Check(name, False, str(error)))
    return checks


async def _examine_engine(parts: Parts) -> Check:
    containers = await parts.engine.observe()
    facts = parts.facts
    detail = f"{facts.name} {facts.version}, {len(containers)} containers"
    if facts.gives_up:
        remedy = "install a Docker engine for apps that you do not trust"
        return Check("engine", False, f"{detail}; gives up: {facts.gives_up}", remedy)
    return Check("engine", True, detail)


async def _examine_volumes(parts: Parts) -> Check:
    driver = parts.driver
    detail = "; ".join((f"driver {driver.name}", *driver.notes))
    if not driver.is_encrypted:
        remedy = "write runner.volumes.encryption: auto and deploy the apps again"
        return Check("volumes", False, f"{detail}: apps' files are in the clear", remedy)
    return Check("volumes", True, detail)


async def _examine_swap(_: Parts) -> Check:
    if has_swap():
        return Check(
            "swap",
            False,
            "this host swaps: memory of other processes may reach the disk",
            "swapoff -a, or put swap on an encrypted device",
        )
    return Check("swap", True, "none")


async def _examine_key(parts: Parts) -> Check:
    path = parts.config.master_key_path
    if path.is_relative_to(parts.config.state_dir):
        return Check(
            "master key",
            True,
            f"{path}, on the same disk as what it seals: whoever takes the disk has both"
            " (`runner.seal.key_file` can name a file on another medium)",
        )
    return Check("master key", True, str(path))


async def _examine_records(parts: Parts) -> Check:
    listing = parts.store.list()
    if listing.damaged:
        reasons = "; ".join(item.reason for item in listing.damaged)
        return Check("records", False, reasons, "restore the file, or move it away")
    return Check("records", True, f"{len(listing.apps)} apps")


async def _examine_pki(parts: Parts) -> Check:
    await parts.pki.fetch_status()
    return Check("pki", True, "answers")


async def _examine_gateway(parts: Parts) -> Check:
    status = await parts.gateway.fetch_status()
    detail = f"pid {status.pid}, {', '.join(status.https)}, table {status.table_version}"
    return Check("gateway", status.table_version == parts.table_version, detail)
