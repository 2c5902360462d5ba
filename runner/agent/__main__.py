"""Start of the agent: `python3 -I -S -B <this folder> <agent.json>`.

Invariant: nothing beside this folder becomes importable, so no file next to it can stand in for a
module of the standard library.
"""

import sys


def _name_folder() -> str:
    """Make the folder that Python was given a package, for its relative imports; its name."""
    if __package__:
        return __package__
    name = "lockgate_agent"
    package = type(sys)(name)
    package.__path__ = [sys.path.pop(0)]
    sys.modules[name] = package
    return name


if __name__ == "__main__":
    sys.exit(__import__(f"{_name_folder()}.serve", fromlist=("main",)).main(sys.argv))
