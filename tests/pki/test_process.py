"""What the process must do to itself."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pki.errors import KeystoreError
from pki.keystore import load_or_create_master_key
from pki.process import prepare_run_dir, prepare_store, read_seal_key
from pki.sealing import derive_key

ME = os.geteuid()
only_root = pytest.mark.skipif(ME != 0, reason="only root can give things away")


def run(code: str) -> str:
    """Run code in a process of its own, since it changes the process for good."""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


READ = (
    "import ctypes, os, resource; libc = ctypes.CDLL(None);"
    "print(libc.prctl(3, 0, 0, 0, 0), resource.getrlimit(resource.RLIMIT_CORE),"
    "libc.prctl(39, 0, 0, 0, 0), os.getresuid(), os.getresgid(), os.getgroups())"
)


def test_a_hardened_process_leaves_no_core() -> None:
    """Not dumpable, no core file, no new privileges."""
    assert run(f"from pki.process import harden; harden(); {READ}").startswith("0 (0, 0) 1 ")
    assert run(READ).startswith("1 ")


@only_root
def test_nothing_of_root_is_left() -> None:
    """Every uid, gid and group is the unprivileged one, and the dumpable flag is off again."""
    begin = "import os; os.setgroups([0, 4]); from pki.process import drop_privileges"
    out = run(f"{begin}; drop_privileges(64051); {READ}")
    ids = (64051, 64051, 64051)
    assert out.strip() == f"0 (0, 0) 1 {ids} {ids} []"
    out = run(
        "from pki.process import drop_privileges; drop_privileges(64051); import os\n"
        "try:\n os.setuid(0)\nexcept PermissionError:\n print('gone')"
    )
    assert out == "gone\n"


def test_the_seal_key_comes_from_the_pipe(tmp_path: Path) -> None:
    """Exactly 32 bytes are read from the inherited descriptor, which is then closed."""
    reader, writer = os.pipe()
    os.write(writer, bytes(range(32)))
    os.close(writer)
    assert read_seal_key(reader, tmp_path / "none") == bytes(range(32))
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(reader)


@pytest.mark.parametrize("size", [0, 31, 33, 64])
def test_a_key_of_another_size_is_refused(tmp_path: Path, size: int) -> None:
    """A supervisor that wrote too little or too much is not trusted."""
    reader, writer = os.pipe()
    os.write(writer, b"x" * size)
    os.close(writer)
    with pytest.raises(KeystoreError, match="exactly 32 bytes"):
        read_seal_key(reader, tmp_path / "none")


def test_a_descriptor_that_is_not_open_is_an_error(tmp_path: Path) -> None:
    """A wrong number is one line, not a traceback."""
    with pytest.raises(KeystoreError, match="--seal-fd 987 cannot be read"):
        read_seal_key(987, tmp_path / "none")


def test_without_a_pipe_the_key_is_derived_from_the_file(tmp_path: Path) -> None:
    """The same key that a supervisor would hand over."""
    master = load_or_create_master_key(tmp_path / "master.key")
    assert read_seal_key(None, tmp_path / "master.key") == derive_key(master, "pki")


def test_without_any_key_the_error_says_what_is_missing(tmp_path: Path) -> None:
    """It names the option and the file, and makes no key."""
    path = tmp_path / "master.key"
    with pytest.raises(KeystoreError, match=f"no --seal-fd is given, and {path} cannot be opened"):
        read_seal_key(None, path)
    assert not path.exists()


def test_the_store_is_made_private(tmp_path: Path) -> None:
    """Missing directories are made; the store can be entered by its owner only."""
    prepare_store(tmp_path / "a" / "pki", ME)
    assert (tmp_path / "a" / "pki").stat().st_mode & 0o777 == 0o700
    prepare_store(tmp_path / "a" / "pki", ME)


@only_root
def test_root_makes_the_store_for_the_pkis_uid(tmp_path: Path) -> None:
    """The new directory belongs to the uid that will use it; one of another uid is refused."""
    prepare_store(tmp_path / "pki", 64051)
    status = (tmp_path / "pki").stat()
    assert (status.st_uid, status.st_gid) == (64051, 64051)
    with pytest.raises(KeystoreError, match="belongs to uid 64051, not to 7"):
        prepare_store(tmp_path / "pki", 7)


@pytest.mark.parametrize("mode", [0o750, 0o701, 0o777])
def test_an_open_store_is_refused(tmp_path: Path, mode: int) -> None:
    """A store that others can enter is not used."""
    (tmp_path / "pki").mkdir()
    (tmp_path / "pki").chmod(mode)
    with pytest.raises(KeystoreError, match=f"has mode {mode:04o}"):
        prepare_store(tmp_path / "pki", ME)


def test_a_linked_store_is_refused(tmp_path: Path) -> None:
    """A link in its place is not followed, even if it leads to a good directory."""
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "pki").symlink_to(tmp_path / "real")
    with pytest.raises(KeystoreError, match="not a directory"):
        prepare_store(tmp_path / "pki", ME)


def test_a_run_dir_that_others_can_write_is_refused(tmp_path: Path) -> None:
    """Somebody else could put his own socket in our place."""
    prepare_run_dir(tmp_path / "run")
    assert (tmp_path / "run").stat().st_mode & 0o777 == 0o755
    (tmp_path / "run").chmod(0o1777)
    with pytest.raises(KeystoreError, match="others may do too much"):
        prepare_run_dir(tmp_path / "run")


@only_root
def test_a_run_dir_of_a_stranger_is_refused(tmp_path: Path) -> None:
    """A directory that was there first, made by another user, is not used."""
    (tmp_path / "run").mkdir()
    os.chown(tmp_path / "run", 65534, -1)
    with pytest.raises(KeystoreError, match="belongs to uid 65534"):
        prepare_run_dir(tmp_path / "run")
