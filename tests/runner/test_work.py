import pytest

from runner.errors import RefusedError
from runner.observed import build_standing
from runner.work import Work, need_record
from tests.support.assembly import Assembly


def test_a_removal_has_no_spec_and_says_so_if_one_is_needed(assembly: Assembly) -> None:
    """A step in the wrong plan is an error in words."""
    standing = build_standing("hello", None, [], False)
    work = Work("hello", 0, None, "", standing, assembly.events.append)
    with pytest.raises(RefusedError, match="never deployed"):
        work.need_spec()


def test_a_record_that_is_gone_is_told(assembly: Assembly) -> None:
    """Not a traceback about None."""
    with pytest.raises(RefusedError, match="hello has no record any more"):
        need_record(assembly.parts, "hello")
