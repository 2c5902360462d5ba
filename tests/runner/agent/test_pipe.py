"""Bytes between the gateway and the app: all of them, both ways, to each end."""

import hashlib
import os
import random
import select
import socket
import ssl
import struct
import threading
import time
from pathlib import Path

import pytest

from runner.agent.loop import Loop
from runner.agent.pipe import Pipe
from tests.runner.agent.test_session import Client
from tests.support.agent import read_to_end, wait_until

SIZE = 50_000_000
RESET = struct.pack("ii", 1, 0)


def read_rss_bytes(pid: int) -> int:
    """Resident memory of a process (no privilege over it needed)."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def count_files(pid: int) -> int:
    """Open files of a process."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def test_keep_alive_requests_share_a_connection(agent):
    """Many requests on one connection are many answers on it, and one connection to the app."""
    before = agent.touched()
    with agent.connect() as tls:
        tls.sendall(b"ping 1024\n")
        for _ in range(500):
            tls.sendall(b"q" * 1024)
            got = 0
            while got < 1024:
                got += len(tls.recv(4096))
            assert got == 1024
    assert agent.touched() == before + 1


def test_a_request_that_comes_with_the_handshake_is_served(agent):
    """Bytes in the same packet as the end of the handshake are not lost."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = agent.gateway.wrap_bio(incoming, outgoing, server_hostname="hello.apps.lockgate.internal")
    with socket.create_connection(("127.0.0.1", agent.port), 10) as sock:
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                sock.sendall(outgoing.read())
                incoming.write(sock.recv(65536))
        tls.write(b"echo\nhello")
        sock.sendall(outgoing.read())
        while True:
            try:
                assert tls.read(100) == b"hello"
                break
            except ssl.SSLWantReadError:
                incoming.write(sock.recv(65536))


def test_50_mb_up_with_half_close(agent):
    """The app gets every byte, sees the end, and can still answer after it."""
    content = random.Random(1).randbytes(SIZE)
    with agent.connect() as tls:
        tls.sendall(b"digest\n")
        tls.sendall(content)
        told = end_and_read(tls)
    assert told == f"{SIZE} {hashlib.sha256(content).hexdigest()}\n".encode()


def end_and_read(tls: ssl.SSLSocket) -> bytes:
    """Send close_notify, then read all that still comes."""
    tls.setblocking(False)
    try:
        tls.unwrap()
    except ssl.SSLWantReadError:
        pass
    else:
        return b""  # the other side had ended before
    answer = b""
    while True:
        try:
            piece = tls.recv(65536)
        except ssl.SSLWantReadError:
            assert select.select([tls], [], [], 20)[0], "no answer after our end"
        except ssl.SSLZeroReturnError:
            return answer
        else:
            answer += piece
            if not piece:
                return answer


def test_50_mb_down_then_end(agent):
    """The gateway gets every byte and an orderly end."""
    content = random.Random(7).randbytes(SIZE)
    got = agent.ask(f"send {SIZE}")
    assert hashlib.sha256(got).digest() == hashlib.sha256(content).digest()


def test_app_that_ended_its_side_still_hears(agent):
    """After the app's end the gateway can go on sending, however much, and end in order."""
    content = random.Random(2).randbytes(5_000_000)
    with agent.connect() as tls:
        tls.sendall(b"send 10\n")
        assert len(read_exactly(tls, 10)) == 10
        time.sleep(0.1)  # the app's end has arrived
        tls.sendall(content)
        end_and_read(tls)
    wait_until((agent.work / "heard").exists)
    expected = f"{len(content)} {hashlib.sha256(content).hexdigest()}\n"
    wait_until(lambda: (agent.work / "heard").read_text() == expected)


def test_ends_may_cross_bytes_on_their_way(agent):
    """The app ends while a whole upload is on its way: neither side is cut off."""
    content = random.Random(3).randbytes(3_000_000)
    with agent.connect() as tls:
        tls.sendall(b"send 100000\n" + content)
        assert len(read_exactly(tls, 100_000)) == 100_000
        assert end_and_read(tls) == b""
    expected = f"{len(content)} {hashlib.sha256(content).hexdigest()}\n"
    wait_until(lambda: (agent.work / "heard").exists())
    wait_until(lambda: (agent.work / "heard").read_text() == expected)


def read_exactly(tls: ssl.SSLSocket, count: int) -> bytes:
    """`count` bytes."""
    got = b""
    while len(got) < count:
        piece = tls.recv(count - len(got))
        assert piece, "ended too early"
        got += piece
    return got


def test_both_ways_at_once(agent):
    """An echo of 20 MB arrives whole while it is still being sent."""
    content = random.Random(4).randbytes(20_000_000)
    with agent.connect() as tls:
        tls.sendall(b"echo\n")
        tls.settimeout(30)
        digest, got, sent = hashlib.sha256(), 0, 0
        tls.setblocking(False)
        while got < len(content):
            select.select([tls], [tls] if sent < len(content) else [], [], 10)
            try:
                while got < len(content):
                    piece = tls.recv(65536)
                    digest.update(piece)
                    got += len(piece)
            except ssl.SSLWantReadError:
                pass
            try:
                while sent < len(content):
                    sent += tls.send(content[sent : sent + 65536])
            except ssl.SSLWantWriteError:
                pass
    assert digest.digest() == hashlib.sha256(content).digest()


def test_a_slow_gateway_keeps_memory_bounded(agent):
    """Twenty visitors that do not read a 50 MB download cost a few buffers each, not the bytes."""
    assert agent.ask("send 1000000")
    before = read_rss_bytes(agent.process.pid)
    slow = [agent.connect() for _ in range(20)]
    for tls in slow:
        tls.sendall(f"send {SIZE}\n".encode())
    time.sleep(1.5)
    assert read_rss_bytes(agent.process.pid) - before < 20 * 400_000
    for tls in slow[:2]:
        assert len(read_to_end(tls)) == SIZE
    for tls in slow:
        tls.close()


def test_a_slow_app_keeps_memory_bounded(agent):
    """An app that does not read stops the upload, it does not fill the agent."""
    before = read_rss_bytes(agent.process.pid)
    with agent.connect() as tls:
        tls.sendall(b"mute\n")
        tls.settimeout(1)
        sent = 0
        try:
            while sent < 100_000_000:
                sent += tls.send(b"x" * 65536)
        except TimeoutError:
            pass
        assert sent < 30_000_000
    assert read_rss_bytes(agent.process.pid) - before < 2_000_000


def test_a_waiting_connection_costs_no_cpu(agent):
    """A blocked or half-closed connection does not spin the loop."""
    with agent.connect() as blocked, agent.connect() as half, agent.connect() as idle:
        blocked.sendall(f"send {SIZE}\n".encode())
        half.sendall(b"send 10\n")
        idle.sendall(b"echo\n")
        read_exactly(half, 10)
        time.sleep(0.5)
        before = read_cpu_ticks(agent.process.pid)
        time.sleep(1)
        assert read_cpu_ticks(agent.process.pid) - before <= 1


def read_cpu_ticks(pid: int) -> int:
    """User and system time in clock ticks (10 ms)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def test_200_connections_at_once(agent):
    """Two hundred parallel connections are served, each its own bytes."""
    answers: dict[int, bool] = {}

    def visit(number: int) -> None:
        content = random.Random(number).randbytes(100_000)
        with agent.connect() as tls:
            tls.sendall(b"echo\n" + content)
            answers[number] = read_exactly(tls, len(content)) == content

    threads = [threading.Thread(target=visit, args=(number,)) for number in range(200)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(answers) == 200
    assert all(answers.values())


def test_an_early_answer_to_an_upload_arrives(agent):
    """An app that refuses an upload and closes has its answer delivered."""
    with agent.connect() as tls:
        tls.sendall(b"early\n")
        got = b""
        try:
            for _ in range(200):
                tls.sendall(b"x" * 16384)
        except OSError:
            pass
        try:
            while piece := tls.recv(4096):
                got += piece
        except OSError:
            pass
    assert got == b"413 too large\n"


def test_an_early_answer_outlives_the_reset_behind_it(build_agent):
    """The app's answer and its reset are both there before the next piece of the upload fails."""
    client = Client(build_agent())
    loop = Loop(lambda error: pytest.fail(str(error)))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = socket.create_connection(listener.getsockname())
        far, _ = listener.accept()
    near.send(b"unread")
    far.sendall(b"413 too large\n")
    far.close()
    near.setblocking(False)
    client.far.sendall(client.say(b"the next piece"))
    closed: list[Pipe] = []
    Pipe(loop, client.session, near, closed.append).start()
    loop.call_after(0.1, loop.stop)
    loop.run()
    client.incoming.write(client.far.recv(65536))
    assert client.tls.read(100) == b"413 too large\n"
    with pytest.raises(ssl.SSLWantReadError):  # cut: no close_notify
        client.tls.read(100)
    assert client.far.recv(1) == b""
    assert closed == []  # lingers, so that no reset of ours overtakes the answer
    client.far.close()
    loop._is_running = True
    loop.call_after(0.1, loop.stop)
    loop.run()
    assert len(closed) == 1
    loop.close()


def test_a_reset_by_the_app_is_no_orderly_end(agent):
    """A cut response must not look complete: no close_notify."""
    with agent.connect() as tls:
        tls.sendall(b"reset\n")
        with pytest.raises(ssl.SSLError, match=r"(?i)eof"):  # its class depends on the Python
            read_to_end(tls)


@pytest.mark.parametrize("is_reset", [True, False], ids=["reset", "fin"])
def test_a_cut_by_the_gateway_is_no_orderly_end(agent, is_reset):
    """TCP that ends without close_notify is a cut, and the app learns that it was."""
    tls = agent.connect()
    tls.sendall(b"watch_end\nhalf an upload")
    wait_until(lambda: agent.touched() > 0)
    time.sleep(0.1)
    if is_reset:
        tls.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    tls.close()
    wait_until(lambda: (agent.work / "ended").exists())
    wait_until(lambda: (agent.work / "ended").read_text() == "reset")


def test_an_orderly_end_by_the_gateway_is_an_end_at_the_app(agent):
    """close_notify becomes FIN."""
    with agent.connect() as tls:
        tls.sendall(b"watch_end\nall of it")
        end_and_read(tls)
    wait_until(lambda: (agent.work / "ended").exists())
    wait_until(lambda: (agent.work / "ended").read_text() == "end")


@pytest.mark.root  # the agent hides its descriptors from its own user
def test_ended_connections_leave_no_files(agent):
    """After all kinds of ends the agent holds no socket more than before."""
    agent.ask("send 10")
    time.sleep(0.2)
    before = count_files(agent.process.pid)
    for command in ("send 100", "reset", "early", "echo", "mute", "watch_end"):
        tls = agent.connect()
        tls.sendall(command.encode() + b"\n" + b"x" * 30)
        time.sleep(0.05)
        tls.close()
        with agent.connect() as other:
            other.sendall(command.encode() + b"\nrest")
            time.sleep(0.05)
            other.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    wait_until(lambda: count_files(agent.process.pid) <= before)
