"""What may cross the socket."""

import json

import pytest
from pydantic import BaseModel, ValidationError

from pki.wire import AppLeafMessage, ForgetMessage, RegisterMessage, VisitorLeafMessage


@pytest.mark.parametrize(
    ("model", "content"),
    [
        (RegisterMessage, '{"app":"a","generation":1,"hosts":[]}'),
        (ForgetMessage, '{"app":"a"}'),
        (ForgetMessage, '{"app":"a","generation":null}'),
        (AppLeafMessage, '{"app":"a","generation":1,"csr":"x"}'),
        (VisitorLeafMessage, '{"host":"a","csr":"x"}'),
    ],
)
def test_good_messages(model: type[BaseModel], content: str) -> None:
    """What the client sends is read."""
    assert model.model_validate_json(content)


@pytest.mark.parametrize(
    ("model", "content"),
    [
        (RegisterMessage, '{"app":"a","generation":"1","hosts":[]}'),
        (RegisterMessage, '{"app":"a","generation":1.5,"hosts":[]}'),
        (RegisterMessage, '{"app":"a","generation":true,"hosts":[]}'),
        (RegisterMessage, '{"app":"a","generation":1,"hosts":"x"}'),
        (RegisterMessage, '{"app":"a","generation":1,"hosts":[1]}'),
        (RegisterMessage, '{"app":"a","generation":1}'),
        (RegisterMessage, json.dumps({"app": "a", "generation": 1, "hosts": ["x"] * 101})),
        (AppLeafMessage, '{"app":"a","generation":1,"csr":"x","uri":"spiffe://x/y"}'),
        (VisitorLeafMessage, "[]"),
        (VisitorLeafMessage, ""),
    ],
)
def test_bad_messages(model: type[BaseModel], content: str) -> None:
    """Loose types, unknown keys and endless lists are refused."""
    with pytest.raises(ValidationError):
        model.model_validate_json(content)
