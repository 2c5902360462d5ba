"""What a deploy costs: from nothing, after a change of code, from a standstill; per engine.

Run as `python -m tests.bench.deploy [--rounds N]`. Wall-clock times as an operator sees them, the
CLI's own start included; medians, because the machine is shared and noisy.

Invariants: installations of its own below temporary directories, stopped and removed at the end.
"""

import argparse
import statistics
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from tests.support.fixtures import Site, open_site
from tests.support.repos import (
    HELLO_APP,
    PROBE_APP,
    Repo,
    build_hello_spec,
    build_probe_spec,
    make_repo,
)

ENGINES = ("docker", "process")
Row = tuple[str, list[float]]


def measure_restart(site: Site, app: str, path: str, rounds: int) -> list[float]:
    """Seconds from `lockgate restart` to the first answer of the new process."""
    taken = []
    for _ in range(rounds):
        begin = time.monotonic()
        done = site.lockgate.lockgate("restart", app)
        assert done.code == 0, done.text
        assert site.visitor.request(f"{app}.localhost", path).status == 200
        taken.append(time.monotonic() - begin)
    return taken


def measure_code_changes(
    site: Site, repo: Repo, spec: dict[str, object], rounds: int
) -> list[float]:
    """Seconds of `lockgate deploy` when only a text file changed."""
    taken = []
    for number in range(rounds):
        repo.commit({"note.txt": f"change {number}"})
        taken.append(site.lockgate.deploy(spec).seconds)
    return taken


def measure_nothing(site: Site, spec: dict[str, object], rounds: int) -> list[float]:
    """Seconds of `lockgate deploy` when there is nothing to do."""
    return [site.lockgate.deploy(spec).seconds for _ in range(rounds)]


def measure_engine(engine: str, folder: Path, rounds: int) -> list[Row]:
    """The table of one engine."""
    with ExitStack() as stack:
        site = open_site(stack, engine)
        hello, probe = (
            make_repo(folder / "hello", HELLO_APP),
            make_repo(folder / "probe", PROBE_APP),
        )
        hello_spec, probe_spec = build_hello_spec(hello), build_probe_spec("probe", probe)
        return [
            ("first deploy, standard library only", [site.lockgate.deploy(probe_spec).seconds]),
            (
                "first deploy, hello, packages downloaded",
                [site.lockgate.deploy(hello_spec).seconds],
            ),
            ("code-only change, hello", measure_code_changes(site, hello, hello_spec, rounds)),
            ("nothing to do, hello", measure_nothing(site, hello_spec, rounds)),
            ("restart to first answer, probe", measure_restart(site, "probe", "/", rounds)),
            (
                "restart to first answer, hello",
                measure_restart(site, "hello", "/_stcore/health", rounds),
            ),
        ]


def print_table(engine: str, rows: list[Row]) -> None:
    """One line per figure: median, smallest, largest, how many."""
    print(f"\nengine {engine}{'':<34}{'median':>10}{'min':>9}{'max':>9}{'n':>4}")
    for name, taken in rows:
        figures = f"{statistics.median(taken):>8.2f} s{min(taken):>7.2f} s{max(taken):>7.2f} s"
        print(f"  {name:<42}{figures}{len(taken):>4}")


def main() -> None:
    """Both engines."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    for engine in ENGINES:
        with tempfile.TemporaryDirectory(prefix="lgb-") as folder:
            print_table(engine, measure_engine(engine, Path(folder), options.rounds))


if __name__ == "__main__":
    main()
