"""The programs that people submit mail with: each delivers, with what it has of TLS, logins, pipelining, chunks,
international addresses and delivery status notifications."""
import os
import re
import smtplib

import pytest

from lab import peers, senders
from lab.certificates import trusting
from lab.content import trace, without_field
from lab.machine import patience, wait_until
from lab.scram import Scram, end_point
from lab.senders import Order

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="a mail server changes to users of its own: needs root")

CLIENTS = {
    "swaks": senders.Swaks, "swaks pipelining": senders.SwaksPipelining, "smtplib": senders.Smtplib,
    "nodemailer": senders.Nodemailer, "msmtp": senders.Msmtp, "curl": senders.Curl,
    "Postfix": peers.Postfix, "Exim": peers.Exim, "OpenSMTPD": peers.OpenSmtpd,
}

HEADER = (b"From: anna@example.com\r\nTo: to@example.net\r\nDate: Sun, 22 Nov 2026 01:00:00 +0000\r\n"
          b"Message-ID: <1@example.com>\r\nSubject: dots and more\r\nMIME-Version: 1.0\r\n"
          b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n")
CONTENT = HEADER + ("Grüße\r\n.\r\n..\r\n.x\r\n\r\nFrom here\r\n" + "y" * 900 + "\r\n\tlast\r\n.end\r\n").encode()


def some(*names):
    """These clients as parameters; the mail servers only for root."""
    return [pytest.param(CLIENTS[name], marks=as_root if hasattr(peers, CLIENTS[name].__name__) else (), id=name)
            for name in names]


def cases():
    for parameter in some(*CLIENTS):
        client, = parameter.values
        for tls in ("starttls", "implicit"):
            for mechanism in client.mechanisms:
                yield pytest.param(client, tls, mechanism, marks=parameter.marks,
                                   id=f"{parameter.id} {tls} {mechanism}")


@pytest.fixture
def hop(sink):
    return sink(extensions=("PIPELINING", "SIZE", "8BITMIME", "SMTPUTF8", "DSN"))


@pytest.fixture
def gateway(sluice, hop, authority, users):
    """A gateway that applications submit to, as 587 and as 465 would do."""
    common = {"submission": True, "auth": "required"}
    return sluice(hop, tls={"certificate": authority.server.path, "private_key": authority.server.key},
                  auth={"users": users, "failure_delay": "200ms"},
                  listeners={tls: {"tls": tls, **common} for tls in ("starttls", "implicit")})


def arrive(hop, recipients=2):
    """The messages at the next hop, once all recipients have one."""
    wait_until(lambda: sum(len(m.recipients) for m in hop.messages) >= recipients, 20,
               lambda: f"{recipients} recipients at the next hop, got {hop.messages}")
    return list(hop.messages)


def utf8(text):
    """What the sink read as Latin-1."""
    return text.encode("latin-1").decode("utf-8")


@pytest.mark.parametrize("client, tls, mechanism", cases())
def test_client_delivers(gateway, hop, authority, open_folder, client, tls, mechanism):
    order = Order(gateway.port_of(tls), authority, CONTENT, tls=tls, mechanism=mechanism,
                  recipients=["to@example.net", "two@example.net"])
    client().send(order, open_folder)
    for message in arrive(hop):
        fields, rest = trace(message.content)
        assert rest == CONTENT
        assert "with ESMTPSA" in fields[0], f"expected a login and TLS in {fields[0]!r}"
        assert message.sender == "anna@example.com"
    assert sorted(r for m in hop.messages for r in m.recipients) == sorted(order.recipients)
    event = gateway.wait_event("accept")[0]
    assert event["auth"] == "anna@example.com"
    assert event["tls"].startswith("TLSv1."), event


INTERNATIONAL = CONTENT.replace(b"From: anna@example.com", "From: jörg@exämple.com".encode())


@pytest.mark.parametrize("client", some("smtplib", "nodemailer", "curl", "Postfix", "Exim"))
def test_international_addresses(gateway, hop, authority, open_folder, client):
    order = Order(gateway.port_of("starttls"), authority, INTERNATIONAL, is_utf8=True, sender="jörg@exämple.com",
                  recipients=["δοκιμή@παράδειγμα.example"])
    client().send(order, open_folder)
    message, = arrive(hop, recipients=1)
    fields, rest = trace(message.content)
    assert rest == INTERNATIONAL
    assert "with UTF8SMTPSA" in fields[0], fields[0]
    assert "SMTPUTF8" in message.lines[0]
    # A client may write the domain in either form; the gateway sends on what came in.
    assert utf8(message.sender) in ("jörg@exämple.com", "jörg@xn--exmple-cua.com")
    assert utf8(message.recipients[0]) in ("δοκιμή@παράδειγμα.example", "δοκιμή@xn--hxajbheg2az3al.example")


# What each has of MAIL's parameters.
NOTIFYING = {"smtplib": ("RET=HDRS", "ENVID=QQ314159"), "nodemailer": ("RET=HDRS", "ENVID=QQ314159"),
             "msmtp": ("RET=HDRS",), "Postfix": ("ENVID=QQ314159",), "Exim": ("RET=HDRS", "ENVID=QQ314159")}


@pytest.mark.parametrize("client", some(*NOTIFYING))
def test_delivery_status_parameters(gateway, hop, authority, open_folder, client, request):
    order = Order(gateway.port_of("starttls"), authority, CONTENT, envelope_id="QQ314159",
                  recipients=["to@example.net", "two@example.net"])
    client().send(order, open_folder)
    name = request.node.callspec.id
    for message in arrive(hop):
        for parameter in NOTIFYING[name]:
            assert parameter in message.lines[0].split(), message.lines[0]
        for line in message.lines[1:]:
            notify, = re.findall(r" NOTIFY=(\S+)", line)
            assert set(notify.upper().split(",")) == {"SUCCESS", "FAILURE"}, line
            if name == "Postfix":
                assert f"ORCPT=rfc822;{re.search('<(.*?)>', line).group(1)}" in line.split(), line


BARE = b"From: anna@example.com\r\nSubject: no date\r\n\r\nbody\r\n"


def test_submission_adds_what_is_missing(gateway, hop, authority, open_folder):
    senders.Smtplib().send(Order(gateway.port_of("starttls"), authority, BARE), open_folder)
    with gateway.client() as client:  # The other listener is a relay: it adds nothing but Received.
        client.hello().message("a@example.com", ["b@example.net"], BARE)
    by_sender = {m.sender: trace(m.content)[1] for m in arrive(hop)}
    assert by_sender["a@example.com"] == BARE
    content = by_sender["anna@example.com"]
    assert re.search(rb"^Message-ID: <[^<>\s]+@relay\.example\.com>\r$", content, re.MULTILINE | re.IGNORECASE), content
    for name in ("Date", "Message-ID"):
        content, count = without_field(content, name)
        assert count == 1, f"{count} fields {name} in {by_sender['anna@example.com']!r}"
    assert content == BARE


@pytest.fixture
def session(gateway, authority):
    """smtplib under TLS, which has not logged in yet."""
    with smtplib.SMTP_SSL("127.0.0.1", gateway.port_of("implicit"), context=trusting(authority),
                          timeout=patience(20)) as client:
        client.ehlo()
        yield client


def scram(client, exchange, mechanism):
    """Runs an exchange; the last reply."""
    code, text = client.docmd("AUTH", f"{mechanism} {exchange.first()}")
    if code == 334:
        code, text = client.docmd(exchange.final(text.decode()))
    if code == 334:
        assert exchange.is_server_proven(text.decode())
        code, text = client.docmd("")
    return code, text.decode()


def test_scram_bound_to_the_channel(session):
    exchange = Scram("anna@example.com", "correct horse", ("tls-server-end-point", end_point(session.sock)))
    code, text = scram(session, exchange, "SCRAM-SHA-256-PLUS")
    assert (code, text[:5]) == (235, "2.7.0")


BROKEN = {
    "another channel": (("tls-server-end-point", b"x" * 32), None, "SCRAM-SHA-256-PLUS"),
    "a binding of a kind that nobody has": (("tls-nonsense", b"x" * 32), None, "SCRAM-SHA-256-PLUS"),
    "PLUS without a binding": (None, "n,,", "SCRAM-SHA-256-PLUS"),
    "somebody took PLUS out of the reply": (None, "y,,", "SCRAM-SHA-256"),
    "the wrong password": (None, None, "SCRAM-SHA-256"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_scram_refuses(session, gateway, name):
    binding, header, mechanism = BROKEN[name]
    password = "wrong" if "password" in name else "correct horse"
    code, text = scram(session, Scram("anna@example.com", password, binding, header), mechanism)
    assert code in (501, 535), text
    assert session.mail("anna@example.com")[0] == 530
    assert not gateway.events("accept")


def test_login_is_not_offered_in_the_clear(gateway):
    with gateway.client("starttls") as client:
        client.expect(220)
        client.send(b"EHLO client.example\r\n")
        _, lines = client.reply()
        offered = {line[4:].split(b" ")[0] for line in lines[1:]}
        assert b"STARTTLS" in offered and b"AUTH" not in offered, lines
        client.send(b"AUTH PLAIN AGFubmFAZXhhbXBsZS5jb20AY29ycmVjdCBob3JzZQ==\r\n")
        code, lines = client.reply()
        assert 500 <= code < 600 and code != 535, f"expected a refusal before the password is looked at, got {lines}"
        client.command("MAIL FROM:<anna@example.com>", 530)


BINARY = b"Subject: x\r\nContent-Transfer-Encoding: binary\r\n\r\n" + bytes(range(256)) * 40 + b"\n.\r\n.\n\r"


def send_binary(client):
    """By BDAT, in chunks whose borders mean nothing."""
    client.hello().command("MAIL FROM:<a@example.com> BODY=BINARYMIME", 250)
    client.command("RCPT TO:<b@example.net>", 250)
    for start in range(0, len(BINARY), 1000):
        client.send(f"BDAT {len(BINARY[start:start + 1000])}\r\n".encode() + BINARY[start:start + 1000])
        client.expect(250)
    client.command("BDAT 0 LAST", 250)


def test_binary_content_arrives_octet_for_octet(sluice, sink):
    hop = sink(extensions=("PIPELINING", "8BITMIME", "CHUNKING", "BINARYMIME"))
    with sluice(hop).client() as client:
        send_binary(client)
    message, = arrive(hop, recipients=1)
    assert message.is_chunked and "BODY=BINARYMIME" in message.lines[0]
    assert trace(message.content)[1] == BINARY


def test_binary_content_is_returned_where_it_cannot_go(sluice, sink):
    gateway = sluice(sink(extensions=("PIPELINING", "8BITMIME", "CHUNKING")))
    with gateway.client() as client:
        send_binary(client)
    event, = gateway.wait_event("bounce")
    assert "5.6.3" in str(event), event
