import errno
from pathlib import Path

import pytest

from runner.actions import Actions, note_failure
from runner.errors import RunnerError
from runner.observed import build_standing
from runner.steps import Step, Verb
from runner.work import Work
from tests.support.assembly import Assembly


def build_actions(assembly: Assembly) -> Actions:
    standing = build_standing("hello", None, [], False)
    work = Work("hello", 1, assembly.build_spec(), "c", standing, assembly.events.append)
    return Actions(assembly.parts, work)


def test_every_verb_has_a_performer(assembly: Assembly) -> None:
    """A plan cannot hold a step that nobody can do."""
    assert set(build_actions(assembly).build_performers()) == set(Verb)


async def test_errors_of_other_processes_become_the_runners(assembly: Assembly) -> None:
    """Whoever performs a plan knows one kind of error."""
    assembly.gateway.is_down = True
    performers = build_actions(assembly).build_performers()
    with pytest.raises(RunnerError, match="gateway did not answer"):
        await performers[Verb.create](Step(Verb.create, "hello"))


async def test_a_failure_is_noted_even_if_the_gateway_cannot_be_told(assembly: Assembly) -> None:
    """The first failure is what counts; the reconcile loop publishes later."""
    performers = build_actions(assembly).build_performers()
    await performers[Verb.create](Step(Verb.create, "hello"))
    assembly.gateway.is_down = True
    await note_failure(assembly.parts, "hello", RunnerError("it broke"))
    record = assembly.need_record()
    assert (record.state, record.reason) == ("failed", "it broke")


async def test_a_publication_that_fails_leaves_the_record_as_it_was(assembly: Assembly) -> None:
    """What visitors do not get is not called published."""
    await assembly.lifecycle.deploy(assembly.build_spec(), assembly.events.append)
    assembly.repo.commit({"app.py": "print('other')\n"})
    before = assembly.need_record().generations

    async def probe(*args: object, **kwargs: object) -> object:
        assembly.gateway.is_down = True
        return assembly.gateway.answer

    assembly.gateway.probe = probe  # type: ignore[method-assign,assignment]
    with pytest.raises(RunnerError, match="gateway did not answer"):
        await assembly.lifecycle.deploy(assembly.build_spec(), assembly.events.append)
    assert assembly.need_record().generations == before
    assert set(assembly.engine.containers) == {("hello", 1)}


async def test_a_full_disk_is_told_as_such(
    assembly: Assembly, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reason in `status` names the file, and the deploy is taken back."""

    def refuse(path: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr("runner.prepare._create_log", refuse)
    with pytest.raises(RunnerError, match=r"build-1\.log: no space left on device"):
        await assembly.lifecycle.deploy(assembly.build_spec(), assembly.events.append)
    assert assembly.need_record().reason.endswith("build-1.log: no space left on device")


async def test_a_failure_that_cannot_be_noted_hides_nothing(
    assembly: Assembly, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk with the records is full: the caller still hears what went wrong first."""
    await assembly.lifecycle.deploy(assembly.build_spec(), assembly.events.append)

    def refuse(record: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(assembly.parts.store, "save", refuse)
    await note_failure(assembly.parts, "hello", RunnerError("it broke"))
    assert assembly.need_record().state == "healthy"


async def test_a_defect_is_not_called_a_cancellation(assembly: Assembly) -> None:
    """Whoever reads `status` knows where to look."""
    await assembly.lifecycle.deploy(assembly.build_spec(), assembly.events.append)
    await note_failure(assembly.parts, "hello", KeyError("x"))
    assert assembly.need_record().reason == "last deploy failed: internal error (KeyError)"


async def test_a_redeploy_of_a_healthy_app_does_not_reset_since(assembly: Assembly) -> None:
    """It was healthy all the time."""
    await assembly.lifecycle.deploy(assembly.build_spec(), assembly.events.append)
    before = assembly.need_record().since_s
    assembly.now_s = 100.0
    assembly.repo.commit({"app.py": "print('other')\n"})
    await assembly.lifecycle.deploy(assembly.build_spec(), assembly.events.append)
    assert assembly.need_record().since_s == before
