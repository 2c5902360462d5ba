"""What crosses the PKI's socket: requests as frozen models, a leaf as a value.

Invariants: no private key crosses it; a request names who the leaf is for, never what it may say.
"""

from dataclasses import dataclass
from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field


class Message(BaseModel):
    """A JSON body: unknown keys and loose types refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class RegisterMessage(Message):
    """A generation of an app and the hosts it answers for."""

    app: str
    generation: int
    hosts: list[str] = Field(max_length=100)


class ForgetMessage(Message):
    """A generation of an app, or all of them."""

    app: str
    generation: int | None = None


class AppLeafMessage(Message):
    """A request (PEM) for the agent of a registered generation."""

    app: str
    generation: int
    csr: str


class GatewayLeafMessage(Message):
    """A request (PEM) for the gateway."""

    csr: str


class VisitorLeafMessage(Message):
    """A request (PEM) for a registered host."""

    host: str
    csr: str


@dataclass(frozen=True, slots=True)
class IssuedLeaf:
    """A leaf and its intermediate as PEM, serial as 40 lower-case hex digits, validity in UTC."""

    chain_pem: bytes
    serial: str
    not_before: datetime
    not_after: datetime


class LeafReply(BaseModel):
    """An issued leaf as JSON."""

    model_config = ConfigDict(frozen=True)

    chain: str
    serial: str
    not_before: datetime
    not_after: datetime


class ForgottenReply(BaseModel):
    """The serials that must no longer be accepted."""

    model_config = ConfigDict(frozen=True)

    serials: list[str]


class StatusReply(BaseModel):
    """Whatever the service says of itself."""

    model_config = ConfigDict(frozen=True, extra="allow")


class ErrorReply(BaseModel):
    """A refusal as JSON."""

    model_config = ConfigDict(frozen=True)

    reason: str
    message: str
