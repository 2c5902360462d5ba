from runner.engines import ContainerState, ObservedContainer
from runner.observed import build_standing, list_orphans
from runner.store import AppRecord, GenerationRecord

OURS, OTHERS = "a" * 32, "b" * 32


def build_record(*generations: GenerationRecord, last: int = 0) -> AppRecord:
    return AppRecord(
        name="hello",
        uuid=OURS,
        slot=0,
        spec={},
        desired="running",
        generations=generations,
        last_generation=last,
        state="healthy",
    )


def build_generation(number: int, state: str = "published") -> GenerationRecord:
    return GenerationRecord(
        number=number, commit="c", env_hash="e", spec_hash="s", created_s=1.0, state=state
    )


def build_container(
    generation: int, state: ContainerState = ContainerState.running, uuid: str = OURS
) -> ObservedContainer:
    return ObservedContainer("hello", generation, uuid, "s", state, "10.0.0.2:8443")


def test_an_unknown_app_starts_at_generation_one() -> None:
    """Before the first deploy there is no record and nothing is published."""
    standing = build_standing("hello", None, [], False)
    assert (standing.next_generation, standing.published, standing.is_serving) == (1, None, False)


def test_a_generation_number_is_never_used_twice() -> None:
    """A deploy that failed has used up its number, although no record of it is left."""
    standing = build_standing("hello", build_record(build_generation(3), last=5), [], True)
    assert standing.next_generation == 6


def test_a_container_of_a_removed_app_of_the_same_name_is_foreign() -> None:
    """Only the recorded uuid makes a container ours."""
    record = build_record(build_generation(1))
    standing = build_standing("hello", record, [build_container(1, uuid=OTHERS)], True)
    assert standing.running == frozenset()
    assert not standing.is_serving


def test_it_serves_when_the_published_generation_runs_on_an_open_volume() -> None:
    """Either one missing, and it does not."""
    record = build_record(build_generation(1, "draining"), build_generation(2))
    assert build_standing("hello", record, [build_container(2)], True).is_serving
    assert not build_standing("hello", record, [build_container(2)], False).is_serving
    assert not build_standing("hello", record, [build_container(1)], True).is_serving


def test_exited_containers_are_told_apart_from_running_ones() -> None:
    """An exited container does not run, and is kept for its exit code."""
    record = build_record(build_generation(2))
    gone = build_container(2, ContainerState.exited)
    standing = build_standing("hello", record, [gone], True)
    assert (standing.running, standing.exited) == (frozenset(), (gone,))


def test_orphans_are_what_no_record_accounts_for() -> None:
    """A number that is not recorded, or another uuid."""
    record = build_record(build_generation(2))
    kept, old, foreign = build_container(2), build_container(1), build_container(2, uuid=OTHERS)
    assert list_orphans([record], [kept, old, foreign]) == (old, foreign)
