"""What git says, as one line with a remedy. Texts are those of git 2.39 and OpenSSH 9.2."""

import pytest

from runner.source.git import Address
from runner.source.reasons import Asked, explain, last_line

PINNED = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl"
HTTPS = Asked("https://h/x.git", Address("https", "https://h/x.git", "h"), None, has_token=True)
OPEN = Asked("https://h/x.git", Address("https", "https://h/x.git", "h"), None, has_token=False)
SSH = Asked("git@h:x", Address("ssh", "git@h:x", "h"), PINNED, has_token=False)


@pytest.mark.parametrize(
    ("said", "asked", "words"),
    [
        (
            "fatal: write error: No space left on device\nfatal: index-pack failed",
            HTTPS,
            "no space left on the app's volume for its code: raise `volume.size`",
        ),
        (
            "fatal: unable to access 'https://h/x.git/': Could not resolve host: h",
            HTTPS,
            "https://h/x.git is unreachable: there is no host h",
        ),
        (
            "fatal: unable to access 'https://h/x/': Failed to connect to h port 443: Timed out",
            HTTPS,
            "https://h/x.git is unreachable: h refuses the connection",
        ),
        (
            "fatal: unable to access 'https://h/x/': Operation too slow. Less than 1 bytes/sec",
            HTTPS,
            "https://h/x.git is unreachable: h does not answer",
        ),
        (
            "remote: Invalid username or token.\nfatal: Authentication failed for 'https://h/'",
            HTTPS,
            "authentication failed: h refuses the token for https://h/x.git",
        ),
        (
            "fatal: could not read Username for 'https://h': terminal prompts disabled",
            OPEN,
            "authentication failed: https://h/x.git wants a login; name a secret in `token`",
        ),
        (
            "fatal: unable to access 'https://h/x/': The requested URL returned error: 403",
            HTTPS,
            "authentication failed: h refuses the token",
        ),
        (
            "remote: Repository not found.\nfatal: repository 'https://h/x.git/' not found",
            OPEN,
            "there is no repository at https://h/x.git (or it wants a login)",
        ),
        (
            "fatal: unable to access 'https://h/x/': The requested URL returned error: 301",
            HTTPS,
            "https://h/x.git redirects: write its final address",
        ),
        (
            "fatal: unable to access 'https://h/x/': server certificate verification failed.",
            HTTPS,
            "https://h/x.git is unreachable: its TLS certificate is not trusted here",
        ),
        (
            "git@h: Permission denied (publickey).\nfatal: Could not read from remote",
            SSH,
            "wrong deploy key: h refuses it; add its public half to git@h:x",
        ),
        (
            'Load key "/r/key": error in libcrypto\ngit@h: Permission denied (publickey).',
            SSH,
            "wrong deploy key: it is not a private key, or it has a passphrase",
        ),
        (
            "The fingerprint for the ED25519 key sent by the remote host is\nSHA256:abc.\n"
            "Host key verification failed.",
            SSH,
            "host key changed: h offers fingerprint SHA256:abc, but"
            " SHA256:+DiY3wvvV6TuJJhbpZisF/zLDA0zPMSvHdkr4UvCOqU is pinned",
        ),
        (
            "Unable to negotiate with h port 22: no matching host key type found."
            " Their offer: ssh-rsa",
            SSH,
            "host key changed: h offers keys of other types, ssh-rsa, but SHA256:",
        ),
        (
            "ssh: connect to host h port 22: Connection refused\nfatal: Could not read",
            SSH,
            "git@h:x is unreachable: h refuses the connection",
        ),
        ("No user exists for uid 12345\nfatal: Could not", SSH, "ssh wants a user with a name"),
        ("fatal: the earth moved", HTTPS, "https://h/x.git: the earth moved"),
    ],
)
def test_reasons(said, asked, words):
    """Each failure that git has is told in one line by its cause."""
    told = explain(said, asked)
    assert told.startswith(words)
    assert "\n" not in told


def test_last_line():
    """Git's own prefixes and its advice are left out; silence is told as such."""
    advice = "fatal: x\n\nPlease make sure you have the correct access rights\nand the repository"
    assert last_line(advice) == "x"
    assert last_line("\n") == "git failed without a word"
