"""What the agent costs: CPU per request, time to its door and to its app, memory.

`python -m tests.bench.agent [--python PATH]` prints a table. CPU is the scheduler's own count of
the agent's process (nanoseconds in /proc/PID/schedstat), so the load's and the app's are not in it.
Invariants: traffic on loopback only, bounded in count and time; everything started is ended.
"""

import argparse
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.agent import AgentUnderTest, Authority, wait_until

REQUEST_BYTES = 1024
BULK_BYTES = 200_000_000
BUDGETS = {"cpu": "≤ 45 µs, dream 30", "start": "< 60 ms", "memory": "≤ 16 MB, dream 12"}


@contextmanager
def run_agent(python: str, **changes: object) -> Iterator[AgentUnderTest]:
    """A started agent in a folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        agent = AgentUnderTest(Path(folder), Authority(), **changes)
        try:
            yield agent.start(python=python)
        finally:
            agent.close()


def read_cpu_us(pid: int) -> float:
    """CPU time of a process so far."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1000


def read_pss_kib(pid: int) -> int:
    """Proportional memory: what is shared counts by its share. Root only."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    raise ValueError("no Pss")


def measure_requests(agent: AgentUnderTest, connections: int, rounds: int) -> float:
    """µs of the agent per request; each connection has one request on its way."""
    opened = [agent.connect() for _ in range(connections)]
    for tls in opened:
        tls.sendall(b"ping %d\n" % REQUEST_BYTES)
    request = b"q" * REQUEST_BYTES
    before = 0.0
    for number in range(rounds + 50):
        if number == 50:
            before = read_cpu_us(agent.process.pid)
        for tls in opened:
            tls.sendall(request)
        for tls in opened:
            got = 0
            while got < REQUEST_BYTES:
                got += len(tls.recv(4096))
    spent = read_cpu_us(agent.process.pid) - before
    for tls in opened:
        tls.close()
    return spent / (rounds * connections)


def measure_bulk(agent: AgentUnderTest, is_upload: bool) -> tuple[float, float]:
    """MB/s and ms of the agent per MB."""
    before, begin = read_cpu_us(agent.process.pid), time.monotonic()
    with agent.connect(timeout=120) as tls:
        if is_upload:
            tls.sendall(b"watch_end\n")
            piece = b"x" * 262144
            for _ in range(BULK_BYTES // len(piece)):
                tls.sendall(piece)
        else:
            tls.sendall(f"send {BULK_BYTES}\n".encode())
            while tls.recv(262144):
                pass
    took = time.monotonic() - begin
    spent = read_cpu_us(agent.process.pid) - before
    return BULK_BYTES / 1e6 / took, spent / 1000 / (BULK_BYTES / 1e6)


def measure_handshake(agent: AgentUnderTest, count: int) -> float:
    """µs of the agent per connection: mutual handshake, one byte, end."""
    before = read_cpu_us(agent.process.pid)
    for _ in range(count):
        with agent.connect() as tls:
            tls.sendall(b"echo\nx")
            tls.recv(1)
    return (read_cpu_us(agent.process.pid) - before) / count


def measure_start(python: str, runs: int) -> tuple[float, float]:
    """Median ms from exec to a finished handshake, and to the app's first instruction."""
    doors, apps = [], []
    for _ in range(runs):
        with tempfile.TemporaryDirectory() as folder:
            agent = AgentUnderTest(Path(folder), Authority())
            agent.configure(argv=["/bin/sh", "-c", "date +%s%N; sleep 5"])
            begin, wall = time.monotonic(), time.time_ns()
            agent.start(python=python, is_up=False)
            try:
                while not _is_open(agent):
                    pass
                doors.append((time.monotonic() - begin) * 1000)
                wait_until(lambda agent=agent: agent.log().count("\n") >= 2)
                apps.append((int(agent.log().splitlines()[1].split()[1]) - wall) / 1e6)
            finally:
                agent.close()
    return statistics.median(doors), statistics.median(apps)


def _is_open(agent: AgentUnderTest) -> bool:
    try:
        agent.connect().close()
    except ConnectionRefusedError:
        time.sleep(0.0005)
        return False
    return True


def measure_memory(python: str) -> dict[str, int]:
    """PSS in KiB: alone on the machine, beside an app of the same Python, with idle connections."""
    found = {}
    with run_agent(python, argv=["/bin/sh", "-c", "echo up; sleep 60"]) as agent:
        agent.connect().close()
        found["alone"] = read_pss_kib(agent.process.pid)
    with run_agent(python) as agent:
        agent.tell()
        found["with a Python app"] = read_pss_kib(agent.process.pid)
        idle = []
        threads = [
            threading.Thread(target=lambda: idle.append(agent.connect())) for _ in range(200)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        before = found["with a Python app"]
        found["per idle connection"] = (read_pss_kib(agent.process.pid) - before) // len(idle)
        for tls in idle:
            tls.close()
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--python", default=sys.executable, help="the interpreter of the image")
    parser.add_argument("--rounds", type=int, default=4000)
    python = parser.parse_args().python
    rounds = parser.parse_args().rounds
    rows: list[tuple[str, str, str]] = []
    door, app = measure_start(python, 15)
    rows.append(("start to the first handshake done", f"{door:.0f} ms", BUDGETS["start"]))
    rows.append(("start to the app's first instruction", f"{app:.0f} ms", ""))
    with run_agent(python) as agent:
        for connections in (1, 8):
            spent = measure_requests(agent, connections, rounds)
            text = f"CPU per 1 KiB request, {connections} connection(s)"
            rows.append((text, f"{spent:.1f} µs", BUDGETS["cpu"]))
        rows.append(("CPU per handshake", f"{measure_handshake(agent, 300):.0f} µs", ""))
        for name, is_upload in (("upload", True), ("download", False)):
            speed, spent = measure_bulk(agent, is_upload)
            rows.append((f"200 MB {name}", f"{speed:.0f} MB/s, {spent:.2f} ms CPU per MB", ""))
    for name, kib in measure_memory(python).items():
        budget = "" if name.startswith("per") else BUDGETS["memory"]
        rows.append((f"memory (PSS), {name}", f"{kib} KiB", budget))
    for name, value, budget in rows:
        print(f"{name:45} {value:28} {budget}")


if __name__ == "__main__":
    main()
