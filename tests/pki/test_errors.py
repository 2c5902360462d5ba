"""What the PKI's errors must say."""

import pytest

from pki import errors
from pki.errors import ConfigError, IdentityError, PkiError


def _list_classes() -> list[type[PkiError]]:
    found = [value for value in vars(errors).values() if isinstance(value, type)]
    return [value for value in found if issubclass(value, PkiError)]


def test_every_error_has_its_own_log_word_and_a_status() -> None:
    """A log word tells which error it was, and the status is an HTTP error."""
    classes = _list_classes()
    assert len({cls.reason for cls in classes}) == len(classes) > 8
    assert all(400 <= cls.status < 600 for cls in classes)


def test_reason_can_be_what_the_service_said() -> None:
    """A client raises the service's own reason, without changing the class for others."""
    assert PkiError("x", reason="denied").reason == "denied"
    assert PkiError("x").reason == "failed"


def test_identity_error_is_a_value_error() -> None:
    """A model's validator may raise it, and pydantic reports it as a bad value."""
    assert issubclass(IdentityError, ValueError)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ConfigError("a.yaml", 3, "pki.uid", "bad", "fix it"), "a.yaml:3: pki.uid: bad (fix it)"),
        (ConfigError("a.yaml", None, "", "cannot be read"), "a.yaml: cannot be read"),
        (ConfigError("a.yaml", 1, "", "not YAML"), "a.yaml:1: not YAML"),
    ],
)
def test_config_error_says_where_what_and_how(error: ConfigError, text: str) -> None:
    """File, line, key, problem and remedy, each only if there is one."""
    assert str(error) == text
