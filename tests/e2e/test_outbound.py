"""Next hops that refuse, break, dawdle and lie; and the gears of pipelining, as seen on the wire."""
import email
import email.message
import email.policy
import re
import time

import pytest

from lab.client import queue_id, stuff
from lab.machine import patience, wait_until

CONTENT = b"Subject: x\r\n\r\nbody\r\n"
SHORT = {name: "1s" for name in ("outbound_connect", "outbound_greeting", "outbound_mail", "outbound_rcpt",
                                 "outbound_data", "outbound_block", "outbound_end")}


def send(gateway, count=1, recipients=("to@example.net",), sender="from@example.com", content=CONTENT):
    """Sends messages over one connection; their ids."""
    with gateway.client() as client:
        client.hello()
        return [client.message(sender, recipients, content) for _ in range(count)]


def delivered(gateway, identity, count=1, seconds=20):
    return gateway.wait_event("deliver", seconds, id=identity, count=count)


# What the next hop does once, on its first connection; the message must come through later, and be whole.
TROUBLE = {
    "closes at once": "greeting #1: close",
    "resets at once": "greeting #1: reset",
    "greets with 421": "greeting #1: 421 4.3.2 busy; close",
    "greets with 554": "greeting #1: 554 5.3.2 no service",
    "greets with garbage": "greeting #1: raw hello there\\r\\n",
    "closes at EHLO": "ehlo #1: close",
    "421 at EHLO": "ehlo #1: 421 4.3.2 busy; close",
    "garbage at EHLO": "ehlo #1: raw \\x00\\xff\\r\\n",
    "closes at MAIL": "mail #1: close",
    "421 at MAIL": "mail #1: 421 4.3.2 busy; close",
    "450 at MAIL": "mail x1: 450 4.3.2 later",
    "closes at RCPT": "rcpt #1: close",
    "421 at RCPT": "rcpt #1: 421 4.3.2 busy; close",
    "450 at RCPT": "rcpt x1: 450 4.2.1 later",
    "closes at DATA": "data #1: close",
    "421 at DATA": "data #1: 421 4.3.2 busy; close",
    "451 at DATA": "data x1: 451 4.3.0 later",
    "closes in the content": "content #1: cut 100",
    "resets at the end": "end #1: reset",
    "closes at the end": "end #1: close",
    "421 at the end": "end #1: 421 4.3.2 busy; close",
    "451 at the end": "end x1: 451 4.3.0 later",
    "garbage at the end": "end #1: raw ok then\\r\\n",
    "a code of two digits": "mail #1: raw 25 Ok\\r\\n",
    "codes that differ in one reply": "ehlo #1: raw 250-one\\r\\n550 two\\r\\n",
    "a reply without end": "mail #1: raw 250-" + "x" * 5000 + "\\r\\n250-" + "y" * 5000,
    "silence before the greeting": "greeting #1: silence",
    "silence at EHLO": "ehlo #1: silence",
    "silence at MAIL": "mail #1: silence",
    "silence at RCPT": "rcpt #1: silence",
    "silence at DATA": "data #1: silence",
    "silence at the end": "end #1: silence",
}


@pytest.mark.parametrize("name", TROUBLE)
def test_trouble_once_then_delivery(sluice, sink, name):
    hop = sink(TROUBLE[name])
    gateway = sluice(hop, timeouts=SHORT)
    content = CONTENT + b"a line of content\r\n" * 50
    identity, = send(gateway, content=content)
    delivered(gateway, identity)
    if re.match("4.. at|421", name) and "greet" not in name:
        event = gateway.events("defer", id=identity)[0]
        assert event["reply"].startswith(name[:3]), f"expected the next hop's words in {event}"
    assert len(hop.messages) == 1 and hop.messages[0].content.endswith(content)
    assert not gateway.events("bounce")
    gateway.wait_empty()


# What the next hop says for good: a bounce, at once, with its words.
REFUSALS = {
    "550 at MAIL": ("mail: 550 5.1.8 bad sender", "550 5.1.8 bad sender"),
    "550 at RCPT": ("rcpt: 550 5.1.1 no such user", "550 5.1.1 no such user"),
    "554 at DATA": ("data: 554 5.7.1 not here", "554 5.7.1 not here"),
    "554 at the end": ("end: 554 5.6.0 bad content", "554 5.6.0 bad content"),
    "of two lines": ("rcpt: 550-5.1.1 no such|550 5.1.1 user", "no such"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_refusal_for_good_bounces(sluice, sink, name):
    script, words = REFUSALS[name]
    hop = sink(script)
    gateway = sluice(hop)
    identity, = send(gateway, sender="")
    event, = gateway.wait_event("bounce", id=identity)
    assert words in event["reply"], f"expected {words!r} in {event}"
    assert event["to"] == "to@example.net"
    gateway.wait_empty()
    assert not gateway.events("defer") and not hop.messages


def test_all_recipients_refused_but_354(sluice, sink):
    """A next hop that asks for content nevertheless gets a lone dot, and nothing is delivered to nobody."""
    hop = sink("rcpt bad: 550 5.1.1 no\ndata x1: 354 go on")
    gateway = sluice(hop, workers=1)
    identity, = send(gateway, sender="", recipients=["bad@example.net"])
    gateway.wait_event("bounce", id=identity)
    assert send(gateway, recipients=["good@example.net"])
    wait_until(lambda: [m for m in hop.messages if m.recipients], 10, "the next message")
    assert all(m.wire == b"" for m in hop.received if not m.recipients), "content was sent for no recipient"
    assert hop.connections == 1, "the connection should have stayed in use"


def test_second_host_when_the_first_is_dead(sluice, sink):
    first, second = sink(), sink()
    first.down()
    gateway = sluice([first, second])
    for identity in send(gateway, 5):
        delivered(gateway, identity)
    assert len(second.messages) == 5 and not gateway.events("bounce")


def test_second_host_when_the_first_turns_us_away(sluice, sink):
    first, second = sink("greeting: 554 5.3.2 no service here"), sink()
    gateway = sluice([first, second])
    identity, = send(gateway)
    delivered(gateway, identity)
    assert len(second.messages) == 1


def test_first_host_is_preferred(sluice, sink):
    first, second = sink(), sink()
    gateway = sluice([first, second])
    for identity in send(gateway, 20):
        delivered(gateway, identity)
    assert (len(first.messages), len(second.messages)) == (20, 0)


def test_lost_reply_means_a_second_delivery(sluice, sink):
    """The next hop took the message and died before its reply: it is sent again, and counted as a possible double."""
    hop = sink("end #1: close")
    gateway = sluice(hop)
    identity, = send(gateway)
    delivered(gateway, identity)
    assert len(hop.received) == 2 and len(hop.messages) == 1
    assert gateway.stats()["duplicates_possible"] >= 1


def test_slow_next_hop_is_waited_for(sluice, sink):
    hop = sink("\n".join(f"{phase}: delay 0.6; ok" for phase in ("greeting", "ehlo", "mail", "rcpt", "data", "end")))
    gateway = sluice(hop, timeouts=dict.fromkeys(SHORT, "3s"))
    identity, = send(gateway)
    delivered(gateway, identity)
    assert not gateway.events("defer")


def test_helo_after_a_refused_ehlo(sluice, sink):
    hop = sink("ehlo: 502 5.5.1 what?")
    gateway = sluice(hop)
    identity, = send(gateway)
    delivered(gateway, identity)
    assert hop.verbs()[:2] == ["EHLO", "HELO"]


def test_connection_is_kept_and_given_up(sluice, sink):
    hop = sink()
    gateway = sluice(hop, workers=1, timeouts={"outbound_idle": "1s"})
    for identity in send(gateway, 10):
        delivered(gateway, identity)
    assert hop.connections <= 10
    wait_until(lambda: hop.open_connections == 0, 10, "idle connections to be closed")
    assert hop.verbs().count("QUIT") == hop.connections, "expected a QUIT on each idle connection"
    send(gateway)
    wait_until(lambda: len(hop.messages) == 11, 10, "a delivery after the idle time")


def test_next_hop_that_hangs_up_while_idle(sluice, sink):
    """A kept connection that the next hop closed costs no attempt and no double."""
    hop = sink()
    gateway = sluice(hop, workers=1)
    first, = send(gateway)
    delivered(gateway, first)
    hop.down()
    hop.up()
    time.sleep(0.3)
    second, = send(gateway)
    delivered(gateway, second)
    assert len(hop.messages) == 2 and len(hop.received) == 2


def test_messages_per_connection(sluice, sink):
    hop = sink()
    gateway = sluice(hop, workers=1, sites={"default": {"connections": 1, "messages_per_connection": 5}})
    for identity in send(gateway, 20):
        delivered(gateway, identity)
    per_connection = [sum(m.connection == n for m in hop.messages) for n in range(1, hop.connections + 1)]
    assert max(per_connection) == 5, f"messages on each connection: {per_connection}"


def test_connections_are_limited(sluice, sink, smtp_source):
    hop = sink("end: delay 0.02; ok")
    gateway = sluice(hop, workers=2, sites={"default": {"connections": 3}})
    highest = 0
    smtp_source(gateway, "-s", "20", "-l", "1024", "-m", "200")
    while len(hop.messages) < 200:
        highest = max(highest, hop.open_connections)
        time.sleep(0.002)
    assert 1 <= highest <= 3, f"{highest} connections were open at once"


def flood(gateway, hop, count=60, script=""):
    """Sends messages while the next hop takes its time to greet, so that the one connection finds work waiting."""
    hop.script("greeting x1: delay 1; ok\n" + script)
    send(gateway, count)
    wait_until(lambda: len(hop.messages) >= count, 30, lambda: f"{count} messages, got {len(hop.messages)}")
    assert len(hop.messages) == count


ONE = {"default": {"connections": 1, "messages_per_connection": 0}}


def test_gear_three_content_and_next_envelope_in_one_flight(sluice, sink):
    """RFC 2920: content n and MAIL n+1 leave together, so a message costs one round trip."""
    hop = sink()
    gateway = sluice(hop, workers=1, sites=ONE)
    flood(gateway, hop)
    together = sum(b"\r\n.\r\nMAIL FROM:" in data and data.endswith(b"DATA\r\n") for _, data in hop.chunks)
    assert together >= 30, f"content and the next envelope came together only {together} times of 60"


def test_gear_two_envelope_in_one_flight(sluice, sink):
    hop = sink()
    gateway = sluice(hop)
    identity, = send(gateway, recipients=["a@example.net", "b@example.net"])
    delivered(gateway, identity, count=2)
    flights = [data for _, data in hop.chunks if data.startswith(b"MAIL")]
    assert len(flights) == 1 and flights[0].endswith(b"DATA\r\n"), f"expected one flight, got {flights}"


def test_gear_one_where_pipelining_is_not_announced(sluice, sink):
    hop = sink(extensions=("SIZE", "8BITMIME"))
    gateway = sluice(hop, workers=1, sites=ONE)
    flood(gateway, hop, 20)
    verbs = (b"MAIL", b"RCPT", b"DATA", b"QUIT", b"EHLO", b"RSET")
    for _, data in hop.chunks:
        lines = [line for line in data.split(b"\r\n") if line[:4] in verbs]
        assert len(lines) <= 1, f"two commands in one flight to a peer without PIPELINING: {data!r}"


def test_gear_one_with_smtp_sink(sluice, smtp_sink, smtp_source):
    hop = smtp_sink("-p")
    gateway = sluice(hop)
    smtp_source(gateway, "-s", "5", "-l", "2048", "-m", "100")
    wait_until(lambda: hop.count() >= 100, 30, lambda: f"100 dumps, got {hop.count()}")
    gateway.wait_empty()
    assert hop.count() == 100


def test_pipelined_refusals_settle_their_own_message(sluice, sink):
    """With replies of several messages in flight, each recipient gets the reply that is its own."""
    hop = sink()
    gateway = sluice(hop, workers=1, sites=ONE, retry={"schedule": ["2s", "1h"], "max_age": "2d", "jitter": "0%"})
    hop.script("rcpt refused: 550 5.1.1 no\nend later: 451 4.3.0 later\nmail unloved: 550 5.1.8 no\n"
               "greeting x1: delay 1; ok")
    kinds = {"taken": "deliver", "refused": "bounce", "later": "defer", "unloved": "bounce"}
    expected = {}
    with gateway.client() as client:
        client.hello()
        for index in range(40):
            kind = list(kinds)[index * 7 % 4]
            expected[client.message(f"{kind}{index}@example.com", [f"{kind}{index}@example.net"], CONTENT)] = kind
    for identity, kind in expected.items():
        event, = gateway.wait_event(kinds[kind], id=identity)
        assert event["to"].startswith(kind), f"expected the result of {kind}, got {event}"
        for other in {"deliver", "bounce", "defer"} - {kinds[kind]}:
            assert not gateway.events(other, id=identity), f"{kind} has an event {other} too"
    senders = sorted(m.sender for m in hop.messages if m.sender)
    assert senders == sorted(m.sender for m in hop.received if m.sender.startswith("taken"))


def test_cut_connection_settles_what_was_answered(sluice, sink):
    """Twenty messages pipelined; the connection breaks after the tenth reply: ten are settled, ten go again."""
    hop = sink()
    gateway = sluice(hop, workers=1, sites=ONE)
    flood(gateway, hop, 20, "end x10: ok\nend x1: reset")
    gateway.wait_empty()
    assert len(hop.messages) == 20
    assert len(hop.received) <= 22, f"{len(hop.received)} contents for 20 messages"


def test_eight_bit_content_and_a_peer_without_8bitmime(sluice, sink):
    """Undeclared it is sent as it is: nobody gains from a bounce, and without being told so this gateway rewrites no
    content."""
    hop = sink(extensions=("PIPELINING",))
    gateway = sluice(hop)
    content = "Subject: ä\r\n\r\nö\r\n".encode()
    identity, = send(gateway, content=content)
    delivered(gateway, identity)
    assert hop.messages[0].content.endswith(content)
    assert not any("BODY=" in line or "SIZE=" in line for _, line in hop.commands)


def send_declared(gateway, *contents):
    """The ids of messages with BODY=8BITMIME."""
    identities = []
    with gateway.client() as client:
        client.hello()
        for content in contents:
            client.command("MAIL FROM:<from@example.com> BODY=8BITMIME", 250)
            client.command("RCPT TO:<to@example.net>", 250)
            client.command("DATA", 354)
            client.send(stuff(content) + b".\r\n")
            identities.append(queue_id(client.expect(250)))
    return identities


def test_eight_bit_content_is_converted_where_the_operator_allows_it(sluice, sink):
    """A newsletter of two kinds of text and a picture, for a next hop of the old days and through the disk."""
    hop = sink(extensions=("PIPELINING", "SIZE"))
    gateway = sluice(hop, outbound={"convert_8bit": True})
    letter = email.message.EmailMessage(policy=email.policy.SMTP)
    letter["Subject"] = "News"
    letter.set_content("Grüße\r\n.\r\n" + "Zeile für Zeile\r\n" * 20000, cte="8bit")
    letter.add_alternative("<p>Grüße</p>", subtype="html", cte="8bit")
    letter.add_attachment(bytes(range(256)), maintype="image", subtype="png", cte="base64")
    content = letter.as_bytes()
    converted, refused = send_declared(gateway, content, "Subject: ä\r\n\r\nx\r\n".encode())
    delivered(gateway, converted)
    bounce, = gateway.wait_event("bounce", id=refused)
    assert bounce["reply"].endswith("it cannot be converted: its header is not ASCII")
    got = hop.messages[0].content
    assert max(got) < 128 and not any("BODY=" in line or "SIZE=" in line for _, line in hop.commands)
    parts = [part for part in email.message_from_bytes(got).walk() if not part.is_multipart()]
    assert [part["Content-Transfer-Encoding"] for part in parts] == ["quoted-printable"] * 2 + ["base64"]
    wanted = [part for part in email.message_from_bytes(content).walk() if not part.is_multipart()]
    for part, other in zip(parts, wanted):
        assert part.get_payload(decode=True) == other.get_payload(decode=True)


def test_expiry(sluice, sink):
    hop = sink("rcpt: 450 4.2.1 never today")
    gateway = sluice(hop, retry={"schedule": ["1s"], "max_age": "3s", "jitter": "0%"})
    identity, = send(gateway, sender="")
    started = time.monotonic()
    event, = gateway.wait_event("expire", 20, id=identity)
    assert event["to"] == "to@example.net"
    assert len(gateway.events("defer", id=identity)) >= 1
    assert time.monotonic() - started < patience(10)
    gateway.wait_empty()


UNLIMITED_NOTICES = {"per_minute": 0, "per_address_per_minute": 0}


def senders_told(home, gateway, count, seconds):
    """Who was told, each once, and what the notices say was done."""
    wait_until(lambda: len(home.messages) >= count, seconds, lambda: f"{count} notices, got {len(home.messages)}")
    time.sleep(1.5)  # for one too many
    told = sorted(recipient for message in home.messages for recipient in message.recipients)
    assert len(told) == len(set(told)) == count, f"somebody was told twice: {told}"
    assert not [event for event in gateway.events("notice") if "error" in event]
    return {re.search(rb"^Action: (\w+)", message.content, re.M).group(1) for message in home.messages}


def test_what_waits_behind_a_dead_site_is_told_and_given_up(sluice, sink):
    """It is tried with one message at a time; the others are late and too old all the same."""
    home, dead = sink(), sink()
    dead.down()
    times = {"schedule": ["1s"], "jitter": "0%"}
    gateway = sluice({"home.example": home, "*": dead}, notices=UNLIMITED_NOTICES,
                     retry={**times, "delay_warning": "2s", "max_age": "1h"})
    for number in range(60):
        send(gateway, sender=f"u{number}@home.example")
    assert senders_told(home, gateway, 60, 20) == {b"delayed"}
    gateway.settings["retry"]["max_age"] = "4s"
    gateway.reload()
    gateway.wait_empty(20)
    assert len(gateway.events("expire")) == 60 and len(home.messages) == 120


def test_what_waits_behind_a_limit_is_told_and_given_up(sluice, sink):
    """The site is well, and one message a minute goes there: what has to wait longer than mail is kept is given up, what
    is late keeps its place. It waits at two workers, and some of one's mail with the other."""
    home, slow = sink(), sink()
    gateway = sluice({"home.example": home, "*": slow}, notices=UNLIMITED_NOTICES, workers=2,
                     sites={f"127.0.0.1:{slow.port}": {"messages_per_minute": 1}},
                     retry={"schedule": ["1h"], "jitter": "0%", "delay_warning": "2s", "max_age": "8s"})
    for number in range(60):
        send(gateway, sender=f"u{number}@home.example")
    assert senders_told(home, gateway, 59, 6) == {b"delayed"}
    assert not gateway.events("defer"), "nothing was tried"
    gateway.wait_empty(20)
    assert len(slow.messages) == 1 and len(gateway.events("expire")) == 59
    wait_until(lambda: len(home.messages) == 118, 10, lambda: f"118 notices, got {len(home.messages)}")


def test_a_silent_first_host_delays_the_second_once(sluice, sink):
    """Both workers wait for the greeting of a host that says nothing, and one holds mail of the other: when the time is
    over all of it goes to the second host."""
    silent, well = sink("greeting: silence"), sink()
    gateway = sluice([f"smtp://127.0.0.1:{silent.port}", f"smtp://127.0.0.1:{well.port}"], workers=2,
                     timeouts={"outbound_greeting": "2s"})
    send(gateway, 100)
    wait_until(lambda: len(well.messages) == 100, 15, lambda: f"100 messages at the second host, got {len(well.messages)}")
