"""Proxies in front: HAProxy, nginx, and those who only pretend to be one."""
import smtplib
import time

import pytest

from lab import proxies
from lab.certificates import trusting
from lab.client import Client, Closed
from lab.content import trace
from lab.machine import patience, wait_until

CONTENT = b"Subject: x\r\n\r\nbody\r\n"
REAL, STRANGER = "127.0.0.5", "127.0.0.6"
# Relaying tells whom the gateway takes a client for: only REAL may.
RELAY = {"networks": [f"{REAL}/32", "10.1.2.3/32", "[::1]/128"]}


@pytest.fixture
def program():
    """program(proxies.Haproxy, …) starts one; it is stopped at the end."""
    made = []

    def make(kind, *arguments, **options):
        made.append(kind(*arguments, **options))
        return made[-1]

    yield make
    for one in made:
        one.stop()


@pytest.fixture
def gateway(sluice, sink):
    """One that believes proxies on 127.0.0.1, on a listener for each of their languages."""
    hop = sink()
    one = sluice(hop, relay=RELAY, timeouts={"inbound_proxy": "1s"},
                 listener={"proxy_protocol": True, "proxy_networks": ["127.0.0.1/32"]},
                 listeners={"xclient": {"xclient": True, "proxy_networks": ["127.0.0.1/32"]}})
    one.hop = hop
    return one


def clients_of(gateway, event):
    """Who the gateway took its clients for; without those of the start, who only knocked."""
    return [e["client"].rpartition(":")[0] for e in gateway.events(event)]


def may_relay(host, port, source=None):
    with Client(host, port, source=source) as client:
        client.hello().command("MAIL FROM:<a@example.com>", 250)
        client.send(b"RCPT TO:<b@example.net>\r\n")
        code, lines = client.reply()
        assert code in (250, 550), lines
        return code == 250


@pytest.mark.parametrize("option", ["send-proxy", "send-proxy-v2", "send-proxy-v2-ssl-cn"])
def test_haproxy(gateway, program, folder, option):
    proxy = program(proxies.Haproxy, folder, gateway.port, option)
    with Client(proxy.host, proxy.port, source=REAL) as client:
        identity = client.hello().message("a@example.com", ["b@example.net"], CONTENT)
        address = client.socket.getsockname()
    event, = gateway.wait_event("accept", id=identity)
    assert event["client"] == f"{address[0]}:{address[1]}"
    wait_until(lambda: gateway.hop.messages, 10, "the message")
    fields, content = trace(gateway.hop.messages[0].content)
    assert REAL in fields[0] and content == CONTENT
    assert not may_relay(proxy.host, proxy.port, STRANGER), "the proxy's address was taken for the client's"


@pytest.mark.parametrize("option", ["send-proxy", "send-proxy-v2"])
def test_haproxy_with_ipv6(gateway, program, folder, option):
    proxy = program(proxies.Haproxy, folder, gateway.port, option, host="::1")
    assert may_relay(proxy.host, proxy.port)
    wait_until(lambda: "[::1]" in clients_of(gateway, "disconnect"), 5, lambda: clients_of(gateway, "disconnect"))


def test_haproxy_that_ends_tls(gateway, program, folder, authority):
    proxy = program(proxies.Haproxy, folder, gateway.port, "send-proxy-v2-ssl", certificate=authority.server)
    with smtplib.SMTP_SSL("127.0.0.1", proxy.port, context=trusting(authority), source_address=(REAL, 0),
                          timeout=patience(10)) as client:
        client.sendmail("a@example.com", ["b@example.net"], CONTENT)
        version = client.sock.version()
    event, = gateway.wait_event("accept")
    assert event["client"].startswith(REAL + ":")
    assert event["tls"].startswith(version), f"expected {version} in {event}"


def test_haproxy_checks_without_being_a_client(gateway, program, folder):
    """HAProxy's own checks come with LOCAL: they are nobody's but HAProxy's."""
    program(proxies.Haproxy, folder, gateway.port, "send-proxy-v2", check="check check-send-proxy inter 100ms")
    wait_until(lambda: clients_of(gateway, "disconnect").count("127.0.0.1") >= 3, 10,
               lambda: f"the checks in the log: {gateway.log_tail()}")
    assert not gateway.events("reject")


def test_nginx(gateway, program, folder):
    proxy = program(proxies.Nginx, folder, gateway.port_of("xclient"), "none")
    with smtplib.SMTP("127.0.0.1", proxy.port, "real.example", patience(10), (REAL, 0)) as client:
        client.sendmail("a@example.com", ["b@example.net"], CONTENT)
    event, = gateway.wait_event("accept")
    assert event["client"].startswith(REAL), event
    wait_until(lambda: gateway.hop.messages, 10, "the message")
    fields, content = trace(gateway.hop.messages[0].content)
    assert REAL in fields[0] and "real.example" in fields[0] and content == CONTENT
    with smtplib.SMTP("127.0.0.1", proxy.port, "real.example", patience(10), (STRANGER, 0)) as client:
        with pytest.raises(smtplib.SMTPRecipientsRefused):
            client.sendmail("a@example.com", ["b@example.net"], CONTENT)


def test_nginx_with_a_login(gateway, program, folder):
    """Who has logged in at nginx is logged in here."""
    proxy = program(proxies.Nginx, folder, gateway.port_of("xclient"), "plain login")
    with smtplib.SMTP("127.0.0.1", proxy.port, "real.example", patience(10), (STRANGER, 0)) as client:
        client.login("anna@example.com", "open sesame")
        client.sendmail("anna@example.com", ["b@example.net"], CONTENT)
    event, = gateway.wait_event("accept")
    assert event["client"].startswith(STRANGER) and event["auth"] == "anna@example.com", event


HEADERS = {
    "v1": proxies.header_v1(REAL), "v1 with IPv6": proxies.header_v1("::1", "::2"),
    "v2": proxies.header_v2(REAL), "v2 with IPv6": proxies.header_v2("::1", destination="::2"),
    "v2 with TLVs": proxies.header_v2(REAL, (proxies.AUTHORITY, b"mx.example.com"), (proxies.NOOP, b"\0" * 300)),
}


@pytest.mark.parametrize("name", HEADERS)
@pytest.mark.parametrize("way", ["alone", "with EHLO", "bytes"])
def test_header_by_hand(gateway, name, way):
    """However the header is cut, and whatever comes behind it in the same packet."""
    behind = b"EHLO x\r\nMAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.net>\r\n"
    with gateway.client() as client:
        if way == "with EHLO":
            client.send(HEADERS[name] + behind)
        else:
            for index in range(len(HEADERS[name])) if way == "bytes" else ():
                client.send(HEADERS[name][index:index + 1])
            client.send(behind if way == "bytes" else HEADERS[name])
        client.expect(220)
        if way == "alone":
            client.send(behind)
        for code in (250, 250, 250):
            client.expect(code)


def test_local_keeps_the_own_address(gateway):
    for header in (proxies.header_v2(REAL, command=proxies.LOCAL), b"PROXY UNKNOWN\r\n"):
        with gateway.client() as client:
            client.send(header)
            client.hello().command("MAIL FROM:<a@example.com>", 250)
            client.command("RCPT TO:<b@example.net>", 550)


def assert_turned_away(client, seconds=5):
    """Whatever the gateway says, it ends the connection, and takes no command."""
    began = time.monotonic()
    try:
        while True:
            line = client.line()
            assert line[:1] in (b"4", b"5"), f"expected to be turned away, got {line!r}\n{client.conversation()}"
    except Closed:
        assert time.monotonic() - began < patience(seconds)


WRONG = {
    "no header": b"EHLO x\r\n",
    "cut v1": proxies.header_v1(REAL)[:-7],
    "v1 without CR": proxies.header_v1(REAL).replace(b"\r\n", b"\n"),
    "v1 too long": b"PROXY TCP4 " + b"1" * 100 + b"\r\n",
    "v1 bad port": proxies.header_v1(REAL, source_port=65536),
    "v1 bad address": proxies.header_v1("127.0.0.256"),
    "v2 version 3": proxies.header_v2(REAL, command=0x31),
    "v2 command 2": proxies.header_v2(REAL, command=0x22),
    "v2 too short for its family": proxies.SIGNATURE + b"\x21\x11\x00\x04" + b"\x7f\x00\x00\x05",
    "v2 TLV runs over": proxies.header_v2(REAL)[:15] + b"\x0f" + proxies.header_v2(REAL)[16:] + b"\x02\x00\x09",
    "v2 oversized": proxies.SIGNATURE + b"\x21\x11\xff\xff" + b"\0" * 3000,
    "v2 bad checksum": proxies.header_v2(REAL, (proxies.CRC32C, b"\0\0\0\1")),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_header(gateway, name):
    with gateway.client() as client:
        client.send(WRONG[name])
        assert_turned_away(client)
    assert REAL not in clients_of(gateway, "connect")


@pytest.mark.parametrize("name", ["v1", "v2 with TLVs"])
def test_header_cut_by_the_end(gateway, name):
    """Cut everywhere by the end of the connection: nobody is greeted."""
    for size in range(len(HEADERS[name])):
        with gateway.client() as client:
            client.send(HEADERS[name][:size])
            client.socket.shutdown(1)
            assert_turned_away(client)


@pytest.mark.parametrize("sent", [b"", b"PROXY TCP4 ", proxies.SIGNATURE])
def test_slow_header(gateway, sent):
    began = time.monotonic()
    with gateway.client() as client:
        client.send(sent)
        assert_turned_away(client)
    assert 0.5 < time.monotonic() - began, "inbound_proxy is 1 s"


def test_proxy_from_elsewhere(gateway):
    """Who is not in proxy_networks cannot claim an address, whatever it sends."""
    for header in (proxies.header_v1(REAL), proxies.header_v2(REAL), b""):
        with gateway.client(source=STRANGER) as client:
            client.send(header + b"EHLO x\r\n")
            assert_turned_away(client)
    assert REAL not in clients_of(gateway, "connect") + clients_of(gateway, "disconnect")


def offers(client, name="x"):
    client.send(f"EHLO {name}\r\n".encode())
    code, lines = client.reply()
    assert code == 250
    return {line[4:].split(b" ")[0] for line in lines[1:]}


def test_xclient_by_hand(gateway):
    with gateway.client("xclient") as client:
        client.expect(220)
        assert {b"XCLIENT", b"XFORWARD"} <= offers(client)
        client.command("MAIL FROM:<a@example.com>", 250)
        client.command("RCPT TO:<b@example.net>", 550)
        client.command("RSET", 250)
        client.command("XCLIENT ADDR=10.1.2.3 PORT=4711 NAME=[UNAVAILABLE] HELO=claimed.example PROTO=ESMTP", 220)
        offers(client, "again.example")
        identity = client.message("a@example.com", ["b@example.net"], CONTENT)
    assert gateway.wait_event("accept", id=identity)[0]["client"].startswith("10.1.2.3")


def test_xforward_changes_no_right(gateway):
    with gateway.client("xclient") as client:
        client.hello().command("XFORWARD ADDR=10.1.2.3 NAME=forwarded.example", 250)
        client.command("MAIL FROM:<a@example.com>", 250)
        client.command("RCPT TO:<b@example.net>", 550)


@pytest.mark.parametrize("command", ["XCLIENT ADDR=10.1.2.3", "XFORWARD ADDR=10.1.2.3"])
def test_xclient_from_elsewhere(gateway, command):
    with gateway.client("xclient", source=STRANGER) as client:
        client.expect(220)
        assert not {b"XCLIENT", b"XFORWARD"} & offers(client)
        client.send(command.encode() + b"\r\n")
        code, lines = client.reply()
        assert 500 <= code < 600, lines
        client.command("MAIL FROM:<a@example.com>", 250)
        client.command("RCPT TO:<b@example.net>", 550)


@pytest.mark.parametrize("command", [
    "XCLIENT ADDR=10.1.2.3+0D+0A", "XCLIENT ADDR=nonsense", "XCLIENT NOSUCH=x", "XCLIENT", "XCLIENT ADDR",
    "XCLIENT ADDR=10.1.2.3 LOGIN=a+0Ab", "XCLIENT HELO=+XX"])
def test_malformed_xclient(gateway, command):
    with gateway.client("xclient") as client:
        client.hello().send(command.encode() + b"\r\n")
        code, lines = client.reply()
        assert 500 <= code < 600, lines
        client.command("MAIL FROM:<a@example.com>", 250)
        client.command("RCPT TO:<b@example.net>", 550)
