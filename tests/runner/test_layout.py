from pathlib import Path

from runner.layout import VolumeLayout


def test_everything_of_an_app_lies_below_its_volume() -> None:
    """No path leaves the encrypted directory."""
    layout = VolumeLayout(Path("/vol"))
    paths = [
        layout.generations,
        layout.environments,
        layout.scratch,
        layout.logs,
        layout.builds,
        layout.code(3),
        layout.environment("e1"),
        layout.app_log(3),
        layout.build_log(3),
    ]
    assert all(path.is_relative_to("/vol") for path in paths)
    assert len(set(paths)) == len(paths)
