"""A temporary folder that other users can pass through, which pytest's own are not.

Invariants: gone with its context, whoever owns what is in it.
"""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def open_passable_folder() -> Iterator[Path]:
    """A short path, so that Unix sockets fit in."""
    folder = Path(tempfile.mkdtemp(prefix="lg-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
