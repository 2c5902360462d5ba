from pathlib import Path

import pytest

from tests.support.assembly import Assembly, assemble


@pytest.fixture
def assembly(tmp_path: Path) -> Assembly:
    """The runner's rooms over fakes, with one repository."""
    return assemble(tmp_path)
