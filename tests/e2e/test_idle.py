"""Ten thousand clients that are connected and say nothing."""
import resource
import selectors
import socket

import pytest

from lab.machine import SANITIZER, raise_open_files, wait_until

# A sanitizer's own memory would be measured: under one the connections are there, their cost is not looked at.
COUNT = 10_000 if SANITIZER == "none" else 500
BYTES_EACH = 8192


def connect(port, number):
    """A client that has said EHLO; from one of several addresses, so that ports are not short."""
    one = socket.socket()
    one.bind((f"127.0.0.{1 + number % 8}", 0))
    one.connect(("127.0.0.1", port))
    return one


def read_until(sockets, ending):
    """Reads from each until what it read matches; fails if one is closed."""
    with selectors.DefaultSelector() as selector:
        for one in sockets:
            selector.register(one, selectors.EVENT_READ, bytearray())
        left = len(sockets)
        while left:
            ready = selector.select(30)
            assert ready, f"{left} clients wait in vain for {ending!r}"
            for key, _ in ready:
                data = key.fileobj.recv(4096)
                assert data, f"a client was sent away after {bytes(key.data)!r}"
                key.data.extend(data)
                if ending in key.data and key.data.endswith(b"\r\n"):
                    selector.unregister(key.fileobj)
                    left -= 1


@pytest.mark.skipif(not raise_open_files(COUNT + 2000),
                    reason=f"the system allows {resource.getrlimit(resource.RLIMIT_NOFILE)[1]} open files")
def test_idle_connections_cost_little_memory(sluice, sink):
    gateway = sluice(sink(), limits={"connections": COUNT + 1000})
    with gateway.client() as client:
        client.hello().message("a@example.com", ["b@example.net"], b"Subject: x\r\n\r\n")
    gateway.wait_empty()
    before = gateway.rss()
    clients = [connect(gateway.port, number) for number in range(COUNT)]
    read_until(clients, b"220 ")
    for client in clients:
        client.sendall(b"EHLO client.example\r\n")
    read_until(clients, b"\r\n250 ")
    wait_until(lambda: gateway.stats()["connections_open"] >= COUNT, 10, "all connections to be counted")
    each = (gateway.rss() - before) / COUNT
    print(f"{each:.0f} bytes for each of {COUNT} idle connections")
    with gateway.client() as client:
        client.hello().message("a@example.com", ["b@example.net"], b"Subject: x\r\n\r\n")
    for client in clients:
        client.close()
    wait_until(lambda: gateway.stats()["connections_open"] == 0, 20, "all connections to be gone")
    assert SANITIZER != "none" or each <= BYTES_EACH, f"each idle connection costs {each:.0f} bytes, at most {BYTES_EACH} were allowed"


def test_too_many_connections_are_told_so(sluice, sink):
    gateway = sluice(sink(), limits={"connections": 10})
    wait_until(lambda: gateway.stats()["connections_open"] == 0, 5, "the start's own looks at the port to end")
    clients = [gateway.client() for _ in range(10)]
    for client in clients:
        client.expect(220)
    with gateway.client() as more:
        assert more.expect(421).startswith(b"421 4.")
        more.assert_closed()
    clients.pop().close()

    def is_taken():
        with gateway.client() as client:
            return client.reply()[0] == 220
    wait_until(is_taken, 10, "room for a client after one has left")
    for client in clients:
        client.close()
