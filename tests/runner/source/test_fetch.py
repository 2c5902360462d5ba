"""Fetching code with the real git: a folder, a real HTTPS server with a token, a real sshd."""

import os
import pwd
import shutil
import socket
import stat
import subprocess
import threading
import time
from pathlib import Path

import pytest

from runner.source import fetch as module
from runner.source.fetch import Credentials, SourceError, fetch, resolve_commit
from runner.source.git import parse_address
from runner.spec.model import Source
from tests.support.git_servers import open_https, open_ssh
from tests.support.passable import open_passable_folder
from tests.support.repos import make_repo

NOTHING = Credentials()
IS_ROOT = os.geteuid() == 0
UID = 234567 if IS_ROOT else None
TOKEN = "ghp_canary0123456789"


@pytest.fixture
def tmp_path():
    """One that the users under whom git runs can pass through."""
    with open_passable_folder() as folder:
        yield folder


@pytest.fixture
def repo(tmp_path):
    """A repository with two commits on main, a branch, tags and a subfolder."""
    made = make_repo(tmp_path / "origin")
    made.commit({"app.py": "print(1)\n", "apps/two/app.py": "print(2)\n"}, "One")
    made.git("tag", "--annotate", "--message", "v1", "v1")
    made.commit({"app.py": "print(3)\n"}, "Two")
    made.git("branch", "dev/x")
    return made


@pytest.fixture
def place(tmp_path):
    """A generation's directory on a volume."""
    generation = tmp_path / "generation"
    generation.mkdir()
    if UID is not None:
        os.chown(generation, UID, UID)
    return generation


@pytest.fixture
def ram(tmp_path):
    """Stands for the RAM directory."""
    folder = tmp_path / "ram"
    folder.mkdir(mode=0o711)
    return folder


@pytest.fixture(scope="module")
def https():
    """An HTTPS git server that wants a token; the machine trusts its certificate."""
    with open_passable_folder() as folder, open_https(folder, TOKEN) as server:
        yield server


@pytest.fixture(scope="module")
def ssh():
    """An sshd with one deploy key that may only read."""
    if not Path("/usr/sbin/sshd").exists() or not IS_ROOT:
        pytest.skip("needs sshd and root to start it")
    with open_passable_folder() as folder, open_ssh(folder) as server:
        yield server


def has_name() -> bool:
    """Whether we have an entry in the list of users."""
    try:
        return bool(pwd.getpwuid(os.getuid()))
    except KeyError:
        return False


def list_files(place: Path) -> list[str]:
    """Every file below a directory."""
    return sorted(str(path.relative_to(place)) for path in place.rglob("*") if path.is_file())


async def fetch_all(source: Source, place: Path, ram: Path, credentials=NOTHING):
    """Resolve and fetch, as a deploy does."""
    commit = await resolve_commit(source, credentials, ram_dir=ram, uid=UID)
    done = await fetch(source, commit, place / "code", credentials, ram_dir=ram, uid=UID)
    assert list(ram.iterdir()) == [], "something of a fetch is left in RAM"
    return done


async def test_local_folder(repo, place, ram):
    """A folder's HEAD is fetched with its time, without a repository, owned by the app."""
    done = await fetch_all(Source(repo=str(repo.path)), place, ram)
    assert done.commit == repo.git("rev-parse", "HEAD").strip()
    assert abs(done.committed_s - time.time()) < 600
    assert list_files(place) == ["code/app.py", "code/apps/two/app.py"]
    assert (place / "code/app.py").read_text() == "print(3)\n"
    assert (place / "code/app.py").stat().st_uid == (UID or os.getuid())


@pytest.mark.parametrize(
    ("ref", "content"),
    [("main", "3"), ("dev/x", "3"), ("v1", "1"), ("refs/tags/v1", "1"), ("HEAD", "3")],
)
async def test_refs(repo, place, ram, ref, content):
    """Branches, annotated tags and full names are found."""
    await fetch_all(Source(repo=str(repo.path), ref=ref), place, ram)
    assert (place / "code/app.py").read_text() == f"print({content})\n"


async def test_old_commit(repo, place, ram):
    """A commit that no ref names is fetched by its number."""
    number = repo.git("rev-parse", "HEAD~1").strip()
    done = await fetch_all(Source(repo=f"file://{repo.path}", ref=number), place, ram)
    assert done.commit == number
    assert (place / "code/app.py").read_text() == "print(1)\n"


async def test_pushed_meanwhile(repo, place, ram):
    """The commit that was planned is fetched even if the branch has moved on since."""
    source = Source(repo=str(repo.path), ref="main")
    commit = await resolve_commit(source, NOTHING)
    repo.git("commit", "--quiet", "--amend", "--message", "other")
    repo.git("reflog", "expire", "--expire=now", "--all")
    repo.commit({"app.py": "print(4)\n"})
    await fetch(source, commit, place / "code", NOTHING, ram_dir=ram, uid=UID)
    assert (place / "code/app.py").read_text() == "print(3)\n"


async def test_bare_repository_with_an_odd_name(repo, tmp_path, place, ram):
    """A bare repository serves too, whatever characters its path has."""
    bare = tmp_path / 'a "b" %20 é.git'
    repo.git("clone", "--quiet", "--bare", str(repo.path), str(bare))
    source = Source.model_construct(
        repo=str(bare), ref="main", subdirectory=".", token=None, deploy_key=None, host_key=None
    )
    await fetch_all(source, place, ram)
    assert (place / "code/app.py").exists()


@pytest.mark.skipif(not IS_ROOT, reason="needs root to give a repository away")
async def test_repository_of_another_user(repo, place, ram):
    """A repository that belongs to another user is read all the same."""
    subprocess.run(("chown", "-R", "12345", repo.path), check=True)
    await fetch_all(Source(repo=str(repo.path)), place, ram)
    assert (place / "code/app.py").exists()


async def test_subdirectory(repo, place, ram):
    """Only the named folder is fetched, and becomes the code."""
    await fetch_all(Source(repo=str(repo.path), subdirectory="apps/two"), place, ram)
    assert list_files(place) == ["code/app.py"]


@pytest.mark.parametrize("subdirectory", ["no/such", "app.py"])
async def test_missing_subdirectory(repo, place, ram, subdirectory):
    """A subdirectory that is no folder is told, and nothing is left."""
    with pytest.raises(SourceError, match=f"source.subdirectory {subdirectory} is not a folder"):
        await fetch_all(Source(repo=str(repo.path), subdirectory=subdirectory), place, ram)
    assert list(place.iterdir()) == []


@pytest.mark.parametrize("target", ["/etc/passwd", "../../x", "inner", "good"])
async def test_links(repo, place, ram, target):
    """A link inside the code stays; one that leads out of it is refused by name."""
    (repo.path / "apps/inner").symlink_to("../../../outside")
    (repo.path / "good").symlink_to("apps/two/app.py")
    (repo.path / "link").symlink_to(target if target != "inner" else "apps/inner")
    if target != "inner":
        (repo.path / "apps/inner").unlink()
    repo.commit({})
    source = Source(repo=str(repo.path))
    if target == "good":
        await fetch_all(source, place, ram)
        assert (place / "code/link").resolve() == place / "code/apps/two/app.py"
        return
    with pytest.raises(SourceError, match=r"the link \S+ points out of the code"):
        await fetch_all(source, place, ram)
    assert list(place.iterdir()) == []


@pytest.mark.parametrize(
    ("repo_path", "ref", "words"),
    [
        ("/no/such/folder", "main", "there is no repository at /no/such/folder: no such folder"),
        ("{tmp}", "main", "there is no repository at"),
        ("{origin}", "nope", "ref not found: .* has no branch or tag nope"),
        ("{origin}", "a" * 40, f"ref not found: .* has no commit {'a' * 40}"),
    ],
)
async def test_what_is_not_there(repo, tmp_path, place, ram, repo_path, ref, words):
    """A missing folder, repository, ref or commit is one line."""
    path = repo_path.format(tmp=tmp_path, origin=repo.path)
    with pytest.raises(SourceError, match=words) as caught:
        await fetch_all(Source(repo=path, ref=ref), place, ram)
    assert "\n" not in str(caught.value)
    assert list(place.iterdir()) == []


async def test_empty_repository(tmp_path, ram):
    """A repository without a commit is told as such."""
    made = make_repo(tmp_path / "empty")
    with pytest.raises(SourceError, match="is empty: push a commit first"):
        await resolve_commit(Source(repo=str(made.path)), NOTHING, ram_dir=ram)


async def test_branch_and_tag_of_one_name(repo, ram):
    """A name that means two things is refused with both full names."""
    repo.git("tag", "main")
    with pytest.raises(SourceError, match="write refs/heads/main or refs/tags/main"):
        await resolve_commit(Source(repo=str(repo.path), ref="main"), NOTHING, ram_dir=ram)


async def test_machine_settings_and_hooks_take_no_part(repo, place, ram, monkeypatch, tmp_path):
    """A user's git settings (here: a filter and an alias of the URL) and hooks change nothing."""
    home = tmp_path / "home"
    home.mkdir()
    (home / ".gitconfig").write_text(
        f'[url "/no/such/"]\n\tinsteadOf = file://{repo.path}\n[core]\n\tautocrlf = true\n'
    )
    hook = repo.path / ".git/hooks/post-checkout"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\ntouch {tmp_path}/hooked\n")
    hook.chmod(0o755)
    monkeypatch.setenv("HOME", str(home))
    await fetch_all(Source(repo=str(repo.path)), place, ram)
    assert (place / "code/app.py").read_bytes() == b"print(3)\n"
    assert not (tmp_path / "hooked").exists()


async def test_https_with_token(https, place, ram):
    """A private repository is fetched over HTTPS with its token, as the app's uid."""
    source = Source(repo=https.url, ref="main", token="GIT_TOKEN")
    done = await fetch_all(source, place, ram, Credentials(token=TOKEN))
    assert done.commit == https.commit
    assert (place / "code/app.py").read_text() == "print('private')\n"
    assert (place / "code/app.py").stat().st_uid == (UID or os.getuid())


async def test_token_is_in_no_argument_and_no_file(https, place, ram, monkeypatch):
    """While git runs, the token is in no command line and in no file of ours."""
    seen: list[tuple[str, ...]] = []
    files: list[bytes] = []
    really = module.host.run

    async def watch(argv, **options):
        seen.append(tuple(argv))
        done = await really(argv, **options)
        files.extend(p.read_bytes() for p in (*place.rglob("*"), *ram.rglob("*")) if p.is_file())
        return done

    monkeypatch.setattr(module.host, "run", watch)
    await fetch_all(Source(repo=https.url, ref="main"), place, ram, Credentials(token=TOKEN))
    assert seen
    assert files
    assert not [argv for argv in seen if TOKEN in " ".join(argv)]
    assert not [text for text in files if TOKEN.encode() in text]
    assert TOKEN not in repr(Credentials(token=TOKEN))


@pytest.mark.parametrize(
    ("token", "words"),
    [
        ("wrong", "authentication failed: 127.0.0.1 refuses the token"),
        (None, "authentication failed: https://.* wants a login; name a secret in `token`"),
    ],
)
async def test_https_with_wrong_token(https, place, ram, token, words):
    """A wrong and a missing token are told apart."""
    with pytest.raises(SourceError, match=words):
        await fetch_all(Source(repo=https.url), place, ram, Credentials(token=token))


async def test_https_elsewhere(https, place, ram):
    """Another path of the server is no repository; a redirect is not followed with a token."""
    credentials = Credentials(token=TOKEN)
    base = https.url.rpartition("/")[0]
    with pytest.raises(SourceError, match="there is no repository at"):
        await fetch_all(Source(repo=f"{base}/nothing.git"), place, ram, credentials)
    with pytest.raises(SourceError, match="redirects: write its final address"):
        await fetch_all(Source(repo=f"{base}/moved.git"), place, ram, credentials)


async def test_https_that_is_not_trusted(https, place, ram, monkeypatch):
    """A server whose certificate nobody vouches for gets no token."""
    monkeypatch.setenv("GIT_SSL_CAINFO", "/etc/ssl/certs/ca-certificates.crt")
    with pytest.raises(SourceError, match="its TLS certificate is not trusted here"):
        await fetch_all(Source(repo=https.url), place, ram, Credentials(token=TOKEN))


@pytest.mark.parametrize("kind", ["https", "ssh"])
async def test_nobody_listens(place, ram, kind, request):
    """A port that nobody listens on is an unreachable repository."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    if kind == "ssh" and not has_name():
        pytest.skip("ssh wants a user with a name")
    address = f"{kind}://127.0.0.1:{port}/x.git"
    key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA" if kind == "ssh" else None
    credentials = Credentials(deploy_key="x") if kind == "ssh" else NOTHING
    with pytest.raises(SourceError, match=f"{address} is unreachable: .* refuses the connection"):
        await fetch_all(Source(repo=address, host_key=key), place, ram, credentials)


async def test_no_such_host(place, ram):
    """A host name that does not exist is told as such."""
    with pytest.raises(SourceError, match=r"is unreachable: there is no host x\.invalid"):
        await fetch_all(Source(repo="https://x.invalid/y.git"), place, ram)


async def test_ssh_with_deploy_key(ssh, place, ram):
    """A private repository is fetched over SSH with its deploy key and the pinned host key."""
    source = Source(repo=ssh.url, ref="main", deploy_key="KEY", host_key=ssh.host_key)
    done = await fetch_all(source, place, ram, Credentials(deploy_key=ssh.deploy_key))
    assert done.commit == ssh.commit
    assert (place / "code/app.py").read_text() == "print('private')\n"
    assert (place / "code/app.py").stat().st_uid == UID


async def test_ssh_key_with_windows_line_ends(ssh, ram):
    """A deploy key pasted with carriage returns and no last line feed is understood."""
    pasted = ssh.deploy_key.replace("\n", "\r\n").strip()
    source = Source(repo=ssh.url, ref="main", host_key=ssh.host_key)
    assert await resolve_commit(source, Credentials(deploy_key=pasted), ram_dir=ram, uid=UID)


async def test_wrong_deploy_key(ssh, place, ram):
    """A key that the server does not know, and one that is no key, are told."""
    source = Source(repo=ssh.url, host_key=ssh.host_key)
    with pytest.raises(SourceError, match=r"wrong deploy key: 127\.0\.0\.1 refuses it; add its"):
        await fetch_all(source, place, ram, Credentials(deploy_key=ssh.other_key))
    with pytest.raises(SourceError, match="wrong deploy key: it is not a private key"):
        await fetch_all(source, place, ram, Credentials(deploy_key="nonsense"))


async def test_changed_host_key(ssh, place, ram):
    """Another host key than the pinned one stops everything and shows both fingerprints."""
    source = Source(repo=ssh.url, host_key=ssh.other_host_key)
    with pytest.raises(SourceError, match="host key changed") as caught:
        await fetch_all(source, place, ram, Credentials(deploy_key=ssh.deploy_key))
    assert ssh.fingerprint in str(caught.value)
    assert ssh.other_fingerprint in str(caught.value)
    assert "write the new key in `host_key`" in str(caught.value)


async def test_host_key_of_another_type(ssh, ram):
    """A server that has no key of the pinned type is a changed host key as well."""
    key = "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTY="
    source = Source(repo=ssh.url, host_key=key)
    with pytest.raises(SourceError, match=r"host key changed: .* keys of other types, ssh-ed25519"):
        await resolve_commit(source, Credentials(deploy_key=ssh.deploy_key), ram_dir=ram, uid=UID)


async def test_ssh_without_deploy_key(ssh, ram):
    """Without a deploy key the key to name it is told."""
    source = Source(repo=ssh.url, host_key=ssh.host_key)
    with pytest.raises(SourceError, match="name a secret in `deploy_key`"):
        await resolve_commit(source, NOTHING, ram_dir=ram, uid=UID)


async def test_key_files_are_closed_to_others(ssh, ram, monkeypatch):
    """While ssh runs, the key lies in a folder of RAM that only its user can look into."""
    modes: list[tuple[int, int, int]] = []
    really = module.host.run

    async def watch(argv, **options):
        for key in ram.rglob("key"):
            folder, file = key.parent.stat(), key.stat()
            modes.append((stat.S_IMODE(folder.st_mode), stat.S_IMODE(file.st_mode), file.st_uid))
        return await really(argv, **options)

    monkeypatch.setattr(module.host, "run", watch)
    source = Source(repo=ssh.url, ref="main", host_key=ssh.host_key)
    await resolve_commit(source, Credentials(deploy_key=ssh.deploy_key), ram_dir=ram, uid=UID)
    assert modes == [(0o700, 0o600, pwd.getpwnam("nobody").pw_uid)]


async def test_git_is_missing(repo, ram, monkeypatch):
    """Without git its package is named."""
    monkeypatch.setattr(shutil, "which", lambda *args, **kwargs: None)
    with pytest.raises(module.RunnerError, match="apt-get install git"):
        await resolve_commit(Source(repo=str(repo.path)), NOTHING, ram_dir=ram)


@pytest.mark.skipif(not IS_ROOT, reason="only root can be another user")
@pytest.mark.parametrize("kind", ["https", "ssh"])
def test_no_server_is_asked_as_root(kind):
    """Not before an app's first deploy either, when there is no uid of its own yet."""
    address = parse_address(f"{kind}://git@git.example/x.git", kind)
    assert module._pick_uid(address, None) == pwd.getpwnam("nobody").pw_uid


async def test_what_a_refused_repository_left_is_deleted_off_the_loop(
    repo, place, ram, monkeypatch
):
    """A stranger's tree of a million files must not keep all other apps' operations waiting."""
    (repo.path / "evil").symlink_to("/etc/passwd")
    repo.git("add", "evil")
    commit = repo.commit({}, "Link")
    rmtree, threads = shutil.rmtree, []

    def note(path, **kwargs):
        threads.append(threading.current_thread())
        rmtree(path, **kwargs)

    monkeypatch.setattr(module.shutil, "rmtree", note)
    with pytest.raises(SourceError, match="points out of the code"):
        await fetch(Source(repo=str(repo.path)), commit, place / "code", NOTHING, ram_dir=ram)
    assert threads
    assert threading.main_thread() not in threads
    assert list(place.iterdir()) == []
