"""What a proxied request costs: the gateway beside nginx, both with TLS in and mutual TLS out.

Run as `python -m tests.bench.gateway [--seconds N] [--rounds N]`. Rounds are interleaved and the
CPU time of the proxy's own process is what counts, because the machine is shared and noisy.

Invariants: traffic stays on 127.0.0.1; everything started is stopped; both proxies verify the
same upstream with the same certificates and write an access log.
"""

import argparse
import asyncio
import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from gateway import GatewayClient, RouteEntry, TableDocument, UpstreamEntry
from pki import PkiClient, PkiError, load_or_create_master_key, make_key_and_csr
from tests.support.ports import find_free_ports

ROOT = Path(__file__).parents[2]
HOST = "localhost"
DOMAIN = "lockgate.internal"
SERVER_NAME = f"hello.apps.{DOMAIN}"
TICKS = os.sysconf("SC_CLK_TCK")
LARGE_BYTES = 200 * 1000 * 1000
PROXY_CORE, LOAD_CORE = "0", "1"

NGINX = """
daemon off; worker_processes 1; pid {folder}/{name}.pid; error_log {folder}/{name}.err;
user root;
events {{ worker_connections 4096; }}
http {{
  access_log {log}; keepalive_requests 1000000; ssl_session_cache shared:s:1m;
  client_max_body_size 0; sendfile off;
  client_body_temp_path {folder}/{name}-b; proxy_temp_path {folder}/{name}-p;
  fastcgi_temp_path {folder}/{name}-f; uwsgi_temp_path {folder}/{name}-u;
  scgi_temp_path {folder}/{name}-s;
  {body}
}}
"""
UPSTREAM = """
  server {{
    listen 127.0.0.1:{port} ssl; ssl_protocols TLSv1.3; ssl_session_tickets off;
    ssl_certificate {folder}/app.crt; ssl_certificate_key {folder}/app.key;
    ssl_client_certificate {folder}/roots.pem; ssl_verify_client on; ssl_verify_depth 2;
    location / {{ default_type text/plain; return 200 "{small}"; }}
    location /large {{ alias {folder}/large; }}
  }}
"""
PROXY = """
  upstream app {{ server 127.0.0.1:{upstream}; keepalive 64; keepalive_requests 1000000; }}
  server {{
    listen 127.0.0.1:{port} ssl; ssl_protocols TLSv1.2 TLSv1.3;
    ssl_certificate {folder}/visitor.crt; ssl_certificate_key {folder}/visitor.key;
    location / {{
      proxy_pass https://app; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_set_header Host $http_host; proxy_set_header X-Forwarded-For $remote_addr;
      proxy_set_header X-Forwarded-Proto https; proxy_buffering off; proxy_request_buffering off;
      proxy_ssl_certificate {folder}/gateway.crt; proxy_ssl_certificate_key {folder}/gateway.key;
      proxy_ssl_trusted_certificate {folder}/roots.pem; proxy_ssl_verify on;
      proxy_ssl_verify_depth 2; proxy_ssl_name {server_name}; proxy_ssl_server_name on;
      proxy_ssl_protocols TLSv1.3; proxy_ssl_session_reuse off;
    }}
  }}
"""


@dataclass(frozen=True)
class Proxy:
    """A proxy under load: the process whose CPU counts, and where it listens."""

    name: str
    pid: int
    port: int


@dataclass(frozen=True)
class Figure:
    """One run: CPU microseconds of the proxy per unit, and units per second."""

    cpu_us: float
    per_s: float


def read_cpu_s(pid: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def read_peak_kb(pid: int) -> int:
    """The largest resident size of a process so far."""
    found = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) if found else 0


def run_wrk(proxy: Proxy, seconds: int, connections: int, *fields: str) -> Figure:
    """Load with wrk; refuses to count a run in which anything failed."""
    url = f"https://{HOST}:{proxy.port}/"
    headers = [part for entry in fields for part in ("-H", entry)]
    before, started = read_cpu_s(proxy.pid), time.monotonic()
    done = subprocess.run(
        [
            "taskset",
            "-c",
            LOAD_CORE,
            "wrk",
            "-t1",
            f"-c{connections}",
            f"-d{seconds}",
            *headers,
            url,
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=seconds + 60,
    )
    spent, elapsed = read_cpu_s(proxy.pid) - before, time.monotonic() - started
    found = re.search(r"(\d+) requests in", done.stdout)
    if found is None or "Non-2xx" in done.stdout or "Socket errors" in done.stdout:
        raise SystemExit(f"{proxy.name}: the load was not served:\n{done.stdout}")
    return Figure(spent * 1e6 / int(found[1]), int(found[1]) / elapsed)


def run_download(proxy: Proxy) -> Figure:
    """One large body by curl, counted in megabytes."""
    before, started = read_cpu_s(proxy.pid), time.monotonic()
    url = f"https://{HOST}:{proxy.port}/large"
    command = ["taskset", "-c", LOAD_CORE, "curl", "-sfk", "-o", "/dev/null", url]
    subprocess.run(command, check=True, timeout=120)
    spent, elapsed = read_cpu_s(proxy.pid) - before, time.monotonic() - started
    return Figure(spent * 1e6 / (LARGE_BYTES / 1e6), LARGE_BYTES / 1e6 / elapsed)


@contextmanager
def start(argv: list[str], core: str, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process pinned to a core, ended by SIGTERM."""
    with log.open("wb") as out:
        process = subprocess.Popen(
            ["taskset", "-c", core, *argv], cwd=ROOT, stdout=out, stderr=subprocess.STDOUT
        )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def await_port(port: int) -> None:
    """Wait until somebody listens."""
    for _ in range(200):
        done = subprocess.run(["curl", "-sk", "-o", "/dev/null", f"https://127.0.0.1:{port}/"])
        if done.returncode not in {7}:
            return
        time.sleep(0.05)
    raise SystemExit(f"nobody listens on {port}")


def find_child(pid: int) -> int:
    """The worker of an nginx master."""
    for _ in range(100):
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        if children:
            return int(children[0])
        time.sleep(0.02)
    raise SystemExit("nginx has no worker")


def write_nginx(folder: Path, name: str, body: str, log: str) -> list[str]:
    """Write a configuration; returns the command that runs it."""
    path = folder / f"{name}.conf"
    path.write_text(NGINX.format(folder=folder, name=name, log=log, body=body))
    return [shutil.which("nginx") or "/usr/sbin/nginx", "-c", str(path)]


async def prepare(folder: Path) -> None:
    """Have every certificate issued by the real PKI and written where nginx reads it."""
    pki = PkiClient(folder / "run" / "pki.sock")
    for _ in range(200):
        try:
            await pki.register_app("hello", 1, [HOST])
            break
        except PkiError:
            await asyncio.sleep(0.05)
    pairs = {
        "app": make_key_and_csr(),
        "gateway": make_key_and_csr(),
        "visitor": make_key_and_csr(),
    }
    leaves = {
        "app": await pki.issue_app("hello", 1, pairs["app"].csr_pem),
        "gateway": await pki.issue_gateway(pairs["gateway"].csr_pem),
        "visitor": await pki.issue_visitor(HOST, pairs["visitor"].csr_pem),
    }
    for name, leaf in leaves.items():
        (folder / f"{name}.crt").write_bytes(leaf.chain_pem)
        (folder / f"{name}.key").write_bytes(pairs[name].key_pem)
    (folder / "roots.pem").write_bytes(await pki.fetch_bundle())
    await pki.close()


async def publish(folder: Path, port: int) -> int:
    """Give the gateway its table; returns its pid."""
    upstream = UpstreamEntry(
        name="hello/1",
        app="hello",
        address=f"127.0.0.1:{port}",
        server_name=SERVER_NAME,
        spiffe_id=f"spiffe://{DOMAIN}/app/hello/1",
    )
    route = RouteEntry(hosts=(HOST,), app="hello", upstream="hello/1")
    async with GatewayClient(folder / "run" / "gateway.sock") as client:
        await client.put_table(TableDocument(version=1, routes=(route,), upstreams=(upstream,)))
        return (await client.fetch_status()).pid


def measure(
    proxies: list[Proxy], rounds: int, run: Callable[[Proxy], Figure]
) -> dict[str, list[Figure]]:
    """Interleaved rounds."""
    figures: dict[str, list[Figure]] = {proxy.name: [] for proxy in proxies}
    for _ in range(rounds):
        for proxy in proxies:
            figures[proxy.name].append(run(proxy))
    return figures


def say(title: str, unit: str, figures: dict[str, list[Figure]]) -> float:
    """Print one table; returns the gateway's CPU as a multiple of nginx's."""
    print(f"\n{title}")
    print(f"  {'':8} {'CPU µs per ' + unit:>34} {unit + 's/s':>14}")
    medians = {}
    for name, runs in figures.items():
        medians[name] = statistics.median(run.cpu_us for run in runs)
        each = ", ".join(f"{run.cpu_us:.1f}" for run in runs)
        speed = statistics.median(run.per_s for run in runs)
        print(f"  {name:8} {each:>34} {speed:>14,.0f}")
    ratio = medians["gateway"] / medians["nginx"]
    print(f"  gateway / nginx = {ratio:.2f}")
    return ratio


def main() -> None:
    """Start everything, measure, print, stop everything."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=["request", "handshake", "download"])
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="lockgate-bench-") as name:
        ratios = bench(Path(name), options)
    if options.json:
        print(json.dumps(ratios))


def bench(folder: Path, options: argparse.Namespace) -> dict[str, float]:
    """All tables; returns the ratios by name."""
    folder.chmod(0o755)
    (folder / "state").mkdir(mode=0o711)
    load_or_create_master_key(folder / "state" / "master.key")
    (folder / "large").write_bytes(b"x" * LARGE_BYTES)
    app, nginx, https = find_free_ports(3)
    config = folder / "lockgate.yaml"
    (folder / "access.log").touch()
    (folder / "access.log").chmod(0o666)
    config.write_text(
        f"state_dir: {folder}/state\nrun_dir: {folder}/run\n"
        f"gateway:\n  uid: {os.getuid()}\n  https: 127.0.0.1:{https}\n  http: null\n"
        f"  access_log: {folder}/access.log\n"
    )
    python = [sys.executable, "-m"]
    with start([*python, "pki", "--config", str(config)], LOAD_CORE, folder / "pki.out"):
        asyncio.run(prepare(folder))
        small = "x" * 1024
        body = UPSTREAM.format(folder=folder, port=app, small=small)
        upstream = write_nginx(folder, "upstream", body, "off")
        body = PROXY.format(folder=folder, port=nginx, upstream=app, server_name=SERVER_NAME)
        proxy = write_nginx(folder, "proxy", body, f"{folder}/nginx.log")
        with (
            start(upstream, LOAD_CORE, folder / "upstream.out"),
            start(proxy, PROXY_CORE, folder / "proxy.out") as master,
            start([*python, "gateway", "--config", str(config)], PROXY_CORE, folder / "gw.out"),
        ):
            for port in (app, nginx, https):
                await_port(port)
            proxies = [
                Proxy("nginx", find_child(master.pid), nginx),
                Proxy("gateway", asyncio.run(publish(folder, app)), https),
            ]
            return run_tables(proxies, options)


def run_tables(proxies: list[Proxy], options: argparse.Namespace) -> dict[str, float]:
    """Each table that was asked for."""
    runs: dict[str, tuple[str, str, Callable[[Proxy], Figure]]] = {
        "request": (
            "small requests: 1 KiB, 64 keep-alive connections",
            "request",
            lambda proxy: run_wrk(proxy, options.seconds, 64),
        ),
        "handshake": (
            "full TLS handshakes: one request per connection",
            "handshake",
            lambda proxy: run_wrk(proxy, options.seconds, 16, "Connection: close"),
        ),
        "download": ("one 200 MB download", "MB", run_download),
    }
    ratios = {}
    for name, (title, unit, run) in runs.items():
        if options.only in {None, name}:
            run(proxies[1])  # warm
            ratios[name] = say(title, unit, measure(proxies, options.rounds, run))
    for proxy in proxies:
        print(f"  {proxy.name}: {read_peak_kb(proxy.pid) / 1024:.0f} MiB resident at most")
    return ratios


if __name__ == "__main__":
    main()
