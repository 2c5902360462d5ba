"""From what is wanted and what is the case to the steps between them.

Invariants: pure; the same two inputs give the same plan; a plan for what already stands is empty;
nothing that visitors use is touched by a step before `publish`.
"""

from dataclasses import dataclass

from runner.observed import Standing
from runner.steps import Plan, Step, Verb


@dataclass(frozen=True, slots=True)
class Desired:
    """A deploy that is asked for: the spec's hash, the commit of its ref, words for people."""

    name: str
    spec_hash: str
    commit: str
    repo: str
    volume: str
    resources: str
    hosts: tuple[str, ...]


def plan_deploy(desired: Desired, standing: Standing, *, is_forced: bool = False) -> Plan:
    """Everything up to the new generation's publication and the old one's drain.

    What stands already as desired is at most brought back; `is_forced` replaces it all the same.
    """
    published = standing.published
    if published is not None and not is_forced:
        wanted = (desired.commit, desired.spec_hash)
        if wanted == (published.commit, published.spec_hash):
            return plan_recover(standing)
    name, number = desired.name, standing.next_generation
    steps = []
    if standing.record is None:
        steps.append(Step(Verb.create, name, detail=f"hosts {', '.join(desired.hosts)}"))
    if not standing.is_volume_open:
        steps.append(Step(Verb.open_volume, name, detail=desired.volume))
    steps += [
        Step(Verb.fetch, name, number, f"{desired.commit[:12]} of {desired.repo}"),
        Step(Verb.build, name, number),
        Step(Verb.identify, name, number),
        Step(Verb.start, name, number, desired.resources),
        Step(Verb.probe, name, number),
        Step(Verb.publish, name, number, ", ".join(desired.hosts)),
    ]
    if published is not None:
        steps.append(Step(Verb.drain, name, published.number, "open connections live on"))
    return Plan(tuple(steps))


def plan_recover(standing: Standing) -> Plan:
    """Bring the published generation back as it was; empty when it serves."""
    published = standing.published
    if published is None or standing.is_serving:
        return Plan()
    name, number = standing.name, published.number
    steps = []
    if not standing.is_volume_open:
        steps.append(Step(Verb.open_volume, name))
    if number not in standing.running:
        if any(container.generation == number for container in standing.exited):
            steps.append(Step(Verb.stop, name, number, "what is left of it"))
        steps += [Step(Verb.identify, name, number), Step(Verb.start, name, number)]
    steps += [Step(Verb.probe, name, number), Step(Verb.publish, name, number)]
    return Plan(tuple(steps))


def plan_remove(standing: Standing) -> Plan:
    """The key goes first: whatever fails afterwards can no longer be read from the disk."""
    if standing.record is None:
        return Plan()
    name = standing.name
    return Plan(
        (
            Step(Verb.destroy_key, name),
            Step(Verb.unpublish, name),
            Step(Verb.remove_containers, name),
            Step(Verb.destroy_volume, name),
            Step(Verb.withdraw, name),
            Step(Verb.forget, name),
        )
    )
