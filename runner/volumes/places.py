"""Where each driver keeps a volume, so that no driver makes a second volume beside another's.

Invariants: one volume id has a place of one driver only; deleting a volume deletes every place.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path

from runner.durable import sync_directory
from runner.volumes import VolumeError

PATTERNS = {"fscrypt": "{}.img", "gocryptfs": "{}.gocryptfs", "none": "plain/{}-*"}


def refuse_foreign(directory: Path, volume_id: str, driver: str) -> None:
    """Raises `VolumeError` if another driver made this volume."""
    for other, path in _find(directory, volume_id):
        if other != driver:
            raise VolumeError(
                f"{path}: made by the driver {other!r}, but {driver!r} is in use now; set"
                " runner.volumes.encryption back, or remove the app and deploy it again"
            )


def delete_places(directory: Path, volume_id: str) -> None:
    """Delete what any driver keeps of this volume; nothing there is no error."""
    for _, path in list(_find(directory, volume_id)):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    sync_directory(directory)


def _find(directory: Path, volume_id: str) -> Iterator[tuple[str, Path]]:
    for driver, pattern in PATTERNS.items():
        for path in directory.glob(pattern.format(volume_id)):
            yield driver, path
