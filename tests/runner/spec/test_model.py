"""What an app's YAML comes to must hold."""

from typing import Any

import pytest
from pydantic import ValidationError

from pki import ConfigError, parse_document
from runner.spec.model import (
    AppDefaults,
    AppLimits,
    AppSpec,
    Ground,
    build_app_argv,
    build_app_env,
    parse_spec,
    spec_hash,
)

GOOD = "name: hello\nsource:\n  repo: ../hello\nentrypoint: app.py\n"
COMMAND = "name: web\nsource:\n  repo: /srv/web\ncommand: python app.py --port {port}\n"


def parse(text: str, **ground: Any) -> AppSpec:
    """A spec from YAML text, found in /srv/apps/app.yaml."""
    given = {
        "domain": "localhost",
        "defaults": AppDefaults(),
        "volume_bytes": 4 * 1024**3,
        "limits": AppLimits(),
    }
    document = parse_document(text.encode(), "app.yaml")
    return parse_spec(document, "/srv/apps", Ground(**{**given, **ground}))


def refuse(text: str, **ground: Any) -> ConfigError:
    """The error that YAML text comes to."""
    with pytest.raises(ConfigError) as caught:
        parse(text, **ground)
    return caught.value


def test_three_lines_are_enough() -> None:
    """Name, repo and entrypoint; the rest has defaults."""
    spec = parse(GOOD)
    assert spec.hosts == ("hello.localhost",)
    assert spec.source.repo == "/srv/hello"
    assert spec.resources.memory == 1024**3
    assert spec.health_path == "/_stcore/health"


def test_a_command_is_probed_at_its_root() -> None:
    """Only Streamlit has Streamlit's health address."""
    assert parse(COMMAND).health_path == "/"
    streamlit = COMMAND.replace("python app.py --port {port}", "streamlit run app.py")
    assert parse(streamlit).health_path == "/_stcore/health"
    assert parse(GOOD + "health:\n  path: /up\n").health_path == "/up"


def test_the_operators_defaults_fill_what_is_not_written() -> None:
    """What is written in the file wins over the operator's defaults."""
    defaults = AppDefaults.model_validate({"memory": "512MiB", "cpus": 0.5, "drain": "5m"})
    spec = parse(GOOD + "resources:\n  cpus: 2.0\n", defaults=defaults, volume_bytes=2**30)
    assert (spec.resources.memory, spec.resources.cpus) == (512 * 1024**2, 2.0)
    assert (spec.drain, spec.volume.size) == (300.0, 2**30)


def test_a_spec_survives_the_socket() -> None:
    """What the runner reads is what the command line sent, to the hash."""
    spec = parse(GOOD + "resources:\n  memory: 300MiB\ndrain: 90s\nmax_upload: 5MiB\n")
    again = AppSpec.model_validate_json(spec.model_dump_json())
    assert again == spec
    assert spec_hash(again) == spec_hash(spec)


def test_the_socket_refuses_what_the_file_would_not_allow() -> None:
    """A spec that names no start, or a host twice, is invalid however it was made."""
    whole = parse(GOOD).model_dump(mode="json")
    for wrong in ({"entrypoint": None}, {"command": ["a"]}, {"hosts": ["a.b", "a.b"]}):
        with pytest.raises(ValidationError):
            AppSpec.model_validate({**whole, **wrong})


def test_the_hash_follows_the_meaning_not_the_order() -> None:
    """Order and comments play no part, every value does."""
    shuffled = "entrypoint: app.py # x\nsource: {repo: ../hello}\nname: hello\n"
    assert spec_hash(parse(GOOD)) == spec_hash(parse(shuffled))
    assert spec_hash(parse(GOOD)) != spec_hash(parse(GOOD + "drain: 2h\n"))


@pytest.mark.parametrize(
    ("text", "line", "key", "said"),
    [
        (GOOD + "resorces: {}\n", 5, "resorces", "did you mean resources"),
        (GOOD + "resources:\n  memory: 1GB\n", 6, "resources.memory", "MiB"),
        (GOOD + "resources:\n  memory: 300\n", 6, "resources.memory", "no unit"),
        (GOOD + "resources:\n  memory: 1MiB\n", 6, "resources.memory", "greater"),
        (GOOD + "drain: soon\n", 5, "drain", "12h"),
        (GOOD.replace("hello\n", "Hello\n", 1), 1, "name", "lower-case"),
        (GOOD + "command: a {port}\n", 5, "command", "keep one"),
        (GOOD.replace("entrypoint: app.py\n", ""), None, "entrypoint", "{port}"),
        (GOOD.replace("app.py", "app.ipynb"), 4, "entrypoint", "Streamlit script"),
        (GOOD.replace("app.py", "../app.py"), 4, "entrypoint", "inside the repository"),
        (COMMAND.replace(" --port {port}", ""), 4, "command", "{port}"),
        (GOOD + "host: https://a.example\n", 5, "host", "a name alone"),
        (GOOD + "host: A.example\n", 5, "host", "write a.example"),
        (GOOD + "hosts: [a.example, a.example]\n", 5, "hosts[1]", "twice"),
        (GOOD + "host: a.b\nhosts: [a.c]\n", 6, "hosts", "keep one"),
        (GOOD + "hosts: []\n", 5, "hosts", "at least 1"),
        (GOOD.replace("../hello", "http://h/x"), 3, "source.repo", "not encrypted"),
        (GOOD.replace("../hello", "git@h:x"), 2, "source", "host_key"),
        (GOOD.replace("../hello", "https://h/x\n  deploy_key: K"), 2, "source", "token"),
        (GOOD.replace("../hello", "x\n  token: T"), 2, "source", "https"),
        (GOOD.replace("../hello", "x\n  host_key: ssh-rsa AAAA"), 2, "source", "remove"),
        (GOOD.replace("repo: ../hello", "ref: main"), 2, "source.repo", "required"),
        (GOOD.replace("source:\n  repo: ../hello", "source: x"), 2, "source", "key: value"),
        (GOOD + "env:\n  LOCKGATE_URL: x\n", 6, "env.LOCKGATE_URL", "itself"),
        (GOOD + "env:\n  STREAMLIT_SERVER_PORT: '1'\n", 6, "env.STREAMLIT_SERVER_PORT", "itself"),
        (GOOD + "env:\n  X: 1\n", 6, "env.X", "quotes"),
        (GOOD + "python: 3.12\n", 5, "python", "quotes"),
        (GOOD + "temp:\n  size: 2GiB\n", 6, "temp.size", "memory"),
        (GOOD + "name: again\n", 5, "name", "written twice"),
        ("- a\n", None, "", "mapping"),
        ("\tname: x\n", 1, "", "not valid YAML"),
        ("name: [\n", 2, "", "not valid YAML"),
        ("", None, "", "empty"),
        ("# only a comment\n", None, "", "empty"),
    ],
)
def test_bad_input_names_line_key_and_remedy(
    text: str, line: int | None, key: str, said: str
) -> None:
    """Every mistake is one line: where, which key, what is wrong, what to write."""
    error = refuse(text)
    assert (error.line, error.key) == (line, key)
    assert said in str(error)
    assert str(error).startswith("app.yaml")
    assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("limits", "text", "key"),
    [
        ({"memory": "512MiB"}, "", "resources.memory"),
        ({"cpus": 0.5}, "", "resources.cpus"),
        ({"pids": 100}, "", "resources.pids"),
        ({"volume": "1GiB"}, "volume:\n  size: 2GiB\n", "volume.size"),
    ],
)
def test_the_operators_limits_hold(limits: dict[str, Any], text: str, key: str) -> None:
    """An app that asks for more than the machine gives is refused, naming the limit."""
    error = refuse(GOOD + text, limits=AppLimits.model_validate(limits))
    assert error.key == key
    assert "runner.limits" in error.remedy


def test_streamlit_is_started_by_module_and_told_by_variables() -> None:
    """No flag that an older Streamlit might refuse."""
    spec = parse(GOOD)
    assert build_app_argv(spec, 8501) == ["python", "-m", "streamlit", "run", "app.py"]
    env = build_app_env(spec, "https://hello.localhost:8443", "hello.localhost", 8501)
    assert env["STREAMLIT_SERVER_PORT"] == "8501"
    assert env["STREAMLIT_SECRETS_FILES"] == "/run/lockgate/secrets/secrets.toml"
    assert (env["LOCKGATE_APP"], env["LOCKGATE_URL"]) == ("hello", "https://hello.localhost:8443")


def test_the_port_is_filled_in_everywhere() -> None:
    """In the words of a command and in the values of variables."""
    spec = parse("name: w\nsource: {repo: /w}\ncommand: [w, '-p{port}']\nenv: {PORT: '{port}'}\n")
    assert build_app_argv(spec, 9000) == ["w", "-p9000"]
    env = build_app_env(spec, "https://w.localhost", "w.localhost", 9000)
    assert env["PORT"] == "9000"
    assert not any(name.startswith("STREAMLIT_") for name in env)


def test_a_program_that_reads_its_port_from_a_variable_needs_no_flag() -> None:
    """`{port}` in `env` is as good as in `command`."""
    text = "name: w\nsource: {repo: /w}\ncommand: python app.py\nenv: {PORT: '{port}'}\n"
    assert build_app_argv(parse(text), 1) == ["python", "app.py"]


def test_the_operators_variables_win_over_defaults_but_not_over_what_is_enforced() -> None:
    """Defaults can be overridden in the YAML."""
    spec = parse(GOOD + "env:\n  STREAMLIT_CLIENT_SHOW_ERROR_DETAILS: full\n")
    env = build_app_env(spec, "https://h", "h", 8501, venv="/v")
    assert env["STREAMLIT_CLIENT_SHOW_ERROR_DETAILS"] == "full"
    assert env["PATH"].startswith("/v/bin:")


def test_what_is_enforced_wins_however_the_spec_came_in() -> None:
    """A spec that did not come through the file check cannot move the app's port."""
    whole = parse(GOOD).model_dump(mode="json")
    wrong = {"STREAMLIT_SERVER_PORT": "1", "LOCKGATE_APP": "other"}
    spec = AppSpec.model_validate({**whole, "env": wrong})
    env = build_app_env(spec, "https://h", "h", 8501)
    assert (env["STREAMLIT_SERVER_PORT"], env["LOCKGATE_APP"]) == ("8501", "hello")
