"""The app of the process engine's tests: looks around, writes what it saw to its scratch, serves.

Standard library only; argv: port.
"""

import http.server
import json
import os
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path


def attempt(work: Callable[[], object]) -> str:
    """`done` or the name of the error."""
    try:
        work()
    except OSError as error:
        return type(error).__name__
    return "done"


def fill(folder: str) -> None:
    """Write 8 MiB."""
    path = Path(folder) / "big"
    try:
        path.write_bytes(b"x" * 8 * 2**20)
    finally:
        path.unlink(missing_ok=True)


def read_status(key: str) -> str:
    """A line of our /proc status."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(line.split()[1] for line in lines if line.startswith(f"{key}:"))


def look() -> dict[str, object]:
    """Everything that a test asks about."""
    return {
        "uid": os.getuid(),
        "cwd": os.getcwd(),
        "home": os.environ["HOME"],
        "home is writable": attempt(lambda: (Path.home() / "x").write_text("x")),
        "tmp": tempfile.gettempdir(),
        "secret": os.environ.get("SECRET"),
        "write to the code": attempt(lambda: Path("app.py.new").write_text("x")),
        "write to the root": attempt(lambda: Path("/x").write_text("x")),
        "fill /tmp": attempt(lambda: fill(tempfile.gettempdir())),
        "processes": len([name for name in os.listdir("/proc") if name.isdigit()]),
        "root": sorted(os.listdir("/")),
        "capabilities": read_status("CapEff"),
        "no new privileges": read_status("NoNewPrivs"),
        "read the identity": attempt(lambda: os.listdir(sys.argv[2])),
        "identity in the box": attempt(lambda: os.listdir("/run/lockgate/identity")),
    }


def stop(*_: object) -> None:
    """Say goodbye, so that a test sees that SIGTERM came through."""
    (Path(os.environ["SCRATCH"]) / "stopped").write_text("x")
    sys.exit(3)


def main() -> None:
    """Look, tell, serve."""
    signal.signal(signal.SIGTERM, stop)
    scratch = Path(os.environ["SCRATCH"])
    server = http.server.HTTPServer(
        ("127.0.0.1", int(sys.argv[1])), http.server.SimpleHTTPRequestHandler
    )
    (scratch / "found.new").write_text(json.dumps(look()))
    (scratch / "found.new").rename(scratch / "found.json")
    server.serve_forever()


if __name__ == "__main__":
    main()
