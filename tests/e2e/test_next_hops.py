"""Real mail servers as next hops: what was sent is what they keep, with and without TLS, with logins, by LMTP."""
import os
import re
import uuid

import pytest

from lab import next_hops
from lab.machine import wait_until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mail servers have users of their own: needs root")

TRACE = re.compile(rb"(?:(?:Received|Return-Path|Delivered-To|X-Original-To):[^\n]*\n(?:[ \t][^\n]*\n)*)*\Z")


@pytest.fixture(scope="module")
def certificate(authority):
    return authority.issue("next", names=(next_hops.NAME,), key="rsa")


@pytest.fixture(scope="module")
def servers(shared, certificate):
    """servers(name) is that server, started when it is asked for first."""
    running = {}

    def start(name):
        if name not in running:
            running[name] = next_hops.ALL[name](shared / name.lower(), certificate)
        return running[name]

    yield start
    for one in running.values():
        one.stop()


def every(having=lambda kind: True):
    """The servers of which that is true, as parameters."""
    return pytest.mark.parametrize("name", [name for name, kind in next_hops.ALL.items() if having(kind)])


def every_with_tls():
    """The same for tests that need TLS."""
    shim = pytest.mark.skip(reason="OpenSMTPD's TLS needs SLUICE_SHIM_KEEP_KEY, which meson gives")
    return pytest.mark.parametrize("name", [pytest.param(name, marks=() if kind.has_tls else shim)
                                            for name, kind in next_hops.ALL.items()])


class Letter:
    """A message that is found again by its first line."""

    def __init__(self, body, subject="x"):
        self.first = f"X-Token: {uuid.uuid4().hex}\r\n".encode()
        self.content = self.first + (f"From: Anna <anna@example.com>\r\nTo: to@example.net\r\nSubject: {subject}\r\n"
                                     "Date: Sun, 22 Nov 2026 01:00:00 +0000\r\n"
                                     f"Message-ID: <{uuid.uuid4().hex}@example.com>\r\n"
                                     "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n"
                                     "Content-Transfer-Encoding: 8bit\r\n\r\n").encode() + body

    def send(self, client, recipients, *, sender="anna@example.com", parameters="BODY=8BITMIME", wishes=""):
        client.command(f"MAIL FROM:<{sender}> {parameters}", 250)
        for recipient in recipients:
            client.command(f"RCPT TO:<{recipient}>{wishes}", 250)
        client.command("DATA", 354)
        client.send(re.sub(rb"^\.", b"..", self.content, flags=re.MULTILINE) + b".\r\n")
        return client.expect(250).split()[-1].decode()

    def copies(self, hop):
        """The copies that the server keeps, each as (trace, content)."""
        found = []
        for stored in hop.stored():
            # Servers keep lines as their system has them.
            end = b"\r\n" if b"\r\n" in stored else b"\n"
            at = stored.find(self.first.rstrip() + end)
            # A notice holds the message, too, but not at its top.
            if at >= 0 and TRACE.match(stored[:at].replace(b"\r\n", b"\n")):
                content = stored[at:] if end == b"\r\n" else stored[at:].replace(b"\n", b"\r\n")
                found.append((stored[:at].decode(), content))
        return found

    def arrive(self, hop, count=1):
        """Until the server keeps so many copies; what each has on top of it. They are octet for octet what was sent."""
        wait_until(lambda: len(self.copies(hop)) >= count, 20, lambda: f"{count} copies: {hop.said()}")
        copies = self.copies(hop)
        assert len(copies) == count
        for _, content in copies:
            assert content == self.content, f"changed: {difference(content, self.content)}"
        return [top for top, _ in copies]


def difference(got, wanted):
    """Where the two part, shortly."""
    at = next((i for i, (a, b) in enumerate(zip(got, wanted)) if a != b), min(len(got), len(wanted)))
    around = slice(max(0, at - 40), at + 40)
    return f"at {at} of {len(wanted)} (got {len(got)}): {got[around]!r}, not {wanted[around]!r}"


def deliver(gateway, letters, recipients=("to@example.net",), **options):
    """Sends letters in one session; their ids."""
    with gateway.client() as client:
        client.hello()
        return [letter.send(client, recipients, **options) for letter in letters]


# Octets that no line end and no server's own rules are among; half a kilobyte in a line.
OCTETS = bytes(octet for octet in range(1, 256) if octet not in b"\r\n") * 2
BODIES = {
    "international": "Grüße, δοκιμή, 試験\r\n".encode(),
    "dots": b".\r\n..\r\n.x\r\n\r\n.\r\n\r\nFrom here\r\n>From there\r\n.\r\n",
    "long lines": (b"y" * 998 + b"\r\n") * 3 + b"." + b"z" * 997 + b"\r\n",
    "nothing": b"",
    "empty lines": b"\r\n" * 300,
    "octets": (OCTETS + b"\r\n") * 20,
    "5 MB": (OCTETS + b"\r\n") * 10000,
    "5 MB with dots": (OCTETS + b"\r\n." + OCTETS[::-1] + b"\r\n") * 5000,
}


def came_through_tls(top):
    """Whether the server says so in what it put on top of a message."""
    return bool(re.search(r"with (ESMTP|LMTP)S", top, re.IGNORECASE))


def earn_trust(gateway):
    """One message after the other on one connection, until the gateway has seen that the server may have chunks."""
    for _ in range(5):
        identity, = deliver(gateway, [Letter(b"body\r\n")])
        gateway.wait_event("deliver", id=identity)


def check_content(sluice, hop, level):
    """All bodies, to two recipients each."""
    gateway = sluice({"*": {"to": hop.url(), "tls": level}}, workers=1)
    if hop.chunk_mark:
        earn_trust(gateway)
    letters = {each: Letter(body) for each, body in BODIES.items()}
    identities = deliver(gateway, letters.values(), ["to@example.net", "two@example.net"])
    for letter in letters.values():
        for top in letter.arrive(hop, 2):
            assert came_through_tls(top) == (level != "none"), top
    replies = dict.fromkeys(letters)
    for each, identity in zip(letters, identities):
        events = gateway.wait_event("deliver", id=identity, count=2)
        assert len(events) == 2
        assert all(bool(event.get("tls")) == (level != "none") for event in events), events
        replies[each] = events[0]["reply"]
    gateway.wait_empty()
    assert not gateway.events("defer") and not gateway.events("bounce")
    if hop.chunk_mark:
        assert all(hop.chunk_mark in replies[each] for each in ("international", "octets")), replies


@every()
def test_content_arrives_as_it_is(sluice, servers, name):
    check_content(sluice, servers(name), "none")


@every_with_tls()
def test_content_arrives_through_tls(sluice, servers, name):
    check_content(sluice, servers(name), "encrypt")


def test_lmtp_over_a_socket(sluice, servers):
    hop = servers("Dovecot")
    gateway = sluice(f"lmtp:{hop.socket}")
    letters = [Letter(body) for body in BODIES.values()]
    deliver(gateway, letters, ["to@example.net", "two@example.net", "three@example.net"])
    for letter in letters:
        letter.arrive(hop, 3)
    event = gateway.wait_event("deliver", count=3 * len(letters))[0]
    assert event["site"] == hop.socket, event


def test_lmtp_answers_for_each_recipient(sluice, servers):
    hop = servers("Dovecot")
    gateway = sluice(hop.url())
    letter = Letter(b"body\r\n")
    identity, = deliver(gateway, [letter], ["to@example.net", next_hops.FULL, "two@example.net"], sender="")
    letter.arrive(hop, 2)
    assert {event["to"] for event in gateway.wait_event("deliver", id=identity, count=2)} == {"to@example.net",
                                                                                              "two@example.net"}
    event, = gateway.wait_event("bounce", id=identity)
    assert event["to"] == next_hops.FULL and event["class"] == "quota" and "5.2.2" in event["reply"], event


LEVELS = ("none", "may", "encrypt", "verify")


def levels(hop):
    """A route for each level, to the same server."""
    names = {"tls_names": [next_hops.NAME]}
    return {f"{level}.example": {"to": hop.url(), "tls": level, **(names if level == "verify" else {})}
            for level in LEVELS}


@every_with_tls()
def test_levels_of_tls(sluice, servers, authority, name):
    hop = servers(name)
    gateway = sluice(levels(hop), outbound={"ca_file": authority.path})
    for level in LEVELS:
        letter = Letter(BODIES["dots"])
        identity, = deliver(gateway, [letter], [f"to@{level}.example"])
        top, = letter.arrive(hop)
        event, = gateway.wait_event("deliver", id=identity)
        is_safe = level != "none"
        assert came_through_tls(top) == is_safe, top
        assert bool(event.get("tls")) == is_safe, event
        if level == "verify":
            assert "verified" in event["tls"], event
    assert not gateway.events("defer")


@every_with_tls()
def test_a_stranger_gets_nothing_that_is_to_be_verified(sluice, servers, name):
    """The server's CA is none that the gateway trusts."""
    hop = servers(name)
    gateway = sluice(levels(hop))
    for level in ("encrypt", "verify"):
        letter = Letter(b"body\r\n")
        identity, = deliver(gateway, [letter], [f"to@{level}.example"])
        if level == "encrypt":
            letter.arrive(hop)
            continue
        event = gateway.wait_event("defer", id=identity)[0]
        assert event["class"] == "tls" and "4.7.5" in event["reply"], event
        assert not letter.copies(hop)


@pytest.fixture(name="unmended")
def fixture_unmended(shared, certificate):
    """OpenSMTPD without its shim."""
    one = next_hops.OpenSmtpdAsPackaged(shared / "unmended", certificate)
    yield one
    one.stop()


def test_handshakes_that_fail(sluice, unmended, authority):
    """STARTTLS is offered and never works: `may` sends in the clear, the other levels wait."""
    hop = unmended
    gateway = sluice(levels(hop), outbound={"ca_file": authority.path})
    for level in ("may", "encrypt", "verify"):
        letter = Letter(b"body\r\n")
        identity, = deliver(gateway, [letter], [f"to@{level}.example"])
        if level == "may":
            top, = letter.arrive(hop)
            assert "with ESMTP " in top and not gateway.wait_event("deliver", id=identity)[0].get("tls"), top
            continue
        event = gateway.wait_event("defer", id=identity)[0]
        assert event["class"] == "tls", event
        assert not letter.copies(hop)
    assert not gateway.events("bounce")


def passwords(folder, *lines):
    """A file of passwords that only its owner reads."""
    path = os.path.join(folder, "passwords")
    with open(path, "w", encoding="ascii", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
        file.write("".join(line + "\n" for line in lines))
    return path


@every(lambda kind: kind.mechanisms)
def test_logins(sluice, servers, authority, folder, name):
    hop = servers(name)
    user, password = next_hops.LOGIN
    lines = [f"127.0.0.1:{port}  {user}  {password}" for port in hop.login_ports.values()]
    gateway = sluice({f"{mechanism}.example": {"to": hop.url(port), "tls": "verify", "tls_names": [next_hops.NAME]}
                      for mechanism, port in hop.login_ports.items()},
                     outbound={"ca_file": authority.path, "passwords": passwords(folder, *lines)})
    for mechanism in hop.mechanisms:
        letters = [Letter(BODIES["international"]), Letter(BODIES["dots"])]
        deliver(gateway, letters, [f"to@{mechanism}.example"])
        for letter in letters:
            top, = letter.arrive(hop)
            assert re.search("with ESMTPSA", top, re.IGNORECASE), top
    assert not gateway.events("defer")


@every(lambda kind: kind.mechanisms)
def test_a_wrong_password_keeps_mail_waiting(sluice, servers, authority, folder, name):
    hop = servers(name)
    port = hop.login_ports["PLAIN"]
    gateway = sluice({"*": {"to": hop.url(port), "tls": "encrypt"}},
                     outbound={"passwords": passwords(folder, f"127.0.0.1  {next_hops.LOGIN[0]}  wrong")})
    letter = Letter(b"body\r\n")
    identity, = deliver(gateway, [letter])
    event = gateway.wait_event("defer", id=identity)[0]
    assert event["class"] == "auth" and "4.7.8" in event["reply"], event
    assert not gateway.events("bounce") and not letter.copies(hop)


@every()
def test_international_addresses(sluice, servers, name):
    hop = servers(name)
    gateway = sluice({"*": {"to": hop.url(), "tls": "none"}})
    letter = Letter(BODIES["international"], subject="Grüße")
    with gateway.client() as client:
        client.hello()
        client.send("MAIL FROM:<jörg@exämple.com> BODY=8BITMIME SMTPUTF8\r\nRCPT TO:<δοκιμή@παράδειγμα.example>\r\n"
                    "DATA\r\n".encode())
        for code in (250, 250, 354):
            client.expect(code)
        client.send(letter.content + b".\r\n")
        identity = client.expect(250).split()[-1].decode()
    if "SMTPUTF8" in hop.extensions:
        letter.arrive(hop)
    else:
        event, = gateway.wait_event("bounce", id=identity)
        assert "5.6.7" in event["reply"], event
        assert not letter.copies(hop)


@every()
def test_wishes_about_notices(sluice, servers, name):
    """Where DSN is announced the next hop gets them, and answers itself; where it is not, the gateway does."""
    hop = servers(name)
    gateway = sluice({"*": {"to": hop.url(), "tls": "none"}})
    letter, wish = Letter(b"the body itself\r\n"), f"QQ{uuid.uuid4().hex[:8]}"
    deliver(gateway, [letter], parameters=f"RET=HDRS ENVID={wish}",
            wishes=" NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;first@example.net")
    letter.arrive(hop)
    if name == "smtp-server":
        dsn, = [envelope["dsn"] for _, envelope in hop.envelopes() if envelope.get("dsn", {}).get("envid") == wish]
        assert dsn["ret"] == "HDRS", dsn
        return

    def notices():
        return [stored for stored in hop.stored() if letter.first.strip() in stored
                and b"Content-Type: message/delivery-status" in stored.replace(b"-type:", b"-Type:")]
    wait_until(notices, 20, lambda: f"a notice about {letter.first}: {hop.said()}")
    notice, = notices()
    assert re.search(rb"^Action: delivered", notice, re.MULTILINE), notice
    assert b"the body itself" not in notice, "RET=HDRS asks for the header alone"
    if hop.tells_wishes:
        assert re.search(rf"^Original-Envelope-Id: {wish}\r?$".encode(), notice, re.MULTILINE | re.IGNORECASE), notice
        assert re.search(rb"^Original-Recipient: *rfc822; ?first@example.net", notice, re.MULTILINE), notice
    is_ours = b"Reporting-MTA: dns; relay.example.com" in notice
    assert is_ours == ("DSN" not in hop.extensions), notice
