"""Plays every conversation of conversations/*.conv: as written, in one packet, and byte by byte."""
import pathlib
import shutil
import socket
import time

import pytest
from conftest import sluice_maker
from lab import conversation
from lab.client import Client
from lab.machine import disk_folder, patience, wait_until
from lab.sink import Sink

FILES = sorted(pathlib.Path(__file__).with_name("conversations").glob("*.conv"))
CASES = [case for path in FILES for case in conversation.read(path)]


@pytest.fixture(scope="module", name="hop")
def shared_hop():
    """One next hop for all conversations; each finds its messages by its own word."""
    sink = Sink(extensions=("PIPELINING", "SIZE", "8BITMIME", "SMTPUTF8", "DSN", "CHUNKING", "BINARYMIME"))
    yield sink
    sink.stop()


@pytest.fixture(scope="module", name="shared")
def shared_gateway(hop, request):
    """One gateway for all conversations: what one leaves behind must not disturb the next."""
    folder = disk_folder()
    make, finish = sluice_maker(request.node, folder)
    yield make(hop, listener={"max_recipients": 100, "max_message_size": "1M"},
               relay={"networks": ["127.0.0.1/32"], "domains": ["hosted.example", ".below.example"]})
    finish()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(name="gateway")
def gateway_with_log(shared, request):
    """The same, and its log is shown when this test fails."""
    request.node.gateways = [shared]
    return shared


@pytest.mark.parametrize("way", conversation.WAYS)
@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_conversation(gateway, hop, case, way):
    if case.is_line_only and way != "line":
        way = "line"  # Its sense lies in its pauses: played as written, a second time over.
    conversation.Player(case, way, gateway.hosts[0], gateway.port, hop).play()


SLOW = {"inbound_command": "1s", "inbound_data": "1s"}


@pytest.mark.parametrize("said", [b"", b"EHLO client.example\r\n", b"EHL"], ids=["silent", "after EHLO", "half a line"])
def test_slow_client_is_sent_away(sluice, sink, said):
    with sluice(sink(), timeouts=SLOW).client() as client:
        client.expect(220)
        client.send(said)
        if said.endswith(b"\n"):
            client.expect(250)
        started = time.monotonic()
        assert client.expect(421).startswith(b"421 4.4.2")
        client.assert_closed()
        assert 0.5 < time.monotonic() - started < patience(4)


def test_slow_content_is_sent_away(sluice, sink):
    hop = sink()
    with sluice(hop, timeouts=SLOW).client() as client:
        client.hello().envelope("a@example.com", ["b@example.net"])
        client.send(b"Subject: never ends\r\n")
        assert client.expect(421).startswith(b"421 4.4.2")
        client.assert_closed()
    assert not hop.received


def test_steady_content_is_not_slow(sluice, sink):
    """The time limit is for the next piece, not for the whole."""
    hop = sink()
    with sluice(hop, timeouts=SLOW).client() as client:
        client.hello().envelope("a@example.com", ["b@example.net"])
        for _ in range(6):
            client.send(b"a line\r\n")
            time.sleep(0.4)
        client.send(b".\r\n")
        client.expect(250)
    wait_until(lambda: hop.messages, 10, "the message")


def test_disconnect_at_every_point(sluice, sink):
    """A client that vanishes, with a FIN or a RST, after any number of bytes leaves nothing behind."""
    hop = sink()
    gateway = sluice(hop)
    script = (b"EHLO client.example\r\nMAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.net>\r\n"
              b"DATA\r\nSubject: x\r\n\r\nbody\r\n.\r")
    for index in range(0, len(script) + 1, 3):
        client = Client("127.0.0.1", gateway.port)
        client.send(script[:index])
        if index % 2:
            client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        client.close()
    wait_until(lambda: gateway.stats()["connections_open"] == 0, 10, "no open connection")
    assert not hop.received
    with gateway.client() as client:
        client.hello().message("a@example.com", ["b@example.net"], b"Subject: x\r\n\r\n")
    wait_until(lambda: len(hop.messages) == 1, 10, "the one whole message")
