"""What volumes in the clear must hold."""

from pathlib import Path

from runner.volumes.plain import PlainDriver

from .conftest import KEY, SIZE


async def test_it_says_what_it_is(place: Path) -> None:
    """The driver says that nothing is encrypted, by name, by flag and in its first note."""
    driver = PlainDriver(place / "volumes")
    assert driver.name == "none"
    assert not driver.is_encrypted
    assert "NOT encrypted" in driver.notes[0]


async def test_files_are_in_the_clear(place: Path) -> None:
    """What is written is on the disk as it is: the scan that proves the others can fail."""
    where = await PlainDriver(place / "volumes").open("a" * 32, KEY, SIZE, place / "run")
    (where / "file").write_bytes(b"canary")
    found = [path for path in (place / "volumes").rglob("file") if b"canary" in path.read_bytes()]
    assert len(found) == 1
