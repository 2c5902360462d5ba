"""Who may ask the PKI for what, by the uid at the other end of the socket.

Invariants: pure; one table; a uid that is in no role may only read the roots, which are public.
"""

from dataclasses import dataclass
from enum import Enum


class Action(Enum):
    """What can be asked; the value is the word in the journal."""

    read_bundle = "read_bundle"
    read_status = "read_status"
    register = "register"
    forget = "forget"
    issue_app = "issue_app"
    issue_gateway = "issue_gateway"
    issue_visitor = "issue_visitor"


_ANYBODY = frozenset({Action.read_bundle})
_RUNNER = frozenset({Action.read_status, Action.register, Action.forget, Action.issue_app})
_GATEWAY = frozenset({Action.read_status, Action.issue_gateway, Action.issue_visitor})


@dataclass(frozen=True, slots=True)
class Roles:
    """Which uid plays which part; one uid may play several."""

    own_uid: int
    runner_uid: int
    gateway_uid: int

    def list_allowed(self, uid: int) -> frozenset[Action]:
        """What the uid may ask for; the PKI's own uid may ask for everything."""
        allowed = _ANYBODY
        if uid in (self.runner_uid, self.own_uid):
            allowed |= _RUNNER
        if uid in (self.gateway_uid, self.own_uid):
            allowed |= _GATEWAY
        return allowed

    def is_stranger(self, uid: int) -> bool:
        """Whether the uid is in no role."""
        return uid not in (self.own_uid, self.runner_uid, self.gateway_uid)
