"""Answers of the Docker Engine API as values, and refusals with a remedy."""

import errno
from copy import deepcopy

import pytest

from runner.engines import ContainerState, EngineError
from runner.engines.facts import (
    describe_unreachable,
    find_os_error,
    judge_info,
    parse_observed,
    parse_socket,
    parse_subnets,
    parse_tags,
    refuse_ordinary_user,
)

LABELS = {
    "lockgate.app": "hello",
    "lockgate.generation": "3",
    "lockgate.uuid": "ab",
    "lockgate.spec_hash": "cafe",
}
INSPECTED = {
    "Name": "/lockgate-hello-3.1f2e3d",
    "Config": {"Labels": LABELS},
    "State": {"Status": "running", "ExitCode": 0, "OOMKilled": False},
    "NetworkSettings": {"Networks": {"n": {"IPAddress": "10.201.0.2"}}},
}
INFO = {"ServerVersion": "27.1", "SecurityOptions": ["name=seccomp,profile=builtin"]}


def test_running_container_has_an_address():
    """A running container is dialled at its own address, agent's port."""
    found = parse_observed(INSPECTED)
    assert (found.app, found.generation, found.uuid, found.spec_hash) == ("hello", 3, "ab", "cafe")
    assert (found.state, found.address) == (ContainerState.running, "10.201.0.2:8443")
    assert found.exit_code is None


@pytest.mark.parametrize(
    ("status", "code", "oom", "expected"),
    [
        ("exited", 137, True, (137, True)),
        ("dead", 1, False, (1, False)),
        ("created", 0, False, (None, False)),
    ],
)
def test_exited_container(status, code, oom, expected):
    """An exited container has its exit code, and none if it never ran; its address is void."""
    inspected = deepcopy(INSPECTED)
    inspected["State"] = {"Status": status, "ExitCode": code, "OOMKilled": oom}
    found = parse_observed(inspected)
    assert (found.state, found.address) == (ContainerState.exited, None)
    assert (found.exit_code, found.oom_killed) == expected


def test_unreadable_labels():
    """A container of ours without its labels is an error that names it."""
    inspected = deepcopy(INSPECTED) | {"Config": {"Labels": {}}}
    with pytest.raises(EngineError, match=r"lockgate-hello-3\.1f2e3d has unreadable labels"):
        parse_observed(inspected)


def test_plain_engine_needs_nothing():
    """A usual engine has no quirks and no notes."""
    traits = judge_info(INFO)
    assert (traits.version, traits.security_options, traits.notes) == ("27.1", (), ())
    assert not traits.remaps_users


@pytest.mark.parametrize(
    ("info", "words"),
    [
        ({"SecurityOptions": ["name=rootless"]}, "rootless"),
        ({"OperatingSystem": "Docker Desktop"}, "Docker Desktop"),
    ],
)
def test_unreachable_kinds_of_engine(info, words):
    """Engines whose containers have no address here are refused, with a remedy."""
    with pytest.raises(EngineError, match=f"{words}.*runner.engine.kind to process"):
        judge_info(INFO | info)


def test_ordinary_user():
    """Without root there are no uids for agent and app, and the other engine is the remedy."""
    refuse_ordinary_user(0)
    with pytest.raises(
        EngineError, match=r"start it as root, or set runner\.engine\.kind to process"
    ):
        refuse_ordinary_user(1000)


def test_quirks():
    """Remapped users, SELinux and missing limits are seen."""
    options = ["name=userns", "name=selinux"]
    traits = judge_info({"SecurityOptions": options, "SwapLimit": False, "ServerVersion": "1"})
    assert traits.remaps_users
    assert traits.security_options == ("label=disable",)
    assert [note.split(" ")[0] for note in traits.notes] == ["SELinux", "this", "swap"]


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (errno.ENOENT, "no Docker engine: /run/d.sock does not exist; install and start it"),
        (errno.EACCES, r"add ann to the group docker \(usermod -aG docker ann"),
        (errno.ECONNREFUSED, r"start it \(systemctl start docker\)"),
        (errno.EIO, "input/output error"),
    ],
)
def test_no_engine(code, words):
    """Each way not to reach the engine is one line with its own remedy."""
    error = OSError(code, "Input/output error")
    with pytest.raises(EngineError, match=words):
        raise EngineError(describe_unreachable("/run/d.sock", error, "docker", "ann"))


def test_remote_engine_is_refused():
    """An engine on another machine cannot mount our directories."""
    assert parse_socket("unix:///run/d.sock") == "/run/d.sock"
    with pytest.raises(EngineError, match="unset DOCKER_HOST"):
        parse_socket("tcp://10.0.0.1:2375")


def test_error_at_the_bottom():
    """The system's error is found inside the arguments of a library's error."""
    inner = FileNotFoundError(errno.ENOENT, "No such file")
    assert find_os_error(RuntimeError("x", ValueError("y", inner))) is inner
    assert find_os_error(RuntimeError("x")) is None


def test_networks_and_tags():
    """Subnets are found by network name, images by every name they have."""
    networks = [
        {"Name": "host", "IPAM": {"Config": None}},
        {"Name": "a", "IPAM": {"Config": [{"Subnet": "fd00::/64"}, {"Subnet": "10.1.0.0/28"}]}},
    ]
    assert parse_subnets(networks) == {"a": "10.1.0.0/28"}
    tagged, bare = {"RepoTags": ["x:1"]}, {"RepoTags": None, "RepoDigests": ["y@z"]}
    assert parse_tags([tagged, bare]) == {"x:1", "y@z"}
