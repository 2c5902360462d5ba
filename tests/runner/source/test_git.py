"""How git is told to fetch: addresses, settings, environment, ssh's files."""

import subprocess

import pytest

from runner.source.git import (
    Address,
    build_basic,
    build_env,
    build_fingerprint,
    build_key_file,
    build_known_hosts,
    build_settings,
    build_ssh_config,
    is_commit,
    list_patterns,
    parse_address,
    parse_refs,
)

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl"


@pytest.mark.parametrize(
    ("repo", "kind", "address"),
    [
        ("/srv/a b%.git", "local", Address("local", "file:///srv/a%20b%25.git", "/srv/a b%.git")),
        ("file:///srv/x", "local", Address("local", "file:///srv/x", "/srv/x")),
        ("git@h:me/x.git", "ssh", Address("ssh", "git@h:me/x.git", "h")),
        ("ssh://git@h:2222/x", "ssh", Address("ssh", "ssh://git@h:2222/x", "h", 2222)),
        ("https://h/x.git", "https", Address("https", "https://h/x.git", "h")),
    ],
)
def test_addresses(repo, kind, address):
    """Each way to write an address has its URL, host and port."""
    assert parse_address(repo, kind) == address


@pytest.mark.parametrize("kind", ["local", "https", "ssh"])
def test_settings_open_one_way(kind, tmp_path):
    """Git itself reads the settings: every transport is shut but the one, and hooks are nowhere."""
    path = tmp_path / "settings"
    path.write_text(build_settings(kind, '/srv/a "b"'))

    def read(key: str) -> str:
        argv = ("git", "config", "--file", str(path), "--get-all", key)
        return subprocess.run(argv, capture_output=True, text=True).stdout.strip()

    assert read("protocol.allow") == "never"
    name = "file" if kind == "local" else kind
    allowed = [p for p in ("file", "https", "ssh", "http") if read(f"protocol.{p}.allow")]
    assert allowed == [name]
    assert read("core.hooksPath") == "/dev/null"
    assert read("safe.directory").startswith('/srv/a "b"' if kind == "local" else "")


def test_no_redirect_with_a_token():
    """A token is never sent along with a redirect."""
    assert "followRedirects = false" in build_settings("https", "", has_token=True)
    assert "followRedirects = initial" in build_settings("https", "")


def test_environment_is_our_own():
    """Of the machine's environment only proxies and CA files get to git."""
    inherited = {"HTTPS_PROXY": "http://p", "GIT_DIR": "/x", "HOME": "/root", "NO_PROXY": ""}
    env = build_env("/f/settings", "/f", inherited, None, "/r x/config")
    assert env["HTTPS_PROXY"] == "http://p"
    assert env["HOME"] == "/f"
    assert env["GIT_SSH_COMMAND"] == "ssh -F '/r x/config'"
    assert not {"GIT_DIR", "NO_PROXY", "GIT_CONFIG_COUNT"} & set(env)


def test_token_is_a_header():
    """A token is a Basic password; a pair stays as it is written."""
    env = build_env("/s", "/h", {}, "tok", "/c")
    assert env["GIT_CONFIG_KEY_0"] == "http.extraHeader"
    assert env["GIT_CONFIG_VALUE_0"] == "Authorization: Basic eC1hY2Nlc3MtdG9rZW46dG9r"
    assert build_basic("me:tok") == "Basic bWU6dG9r"


def test_ssh_is_told_everything():
    """ssh uses this key and that host key, asks nothing, and forwards nothing."""
    config = build_ssh_config("/r/5%", KEY)
    assert 'IdentityFile "/r/5%%/key"' in config
    assert "StrictHostKeyChecking yes" in config
    assert "HostKeyAlgorithms ssh-ed25519\n" in config
    assert "BatchMode yes" in config
    assert "rsa-sha2-512" in build_ssh_config("/r", "ssh-rsa AAAA")


def test_known_hosts():
    """A port that is not 22 is part of the name in known_hosts."""
    assert build_known_hosts(Address("ssh", "", "h"), KEY) == f"h {KEY}\n"
    assert build_known_hosts(Address("ssh", "", "h", 2222), KEY) == f"[h]:2222 {KEY}\n"


def test_fingerprint():
    """The fingerprint of a well-known host's key is the published one."""
    assert build_fingerprint(KEY) == "SHA256:+DiY3wvvV6TuJJhbpZisF/zLDA0zPMSvHdkr4UvCOqU"


def test_key_file():
    """A key gets the line ends that OpenSSH insists on."""
    assert build_key_file(" a\r\nb") == "a\nb\n"


def test_refs():
    """What is asked for and what is answered."""
    assert list_patterns("HEAD") == ("HEAD", "HEAD^{}")
    assert list_patterns("v1") == ("refs/heads/v1", "refs/tags/v1", "refs/tags/v1^{}")
    assert parse_refs("ab\tHEAD\nwarning: x\ncd\trefs/heads/m\n") == {
        "HEAD": "ab",
        "refs/heads/m": "cd",
    }


@pytest.mark.parametrize(
    ("ref", "result"),
    [("a" * 40, True), ("A" * 64, True), ("a" * 39, False), ("g" * 40, False), ("main", False)],
)
def test_whole_commit_numbers(ref, result):
    """Only all digits of a commit are a commit."""
    assert is_commit(ref) is result
