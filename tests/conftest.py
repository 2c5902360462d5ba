"""What all tests share: the fixtures of `tests.support`, skips with reasons, worker groups."""

import pytest

from tests.support.collection import (
    group_what_is_shared,
    skip_what_cannot_run,
    use_default_signals,
)

pytest_plugins = ("tests.support.fixtures",)


def pytest_configure() -> None:
    """Before any test starts a process."""
    use_default_signals()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Decide per test whether it can run here and beside which others."""
    skip_what_cannot_run(items)
    group_what_is_shared(items)
