"""What agent.json may say."""

import json

import pytest

from runner.agent.settings import SettingsError, parse_settings

GOOD = {
    "listen": "0.0.0.0:8443",
    "app_port": 8501,
    "argv": ["streamlit", "run", "app.py"],
    "cwd": "/app/code",
    "env": {"A": "b"},
    "agent_uid": 200000,
    "app_uid": 200001,
    "identity_dir": "/run/lockgate/identity",
    "secrets_dir": "/run/lockgate/secrets",
    "log_path": "/var/log/lockgate/app-3.log",
    "log_max_bytes": 10485760,
    "log_files": 2,
    "peer_prefix": "spiffe://lockgate.internal/gateway/",
    "home": "/tmp/home",
    "grace_s": 10,
    "sandbox_argv": [],
}


def test_every_key_arrives():
    """What the runner writes is what the agent works with."""
    settings = parse_settings(json.dumps(GOOD))
    assert {name: getattr(settings, name) for name in GOOD} == GOOD


@pytest.mark.parametrize("key", GOOD)
def test_a_missing_key_is_named(key):
    """No key has a silent default."""
    document = {name: value for name, value in GOOD.items() if name != key}
    with pytest.raises(SettingsError, match=f"^{key} is missing$"):
        parse_settings(json.dumps(document))


def test_an_unknown_key_is_named():
    """A misspelt key is an error, not ignored."""
    with pytest.raises(SettingsError, match=r"^unknown key colour$"):
        parse_settings(json.dumps({**GOOD, "colour": "red"}))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("listen", "8443"),
        ("listen", "0.0.0.0:http"),
        ("listen", "0.0.0.0:70000"),
        ("listen", "unix:relative"),
        ("app_port", 0),
        ("app_port", 65536),
        ("app_port", True),
        ("argv", []),
        ("argv", [""]),
        ("argv", "streamlit run"),
        ("argv", ["a\0b"]),
        ("cwd", "app"),
        ("env", {"A": 1}),
        ("env", {"A=B": "c"}),
        ("env", {"": "c"}),
        ("env", {"A": "c\0d"}),
        ("agent_uid", 0),
        ("agent_uid", -1),
        ("app_uid", "200001"),
        ("identity_dir", ""),
        ("secrets_dir", None),
        ("log_path", "app.log"),
        ("log_max_bytes", 0),
        ("log_files", 1.5),
        ("peer_prefix", "spiffe://lockgate.internal/gateway"),
        ("peer_prefix", "https://lockgate.internal/gateway/"),
        ("home", "\0"),
        ("grace_s", -1),
        ("grace_s", True),
        ("sandbox_argv", None),
    ],
)
def test_a_wrong_value_is_named_by_its_key(key, value):
    """Every key is checked, and the text never quotes the value."""
    with pytest.raises(SettingsError, match=f"^{key} must be ") as caught:
        parse_settings(json.dumps({**GOOD, key: value}))
    assert len(str(value)) < 3 or str(value) not in str(caught.value)


@pytest.mark.parametrize("text", ["", "[]", "{", "1"])
def test_what_is_no_object_is_refused(text):
    """Broken or other JSON is an error of its own."""
    with pytest.raises(SettingsError, match=r"^not"):
        parse_settings(text)


def test_agent_and_app_are_two_users():
    """One uid for both would let the app read the agent's key."""
    with pytest.raises(SettingsError, match="must differ"):
        parse_settings(json.dumps({**GOOD, "app_uid": GOOD["agent_uid"]}))


def test_null_uids_mean_stay():
    """The process engine of an ordinary user has no uids to give."""
    settings = parse_settings(json.dumps({**GOOD, "agent_uid": None, "app_uid": None}))
    assert (settings.agent_uid, settings.app_uid) == (None, None)
