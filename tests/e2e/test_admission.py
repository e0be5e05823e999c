"""What admission looks up and counts: files that change while the gateway runs, rates over all workers, rules that are
only tried, chunks that survive a kill."""
import base64
import os
import time

import pytest

from lab.client import Client, Closed
from lab.gateway import add_user
from lab.machine import patience, wait_until
from lab.scripted_names import ScriptedNames

OURS = {"networks": ["10.99.99.99/32"], "domains": ["example.com", ".parts.example"]}


def rcpt(gateway, address, sender="stranger@elsewhere.example", source=None):
    """The reply to one RCPT."""
    with Client("127.0.0.1", gateway.port, source=source) as client:
        client.hello()
        client.command(f"MAIL FROM:<{sender}>", 250)
        client.send(f"RCPT TO:<{address}>\r\n".encode())
        code, lines = client.reply()
        client.command("QUIT", 221)
        return code, lines[-1].decode()


def replace(path, text):
    """Written aside and renamed, as the manual says."""
    aside = path.with_suffix(".new")
    aside.write_text(text, encoding="utf-8")
    os.rename(aside, path)


def becomes(ask, wanted, what):
    """Waits until the answer is the wanted one: files are looked at once a second."""
    wait_until(lambda: ask() == wanted, 10, what)


def test_a_list_of_recipients_is_read_again_when_it_changes(sluice, sink, open_folder):
    listed = open_folder / "recipients"
    replace(listed, "anna@example.com\nbert\n# nobody else\n")
    gateway = sluice(sink(), relay=OURS, recipients={"example.com": {"file": str(listed)}}, recipient_delimiter="+")
    assert rcpt(gateway, "anna@example.com")[0] == 250
    assert rcpt(gateway, "ANNA@Example.COM")[0] == 250
    assert rcpt(gateway, "bert+lists@example.com")[0] == 250
    assert rcpt(gateway, "cleo@example.com")[1].startswith("550 5.1.1")
    assert rcpt(gateway, "postmaster@example.com")[0] == 250
    assert rcpt(gateway, "anyone@sub.parts.example")[0] == 250, "there is no list for that domain"
    assert rcpt(gateway, "anna@elsewhere.example")[1].startswith("550 5.7.1")

    with Client("127.0.0.1", gateway.port) as before:
        before.hello()
        replace(listed, "cleo@example.com\n")
        becomes(lambda: rcpt(gateway, "cleo@example.com")[0], 250, "the new list")
        assert rcpt(gateway, "anna@example.com")[1].startswith("550 5.1.1")
        before.command("MAIL FROM:<a@b.example>", 250)
        before.command("RCPT TO:<cleo@example.com>", 250)
    wait_until(lambda: len(gateway.events("table", result="read")) >= 2, 5, "a log line about each reading")


@pytest.mark.parametrize("damage", ["gone", "a wrong line", "a folder"])
def test_a_list_that_cannot_be_read_never_refuses_for_good(sluice, sink, open_folder, damage):
    listed = open_folder / "recipients"
    replace(listed, "anna@example.com\n")
    gateway = sluice(sink(), relay=OURS, recipients={"example.com": {"file": str(listed)}},
                     rates={"client": {"errors_per_minute": 0}})
    assert rcpt(gateway, "cleo@example.com")[1].startswith("550 5.1.1")
    if damage == "a wrong line":
        replace(listed, "anna@example.com\ntwo words\n")
    else:
        listed.unlink()
    if damage == "a folder":
        listed.mkdir()
    becomes(lambda: rcpt(gateway, "cleo@example.com")[1][:9], "451 4.3.5", "a temporary refusal")
    assert rcpt(gateway, "anna@example.com")[1].startswith("451 4.3.5")
    assert rcpt(gateway, "postmaster@example.com")[0] == 250
    wait_until(lambda: gateway.events("table", result="unreadable"), 5, "a log line about it")
    if damage == "a folder":
        listed.rmdir()
    replace(listed, "cleo@example.com\n")
    becomes(lambda: rcpt(gateway, "cleo@example.com")[0], 250, "the list to be read again")


def test_a_hundred_thousand_recipients(sluice, sink, open_folder):
    listed = open_folder / "recipients"
    replace(listed, "".join(f"user{number}@example.com\n" for number in range(100_000)))
    gateway = sluice(sink(), relay=OURS, recipients={"example.com": {"file": str(listed)}})
    for number in (0, 1, 49_999, 99_999):
        assert rcpt(gateway, f"user{number}@example.com")[0] == 250
    assert rcpt(gateway, "user100000@example.com")[1].startswith("550 5.1.1")


def login(gateway, user, password, sender):
    """The replies to AUTH PLAIN and to MAIL."""
    token = base64.b64encode(f"\0{user}\0{password}".encode()).decode()
    with Client("127.0.0.1", gateway.port) as client:
        client.hello()
        client.send(f"AUTH PLAIN {token}\r\n".encode())
        code, _ = client.reply()
        if code != 235:
            return code, None
        client.send(f"MAIL FROM:<{sender}>\r\n".encode())
        return code, client.reply()[0]


def test_users_and_senders_are_read_again_when_they_change(sluice, sink, open_folder):
    senders = open_folder / "senders"
    replace(senders, "shop@example.com  shop@example.com @news.example.com\n")
    users = open_folder / "users"
    users.write_text("")
    users.chmod(0o600)
    gateway = sluice(sink(), relay=OURS, start=False,
                     listener={"auth": "required", "auth_without_tls": True},
                     auth={"users": str(users), "auth_senders": str(senders), "failure_delay": "100ms"})
    add_user(users, "shop@example.com", "first")
    gateway.start()
    assert login(gateway, "shop@example.com", "first", "shop@example.com") == (235, 250)
    assert login(gateway, "shop@example.com", "first", "weekly@news.example.com") == (235, 250)
    assert login(gateway, "shop@example.com", "first", "boss@example.com") == (235, 553)
    assert login(gateway, "shop@example.com", "wrong", "shop@example.com") == (535, None)

    add_user(users, "shop@example.com", "second")
    becomes(lambda: login(gateway, "shop@example.com", "second", "shop@example.com"), (235, 250), "the new password")
    assert login(gateway, "shop@example.com", "first", "shop@example.com")[0] == 535

    replace(senders, "shop@example.com  boss@example.com\n")
    becomes(lambda: login(gateway, "shop@example.com", "second", "boss@example.com"), (235, 250), "the new senders")
    senders.unlink()
    becomes(lambda: login(gateway, "shop@example.com", "second", "boss@example.com"), (235, 451), "no senders")

    # A slip of the pen in the file of users locks nobody out.
    good = users.read_text()
    users.write_text(good + "this is no user\n")
    wait_until(lambda: gateway.events("table", result="unreadable", file=str(users)), 10, "the mistake to be seen")
    assert login(gateway, "shop@example.com", "second", "boss@example.com")[0] == 235


def test_connections_of_a_client_are_counted_over_all_workers(sluice, sink):
    gateway = sluice(sink(), relay=OURS, workers=2, rates={"client": {"connections": 7}})
    clients = [Client("127.0.0.1", gateway.port, source="127.0.0.5") for _ in range(7)]
    for client in clients:
        client.hello()
    with Client("127.0.0.1", gateway.port, source="127.0.0.5") as one_more:
        one_more.expect(421)
    with Client("127.0.0.1", gateway.port, source="127.0.0.6") as another:
        another.hello()
    for client in clients:
        client.close()
    wait_until(lambda: len(gateway.events("disconnect")) >= 9, 10, "the connections to end")
    clients = [Client("127.0.0.1", gateway.port, source="127.0.0.5") for _ in range(7)]
    for client in clients:
        client.hello()
        client.close()


def test_messages_and_recipients_a_minute(sluice, sink):
    gateway = sluice(sink(), relay=OURS, rates={"client": {"messages_per_minute": 5, "recipients_per_minute": 8}})
    with Client("127.0.0.1", gateway.port) as client:
        client.hello()
        for _ in range(5):
            client.command("MAIL FROM:<a@b.example>", 250)
            client.command("RSET", 250)
        assert client.command("MAIL FROM:<a@b.example>", 450).startswith(b"450 4.7.1")
    with Client("127.0.0.1", gateway.port, source="127.0.0.9") as client:
        client.hello()
        client.command("MAIL FROM:<a@b.example>", 250)
        for _ in range(8):
            client.command("RCPT TO:<anna@example.com>", 250)
        assert client.command("RCPT TO:<anna@example.com>", 450).startswith(b"450 4.7.1")


def test_errors_a_minute_end_the_connection(sluice, sink):
    gateway = sluice(sink(), relay=OURS, rates={"client": {"errors_per_minute": 5}})
    with Client("127.0.0.1", gateway.port) as client:
        client.hello()
        client.command("MAIL FROM:<a@b.example>", 250)
        for _ in range(5):
            client.command("RCPT TO:<x@elsewhere.example>", 550)
        client.command("RCPT TO:<x@elsewhere.example>", 550)
        client.expect(421)
        with pytest.raises(Closed):
            client.line()


def test_a_rule_that_is_only_tried_refuses_nobody_and_says_whom(sluice, sink, open_folder):
    listed = open_folder / "recipients"
    replace(listed, "anna@example.com\n")
    gateway = sluice(sink(), relay=OURS, recipients={"example.com": {"file": str(listed)}},
                     rates={"client": {"messages_per_minute": 1}},
                     admission={"dry_run": ["recipient-list", "client-rate"]})
    for _ in range(3):
        assert rcpt(gateway, "nobody@example.com")[0] == 250
    for rule in ("recipient-list", "client-rate"):
        wait_until(lambda rule=rule: gateway.events("reject", dry_run=rule), 5, f"a log line about {rule}")
    assert rcpt(gateway, "x@elsewhere.example")[1].startswith("550 5.7.1"), "relaying is never only tried"


def test_a_route_that_refuses_is_told_at_once(sluice, sink, open_folder):
    """Accepted and bounced, it would be a notice to a sender who may be forged."""
    filed = open_folder / "routes"
    replace(filed, "filed.parts.example  error:450 4.2.1 Come again tomorrow\n")
    hop = sink()
    gateway = sluice({"old.parts.example": "error:550 5.1.6 This address has moved", "*": hop}, relay=OURS,
                     route_file=str(filed), retry={"schedule": ["1s"]})
    assert rcpt(gateway, "x@old.parts.example")[1] == "550 5.1.6 This address has moved"
    assert rcpt(gateway, "x@filed.parts.example")[1] == "450 4.2.1 Come again tomorrow"
    assert rcpt(gateway, "x@old.elsewhere.example")[1].startswith("550 5.7.1 Relaying denied")
    event, = gateway.wait_event("reject", reason="ROUTE_REFUSES", to="x@old.parts.example")
    assert event["from"] == "stranger@elsewhere.example"

    # Mail that was taken before the route refused it comes back to its sender as ever.
    hop.down()
    with Client("127.0.0.1", gateway.port) as client:
        client.hello()
        client.command("MAIL FROM:<>", 250)
        client.command("RCPT TO:<x@new.parts.example>", 250)
        client.command("DATA", 354)
        client.send(b"Subject: x\r\n\r\n.\r\n")
        identity = client.expect(250).split()[-1].decode()
    replace(filed, "new.parts.example  error:550 5.1.6 Closed\n")
    becomes(lambda: rcpt(gateway, "x@new.parts.example")[1], "550 5.1.6 Closed", "the new routes")
    event, = gateway.wait_event("bounce", id=identity)
    assert "550 5.1.6 Closed" in event["reply"]
    gateway.wait_empty()
    assert {event["id"] for event in gateway.events("accept")} == {identity}


@pytest.fixture(name="names")
def fixture_names():
    one = ScriptedNames({
        "nothing.example": [(0, "")],
        "usual.example": [(10, "mx.usual.example")],
        "mixed.example": [(0, ""), (10, "mx.usual.example")],
        "implicit.example": [],
        "broken.example": "SERVFAIL",
        "silent.example": "silent",
        "mute.example": "silent",
    })
    yield one
    one.stop()


def mail(gateway, sender, recipient="anna@example.com"):
    """The replies to MAIL, RCPT and NOOP in one flight, and how long the first took."""
    with Client("127.0.0.1", gateway.port) as client:
        client.hello()
        started = time.monotonic()
        client.send(f"MAIL FROM:<{sender}>\r\nRCPT TO:<{recipient}>\r\nNOOP\r\n".encode())
        first = client.reply()[1][-1].decode()
        took = time.monotonic() - started
        return [first, *(client.reply()[1][-1].decode()[:9] for _ in range(2))], took


STRICT = {"reject_null_mx_sender": True}
PASSED = ["250 2.1.0 Ok", "250 2.1.5", "250 2.0.0"]


def test_a_sender_whose_domain_takes_no_mail(sluice, sink, names):
    gateway = sluice(sink(), relay=OURS, admission=STRICT, dns={"servers": [names.address]})
    for _ in range(2):  # asked, and remembered
        assert mail(gateway, "a@Nothing.Example")[0] == ["550 5.7.27 Sender address has null MX", "503 5.5.1", "250 2.0.0"]
    event = gateway.wait_event("reject", reason="NULL_MX_SENDER")[0]
    assert event["from"] == "a@Nothing.Example"
    for domain in ("usual", "mixed", "implicit", "broken", "missing"):
        assert mail(gateway, f"a@{domain}.example")[0] == PASSED, domain
        assert f"{domain}.example" in names.asked
    before = len(names.asked)
    assert mail(gateway, "")[0] == PASSED
    assert mail(gateway, "a@[192.0.2.1]")[0] == PASSED
    assert len(names.asked) == before


def test_who_is_not_asked_about(sluice, sink, names):
    """Our own clients send what they like; and nobody is asked about unless the operator wants it."""
    ours = sluice(sink(), admission=STRICT, dns={"servers": [names.address]})
    assert mail(ours, "a@nothing.example")[0] == PASSED
    usual = sluice(sink(), relay=OURS, dns={"servers": [names.address]})
    assert mail(usual, "a@nothing.example")[0] == PASSED
    assert not names.asked


def test_name_servers_that_are_silent_hold_up_nobody(sluice, sink, names):
    gateway = sluice(sink(), relay=OURS, admission=STRICT, dns={"servers": [names.address]})
    replies, took = mail(gateway, "a@silent.example")
    assert replies == PASSED
    assert 4.5 < took < patience(8), "five seconds are given to the question"
    # A client that is gone leaves its question behind, which does not hold up the end.
    with Client("127.0.0.1", gateway.port) as client:
        client.hello()
        client.send(b"MAIL FROM:<a@mute.example>\r\n")
        wait_until(lambda: "mute.example" in names.asked, 10, "another question")
    gateway.wait_event("disconnect", count=2)
    started = time.monotonic()
    gateway.stop()
    assert time.monotonic() - started < patience(4)


def test_who_speaks_before_the_greeting(sluice, sink):
    gateway = sluice(sink(), relay=OURS, listener={"greeting_delay": "1s"})
    with Client("127.0.0.1", gateway.port) as client:
        started = time.monotonic()
        client.send(b"EHLO hasty.example\r\n")
        client.expect(554)
        assert time.monotonic() - started < patience(0.9)
        with pytest.raises(Closed):
            client.line()
    with Client("127.0.0.1", gateway.port) as client:
        started = time.monotonic()
        client.hello()
        assert time.monotonic() - started > 0.9


def test_chunks_that_were_answered_survive_a_kill(sluice, sink):
    hop = sink()
    hop.down()
    gateway = sluice(hop, relay=OURS)
    for number in range(20):
        with Client("127.0.0.1", gateway.port) as client:
            client.hello()
            body = f"Subject: {number}\r\n\r\n.dot\r\n{'x' * 5000}".encode()
            client.send(b"MAIL FROM:<a@b.example>\r\nRCPT TO:<anna@example.com> NOTIFY=FAILURE ORCPT=rfc822;anna@example.com\r\n")
            client.expect(250)
            client.expect(250)
            client.send(b"BDAT 7\r\n" + body[:7] + b"BDAT %d LAST\r\n" % (len(body) - 7) + body[7:])
            client.expect(250)
            client.expect(250)
    gateway.kill()
    hop.up()
    gateway.start()
    wait_until(lambda: len(hop.messages) >= 20, 30, "all twenty at the next hop")
    for message in hop.messages:
        assert message.content.endswith(b"\r\n.dot\r\n" + b"x" * 5000 + b"\r\n")
        assert [str(to) for to in message.recipients] == ["anna@example.com"]
