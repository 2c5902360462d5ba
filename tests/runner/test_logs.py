import asyncio
import os
from pathlib import Path

import pytest

from runner.errors import RefusedError
from runner.layout import VolumeLayout
from runner.logs import clean, find_log, read_log, read_tail


@pytest.fixture
def layout(tmp_path: Path) -> VolumeLayout:
    layout = VolumeLayout(tmp_path)
    layout.logs.mkdir()
    layout.builds.mkdir()
    return layout


def test_the_newest_log_is_found_by_number_not_by_name(layout: VolumeLayout) -> None:
    """Generation 10 is newer than generation 9."""
    for number in (9, 10):
        layout.app_log(number).write_text("x\n")
    assert find_log(layout, None, is_build=False) == layout.app_log(10)


def test_a_log_that_is_not_there_is_refused_in_words(layout: VolumeLayout) -> None:
    """Neither a named generation nor the newest one may end in a traceback."""
    with pytest.raises(RefusedError, match="generation 4 has no build log"):
        find_log(layout, 4, is_build=True)
    with pytest.raises(RefusedError, match="no log yet"):
        find_log(layout, None, is_build=False)


def test_the_last_lines_are_read(layout: VolumeLayout) -> None:
    """As many as asked for, oldest first."""
    path = layout.app_log(1)
    path.write_text("".join(f"line {n}\n" for n in range(50)))
    assert read_tail(path, 2) == ("line 48", "line 49")


def test_a_link_is_not_followed(layout: VolumeLayout, tmp_path: Path) -> None:
    """The directory belongs to the agent's uid: a link in it must not make root read for it."""
    secret = tmp_path / "secret"
    secret.write_text("canary\n")
    layout.app_log(1).symlink_to(secret)
    assert read_tail(layout.app_log(1), 5) == ()


def test_a_pipe_does_not_block_the_reader(layout: VolumeLayout) -> None:
    """A named pipe in place of a log is no log."""
    os.mkfifo(layout.app_log(1))
    assert read_tail(layout.app_log(1), 5) == ()


def test_control_characters_cannot_steer_a_terminal() -> None:
    """Bell, carriage return and the like are shown as what they are not; colours stay."""
    assert clean(b"a\x07b\rc\x1b[31md") == "a\ufffdb\ufffdc\x1b[31md"


async def test_following_goes_on_through_a_rotation(layout: VolumeLayout) -> None:
    """Lines written before and after the file was renamed away all come, once each."""
    path = layout.app_log(1)
    path.write_text("one\n")
    lines = read_log(path, 10, is_followed=True)
    assert await anext(lines) == "one"
    with path.open("a") as file:
        file.write("two\n")
    assert await asyncio.wait_for(anext(lines), 5) == "two"
    path.rename(path.with_suffix(".log.1"))
    path.write_text("three\n")
    assert await asyncio.wait_for(anext(lines), 5) == "three"
    await lines.aclose()
