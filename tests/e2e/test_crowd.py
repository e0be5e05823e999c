"""Many clients at once: idle ones, slow ones, deaf ones, and those who only shake hands. SLUICE_LONG=1 makes all of it bigger."""
import base64
import contextlib
import multiprocessing
import os
import selectors
import socket
import ssl
import statistics
import subprocess
import threading
import time

import pytest
from conftest import USERS
from lab.certificates import trusting
from lab.client import Client, Closed
from lab.gateway import can_connect
from lab.machine import IS_LONG, SANITIZER, SLOWNESS, free_port, patience, raise_open_files, tool, wait_until
from test_idle import connect, read_until

CROWD = int(10_000 / SLOWNESS ** 2)
SLOW = int(5_000 / SLOWNESS ** 2)
OCTET_EACH = 10  # seconds
SESSIONS = 50
ROUNDS = 8 if IS_LONG else 3
WINDOW = 5 if IS_LONG else 2  # seconds
MESSAGE = b"MAIL FROM:<a@example.com>\r\nRCPT TO:<to@example.net>\r\nDATA\r\nSubject: x\r\n\r\nbody\r\n.\r\n"
STRANGERS = {"networks": ["127.0.0.1/32"], "domains": ["example.net"]}
UNCOUNTED = {"client": {"connections": 0}, "network": {"connections": 0}}

needs_files = pytest.mark.skipif(not raise_open_files(CROWD + 2000), reason=f"{CROWD} open files are not allowed here")


@pytest.fixture(name="black_hole")
def plain_sink():
    """Postfix's smtp-sink, which forgets everything: the address to route to."""
    port = free_port()
    user = ["-u", "nobody"] if os.geteuid() == 0 else []
    with subprocess.Popen([tool("smtp-sink"), *user, f"127.0.0.1:{port}", "1024"], stdin=subprocess.DEVNULL,
                          stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        yield f"smtp://127.0.0.1:{port}"
        process.terminate()


@pytest.fixture(name="secure")
def options_of_tls(authority):
    return {"certificate": authority.server.path, "private_key": authority.server.key}


# -- Idle and slow ------------------------------------------------------------------------------------------------

def replies_of(clients, count):
    """Reads until each client has had so many final reply lines; returns them."""
    got = {client: b"" for client in clients}
    waiting = set(clients)
    with selectors.DefaultSelector() as selector:
        for client in clients:
            selector.register(client, selectors.EVENT_READ)
        while waiting:
            ready = selector.select(patience(30))
            assert ready, f"{len(waiting)} clients wait in vain"
            for key, _ in ready:
                data = key.fileobj.recv(4096)
                assert data, f"a client was sent away after {got[key.fileobj]!r}"
                got[key.fileobj] += data
                if got[key.fileobj].count(b"\r\n") >= count:
                    waiting.discard(key.fileobj)
                    selector.unregister(key.fileobj)
    return got.values()


@needs_files
def test_one_in_a_hundred_is_active(sluice, black_hole):
    """Those who speak are served, and those who do not are still there."""
    gateway = sluice(black_hole, limits={"connections": CROWD * 2}, rates=UNCOUNTED)
    clients = [connect(gateway.port, number) for number in range(CROWD)]
    read_until(clients, b"220 ")
    for client in clients:
        client.sendall(b"EHLO client.example\r\n")
    read_until(clients, b"\r\n250 ")
    active = clients[::100]
    rounds = 100 if IS_LONG else 20
    started = time.monotonic()
    for _ in range(rounds):
        for client in active:
            client.sendall(MESSAGE)
        for replies in replies_of(active, 4):
            assert replies.count(b"250 2.0.0 Ok: queued as") == 1, replies
    rate = rounds * len(active) / (time.monotonic() - started)
    print(f"{rate:.0f} messages/s of {len(active)} clients among {CROWD}")
    assert gateway.stats()["messages_accepted"] == rounds * len(active)
    for client in clients:
        client.sendall(b"NOOP\r\n")
    assert all(reply == b"250 2.0.0 Ok\r\n" for reply in replies_of(clients, 1))
    for client in clients:
        client.close()
    wait_until(lambda: gateway.stats()["connections_open"] == 0, 20, "all connections to be gone")


def be_slow(port, count, is_connected):
    """A process: so many clients, each of which says one octet every ten seconds."""
    clients = [socket.create_connection(("127.0.0.1", port), source_address=(f"127.0.1.{1 + number % 100}", 0))
               for number in range(count)]
    read_until(clients, b"220 ")
    is_connected.set()
    started = time.monotonic()
    said = 0
    while True:
        time.sleep(0.01)
        due = int((time.monotonic() - started) * count / OCTET_EACH)
        for number in range(said, due):
            clients[number % count].send(b"E" if number < count else b"x")
        said = due


@contextlib.contextmanager
def slow_crowd(gateway, count):
    if not count:
        yield
        return
    forks = multiprocessing.get_context("fork")
    is_connected = forks.Event()
    process = forks.Process(target=be_slow, args=(gateway.port, count, is_connected), daemon=True)
    process.start()
    try:
        assert is_connected.wait(patience(30)), "the slow clients did not get in"
        yield
        assert process.is_alive(), "a slow client was sent away"
    finally:
        process.kill()
        process.join()
        time.sleep(patience(0.3))  # The gateway closes its ends.


def sample(gateway, seconds):
    """How long the 250 took for each message of one client while many sessions load the gateway, in ms."""
    took = []
    load = [tool("smtp-source"), "-s", str(SESSIONS), "-m", "10000000", "-l", "4000", "-f", "source@example.com",
            "-t", "to@example.net", f"127.0.0.1:{gateway.port}"]
    with subprocess.Popen(load, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as source:
        try:
            with gateway.client() as client:
                client.hello()
                end = time.monotonic() + seconds
                while time.monotonic() < end:
                    client.envelope("a@example.com", ["to@example.net"])
                    started = time.monotonic()
                    client.send(b"Subject: x\r\n\r\nbody\r\n.\r\n")
                    client.expect(250)
                    took.append((time.monotonic() - started) * 1000)
            assert source.poll() is None, "the load ended by itself"
        finally:
            source.kill()
    return took


def p99(samples):
    return statistics.quantiles(samples, n=100)[-1]


@needs_files
def test_slow_clients_do_not_hold_up_the_others(sluice, black_hole):
    """Windows with and without the slow crowd take turns, so that both see the same machine."""
    gateway = sluice(black_hole, start=False, limits={"connections": SLOW * 2 + 200}, rates=UNCOUNTED, relay=STRANGERS,
                     log={"level": "warning"})  # A line for each message would be measured, too.
    gateway.launch()
    wait_until(lambda: can_connect("127.0.0.1", gateway.port), 20, "the gateway to listen")
    times = {0: [], SLOW: []}  # p99 of each window
    sample(gateway, WINDOW / 2)  # The log's files are made.
    for _ in range(ROUNDS):
        for count, samples in times.items():
            with slow_crowd(gateway, count):
                samples.append(p99(sample(gateway, WINDOW)))
    shown = {count: [round(one, 1) for one in samples] for count, samples in times.items()}
    print(f"p99 in ms by the number of slow clients: {shown}")
    before, beside = min(times[0]), min(times[SLOW])  # What else the machine does can only add.
    if SANITIZER == "none":
        assert beside <= 1.5 * before + 20, f"p99 rose from {before:.1f} to {beside:.1f} ms"


# -- Deaf ---------------------------------------------------------------------------------------------------------

DEAF = 5
HELD_EACH = 2 << 20  # One turn's receive buffers and the replies to what was in them.
FLOOD = b"NOOP\r\n" * 10000


def flood(client):
    """Sends commands until no more are taken for a while; returns how many octets were."""
    sent = 0
    client.settimeout(patience(0.3))
    try:
        while sent < 16 << 20:
            sent += client.send(FLOOD)
    except (socket.timeout, ssl.SSLWantWriteError, BlockingIOError):
        pass
    return sent


def deaf_client(gateway, context=None, room=4096):
    """A client with little room for what it will not read."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
    client.settimeout(patience(10))
    client.connect(("127.0.0.1", gateway.port_of("submissions" if context else "smtp")))
    return context.wrap_socket(client, server_hostname="relay.example.com") if context else client


@pytest.mark.parametrize("is_secure", [False, True], ids=["clear", "TLS"])
def test_clients_that_read_nothing_do_not_fill_memory(sluice, sink, secure, authority, is_secure):
    """Replies that nobody reads hold up their client's commands; they do not grow."""
    gateway = sluice(sink(), tls=secure, listeners={"submissions": {"tls": "implicit"}})
    context = trusting(authority) if is_secure else None
    with gateway.client() as client:
        client.hello().quit()
    before = gateway.rss()
    deaf = [deaf_client(gateway, context) for _ in range(DEAF)]
    said = 0
    while sent := sum(flood(client) for client in deaf):
        said += sent
        assert said < DEAF << 24, f"{said >> 10} KiB of commands were taken without a reply being read"
    grown = gateway.rss() - before
    print(f"{grown >> 10} KiB for {DEAF} deaf clients that said {said >> 10} KiB")
    assert SANITIZER != "none" or grown < DEAF * HELD_EACH, f"{grown >> 10} KiB for {DEAF} clients"
    with gateway.client() as client:
        client.hello().quit()
    for client in deaf:
        client.close()
    wait_until(lambda: gateway.stats()["connections_open"] == 0, 10, "the deaf clients to be gone")


def test_a_deaf_client_that_listens_again_gets_all_replies(sluice, sink):
    gateway = sluice(sink())
    count = 2_000_000
    client = deaf_client(gateway, room=1 << 16)
    client.sendall(b"EHLO client.example\r\n")
    said = memoryview(b"NOOP\r\n" * count + b"QUIT\r\n")
    client.settimeout(patience(0.3))
    with contextlib.suppress(socket.timeout):
        while said:
            said = said[client.send(said):]
    assert said, "nothing held the client up"
    client.settimeout(patience(30))
    sender = threading.Thread(target=client.sendall, args=(said,))
    sender.start()
    heard = b""
    with client:
        while not heard.endswith(b"Bye\r\n"):
            heard += (data := client.recv(1 << 20))
            assert data, f"the gateway closed after {heard[-100:]!r}"
        sender.join()
    assert heard.endswith(b"\r\n" + b"250 2.0.0 Ok\r\n" * count + b"221 2.0.0 Bye\r\n")


# -- Handshakes ---------------------------------------------------------------------------------------------------

HANDSHAKES = 20


def handshake(gateway, listener, source, context):
    """Whether a client from there got through its handshake and was greeted; False if it was refused as it should be."""
    with Client("127.0.0.1", gateway.port_of(listener), source=source) as client:
        if listener == "smtp":
            client.hello()
            client.send(b"STARTTLS\r\n")
            code, lines = client.reply()
            if code == 421:
                assert lines[-1].startswith(b"421 4.7.0")
                client.assert_closed()
                return False
            assert code == 220, lines
        try:
            client.socket = context.wrap_socket(client.socket, server_hostname="relay.example.com")
            client.command("EHLO b", 250) if listener == "smtp" else client.expect(220)
        except (ssl.SSLError, ConnectionResetError, Closed):
            return False
        return True


@pytest.mark.parametrize("listener", ["smtp", "submissions"])
def test_a_flood_of_handshakes_is_refused_to_its_sender_alone(sluice, sink, secure, authority, listener):
    gateway = sluice(sink(), tls=secure, relay=STRANGERS, listener={"tls": "starttls"},
                     listeners={"submissions": {"tls": "implicit"}},
                     rates={"client": {"handshakes_per_minute": HANDSHAKES, "connections": 0}})
    context = trusting(authority)
    flooded = [handshake(gateway, listener, "127.0.0.2", context) for _ in range(HANDSHAKES * 2)]
    assert all(flooded[:HANDSHAKES]), f"refused within the limit: {flooded}"
    assert not any(flooded[HANDSHAKES + 1:]), f"served beyond the limit: {flooded}"
    assert handshake(gateway, listener, "127.0.0.3", context), "another client pays for it"
    assert all(handshake(gateway, listener, "127.0.0.1", context) for _ in range(HANDSHAKES + 5)), "listed clients are not counted"
    assert gateway.stats()["rate_limited"] >= HANDSHAKES - 1


def test_handshakes_that_fail_count_too(sluice, sink, secure, authority):
    gateway = sluice(sink(), tls=secure, relay=STRANGERS, listeners={"submissions": {"tls": "implicit"}},
                     rates={"client": {"handshakes_per_minute": HANDSHAKES, "connections": 0}})
    for _ in range(HANDSHAKES):
        with Client("127.0.0.1", gateway.port_of("submissions"), source="127.0.0.2") as client:
            client.send(b"no handshake\r\n")
            with contextlib.suppress(ConnectionResetError):
                while client.socket.recv(100):
                    pass
    assert not handshake(gateway, "submissions", "127.0.0.2", trusting(authority))
    assert handshake(gateway, "submissions", "127.0.0.3", trusting(authority))


# -- A full house -------------------------------------------------------------------------------------------------

def mistakes(client, count):
    """How many replies 500 a client gets to read for so many mistakes, before it is sent away."""
    client.send(b"WHAT\r\n" * count + b"NOOP\r\n")
    for number in range(count):
        code, lines = client.reply()
        if code == 421:
            assert lines[-1].startswith(b"421 4.7.0")
            client.assert_closed()
            return number
        assert code == 500, lines
    if client.reply()[0] == 421:
        return count
    return count + 1


def test_a_nearly_full_house_serves_its_own_first(sluice, sink, users):
    """Of 20 places: strangers are pressed from 16 on and find none from 18 on; those who are listed may fill all."""
    gateway = sluice(sink(), limits={"connections": 20}, relay=STRANGERS, rates=UNCOUNTED, auth={"users": users},
                     listener={"auth": "optional", "auth_without_tls": True})
    name, password = next(iter(USERS.items()))
    wait_until(lambda: gateway.stats()["connections_open"] == 0, 5, "the start's own looks at the port to end")
    with contextlib.ExitStack() as stack:
        def come(source):
            return stack.enter_context(gateway.client(source=source, timeout=30))
        known = come("127.0.0.2").hello()
        known.send(b"AUTH PLAIN\r\n")
        known.expect(334)
        known.command(plain(name, password), 235)
        for _ in range(14):
            come("127.0.0.2").hello()
        pressed, waiting = come("127.0.0.2").hello(), come("127.0.0.2").hello()
        since = time.monotonic()
        listed = come("127.0.0.1").hello()
        turned_away = come("127.0.0.2")
        assert turned_away.expect(421).startswith(b"421 4.3.2")
        turned_away.assert_closed()
        assert mistakes(pressed, 5) == 3
        for client in (turned_away, pressed):
            client.close()
        wait_until(lambda: gateway.stats()["connections_open"] == 17, 10, "those who were sent away to be gone")
        assert mistakes(known, 5) == mistakes(listed, 5) == 6
        others = [come("127.0.0.1").hello() for _ in range(3)]
        over = come("127.0.0.1")
        assert over.expect(421).startswith(b"421 4.3.2")
        assert waiting.expect(421).startswith(b"421 4.4.2")
        assert 9 <= time.monotonic() - since <= 12 + patience(1), "a stranger has ten seconds"
        for client in (known, listed, *others):
            client.command("NOOP", 250)


def plain(name, password):
    return base64.b64encode(f"\0{name}\0{password}".encode()).decode()
