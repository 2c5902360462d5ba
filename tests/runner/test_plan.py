import pytest

from runner.engines import ContainerState, ObservedContainer
from runner.observed import Standing, build_standing
from runner.plan import Desired, plan_deploy, plan_recover, plan_remove
from runner.steps import Plan, Verb
from runner.store import AppRecord, GenerationRecord

UUID = "a" * 32


def desire(commit: str = "c1", spec_hash: str = "s1") -> Desired:
    return Desired(
        name="hello",
        spec_hash=spec_hash,
        commit=commit,
        repo="/srv/hello",
        volume="4 GiB, fscrypt",
        resources="1 GiB",
        hosts=("hello.localhost",),
    )


def build(
    *, running: bool = True, opened: bool = True, exited: bool = False, answered: bool = True
) -> Standing:
    generation = GenerationRecord(
        number=3, commit="c1", env_hash="e", spec_hash="s1", created_s=1.0, state="published"
    )
    record = AppRecord(
        name="hello",
        uuid=UUID,
        slot=0,
        spec={},
        desired="running",
        generations=(generation,),
        last_generation=3,
        state="healthy" if answered else "unhealthy",
    )
    state = ContainerState.exited if exited else ContainerState.running
    container = ObservedContainer("hello", 3, UUID, "s1", state, "10.0.0.2:8443")
    return build_standing("hello", record, [container] if running or exited else [], opened)


def verbs(plan: Plan) -> list[str]:
    return [f"{step.verb.name} {step.generation}" for step in plan.steps]


def test_a_first_deploy_makes_everything_and_drains_nothing() -> None:
    """From nothing to published, in the order in which it can be taken back."""
    plan = plan_deploy(desire(), build_standing("hello", None, [], False))
    assert verbs(plan) == [
        "create 0",
        "open_volume 0",
        "fetch 1",
        "build 1",
        "identify 1",
        "start 1",
        "probe 1",
        "publish 1",
    ]


def test_a_deploy_of_what_stands_already_is_empty() -> None:
    """The same commit and the same spec, running: nothing to do."""
    assert plan_deploy(desire(), build()).is_converged


@pytest.mark.parametrize("wanted", [desire(commit="c2"), desire(spec_hash="s2")])
def test_a_new_commit_or_spec_is_a_new_generation_beside_the_old(wanted: Desired) -> None:
    """The old generation is drained after the new one is published, never before."""
    plan = plan_deploy(wanted, build())
    assert verbs(plan)[-2:] == ["publish 4", "drain 3"]
    assert "open_volume 0" not in verbs(plan)


def test_a_forced_deploy_replaces_what_stands() -> None:
    """A restart takes the very steps of a deploy."""
    assert verbs(plan_deploy(desire(), build(), is_forced=True))[-1] == "drain 3"


def test_what_stands_but_does_not_run_is_brought_back_not_replaced() -> None:
    """The same generation again: no fetch, no build."""
    plan = plan_deploy(desire(), build(running=False))
    assert verbs(plan) == ["identify 3", "start 3", "probe 3", "publish 3"]


def test_a_closed_volume_is_opened_first() -> None:
    """After a reboot."""
    plan = plan_recover(build(running=False, opened=False))
    assert verbs(plan)[0] == "open_volume 0"


def test_an_exited_container_is_cleared_away_before_its_successor() -> None:
    """Two containers cannot have one name."""
    assert verbs(plan_recover(build(running=False, exited=True)))[:2] == ["stop 3", "identify 3"]


def test_what_runs_but_has_not_answered_is_probed_and_published() -> None:
    """It is not started a second time."""
    assert verbs(plan_recover(build(answered=False))) == ["probe 3", "publish 3"]


def test_there_is_nothing_to_recover_before_the_first_deploy() -> None:
    """No published generation, no plan."""
    assert plan_recover(build_standing("hello", None, [], False)).is_converged


def test_a_removal_destroys_the_key_first_and_forgets_last() -> None:
    """Whatever fails in between cannot be read any more, and can be asked for again."""
    plan = plan_remove(build())
    assert plan.steps[0].verb is Verb.destroy_key
    assert plan.steps[-1].verb is Verb.forget


def test_a_removal_of_nothing_is_empty() -> None:
    """No record, nothing to remove."""
    assert plan_remove(build_standing("hello", None, [], False)).is_converged


def test_the_same_inputs_give_the_same_plan() -> None:
    """A plan is a function of what is wanted and what is the case."""
    assert plan_deploy(desire("c2"), build()) == plan_deploy(desire("c2"), build())
