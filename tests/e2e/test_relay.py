"""What goes in comes out: every byte, once, whatever the shape of the message and the way of the client."""
import asyncio
import os
import random
import re
import smtplib
import socket
import subprocess

import pytest
from aiosmtpd.controller import Controller

from lab.certificates import trusting
from lab.client import Client, stuff
from lab.machine import free_port, patience, tool, wait_until
from lab.tls_client import TlsClient

RECEIVED = re.compile(rb"\AReceived: [^\r\n]*\r\n(?:[ \t][^\r\n]*\r\n)*")


def without_received(content):
    """Content without the one Received field that the gateway adds on top."""
    match = RECEIVED.match(content)
    assert match, f"expected a Received field on top, got {content[:200]!r}"
    return content[match.end():]


def arrivals(sink, count, seconds=20):
    wait_until(lambda: len(sink.messages) >= count, seconds,
               lambda: f"{count} messages at the sink, got {len(sink.messages)}")
    return list(sink.messages)


def random_content(size, seed):
    """Lines of all the octets that may stand in a line, some of which begin with dots; exactly `size` bytes."""
    source = random.Random(seed)
    octets = bytes(octet for octet in range(1, 256) if octet not in b"\r\n")
    content = bytearray(b"Subject: " + str(seed).encode() + b"\r\n\r\n")
    while len(content) < size:
        line = bytes(source.choices(octets, k=source.choice((0, 1, 2, 70, 500))))
        content += source.choice((b"", b"", b".", b"..", b"...")) + line + b"\r\n"
    content = bytes(content)
    # Cut to size without leaving a CR that has lost its LF.
    return content[:size - 2] + b"\r\n" if content[size - 3:size - 2] != b"\r" else content[:size - 3] + b"x\r\n"


BODIES = {
    "empty": b"",
    "one empty line": b"\r\n",
    "one byte": b"x\r\n",
    "a dot line first": b".\r\n",
    "dots only": b".\r\n..\r\n...\r\n....\r\n",
    "header only": b"Subject: nothing below\r\n\r\n",
    "no header": b"this is no header\r\nat all\r\n",
    "dots at the end": b"Subject: x\r\n\r\nlast\r\n.\r\n",
    "longest line": b"Subject: x\r\n\r\n" + b"y" * 998 + b"\r\n",
    "every octet": b"Subject: x\r\n\r\n" + bytes(o for o in range(1, 256) if o not in b"\r\n") + b"\r\n",
    "from line": b"Subject: x\r\n\r\nFrom here on\r\n",
    "other received": b"Received: from a by b; Sat, 21 Nov 2026 00:00:00 +0000\r\nSubject: x\r\n\r\nbody\r\n",
}


@pytest.mark.parametrize("name", BODIES)
def test_body_arrives_unchanged(sluice, sink, name):
    hop = sink()
    with sluice(hop).client() as client:
        client.hello().message("from@example.com", ["to@example.net"], BODIES[name])
    message, = arrivals(hop, 1)
    assert without_received(message.content) == BODIES[name]
    assert (message.sender, message.recipients) == ("from@example.com", ["to@example.net"])


@pytest.mark.parametrize("size", [100, 4095, 4096, 4097, 16384, 65535, 65536, 65537, 1 << 20, 5 << 20])
def test_sizes_arrive_unchanged(sluice, sink, size):
    hop = sink()
    contents = [random_content(size, seed) for seed in range(3)]
    with sluice(hop).client() as client:
        client.hello()
        for content in contents:
            client.message("from@example.com", ["to@example.net"], content)
    assert sorted(without_received(m.content) for m in arrivals(hop, 3)) == sorted(contents)


def in_chunks(client, content, sizes):
    """A whole transaction by BDAT, its chunks of these sizes and the last one of what is left."""
    client.command("MAIL FROM:<from@example.com>", 250)
    client.command("RCPT TO:<to@example.net>", 250)
    for size in sizes:
        client.send(f"BDAT {size}\r\n".encode() + content[:size])
        client.expect(250)
        content = content[size:]
    client.send(f"BDAT {len(content)} LAST\r\n".encode() + content)
    client.expect(250)


@pytest.mark.parametrize("tls", [False, True], ids=["clear", "tls"])
def test_large_chunks_arrive_unchanged(sluice, sink, authority, tls):
    """What is received straight into the log: without a dot to be stuffed, with some, and with many."""
    hop = sink()
    plain = b"Subject: x\r\n\r\n" + b"".join(b"%076d\r\n" % number for number in range(20 * (1 << 20) // 78))
    contents = [plain, plain[:3_000_000] + b"\r\n.\r\n" + plain[3_000_000:6_000_000] + b"\r\n",
                random_content(2 << 20, 1)]
    gateway = sluice(hop, listener={"tls": "starttls", "max_message_size": "64M"},
                     tls={"certificate": authority.server.path, "private_key": authority.server.key})
    with TlsClient("127.0.0.1", gateway.port, trusting(authority), implicit=False) as client:
        if tls:
            client.start_tls()
        else:
            client.hello()
        for content in contents:
            in_chunks(client, content, ())
            in_chunks(client, content, (1_000_000, 1, 70_000))
    arrived = sorted(without_received(m.content) for m in arrivals(hop, 6, 60))
    assert [len(content) for content in arrived] == sorted(len(content) for content in contents * 2)
    assert arrived == sorted(contents * 2)


def test_received_field_tells_the_way(sluice, sink):
    hop = sink()
    with sluice(hop, hostname="relay.example.org").client() as client:
        identity = client.hello("laptop.example").message("from@example.com", ["to@example.net"], b"Subject: x\r\n\r\n")
    field = RECEIVED.match(arrivals(hop, 1)[0].content).group(0).decode()
    for part in ("from laptop.example", "127.0.0.1", "by relay.example.org", "with ESMTP", identity):
        assert part in field, f"expected {part!r} in {field!r}"
    stamp = field.rsplit(";", 1)[1].strip()
    assert re.fullmatch(r"(Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d{1,2} [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d [+-]\d{4}( \(.*\))?",
                        stamp), f"expected a date as in RFC 5322, got {stamp!r}"


@pytest.mark.parametrize("options", [(), ("-d",), ("-r", "5"), ("-d", "-r", "5"), ("-N", "-d")],
                         ids=lambda options: " ".join(options) or "plain")
def test_smtp_source_to_smtp_sink(sluice, smtp_sink, smtp_source, options):
    hop, recipients = smtp_sink(), 5 if "-r" in options else 1
    gateway = sluice(hop)
    count = 2000 if options in ((), ("-d",)) else 500
    smtp_source(gateway, "-s", "50", "-l", "10240", "-m", str(count), *options)
    wait_until(lambda: hop.count() >= count, 60, lambda: f"{count} dumps of smtp-sink, got {hop.count()}")
    gateway.wait_empty()
    assert hop.count() == count, f"{hop.count() - count} messages arrived twice"
    for dump in hop.dumps():
        assert len(re.findall(rb"^X-Rcpt-Args: ", dump, re.MULTILINE)) == recipients
        assert len(re.findall(rb"^Received: .*by relay\.example\.com", dump, re.MULTILINE | re.DOTALL)) == 1
    assert len(gateway.events("accept")) == count
    assert len(gateway.events("deliver")) == count * recipients


def test_ipv6(sluice, sink, smtp_source):
    hop = sink(host="::1")
    gateway = sluice(hop, hosts=("::1", "127.0.0.1"), relay={"networks": ["[::1]/128", "127.0.0.0/8"]})
    smtp_source(gateway, "-s", "10", "-l", "1024", "-m", "200")
    assert len(arrivals(hop, 200)) == 200
    assert gateway.events("accept")[0]["client"].startswith("[::1]:")


def test_thousand_recipients_one_body(sluice, sink):
    hop = sink()
    recipients = [f"to{index}@example.net" for index in range(1000)]
    gateway = sluice(hop)
    with gateway.client() as client:
        client.hello().message("from@example.com", recipients, random_content(100_000, 1))
    wait_until(lambda: sum(len(m.recipients) for m in hop.messages) >= 1000, 20, "1000 recipients at the sink")
    assert sorted(r for m in hop.messages for r in m.recipients) == sorted(recipients)
    # The body is stored once: far less than a copy for each of ten transactions of a hundred.
    assert gateway.stats()["log_write_bytes"] < 400_000


def test_null_sender_and_postmaster(sluice, sink):
    hop = sink()
    with sluice(hop).client() as client:
        client.hello().message("", ["postmaster@example.net"], b"Subject: x\r\n\r\n")
    message, = arrivals(hop, 1)
    assert (message.sender, message.recipients) == ("", ["postmaster@example.net"])


def test_recipients_get_results_of_their_own(sluice, sink):
    hop = sink("rcpt never@: 550 5.1.1 no such user\nrcpt later@ x1: 450 4.2.1 mailbox busy")
    gateway = sluice(hop)
    recipients = ["good@example.net", "never@example.net", "later@example.net"]
    with gateway.client() as client:
        identity = client.hello().message("", recipients, b"Subject: x\r\n\r\nbody\r\n")
    gateway.wait_event("deliver", id=identity, to="later@example.net")
    for name, recipient in (("deliver", "good"), ("bounce", "never"), ("defer", "later"), ("deliver", "later")):
        found = gateway.events(name, id=identity, to=f"{recipient}@example.net")
        assert len(found) == 1, f"expected one {name} of {recipient}, got {found}"
    assert "550 5.1.1 no such user" in gateway.events("bounce")[0]["reply"]
    assert "450 4.2.1 mailbox busy" in gateway.events("defer")[0]["reply"]
    assert [m.recipients for m in hop.messages] == [["good@example.net"], ["later@example.net"]]
    asked = [line for _, line in hop.commands if line.startswith("RCPT") and "good@" in line]
    assert len(asked) == 1, f"a settled recipient was sent again: {asked}"
    gateway.wait_empty()


def test_routes_by_domain(sluice, sink):
    hops = {name: sink() for name in ("exact", "below", "rest")}
    gateway = sluice({"example.com": hops["exact"], ".example.net": hops["below"], "*": hops["rest"]})
    recipients = {"exact": ["a@example.com", "a@EXAMPLE.com"], "below": ["b@example.net", "b@deep.er.example.net"],
                  "rest": ["c@example.org", "c@sub.example.com"]}
    with gateway.client() as client:
        client.hello().message("from@example.org", sum(recipients.values(), []), b"Subject: x\r\n\r\n")
    for name, hop in hops.items():
        wait_until(lambda hop=hop: sum(len(m.recipients) for m in hop.messages) >= 2, 10, f"mail for {name}")
        assert sorted(r for m in hop.messages for r in m.recipients) == sorted(recipients[name])


def test_domain_without_a_route_is_refused(sluice, sink):
    with sluice({"example.com": sink()}).client() as client:
        client.hello().command("MAIL FROM:<a@example.org>", 250)
        client.command("RCPT TO:<b@example.com>", 250)
        assert client.command("RCPT TO:<b@example.org>", 550).startswith(b"550 5.4.4")


def own_address():
    """An address of this machine that is not loopback, or None."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # Sends nothing; the kernel picks the address.
        except OSError:
            return None
        address = probe.getsockname()[0]
    return None if address.startswith("127.") else address


@pytest.mark.skipif(own_address() is None, reason="this machine has only loopback addresses")
def test_no_open_relay_by_leaving_things_out(sluice, sink):
    """Without a relay section, loopback may relay and nobody else."""
    gateway = sluice(sink(), hosts=("0.0.0.0",))
    for address, code in (("127.0.0.1", 250), (own_address(), 550)):
        with Client(address, gateway.port) as client:
            client.hello().command("MAIL FROM:<a@example.com>", 250)
            client.command("RCPT TO:<b@example.net>", code)


class Store:
    """A handler of aiosmtpd that keeps what it gets."""

    def __init__(self):
        self.contents = []

    async def handle_DATA(self, _server, _session, envelope):  # pylint: disable=invalid-name
        """One message."""
        await asyncio.sleep(0)
        self.contents.append(envelope.original_content)
        return "250 2.0.0 Ok"


@pytest.fixture
def other_sink():
    """A next hop by other hands: aiosmtpd, which announces no PIPELINING."""
    controller = Controller(Store(), hostname="127.0.0.1", port=free_port())
    controller.start()
    yield controller
    controller.stop()


def test_next_hop_by_other_hands(sluice, other_sink):
    contents = [random_line_content(seed) for seed in range(20)]
    with sluice(f"smtp://127.0.0.1:{other_sink.port}").client() as client:
        client.hello()
        for content in contents:
            client.message("from@example.com", ["to@example.net"], content)
    wait_until(lambda: len(other_sink.handler.contents) >= 20, 20, "20 messages at aiosmtpd")
    assert sorted(map(without_received, other_sink.handler.contents)) == sorted(contents)


def random_line_content(seed):
    """Content whose lines keep to RFC 5321's 1000 octets, which aiosmtpd insists on."""
    source = random.Random(seed)
    lines = (source.choice((b"", b".", b"..")) + os.urandom(40).hex().encode() for _ in range(200))
    return b"Subject: x\r\n\r\n" + b"".join(line + b"\r\n" for line in lines)


def test_client_by_other_hands(sluice, sink):
    hop = sink()
    gateway = sluice(hop)
    with smtplib.SMTP("127.0.0.1", gateway.port, timeout=patience(10)) as client:
        for index in range(10):
            client.sendmail("from@example.com", ["to@example.net"], f"Subject: {index}\r\n\r\n.dots\r\n..\r\n")
    result = subprocess.run(
        [tool("swaks"), "--server", "127.0.0.1", "--port", str(gateway.port), "--from", "from@example.com",
         "--to", "to@example.net", "--pipeline", "--body", "by swaks"],
        text=True, capture_output=True, check=False, timeout=60)
    assert result.returncode == 0, result.stdout
    messages = arrivals(hop, 11)
    assert sum(b"by swaks" in message.content for message in messages) == 1
    assert sum(m.content.endswith(b".dots\r\n..\r\n") for m in messages) == 10


def test_client_pipelines_messages(sluice, sink):
    """Content and the next envelope in one packet, replies read only at the end."""
    hop = sink()
    content = b"Subject: x\r\n\r\n.body\r\n"
    transaction = (b"MAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.net>\r\nDATA\r\n" + stuff(content) + b".\r\n")
    with sluice(hop).client() as client:
        client.hello()
        client.send(transaction * 50)
        for _ in range(50):
            for code in (250, 250, 354, 250):
                client.expect(code)
    assert [without_received(m.content) for m in arrivals(hop, 50)] == [content] * 50
