from runner.steps import UNDO, Plan, Step, Verb, build_undo


def test_every_verb_says_what_undoes_it() -> None:
    """No verb is without a row, so that an undo cannot be forgotten."""
    assert set(UNDO) == set(Verb)


def test_what_takes_back_needs_no_taking_back() -> None:
    """An undo is itself final."""
    assert all(UNDO[undo] is None for undo in UNDO.values() if undo is not None)


def test_undo_goes_backwards_and_keeps_what_is_harmless() -> None:
    """The last thing done is taken back first; the volume with its build log stays."""
    done = tuple(
        Step(verb, "hello", 3)
        for verb in (Verb.open_volume, Verb.fetch, Verb.build, Verb.identify, Verb.start)
    )
    assert [(s.verb, s.subject) for s in build_undo(done)] == [
        (Verb.stop, "hello/3"),
        (Verb.withdraw, "hello/3"),
        (Verb.delete_code, "hello/3"),
    ]


def test_a_step_of_the_whole_app_is_named_by_the_app() -> None:
    """Generation 0 is not shown."""
    assert Step(Verb.create, "hello").subject == "hello"


def test_a_plan_without_steps_is_converged() -> None:
    """Empty plan = nothing to do."""
    assert Plan().is_converged
    assert not Plan((Step(Verb.create, "hello"),)).is_converged
