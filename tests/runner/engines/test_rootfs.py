"""The tar of the base image, made by the real bootstrap program."""

import os
import shutil
import tarfile

import pytest

from runner.engines import EngineError
from runner.engines.rootfs import detect_suite, open_rootfs

needs_bootstrap = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("mmdebstrap") is None, reason="needs root and mmdebstrap"
)


@needs_bootstrap
async def test_tar_has_python_and_goes_away():
    """The tar holds a Python and no manual pages, and is deleted when it was used."""
    async with open_rootfs(detect_suite()) as tar:
        with tarfile.open(tar) as archive:
            names = archive.getnames()
        assert any(name.endswith("bin/python3") for name in names)
        assert not any("/share/man/man1/" in name for name in names)
    assert not tar.parent.exists()


@needs_bootstrap
async def test_unknown_suite_is_told(tmp_path):
    """A suite that does not exist is one line, and no file stays behind."""
    with pytest.raises(EngineError, match="mmdebstrap no-such-suite"):
        async with open_rootfs("no-such-suite", tmp_path):
            pass
    assert list(tmp_path.iterdir()) == []


async def test_no_bootstrap_program(monkeypatch):
    """Without the program its package is named."""
    monkeypatch.setattr("shutil.which", lambda *args, **kwargs: None)
    with pytest.raises(EngineError, match="apt-get install mmdebstrap"):
        async with open_rootfs("bookworm"):
            pass
