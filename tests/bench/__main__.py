"""`python -m tests.bench`: every table, one after another; each is a program of its own too.

Invariants: one benchmark at a time, in a process of its own; a benchmark that fails is named at the
end, and the others still run.
"""

import subprocess
import sys

BENCHES = ("deploy", "gateway", "agent")


def main() -> int:
    """Run them; 1 if any failed."""
    failed = []
    for name in sys.argv[1:] or BENCHES:
        print(f"\n== {name}", flush=True)
        argv = (sys.executable, "-m", f"tests.bench.{name}")
        if subprocess.run(argv, stdin=subprocess.DEVNULL).returncode:
            failed.append(name)
    if failed:
        print("failed:", *failed, file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
