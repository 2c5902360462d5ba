from runner.doctor import examine
from tests.support.assembly import Assembly


async def test_every_finding_that_is_amiss_says_what_to_do(assembly: Assembly) -> None:
    """A cross without a remedy helps nobody, unless another process is to blame."""
    checks = await examine(assembly.parts)
    amiss = {check.name: check for check in checks if not check.is_ok}
    assert "volumes" in amiss
    assert all(check.remedy for check in amiss.values())


async def test_a_damaged_record_is_found_by_its_path(assembly: Assembly) -> None:
    """It hides no other record."""
    path = assembly.parts.config.state_dir / "apps" / "broken.json"
    path.write_text("{")
    checks = {check.name: check for check in await examine(assembly.parts)}
    assert not checks["records"].is_ok
    assert str(path) in checks["records"].detail


async def test_a_master_key_beside_what_it_seals_is_named(assembly: Assembly) -> None:
    """The default is no failure, but nobody shall believe that it guards a stolen disk."""
    checks = {check.name: check for check in await examine(assembly.parts)}
    assert checks["master key"].is_ok
    assert "same disk" in checks["master key"].detail
