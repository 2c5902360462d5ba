"""Who may ask for what."""

import pytest

from pki.roles import Action, Roles

ROLES = Roles(own_uid=10, runner_uid=20, gateway_uid=30)
SINGLE = Roles(own_uid=1000, runner_uid=1000, gateway_uid=1000)
RUNNER = {Action.register, Action.forget, Action.issue_app}
GATEWAY = {Action.issue_gateway, Action.issue_visitor}
READING = {Action.read_bundle, Action.read_status}


@pytest.mark.parametrize(
    ("roles", "uid", "allowed"),
    [
        (ROLES, 10, set(Action)),
        (ROLES, 20, RUNNER | READING),
        (ROLES, 30, GATEWAY | READING),
        (ROLES, 40, {Action.read_bundle}),
        (ROLES, 0, {Action.read_bundle}),
        (SINGLE, 1000, set(Action)),
        (SINGLE, 0, {Action.read_bundle}),
    ],
)
def test_each_uid_may_do_its_part(roles: Roles, uid: int, allowed: set[Action]) -> None:
    """Runner and gateway share nothing but reading; a stranger sees only the public roots."""
    assert roles.list_allowed(uid) == allowed


def test_strangers() -> None:
    """Whoever plays no part is a stranger, root included."""
    assert [uid for uid in (0, 10, 20, 30, 40) if ROLES.is_stranger(uid)] == [0, 40]
