"""Fetches one commit of an app's repository into a directory, with git.

Invariants: the code directory holds files of the commit and no repository; git reads no settings of
the machine or of a user, runs no hook and follows no submodule; a deploy key and a pinned host key
lie in a RAM directory for the length of one git command's family and a token in its environment;
remote bytes are never parsed as root where another uid is to be had; a link never leaves the code.
"""

import contextlib
import os
import pwd
import secrets
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from runner import host
from runner.errors import RunnerError
from runner.source.git import (
    Address,
    build_env,
    build_key_file,
    build_known_hosts,
    build_settings,
    build_ssh_config,
    is_commit,
    list_patterns,
    parse_address,
    parse_refs,
)
from runner.source.reasons import NOT_OUR_REF, Asked, explain
from runner.spec.model import Source
from runner.volumes.mounts import in_thread

RAM = Path("/dev/shm")  # noqa: S108
RESOLVE_DEADLINE_S = 60.0
FETCH_DEADLINE_S = 600.0
CHECKOUT_DEADLINE_S = 300.0


class SourceError(RunnerError):
    """The commit could not be fetched; the text is one line with the remedy."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """What opens a private repository; never shown."""

    token: str | None = field(default=None, repr=False)
    deploy_key: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Fetched:
    """What was fetched: the whole commit number, and when it was committed (Unix time)."""

    commit: str
    committed_s: int


@dataclass(frozen=True, slots=True)
class _Git:
    """Git with one repository's settings, for the length of one `_open_git`."""

    folder: Path
    env: dict[str, str]
    uid: int | None
    asked: Asked

    @property
    def url(self) -> str:
        return self.asked.address.url

    async def try_run(self, *words: str, deadline_s: float) -> host.Completed:
        """Whatever its exit code; a deadline passed is a `SourceError`."""
        argv = ("git", f"--git-dir={self.folder}/git", *words)
        try:
            return await host.run(
                argv, deadline_s=deadline_s, env=self.env, cwd=self.folder, uid=self.uid
            )
        except host.HostDeadlineError:
            repo = self.asked.repo
            raise SourceError(f"{repo} is unreachable: not done in {deadline_s:g} s") from None

    async def run(self, *words: str, deadline_s: float = CHECKOUT_DEADLINE_S) -> str:
        """Its output; a failure is a `SourceError` with git's reason."""
        done = await self.try_run(*words, deadline_s=deadline_s)
        if done.code != 0:
            raise SourceError(explain(done.stderr.decode(errors="replace"), self.asked))
        return done.stdout.decode(errors="replace")


async def resolve_commit(
    source: Source, credentials: Credentials, *, ram_dir: Path = RAM, uid: int | None = None
) -> str:
    """The commit that the source's ref names now; nothing is fetched. Raises `SourceError`.

    A whole commit number stands for itself and is not looked up.
    """
    if is_commit(source.ref):
        return source.ref.lower()
    async with _open_git(source, credentials, ram_dir, ram_dir, uid) as git:
        patterns = list_patterns(source.ref)
        said = await git.run(
            "ls-remote", "--quiet", "--", git.url, *patterns, deadline_s=RESOLVE_DEADLINE_S
        )
    return _pick_commit(parse_refs(said), source)


async def fetch(
    source: Source,
    commit: str,
    into: Path,
    credentials: Credentials,
    *,
    ram_dir: Path = RAM,
    uid: int | None = None,
) -> Fetched:
    """Make `into` with the files of `commit` (below `source.subdirectory`), owned by `uid`.

    The repository lies beside `into` meanwhile, so on the same volume. Raises `SourceError` and
    leaves nothing behind then.
    """
    try:
        async with _open_git(source, credentials, into.parent, ram_dir, uid) as git:
            await git.run("init", "--quiet", "--bare", "--template=", f"{git.folder}/git")
            await _fetch_commit(git, commit, source.ref)
            committed = await git.run("show", "--no-patch", "--format=%ct", commit, "--")
            tree = git.folder / "code"
            await _check_out(git, commit, source.subdirectory, tree)
            await in_thread(_refuse_escapes, tree)
            if uid is not None:
                await in_thread(_give, tree, uid)
            tree.rename(into)
    except BaseException:
        await in_thread(shutil.rmtree, into, ignore_errors=True)
        raise
    return Fetched(commit, int(committed.strip()))


def _pick_commit(refs: dict[str, str], source: Source) -> str:
    ref = source.ref
    branch, tag = f"refs/heads/{ref}", f"refs/tags/{ref}"
    if branch in refs and tag in refs:
        raise SourceError(f"{ref} is a branch and a tag of {source.repo}: write {branch} or {tag}")
    for name in (f"{tag}^{{}}", f"{ref}^{{}}", tag, branch, ref):
        if name in refs:
            return refs[name]
    if ref == "HEAD":
        raise SourceError(f"{source.repo} is empty: push a commit first")
    raise SourceError(
        f"ref not found: {source.repo} has no branch or tag {ref}"
        " (a commit is written with all its digits)"
    )


async def _fetch_commit(git: _Git, commit: str, ref: str) -> None:
    """The commit alone if the server gives it, else its branch, else everything."""
    tries: list[tuple[str, ...]] = [("--depth=1", git.url, commit)]
    if not is_commit(ref):
        tries.append(("--depth=1", git.url, ref))
        tries.append((git.url, ref))
    tries.append((git.url, "+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"))
    for words in tries:
        argv = ("fetch", "--quiet", "--no-tags", "--no-write-fetch-head", *words)
        done = await git.try_run(*argv, deadline_s=FETCH_DEADLINE_S)
        said = done.stderr.decode(errors="replace")
        if done.code != 0 and not NOT_OUR_REF.search(said):
            raise SourceError(explain(said, git.asked))
        kind = await git.try_run("cat-file", "-e", f"{commit}^{{commit}}", deadline_s=60)
        if kind.code == 0:
            return
    raise SourceError(f"ref not found: {git.asked.repo} has no commit {commit}")


async def _check_out(git: _Git, commit: str, subdirectory: str, tree: Path) -> None:
    """Files of the commit without a repository: an index of our own, no filters, no hooks."""
    treeish = commit if subdirectory == "." else f"{commit}:{subdirectory}"
    kind = await git.try_run("cat-file", "-t", treeish, deadline_s=60)
    if kind.code != 0 or kind.stdout.strip() not in {b"tree", b"commit"}:
        raise SourceError(
            f"source.subdirectory {subdirectory} is not a folder in commit {commit[:12]}"
            f" of {git.asked.repo}"
        )
    _make_tree(tree, git.uid)
    await git.run("read-tree", treeish)
    await git.run(f"--work-tree={tree}", "checkout-index", "--all", "--force")


def _make_tree(tree: Path, uid: int | None) -> None:
    tree.mkdir(mode=0o755)
    if uid is not None:
        os.chown(tree, uid, uid)


def _refuse_escapes(tree: Path) -> None:
    """No link may point out of the code: not by an absolute path and not by `..`."""
    root = os.path.realpath(tree)
    for folder, folders, files in os.walk(tree):
        for name in (*folders, *files):
            path = os.path.join(folder, name)
            if not os.path.islink(path):
                continue
            target = os.path.normpath(os.path.join(folder, os.readlink(path)))
            real = os.path.realpath(path)
            if not all(place == root or place.startswith(f"{root}/") for place in (target, real)):
                shown = os.path.relpath(path, tree)
                raise SourceError(
                    f"the link {shown} points out of the code, to {os.readlink(path)}: remove it"
                )


def _give(tree: Path, uid: int) -> None:
    """Everything below `tree`, and itself, to `uid`; links are not followed."""
    os.lchown(tree, uid, uid)
    for folder, folders, files in os.walk(tree):
        for name in (*folders, *files):
            os.lchown(os.path.join(folder, name), uid, uid)


@asynccontextmanager
async def _open_git(
    source: Source, credentials: Credentials, place: Path, ram_dir: Path, uid: int | None
) -> AsyncIterator[_Git]:
    """A folder in `place` for git to work in and one in RAM for ssh, both gone afterwards."""
    address = parse_address(source.repo, source.kind)
    asked = Asked(source.repo, address, source.host_key, credentials.token is not None)
    _refuse_missing(address)
    runs_as = _pick_uid(address, uid)
    async with contextlib.AsyncExitStack() as stack:
        folder = await stack.enter_async_context(_open_folder(place, runs_as))
        ssh = await stack.enter_async_context(_open_folder(ram_dir, runs_as))
        if address.kind == "ssh":
            _write_ssh(ssh, address, credentials.deploy_key, source.host_key, runs_as)
        settings = folder / "settings"
        settings.write_text(build_settings(address.kind, address.host, has_token=asked.has_token))
        settings.chmod(0o644)
        env = build_env(
            str(settings), str(folder), os.environ, credentials.token, str(ssh / "config")
        )
        yield _Git(folder, env, runs_as, asked)


def _refuse_missing(address: Address) -> None:
    if address.kind == "local" and not Path(address.host).is_dir():
        raise SourceError(f"there is no repository at {address.host}: no such folder")


def _pick_uid(address: Address, uid: int | None) -> int | None:
    """Whom git runs as: the app's uid for https; for ssh, which wants a known user, nobody.

    So too before there is an app. A folder of this machine is the operator's and may be closed to
    others: read as ourselves.
    """
    if os.geteuid() != 0 or address.kind == "local":
        return None
    if address.kind == "https" and uid is not None:
        return uid
    try:
        return pwd.getpwnam("nobody").pw_uid
    except KeyError:
        return None


@asynccontextmanager
async def _open_folder(place: Path, uid: int | None) -> AsyncIterator[Path]:
    """A new folder that only `uid` (or we) can look into."""
    folder = place / f".git-{secrets.token_hex(8)}"
    try:
        folder.mkdir(mode=0o700)
    except OSError as error:
        raise SourceError(f"cannot fetch into {place}: {error.strerror}") from None
    try:
        if uid is not None:
            os.chown(folder, uid, uid)
        yield folder
    finally:
        # In a thread: a stranger's tree may have a million files.
        await in_thread(shutil.rmtree, folder, ignore_errors=True)


def _write_ssh(
    folder: Path, address: Address, deploy_key: str | None, host_key: str | None, uid: int | None
) -> None:
    if not deploy_key or not host_key:
        raise SourceError(
            f"{address.url} needs a deploy key and the server's own: name a secret in"
            " `deploy_key`, write the server's key in `host_key`"
        )
    for name, text in (
        ("key", build_key_file(deploy_key)),
        ("known_hosts", build_known_hosts(address, host_key)),
        ("config", build_ssh_config(str(folder), host_key)),
    ):
        path = folder / name
        path.touch(mode=0o600)
        path.write_text(text)
        if uid is not None:
            os.chown(path, uid, uid)
