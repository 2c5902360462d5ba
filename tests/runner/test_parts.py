import errno
import os

import pytest

from gateway import GatewayError
from pki import PkiError
from runner.errors import RunnerError
from runner.parts import translate
from runner.prepare import create_app
from tests.support.assembly import Assembly


@pytest.mark.parametrize("error", [GatewayError("no answer"), PkiError("no answer")])
def test_errors_of_the_other_processes_keep_their_line(error: Exception) -> None:
    """Translated once, at the edge."""
    with pytest.raises(RunnerError, match="no answer"), translate():
        raise error


def test_no_two_apps_share_a_uid(assembly: Assembly) -> None:
    """Agent and app of each app have uids of their own; as an ordinary user all are one."""
    records = [create_app(assembly.parts, name) for name in ("a", "b", "c")]
    owners = [assembly.parts.find_owners(record) for record in records]
    uids = [uid for owner in owners for uid in (owner.agent, owner.app)]
    if os.geteuid() == 0:
        assert len(set(uids)) == 6
        assert 0 not in uids
    else:
        assert set(uids) == {None}


def test_what_the_system_refuses_is_one_line_with_the_file() -> None:
    """A full disk is told as what it is, not as a defect of ours."""
    error = OSError(errno.ENOSPC, "No space left on device", "/state/apps/hello.json")
    with pytest.raises(RunnerError, match=r"hello\.json: no space left on device$"), translate():
        raise error
    with pytest.raises(RunnerError, match=r"^timeouterror$"), translate():
        raise TimeoutError
