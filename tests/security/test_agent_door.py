"""Everybody but the gateway stays outside an app's door, each attempt its own test."""

import os
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import time
from pathlib import Path

import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID

from tests.support.agent import (
    APP,
    APP_DNS,
    DAY,
    GATEWAY,
    PLAIN_APP,
    AgentUnderTest,
    Authority,
    build_client,
    find_children,
    read_status,
    wait_until,
)

CANARY = b"GET /canary HTTP/1.1\r\nHost: hello.localhost\r\n\r\n"


@pytest.fixture(scope="module")
def door(tmp_path_factory):
    """One agent for all who knock; none of them may leave a trace at its app."""
    agent = AgentUnderTest(tmp_path_factory.mktemp("door"), Authority()).start()
    yield agent
    agent.close()


def knock(agent: AgentUnderTest, context: ssl.SSLContext) -> bytes:
    """What a peer gets who sends a request as soon as it can; an error is nothing."""
    try:
        with agent.connect(context) as tls:
            tls.sendall(b"echo\n" + CANARY)
            return tls.recv(4096)
    except OSError:
        return b""


def check_refused(agent: AgentUnderTest, context: ssl.SSLContext, reason: str) -> None:
    """The peer gets no byte, the app not even a connection, and the log says why."""
    touched, lines = agent.touched(), agent.log().count(reason)
    assert knock(agent, context) == b""
    wait_until(lambda: agent.log().count(reason) > lines)
    time.sleep(0.05)
    assert agent.touched() == touched


def test_the_gateway_comes_in(door):
    """The same knock with a good certificate is answered, so the refusals below mean something."""
    touched = door.touched()
    assert knock(door, door.gateway) != b""
    assert door.touched() == touched + 1


def test_no_certificate(door):
    """A peer that shows nothing stays outside."""
    client = build_client(door.authority.root_pem, None, door.folder)
    check_refused(door, client, "peer did not return a certificate")


def test_expired(door):
    """A certificate that was good stays outside."""
    leaf = door.authority.issue(GATEWAY, start=-2 * DAY, end=-DAY / 24)
    client = build_client(door.authority.root_pem, leaf, door.folder)
    check_refused(door, client, "certificate has expired")


def test_not_yet_valid(door):
    """A certificate that will be good stays outside."""
    leaf = door.authority.issue(GATEWAY, start=DAY / 24, end=DAY)
    client = build_client(door.authority.root_pem, leaf, door.folder)
    check_refused(door, client, "certificate is not yet valid")


def test_other_authority(door):
    """The right name from a stranger's authority stays outside."""
    client = build_client(door.authority.root_pem, Authority().issue(GATEWAY), door.folder)
    check_refused(door, client, "unable to get local issuer certificate")


def test_self_signed_chain(door):
    """A stranger's root sent along changes nothing."""
    other = Authority()
    chain, key = other.issue(GATEWAY)
    client = build_client(door.authority.root_pem, (chain + other.root_pem, key), door.folder)
    check_refused(door, client, "self-signed certificate in certificate chain")


def test_right_authority_wrong_role(door):
    """Another app's leaf, from the same authority, stays outside."""
    leaf = door.authority.issue("spiffe://lockgate.internal/app/other/1")
    client = build_client(door.authority.root_pem, leaf, door.folder)
    check_refused(door, client, "'spiffe://lockgate.internal/app/other/1' is no gateway")


def test_the_apps_own_leaf(door):
    """The very certificate of this app stays outside."""
    client = build_client(door.authority.root_pem, door.authority.issue(APP), door.folder)
    check_refused(door, client, f"'{APP}' is no gateway")


def test_other_trust_domain(door):
    """The gateway's role in another trust domain stays outside."""
    leaf = door.authority.issue("spiffe://other.internal/gateway/main")
    client = build_client(door.authority.root_pem, leaf, door.folder)
    check_refused(door, client, "'spiffe://other.internal/gateway/main' is no gateway")


def test_two_uri_names(door):
    """A certificate that is the gateway and something else stays outside."""
    leaf = door.authority.issue(GATEWAY, APP)
    client = build_client(door.authority.root_pem, leaf, door.folder)
    check_refused(door, client, "certificate has 2 URI names, not one")


def test_no_uri_name(door):
    """The gateway's DNS name alone is no identity."""
    client = build_client(door.authority.root_pem, door.authority.issue(), door.folder)
    check_refused(door, client, "certificate has 0 URI names, not one")


def test_a_server_only_certificate(door):
    """A certificate that may not be shown by clients stays outside."""
    leaf = door.authority.issue(GATEWAY, usages=[ExtendedKeyUsageOID.SERVER_AUTH])
    client = build_client(door.authority.root_pem, leaf, door.folder)
    check_refused(door, client, "unsuitable certificate purpose")


def test_tls_1_2(door):
    """The gateway's own certificate over an older TLS stays outside."""
    leaf = door.authority.issue(GATEWAY)
    client = build_client(
        door.authority.root_pem, leaf, door.folder, maximum_version=ssl.TLSVersion.TLSv1_2
    )
    check_refused(door, client, "unsupported protocol")


def test_plaintext(door):
    """A request without TLS is not answered by the app."""
    touched = door.touched()
    with socket.create_connection(("127.0.0.1", door.port), 10) as sock:
        sock.sendall(CANARY)
        answer = sock.recv(4096)
    assert b"HTTP/1" not in answer
    wait_until(lambda: "http request" in door.log())
    assert door.touched() == touched


@pytest.mark.parametrize(
    "rubbish",
    [b"\xff" * 500, b"\x16\x03\x01\x00\x40" + b"\xff" * 64, b"\x17\x03\x03\x00\x05hello"],
    ids=["no-tls", "no-hello", "bytes-before-hello"],
)
def test_rubbish(door, rubbish):
    """Bytes that are no handshake are sent away at once."""
    touched = door.touched()
    with socket.create_connection(("127.0.0.1", door.port), 5) as sock:
        sock.sendall(rubbish)
        while sock.recv(4096):
            pass
    assert door.touched() == touched


def test_no_session_is_ever_resumed(door):
    """A second connection with the first one's session does a full handshake."""
    with door.connect() as tls:
        tls.sendall(b"echo\nx")
        assert tls.recv(1) == b"x"
        session = tls.session
    sock = socket.create_connection(("127.0.0.1", door.port), 10)
    with door.gateway.wrap_socket(sock, server_hostname=APP_DNS, session=session) as tls:
        tls.sendall(b"echo\nx")
        assert tls.recv(1) == b"x"
        assert not tls.session_reused
        assert not tls.session.has_ticket


def test_silence_is_shown_out(door):
    """A peer that never finishes its handshake is closed after ten seconds."""
    begin = time.monotonic()
    with socket.create_connection(("127.0.0.1", door.port), 20) as sock:
        sock.sendall(b"\x16\x03\x01\x02\x00")
        assert sock.recv(1) == b""
    assert 8 < time.monotonic() - begin < 13
    wait_until(lambda: "not ready within 10 s" in door.log())


def test_knockers_do_not_keep_the_gateway_out(door):
    """With a hundred peers that hold their handshakes open the gateway is served at once."""
    silent = [socket.create_connection(("127.0.0.1", door.port), 10) for _ in range(100)]
    begin = time.monotonic()
    assert knock(door, door.gateway) != b""
    assert time.monotonic() - begin < 2
    for sock in silent:
        sock.close()


def test_secrets_are_in_the_apps_environment_alone(tmp_path):
    """Secrets reach the app and its secrets.toml, not the agent, its argv, log or environment."""
    agent = AgentUnderTest(tmp_path, Authority())
    agent.write_secrets({"TOKEN": "canary-7f3a"}, 'TOKEN = "canary-7f3a"\n')
    try:
        agent.start()
        memory = read_memory(agent.process.pid)
        assert memory == "" or "in the open" in memory  # it finds what is there
        assert "canary-7f3a" not in memory
        told = agent.tell()
        assert told["env"]["TOKEN"] == "canary-7f3a"
        toml = Path(told["env"]["HOME"], ".streamlit", "secrets.toml")
        assert toml.is_symlink()
        assert "canary" in toml.read_text()
        process = Path(f"/proc/{agent.process.pid}")
        for name in ("environ", "cmdline"):
            assert b"canary" not in (process / name).read_bytes()
        agent.process.send_signal(signal.SIGTERM)
        agent.wait()
        assert "canary" not in agent.log() + agent.output()
    finally:
        agent.close()


def read_memory(pid: int) -> str:
    """Every readable byte of a process; as root only, otherwise nothing."""
    found = []
    try:
        with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", 0) as memory:
            for line in maps:
                span, rights, *_ = line.split()
                start, end = (int(text, 16) for text in span.split("-"))
                if rights.startswith("r") and start < 1 << 47 and "[v" not in line:
                    memory.seek(start)
                    found.append(memory.read(end - start))
    except PermissionError:
        return ""
    return b"".join(found).decode("latin-1")


def test_broken_secrets_stop_the_app_and_are_not_quoted(tmp_path):
    """An env.json that cannot be used is told without a single value of it."""
    agent = AgentUnderTest(tmp_path, Authority())
    agent.write_secrets({"TOKEN": "canary-7f3a"})
    (agent.secrets / "..data" / "env.json").write_text('{"TOKEN": "canary-7f3a"')
    try:
        assert agent.start(is_up=False).wait() == 127
        assert "cannot read the secrets: env.json is not JSON" in agent.log()
        assert "canary" not in agent.log() + agent.output()
    finally:
        agent.close()


# --- two users -----------------------------------------------------------------------------------

AGENT_UID, APP_UID = 200000, 200001
PYTHON = shutil.which("python3", path="/usr/bin:/usr/local/bin") or ""  # one that all users reach
CONTAINER = (  # what an engine leaves to uid 0
    *("setpriv", "--bounding-set=-all,+setuid,+setgid,+kill", "--no-new-privs"),
    *("unshare", "--pid", "--fork", "--kill-child", "--mount-proc"),
)


@pytest.fixture
def two_users():
    """An agent and an app with a uid each, started from the capabilities of a container."""
    if os.geteuid() != 0:
        pytest.skip("needs root to change uids")
    if not PYTHON:
        pytest.skip("needs a python3 in /usr/bin or /usr/local/bin, which other users can run")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        agent = AgentUnderTest(
            folder,
            Authority(),
            agent_uid=AGENT_UID,
            app_uid=APP_UID,
            cwd="/",
            home=str(folder / "tmp" / "home"),
        )
        agent.write_secrets({"TOKEN": "canary"}, "TOKEN = 1\n")
        (folder / "tmp").mkdir()
        (folder / "tmp").chmod(0o777)
        yield agent
        agent.close()


def give_away(agent: AgentUnderTest) -> None:
    """Owners and modes as the runner sets them: folders 0500, files 0400."""
    for folder, uid in ((agent.identity, AGENT_UID), (agent.secrets, APP_UID)):
        for path in (*folder.rglob("*"), folder):
            os.chown(path, uid, uid, follow_symlinks=False)
            if not path.is_symlink():
                path.chmod(0o500 if path.is_dir() else 0o400)
    os.chown(agent.log_path.parent, AGENT_UID, AGENT_UID)
    agent.log_path.parent.chmod(0o700)
    os.chown(agent.work, APP_UID, APP_UID)


def start_as_container(agent: AgentUnderTest) -> tuple[int, int]:
    """Pids of agent and app, as seen from here."""
    app = shutil.copy(PLAIN_APP, agent.work)
    argv = [PYTHON, "-I", "-S", "-B", str(app), str(agent.app_port)]
    agent.configure(cwd=str(agent.work), argv=argv)
    give_away(agent)
    # `unshare` needs what a container's init never has, so it comes first
    agent.start(prefix=(*CONTAINER[3:], *CONTAINER[:3]), python=PYTHON)
    (init,) = find_children(agent.process.pid)
    (app,) = find_children(init)
    return init, app


def test_agent_and_app_hold_the_least(two_users):
    """The agent keeps CAP_KILL alone, the app nothing, and neither can gain any."""
    agent_pid, app_pid = start_as_container(two_users)
    agent, app = read_status(agent_pid), read_status(app_pid)
    assert agent["Uid"].split() == agent["Gid"].split() == [str(AGENT_UID)] * 4
    assert app["Uid"].split() == app["Gid"].split() == [str(APP_UID)] * 4
    assert agent["Groups"] == app["Groups"] == ""
    kill = f"{1 << 5:016x}"
    assert (agent["CapPrm"], agent["CapEff"]) == (kill, kill)
    assert int(agent["CapInh"], 16) == int(agent["CapAmb"], 16) == 0
    for name in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
        assert int(app[name], 16) == 0
    assert agent["NoNewPrivs"] == app["NoNewPrivs"] == "1"


def test_two_users_serve_and_stop(two_users):
    """With all privileges gone the door serves, secrets arrive, logs are kept, signals cross."""
    agent_pid, _ = start_as_container(two_users)
    assert two_users.tell()["env"]["TOKEN"] == "canary"
    os.kill(agent_pid, signal.SIGTERM)
    assert two_users.wait() == 143
    assert "agent: app ended, killed by SIGTERM" in two_users.log()


def test_the_app_reads_nothing_of_the_agent(two_users):
    """Not its key, its settings, its memory, its environment, its log."""
    start_as_container(two_users)
    paths = (
        two_users.identity / "tls.key",
        two_users.identity / "agent.json",
        "/proc/1/mem",
        "/proc/1/environ",
        "/proc/1/maps",
        "/proc/1/fd/3",
        two_users.log_path,
    )
    told = two_users.ask("attempt " + " ".join(str(path) for path in paths))
    assert told.decode() == str(["PermissionError"] * len(paths)).replace("'", '"')


def test_the_app_cannot_signal_the_agent(two_users):
    """The app may not stop its gatekeeper."""
    agent_pid, _ = start_as_container(two_users)
    done = subprocess.run(
        ["setpriv", f"--reuid={APP_UID}", "--clear-groups", "kill", "-KILL", str(agent_pid)],
        capture_output=True,
        check=False,
    )
    assert done.returncode != 0
    assert two_users.tell()["env"]["TOKEN"] == "canary"


def test_the_app_can_reopen_its_output(two_users):
    """/dev/stdout works although the pipe was made before the change of uid."""
    two_users.configure(argv=["/bin/sh", "-c", "echo reopened > /dev/stdout; exit 4"])
    two_users.configure(cwd="/")
    give_away(two_users)
    two_users.start(prefix=CONTAINER[:3], python=PYTHON, is_up=False)
    assert two_users.wait() == 4
    assert " reopened\n" in two_users.log()


def test_an_agent_that_cannot_give_up_root_does_not_open(two_users):
    """Without CAP_SETUID nothing is served: it is better down than over-privileged."""
    give_away(two_users)
    two_users.identity.chmod(0o755)
    for path in two_users.identity.rglob("*"):
        if not path.is_symlink():
            path.chmod(0o755)
    prefix = ("setpriv", "--bounding-set=-all,+kill", "--no-new-privs")
    assert two_users.start(prefix=prefix, python=PYTHON, is_up=False).wait() != 0
    assert "Operation not permitted" in two_users.output()
    assert not two_users.is_listening()
