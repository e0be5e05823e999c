"""Next hops that break every rule: for each the outcome that a table names, and nothing lost. All scenarios of a table run
side by side; a test waits for one of them and holds it against its row."""
import pathlib
import shutil

import pytest

from lab.machine import disk_folder
from receivers.contexts import make_contexts
from receivers.play import Play, Scenario
from receivers.script import REPLIES, reply_octets

GREETING = {
    "closes at once": Scenario("greeting #1: close", says="^4.4.2"),
    "resets at once": Scenario("greeting #1: reset", says="^4.4.2"),
    "never greets": Scenario("greeting #1: silence", says="^4.4.2 timeout"),
    "greets late": Scenario("greeting: delay 0.3; ok"),
    "greets octet by octet": Scenario("greeting: drip 0.005; ok"),
    "greets too slowly, octet by octet": Scenario("greeting #1: drip 0.2; 220 " + "x" * 300, says="^4.4.2 timeout"),
    "greets with half a line": Scenario("greeting #1: part 9; close", says="^4.4.2"),
    "greets with many lines": Scenario("greeting: raw " + "220-be my guest\\r\\n" * 20 + "220 now\\r\\n"),
    "greets with a code alone": Scenario("greeting: raw 220\\r\\n"),
    "greets with 8-bit octets": Scenario("greeting: raw 220 gr\\xfc\\xdf dich\\r\\n"),
    "greets with 421": Scenario("greeting #1: 421 4.3.2 busy; close", says="421 4.3.2 busy"),
    "greets with 450": Scenario("greeting #1: 450 4.3.2 later; close", says="450 4.3.2 later"),
    "greets with 554": Scenario("greeting #1: 554 5.3.2 no service", says="554 5.3.2 no service"),
    "greets with 554 for ever": Scenario("greeting: 554 5.3.2 no service", ends="waiting", says="554 5.3.2 no service"),
    "greets with 421 for ever": Scenario("greeting: 421 4.3.2 busy; close", ends="waiting", says="421 4.3.2 busy"),
    "greets with 250": Scenario("greeting #1: 250 hello", says="250 hello"),
    "greets with 099": Scenario("greeting #1: raw 099 hello\\r\\n", says="code"),
    "greets with 600": Scenario("greeting #1: raw 600 hello\\r\\n", says="code"),
    "greets with 2200": Scenario("greeting #1: raw 2200 hello\\r\\n", says="code"),
    "greets without a code": Scenario("greeting #1: raw hello there\\r\\n", says="code"),
    "greets with a NUL": Scenario("greeting #1: raw \\x00\\x00220 hello\\r\\n", says="code"),
    "ends its greeting with LF": Scenario("greeting #1: raw 220 hello\\n", says="bare LF"),
    "has a CR in its greeting": Scenario("greeting #1: raw 220 hel\\rlo\\r\\n", says="bare CR"),
    "greets with a line of 64 KB": Scenario("greeting #1: raw 220 " + "x" * 65536 + "\\r\\n", says="too long"),
    "greets without end": Scenario("greeting #1: endless 220-and", says="too many"),
    "greets with two codes": Scenario("greeting #1: raw 220-one\\r\\n554 two\\r\\n", says="differ"),
    "speaks a protocol of the web": Scenario("greeting #1: raw HTTP/1.1 400 Bad Request\\r\\n\\r\\n; close", says="code"),
    "answers EHLO before it is asked": Scenario("greeting #1: raw 220 hello\\r\\n250 ready\\r\\n", deferred=True),
    "is at its limit of connections": Scenario("end: delay 0.05; ok", messages=10, connections=5, options={"limit": 1}),
}

HELLO = {
    "closes at EHLO, but not at HELO": Scenario("ehlo: close"),
    "resets at EHLO, but not at HELO": Scenario("ehlo: reset"),
    "closes at EHLO and HELO": Scenario("ehlo: close\nhelo #2: close", says="^4.4.2 .*HELO"),
    "silence at EHLO": Scenario("ehlo #1: silence", says="^4.4.2 timeout.*EHLO"),
    "EHLO answered late": Scenario("ehlo: delay 0.3; ok"),
    "421 at EHLO": Scenario("ehlo #1: 421 4.3.2 busy; close", says="421 4.3.2 busy"),
    "421 at EHLO for ever": Scenario("ehlo: 421 4.3.2 busy; close", ends="waiting", says="421 4.3.2 busy"),
    "451 at EHLO": Scenario("ehlo #1: 451 4.3.0 later", says="451 4.3.0 later"),
    "EHLO unknown": Scenario("ehlo: 502 5.5.1 what?"),
    "EHLO and HELO refused": Scenario("ehlo #1: 550 5.7.1 no\nhelo #1: 550 5.7.1 no", says="550 5.7.1 no"),
    "garbage at EHLO": Scenario("ehlo #1: raw \\x00\\xff\\r\\n", says="code"),
    "354 at EHLO": Scenario("ehlo #1: 354 go", says="354 go"),
    "codes that differ in a reply": Scenario("ehlo #1: raw 250-one\\r\\n550 two\\r\\n", says="differ"),
    "half a reply to EHLO": Scenario("ehlo #1: raw 250-one\\r\\n250-PIPE; close", says="^4.4.2"),
    "EHLO answered without end": Scenario("ehlo #1: endless 250-PIPELINING", says="too many"),
    "EHLO answered in one line": Scenario("ehlo: 250 PIPELINING"),
    "nonsense among extensions": Scenario("ehlo: 250-x|250-SIZE banana|250-SIZE|250- |250-=|250-AUTH=|250-\x01|250 "),
    "extensions in lower case": Scenario("ehlo: 250-x|250-pipelining|250 size 1000000"),
    "the same extensions often": Scenario("ehlo: 250-x|" + "250-PIPELINING|" * 40 + "250 8BITMIME"),
    "SIZE 0": Scenario("ehlo: 250-x|250 SIZE 0"),
    "SIZE beyond 64 bits": Scenario("ehlo: 250-x|250 SIZE 99999999999999999999999999"),
    "SIZE smaller than the message": Scenario("ehlo: 250-x|250 SIZE 500", ends="bounced", says="5.3.4"),
    "a 250 too many after EHLO": Scenario("ehlo #1: ok; raw 250 2.1.0 Ok\\r\\n", deferred=True),
}


def refused(phase, code, words):
    """A refusal of one phase for good."""
    return Scenario(f"{phase}: {code} {words}", ends="bounced", says=f"^{code} {words}")


ENVELOPE = {}
for verb in ("MAIL", "RCPT", "DATA"):
    at = verb.lower()
    ENVELOPE |= {
        f"closes at {verb}": Scenario(f"{at} #1: close", says="^4.4.2"),
        f"resets at {verb}": Scenario(f"{at} #1: reset", says="^4.4.2"),
        f"silence at {verb}": Scenario(f"{at} #1: silence", says=f"^4.4.2 timeout.*{verb}"),
        f"{verb} answered late": Scenario(f"{at}: delay 0.3; ok"),
        f"{verb} answered octet by octet": Scenario(f"{at}: drip 0.005; ok"),
        f"421 at {verb}": Scenario(f"{at} #1: 421 4.3.2 busy; close", says="421 4.3.2 busy"),
        f"421 at {verb} for ever": Scenario(f"{at}: 421 4.3.2 busy; close", ends="waiting", says="421 4.3.2 busy"),
        f"451 at {verb}": Scenario(f"{at} x1: 451 4.3.0 later", says="^451 4.3.0 later"),
        f"451 at {verb} for ever": Scenario(f"{at}: 451 4.3.0 later", ends="waiting", says="^451 4.3.0 later"),
        f"554 at {verb}": refused(at, 554, "5.7.1 not here"),
        f"554 of many lines at {verb}": Scenario(f"{at}: 554-5.7.1 not|554-5.7.1 at all|554 5.7.1 here", ends="bounced",
                                                 says="^554-5.7.1 not.*here"),
        f"554 with 8-bit octets at {verb}": Scenario(f"{at}: 554 5.7.1 n\xf6", ends="bounced", says="^554 5.7.1 n"),
        f"a code of two digits at {verb}": Scenario(f"{at} #1: raw 25 Ok\\r\\n", says="code"),
        f"150 at {verb}": Scenario(f"{at} #1: raw 150 Ok\\r\\n", says="code|unexpected"),
        f"bare LF at {verb}": Scenario(f"{at} #1: raw 250 Ok\\n", says="bare LF"),
        f"a line of 64 KB at {verb}": Scenario(f"{at} #1: raw 250 " + "x" * 65536 + "\\r\\n", says="too long"),
        f"no end of lines at {verb}": Scenario(f"{at} #1: endless 250-more", says="too many"),
        f"NULs at {verb}": Scenario(f"{at} #1: raw \\x00\\x00\\x00\\x00\\r\\n", says="code"),
    }
ENVELOPE |= {
    "354 at MAIL": Scenario("mail #1: 354 go", says="354 go"),
    "503 at MAIL": Scenario("mail: 503 5.5.1 polite people say EHLO", ends="bounced", says="^503"),
    "354 at RCPT": Scenario("rcpt #1: 354 go", says="354 go"),
    "251 at RCPT": Scenario("rcpt: 251 2.1.5 will forward"),
    "552 at RCPT, which once meant too many": Scenario("rcpt: 552 5.2.2 mailbox full", ends="bounced", says="^552 5.2.2"),
    "250 to DATA": Scenario("data #1: 250 2.0.0 Ok", says="250 2.0.0 Ok"),
    "503 to DATA": Scenario("data: 503 5.5.1 no valid recipients", ends="bounced", says="^503"),
    "354 of two lines": Scenario("data: 354-go|354 on"),
    "354 with no recipients": Scenario("rcpt: 550 5.1.1 nobody\ndata: 354 go on", ends="bounced", says="^550 5.1.1",
                                       copies=None),
    "each recipient its own": Scenario("rcpt bad: 550 5.1.1 nobody\nrcpt slow x1: 450 4.2.1 later\n"
                                       "rcpt never: 452 4.2.2 full",
                                       to=("good", "bad", "slow", "never", "goodtoo"), copies=2,
                                       ends={"good": "delivered", "bad": "bounced", "slow": "delivered",
                                             "never": "waiting", "goodtoo": "delivered"},
                                       says={"bad": "^550 5.1.1", "slow": "^450 4.2.1", "never": "^452 4.2.2"}),
    "MAIL answered twice": Scenario("mail #1: ok; ok", deferred=True),
    "RCPT answered twice": Scenario("rcpt #1: ok; ok", deferred=True),
    "DATA answered before the content": Scenario("data #1: ok; raw 250 2.0.0 Ok: whatever\\r\\n; close", doubles=1, copies=1,
                                                 says="^4"),
}

END = {
    "closes in the content": Scenario("content #1: after 100; close", size=5000, says="^4.4.2", doubles=1, copies=1),
    "resets in the content": Scenario("content #1: after 100; reset", size=5000, says="^4.4.2", doubles=1, copies=1),
    "closes in long content": Scenario("content #1: after 100; close", size=8_000_000, says="^4.4.2"),
    "reads no content": Scenario("content #1: silence", size=8_000_000, says="^4.4.2 timeout"),
    "552 in the content": Scenario("content: after 1000; 552 5.3.4 too much; delay 0.1; close", size=8_000_000,
                                   ends="bounced", says="^552 5.3.4 too much"),
    "451 in the content": Scenario("content #1: after 1000; 451 4.3.0 later; delay 0.1; close", size=8_000_000,
                                   says="^451 4.3.0 later"),
    "421 in the content": Scenario("content #1: after 1000; 421 4.3.2 busy; close", size=8_000_000, says="^421 4.3.2 busy"),
    "250 in the content": Scenario("content #1: after 1000; 250 2.0.0 enough; delay 0.1; close", size=8_000_000,
                                   says="250 2.0.0 enough|closed"),
    "closes at the end": Scenario("end #1: close", doubles=1, says="^4.4.2"),
    "takes it and closes": Scenario("end #1: take; close", doubles=1, says="^4.4.2"),
    "takes it and resets": Scenario("end #1: take; reset", doubles=1, says="^4.4.2"),
    "takes it and is silent": Scenario("end #1: take; silence", doubles=1, says="^4.4.2 timeout"),
    "takes it and says half a reply": Scenario("end #1: take; part 10; close", doubles=1, says="^4.4.2"),
    "takes it and says all but the LF": Scenario("end #1: take; raw 250 2.0.0 Ok\\r; close", doubles=1, says="^4.4.2"),
    "takes it and says the first of two lines": Scenario("end #1: take; raw 250-2.0.0 Ok\\r\\n; close", doubles=1,
                                                         says="^4.4.2"),
    "the end answered late": Scenario("end: delay 0.3; ok"),
    "the end answered octet by octet": Scenario("end: drip 0.005; ok"),
    "the end answered in many lines": Scenario("end: " + "250-2.0.0 Ok|" * 20 + "250 2.0.0 Ok"),
    "the end answered by a code alone": Scenario("end: take; raw 250\\r\\n"),
    "421 at the end": Scenario("end #1: 421 4.3.2 busy; close", says="^421 4.3.2 busy", copies=2),
    "451 at the end": Scenario("end x1: 451 4.3.0 later", says="^451 4.3.0 later", copies=2),
    "451 at the end for ever": Scenario("end: 451 4.3.0 later", ends="waiting", says="^451 4.3.0 later", copies=None),
    "554 at the end": Scenario("end: 554 5.6.0 bad content", ends="bounced", says="^554 5.6.0 bad content", copies=1),
    "354 at the end": Scenario("end #1: 354 more", doubles=1, says="354 more"),
    "garbage at the end": Scenario("end #1: raw fine then\\r\\n", doubles=1, says="code"),
    "bare LF at the end": Scenario("end #1: raw 250 Ok\\n; delay 0.1", doubles=1, says="bare LF"),
    "a line of 64 KB at the end": Scenario("end #1: raw 250 " + "x" * 65536 + "\\r\\n", doubles=1, says="too long"),
    "no end of lines at the end": Scenario("end #1: endless 250-more", doubles=1, says="too many"),
    "two codes at the end": Scenario("end #1: raw 250-2.0.0 Ok\\r\\n554 5.6.0 or not\\r\\n", doubles=1, says="differ"),
}

BETWEEN = {
    "closes after each message": Scenario("end: ok; close", messages=5, copies=None),
    "resets after each message": Scenario("end: ok; delay 0.02; reset", messages=5, copies=None),
    "421 after each message": Scenario("end: ok; raw 421 4.3.2 enough for now\\r\\n; close", messages=5, copies=None),
    "answers the end twice": Scenario("end x1: ok; ok", messages=5, copies=None),
    "talks while nobody asks": Scenario("idle #1: 250 2.0.0 still here", messages=2),
    "says 421 while nobody asks": Scenario("idle #1: 421 4.4.2 idle too long; close", messages=2),
    "452 to the second MAIL of a connection": Scenario("mail #1 x1: ok\nmail #1: 452 4.5.3 too many messages\n"
                                                       "mail #2 x1: ok\nmail #2: 452 4.5.3 too many messages", messages=4),
    "RSET refused": Scenario("mail x1: 451 4.3.0 later\nrset: 500 5.5.1 what?", messages=3, copies=None),
    "closes at RSET": Scenario("data x1: 451 4.3.0 later\nrset: close", messages=3, copies=None),
    "silence at RSET": Scenario("data x1: 451 4.3.0 later\nrset #1: silence", messages=3, copies=None),
    "QUIT refused": Scenario("quit: 500 5.5.1 stay"),
    "silence at QUIT": Scenario("quit: silence"),
    "closes at QUIT": Scenario("quit: close"),
    "garbage at QUIT": Scenario("quit: raw \\x00\\xff\\r\\n"),
}

CHUNKED = {"extensions": ("PIPELINING", "SIZE", "8BITMIME", "CHUNKING")}


def stream(script, messages=12, **fields):
    """Many messages at hand when the connection stands, for a receiver of chunks."""
    return Scenario(f"greeting: delay 0.3; ok\n{script}", messages=messages, dots=False, options=CHUNKED, copies=None, **fields)


# Behind the reply that is given twice everything is refused on that connection, so that nothing of it may count as
# delivered. It is always found: a peer that nobody knows must first show that it counts.
TWICE = "451 4.3.0 later"
CHUNKING = {
    "CHUNKING is a lie": stream("end BDAT: ignore"),
    "500 to BDAT after its octets": stream("end BDAT: 500 5.5.1 what?"),
    "closes at BDAT": stream("end BDAT #1: close"),
    "takes a chunk and resets": stream("end BDAT #1: take; reset"),
    "421 at BDAT": stream("end BDAT #1: 421 4.3.2 busy; close"),
    "451 at BDAT": stream("end BDAT x1: 451 4.3.0 later"),
    "554 at BDAT": Scenario("end: 554 5.6.0 no", options=CHUNKED, dots=False, messages=6, copies=1, ends="bounced",
                            says="^554 5.6.0 no"),
    "silence at BDAT": stream("end BDAT #1: silence"),
    "354 at BDAT": stream("end BDAT #1: 354 go on"),
    "the first MAIL answered twice": stream(f"mail #1 x1: ok; ok\nend #1: {TWICE}"),
    "the first RCPT answered twice": stream(f"rcpt #1 x1: ok; ok\nend #1: {TWICE}"),
    "the first DATA answered twice": stream(f"data #1 x1: ok; ok\nend #1: {TWICE}"),
    "the first end answered twice": stream(f"end #1 x1: ok; ok\nend #1: {TWICE}"),
    "the first BDAT answered twice": stream(f"end BDAT #1 x1: ok; ok\nend BDAT #1: {TWICE}\nend #1 x2: ok\nend #1: {TWICE}"),
    "the first RSET answered twice": stream(f"rset #1 x1: ok; ok\nend BDAT #1 x1: ok\nend #1 x2: ok\nend #1: {TWICE}"),
    "each MAIL answered twice": stream(f"mail: ok; ok\nend: {TWICE}", messages=1, ends="waiting"),
    "each RCPT answered twice": stream(f"rcpt: ok; ok\nend: {TWICE}", messages=1, ends="waiting"),
    "each end answered twice": stream("end: ok; ok", messages=5),
}

FLIGHT = {
    # Several messages are under way at once when it happens.
    "closes among many messages": Scenario("end #1 x3: ok\nend #1: close", messages=12, copies=None),
    "resets among many messages": Scenario("end #1 x3: ok\nend #1: take; reset", messages=12, copies=None),
    "421 among many messages": Scenario("end #1 x3: ok\nend #1: 421 4.3.2 busy; close", messages=12, copies=None),
    "closes at the third MAIL": Scenario("mail #1 x2: ok\nmail #1: close", messages=12, copies=None),
    "451 for every other MAIL": Scenario("mail -0@ once: 451 4.3.0 later\nmail -2@ once: 451 4.3.0 later\n"
                                         "mail -4@ once: 451 4.3.0 later", messages=6, copies=1),
    "closes among many chunks": stream("end #1 x3: ok\nend #1: close"),
    "resets among many chunks": stream("end #1 x3: ok\nend #1: take; reset"),
    "421 among many chunks": stream("end #1 x3: ok\nend #1: 421 4.3.2 busy; close"),
    "silence among many chunks": stream("end #1 x3: ok\nend #1: silence"),
    "451 among many chunks": stream("end -4@ once: 451 4.3.0 later\nend -8@ once: 451 4.3.0 later"),
    "RSET refused among many chunks": stream("rset #1: 500 5.5.1 what?"),
    "one of many LMTP replies is missing": Scenario("end two #1 x1: nothing", to=("one", "two"), messages=4, copies=None,
                                                    options={"is_lmtp": True}),
}

PIPELINED = {
    "PIPELINING is a lie: it forgets what came early": Scenario("\n".join(
        f"{verb}: flush; ok" for verb in ("mail", "rcpt", "data")), copies=None, deferred=True),
    "PIPELINING is a lie: RCPT is not read": Scenario("mail #1: flush; ok", says="^4.4.2 timeout"),
}

STARTTLS = {"extensions": ("PIPELINING", "SIZE", "STARTTLS")}
NAMED = {"tls_names": ["receiver.example"]}
CLEAR = {"extensions": ("PIPELINING", "SIZE")}


def secured(script="", level="may", certificate="good", **fields):
    """A receiver that offers STARTTLS and has this certificate."""
    return Scenario(script, certificate=certificate, options={**STARTTLS, "secure_extensions": CLEAR["extensions"]},
                    route={"tls": level, **fields.pop("keys", {})}, **fields)


TLS = {
    # Where TLS may be used, whatever goes wrong with it ends in the clear.
    "may: STARTTLS and a certificate of a stranger": secured(certificate="stranger", secure=True),
    "may: STARTTLS refused for now": secured("starttls: 454 4.7.0 not now", secure=False),
    "may: STARTTLS unknown, though offered": secured("starttls: 502 5.5.1 what?", secure=False),
    "may: closes at STARTTLS": secured("starttls: close", secure=False, deferred="maybe"),
    "may: silence at STARTTLS": secured("starttls: silence", secure=False, deferred="maybe"),
    "may: garbage instead of a handshake": secured("handshake: raw garbage of many octets\\r\\n; delay 0.1; close",
                                                   secure=False, deferred="maybe"),
    "may: closes in the handshake": secured("handshake: close", secure=False, deferred="maybe"),
    "may: resets in the handshake": secured("handshake: reset", secure=False, deferred="maybe"),
    "may: silence in the handshake": secured("handshake: silence", secure=False, deferred="maybe"),
    "may: an alert instead of a handshake": secured("handshake: raw \\x15\\x03\\x03\\x00\\x02\\x02\\x28; delay 0.1; close",
                                                    secure=False, deferred="maybe"),
    "may: an old version of TLS alone": secured(certificate="old", secure=False, deferred="maybe"),
    "may: a reply is put behind the 220": secured("starttls: 220 2.0.0 Ready|250-receiver.example|250 SIZE 10",
                                                  deferred="maybe"),
    "may: 250 to STARTTLS": secured("starttls: 250 2.0.0 fine", secure=False, deferred="maybe"),
    "may: EHLO refused behind the handshake": secured("ehlo #1 x1: ok\nehlo #1: 554 5.5.1 no", deferred="maybe"),
    "may: closes behind the handshake": secured("ehlo #1 x1: ok\nehlo #1: close", deferred="maybe"),
    "may: closes in the content, through TLS": secured("content #1: after 100; close", size=8_000_000, secure=True,
                                                       copies=None, says="^4.4.2"),
    "may: takes it and closes, through TLS": secured("end #1: take; close", secure=True, doubles=1, says="^4.4.2"),
    # What forbids TLS never uses it; what demands it never sends without.
    "none: STARTTLS is offered": secured(level="none", secure=False),
    "encrypt: a certificate of a stranger": secured(level="encrypt", certificate="stranger", secure=True),
    "encrypt: not offered": Scenario("", route={"tls": "encrypt"}, ends="waiting", says="^4.7.4"),
    "encrypt: refused": secured("starttls: 454 4.7.0 not now", "encrypt", ends="waiting", says="^4.7.4"),
    "encrypt: refused once": secured("starttls #1: 454 4.7.0 not now", "encrypt", secure=True, says="^4.7.4"),
    "encrypt: refused for good": secured("starttls: 554 5.7.0 never", "encrypt", ends="waiting", says="^4.7.4"),
    "encrypt: closes in the handshake": secured("handshake: close", "encrypt", ends="waiting", says="^4.7.5"),
    "encrypt: silence in the handshake, once": secured("handshake #1: silence", "encrypt", secure=True, says="^4.7.5"),
    "encrypt: garbage instead of a handshake": secured("handshake: raw garbage\\r\\n; delay 0.1; close", "encrypt",
                                                       ends="waiting", says="^4.7.5"),
    "encrypt: an old version of TLS alone": secured(level="encrypt", certificate="old", ends="waiting", says="^4.7.5"),
    "encrypt: a reply is put behind the 220": secured("starttls: 220 2.0.0 Ready|250-receiver.example|250 SIZE 10",
                                                      "encrypt", secure=True),
    "verify: a name that counts": secured(level="verify", secure=True, keys=NAMED),
    "verify: the address is in the certificate": secured(level="verify", secure=True),
    "verify: of a stranger": secured(level="verify", certificate="stranger", keys=NAMED, ends="waiting", says="^4.7.5"),
    "verify: of another name": secured(level="verify", certificate="other", keys=NAMED, ends="waiting", says="^4.7.5"),
    "verify: too old": secured(level="verify", certificate="expired", keys=NAMED, ends="waiting", says="^4.7.5"),
    "verify: signed by itself": secured(level="verify", certificate="self", keys=NAMED, ends="waiting", says="^4.7.5"),
    "verify: not offered": Scenario("", route={"tls": "verify"}, ends="waiting", says="^4.7.4"),
    "verify: a stranger first, then the right one": secured(level="verify", certificate="changing", keys=NAMED,
                                                            secure=True, says="^4.7.5"),
}

PLAIN = {"extensions": ("PIPELINING", "AUTH PLAIN")}
AS_PLAIN = b"\0relay\0secret"

AUTH = {
    "a login by PLAIN": Scenario("", options=PLAIN, login=AS_PLAIN),
    "a login by LOGIN": Scenario("", options={"extensions": ("AUTH LOGIN",)}, login=b"secret"),
    "the login refused": Scenario("auth: 535 5.7.8 who?", options=PLAIN, login=b"", ends="waiting", says="^4.7.8"),
    "the login refused for now": Scenario("auth #1: 454 4.7.0 later", options=PLAIN, login=AS_PLAIN, says="^4.7.0"),
    "AUTH unknown, though offered": Scenario("auth: 502 5.5.1 what?", options=PLAIN, login=b"", ends="waiting",
                                             says="^4.7.8"),
    "AUTH not offered": Scenario("", login=b"", ends="waiting", says="^4.7"),
    "no AUTH that we know": Scenario("", options={"extensions": ("AUTH GSSAPI X-MAGIC",)}, login=b"", ends="waiting",
                                     says="^4.7.4"),
    "closes at AUTH": Scenario("auth #1: close", options=PLAIN, login=AS_PLAIN, says="^4.4.2"),
    "silence at AUTH": Scenario("auth #1: silence", options=PLAIN, login=AS_PLAIN, says="^4.4.2 timeout"),
    "421 at AUTH": Scenario("auth #1: 421 4.3.2 busy; close", options=PLAIN, login=AS_PLAIN, says="421 4.3.2 busy"),
    "a challenge that is not base64": Scenario("auth #1: 334 !!!!", options=PLAIN, login=AS_PLAIN, says="^4"),
    "challenges without end": Scenario("auth #1: 334 \nanswer: 334 ", options=PLAIN, login=AS_PLAIN, says="^4"),
    "250 at AUTH": Scenario("auth #1: 250 2.0.0 fine", options=PLAIN, login=AS_PLAIN, says="^4"),
    "530 at MAIL, though the login was taken": Scenario("mail x1: 530 5.7.0 log in first", options=PLAIN, login=AS_PLAIN,
                                                        ends="bounced", says="^530 5.7.0"),
    "SCRAM by one who does not know the password": Scenario(
        "auth #1: 334 cj1zb21lYm9keWVsc2Usczz1YWx0LGk9NDA5Ng==\nanswer: 235 2.7.0 whatever",
        options={"extensions": ("AUTH SCRAM-SHA-256",)}, login=b"", ends="waiting", says="^4.7"),
}

LMTP_HOP = {"is_lmtp": True}
SOCKET = {"is_lmtp": True, "path": True}
PAIR = ("one", "two")

LMTP = {
    "LMTP": Scenario("", to=PAIR, options=LMTP_HOP),
    "LMTP through a Unix socket": Scenario("", to=PAIR, options=SOCKET),
    "LMTP by chunks": Scenario("", to=PAIR, options={**LMTP_HOP, **CHUNKED}),
    "LMTP: to each its own reply": Scenario(
        "end bad: 552 5.2.2 full\nend slow x1: 451 4.3.0 later", options=LMTP_HOP,
        to=("good", "bad", "slow", "goodtoo"), copies=2, says={"bad": "^552 5.2.2 full", "slow": "^451 4.3.0 later"},
        ends={"good": "delivered", "bad": "bounced", "slow": "delivered", "goodtoo": "delivered"}),
    "LMTP: LHLO refused": Scenario("lhlo: 550 5.7.1 no", options=LMTP_HOP, ends="waiting", says="550 5.7.1 no"),
    "LMTP: closes at LHLO": Scenario("lhlo #1: close", options=LMTP_HOP, says="^4.4.2"),
    "LMTP: a reply too few, and silence": Scenario("end two #1: silence", to=PAIR, options=LMTP_HOP, doubles=1, copies=2,
                                                   says={"two": "^4.4.2 timeout"}),
    "LMTP: closes between replies": Scenario("end two #1: close", to=PAIR, options=LMTP_HOP, doubles=1, copies=2,
                                             says={"two": "^4.4.2"}),
    "LMTP: closes before all replies": Scenario("end one #1: close", to=PAIR, options=LMTP_HOP, doubles=2, copies=2,
                                                says="^4.4.2"),
    "LMTP: 421 between replies": Scenario("end two #1: 421 4.3.2 busy; close", to=PAIR, options=LMTP_HOP, copies=2,
                                          says={"two": "^421 4.3.2 busy"}),
    "LMTP: a reply too many": Scenario("end two #1: ok; ok", to=PAIR, options=LMTP_HOP, messages=3, copies=None),
    "LMTP: garbage between replies": Scenario("end two #1: raw so so\\r\\n", to=PAIR, options=LMTP_HOP, doubles=1, copies=2,
                                              says={"two": "code"}),
    "LMTP: half of the recipients refused": Scenario("rcpt bad: 550 5.1.1 nobody", to=("bad", "good"), options=LMTP_HOP,
                                                     copies=1, ends={"bad": "bounced", "good": "delivered"},
                                                     says={"bad": "^550 5.1.1"}),
    "LMTP: 354 with no recipients": Scenario("rcpt: 550 5.1.1 nobody\ndata: 354 go on", options=LMTP_HOP, ends="bounced",
                                             says="^550 5.1.1", copies=None),
    "LMTP: 421 for ever": Scenario("greeting: 421 4.3.2 busy; close", options=SOCKET, ends="waiting", says="421 4.3.2"),
    "LMTP: dies again and again behind the first reply": Scenario(
        "end two #1: close\nend two #2: close\nend two #3: reset", to=PAIR, options=LMTP_HOP, doubles=3, copies=4,
        says={"two": "^4.4.2"}),
}

SCENARIOS = {**GREETING, **HELLO, **ENVELOPE, **END, **BETWEEN, **CHUNKING, **FLIGHT, **PIPELINED, **TLS, **AUTH, **LMTP}


# What the log says first, and the class that goes with it.
CLASSES = {"4.4.2": "connection", "421 4.3.2 busy": "connection", "4.7.5": "tls", "4.7.8": "auth", "550 5.1.1": "bad-mailbox",
           "554 5.7.1": "policy", "552 5.2.2": "quota", "554 5.6.0": "content", "552 5.3.4": "size", "5.3.4": "size"}


def play_of(folder, scenarios, contexts=()):
    """Begins a play and ends it, whatever happens."""
    one = Play(pathlib.Path(folder), scenarios, contexts)
    try:
        yield one.begin()
    finally:
        one.finish()


@pytest.fixture(scope="module", name="play")
def fixture_play(request, shared):
    """The scenarios that were chosen, all of them under way."""
    folder = disk_folder()
    chosen = [item.callspec.params["name"] for item in request.session.items if item.name.startswith("test_misbehaviour[")]
    yield from play_of(folder, {name: SCENARIOS[name] for name in chosen}, make_contexts(shared))
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.parametrize("name", SCENARIOS)
def test_misbehaviour(play, name):
    play.check(SCENARIOS[name], CLASSES)


def test_nothing_is_lost_and_nothing_strays(play):
    """After all that, what waits is what should wait, nothing came once more, and no receiver got what was not meant for it."""
    play.check_waiting()
    for scenario in play.scenarios.values():
        play.check(scenario)
        play.check_strays(scenario)


# What a receiver has said when it has greeted, knows the client, has asked for the content, and has taken it.
GREETED = len(reply_octets("220 receiver.example ESMTP"))
HELLO_SAID = GREETED + len(reply_octets("250-receiver.example|250-PIPELINING|250-SIZE|250 8BITMIME"))
ASKED = HELLO_SAID + len(reply_octets("250 2.1.0 Ok|250 2.1.5 Ok|354 Go ahead"))
TOOK = ASKED + len(reply_octets(REPLIES["end"]))


def check_cut(play, scenario, octets, is_said, is_reset):
    """Delivered, once for certain; twice only if the receiver had all of it, and then the log says so."""
    identity, = scenario.sent
    play.wait(scenario)
    events = play.events(identity)
    names = [event["event"] for event in events]
    assert names[-1] == "deliver" and set(names[:-1]) <= {"defer"}, f"the events are {names}"
    doubles = sum(bool(event.get("possible_duplicate")) for event in events)
    copies = len(play.copies(scenario, scenario.sent[identity]))
    assert 1 <= copies <= 1 + doubles, f"{copies} copies, {doubles} possible duplicates"
    play.check_strays(scenario)
    if is_said and GREETED <= octets < HELLO_SAID:
        assert copies == 1 and doubles == 0, f"{names}, {copies} copies, {doubles} possible duplicates"  # HELO is tried, too
    elif is_said and octets < ASKED:
        assert (len(names), copies, doubles) == (2, 1, 0), f"{names}, {copies} copies, {doubles} possible duplicates"
    elif is_said and ASKED < octets < TOOK:
        assert (len(names), copies, doubles) == (2, 2, 1), f"{names}, {copies} copies, {doubles} possible duplicates"
    elif is_said and octets >= TOOK and not is_reset:
        assert (names, copies) == (["deliver"], 1), f"{names}, {copies} copies"


@pytest.mark.parametrize("how", ["close", "reset", "silence"])
@pytest.mark.parametrize("what", ["sent", "read"])
def test_cut_at_every_octet(folder, what, how):
    """A conversation that breaks after each single octet that the receiver said, or heard."""
    last = TOOK if what == "sent" else 460
    step = 7 if how == "silence" else 1
    scenarios = {octets: Scenario(f"{what} {octets} #1: {how}", size=40) for octets in range(0, last + 1, step)}
    for play in play_of(folder, scenarios):
        for octets, scenario in scenarios.items():
            try:
                check_cut(play, scenario, octets, what == "sent", how == "reset")
            except AssertionError as error:
                raise AssertionError(f"{how} after {octets} octets {what}: {error}\n{play.story(scenario)}") from None
        play.check_waiting()


@pytest.mark.parametrize("level", ["may", "encrypt"])
def test_cut_in_the_handshake(folder, shared, level):
    """A handshake that breaks at every 31st octet that the receiver sent: in the clear if it may be, else later."""
    hello = len(reply_octets("250-receiver.example|250-PIPELINING|250-SIZE|250 STARTTLS"))
    begin = GREETED + hello + len(reply_octets(REPLIES["starttls"]))
    scenarios = {octets: secured(f"sent {octets} #1: close", level, secure=None if level == "may" else True,
                                 deferred="maybe") for octets in range(begin, begin + 1000, 31)}
    for play in play_of(folder, scenarios, make_contexts(shared / level)):
        for scenario in scenarios.values():
            play.check(scenario)
        play.check_waiting()
