"""The language in which a receiver is told how to misbehave: that of lab/sink.py, with more phases and more deeds.

A script is lines of `WHEN: DO; DO; …`. WHEN is a phase and, behind it, what narrows it down:

    phase     greeting, ehlo, helo, lhlo, starttls, handshake, auth, answer, mail, rcpt, data, content, bdat, end, rset,
              noop, quit, unknown, idle
    #2        only on the second connection;  #2- from the second on
    x3        only the first three times
    once      of commands with the same text only the first
    other     only if the command holds this text

`answer` is what a client says to a 334; `bdat` is a chunk that is not the last, `end` the dot or the last chunk (LMTP:
once for each recipient, whose address the command holds); `idle` comes when nothing has been said for 50 ms after
a message. Two phases are about the octets of a connection, whatever they mean:

    sent 57   when 57 octets have been sent: what DO is then happens before the 58th
    read 57   when 57 octets have been read; none beyond them is taken from the network before DO is done

DO is one of

    250 text        this reply; several lines are written with "|": 250-first|250 last
    raw TEXT        these octets as they are, with Python's escapes
    ok              the reply that the phase has by default
    nothing         no reply
    part N          the first N octets of the default reply
    drip S          what follows on this line leaves octet by octet, with S seconds between them
    delay S         wait S seconds
    flush           wait 50 ms and forget what came in until now
    endless TEXT    this line for ever, until the peer goes
    take            the message counts as taken, whatever the reply will be
    after N         in `content`: wait until N octets of it are here
    ignore          in `bdat` and `end` of a chunk: "500 unknown command", and its octets are read as commands
    close, reset    end the connection with a FIN, with a RST
    silence         say nothing more and read nothing more

The first line that fits decides; where none fits the receiver behaves well.
"""
import re
from dataclasses import dataclass, field

REPLIES = {
    "greeting": "220 receiver.example ESMTP",
    "helo": "250 receiver.example",
    "starttls": "220 2.0.0 Ready",
    "auth": "235 2.7.0 Welcome",
    "answer": "501 5.5.2 no sense",
    "mail": "250 2.1.0 Ok",
    "rcpt": "250 2.1.5 Ok",
    "data": "354 Go ahead",
    "bdat": "250 2.0.0 Ok",
    "end": "250 2.0.0 Ok: taken",
    "rset": "250 2.0.0 Ok",
    "noop": "250 2.0.0 Ok",
    "quit": "221 2.0.0 Bye",
    "unknown": "500 5.5.2 unknown command",
}
PHASES = {*REPLIES, "ehlo", "lhlo", "handshake", "content", "idle", "sent", "read"}
DEEDS = {"raw", "ok", "nothing", "part", "drip", "delay", "flush", "endless", "take", "after", "ignore", "close", "reset",
         "silence"}


@dataclass
class Rule:
    """One line of a script."""
    phase: str
    actions: list
    octets: int = 0
    first_connection: int = 1
    last_connection: int = 1 << 30
    remaining: int = 1 << 30
    texts: list = field(default_factory=list)
    seen: set = None  # commands, with `once`

    def fits(self, phase, connection, command):
        return (self.phase == phase and self.first_connection <= connection <= self.last_connection
                and self.remaining > 0 and all(text in command for text in self.texts)
                and (self.seen is None or command not in self.seen))

    def count(self, command, times=1):
        """It was used; -1: it was not, after all."""
        self.remaining -= times
        if self.seen is not None:
            (self.seen.add if times > 0 else self.seen.discard)(command)


def parse_action(text):
    """(deed, argument); a reply is the deed "say"."""
    text = text.strip()
    word, _, argument = text.partition(" ")
    if word in DEEDS:
        return word, argument
    assert re.match(r"\d", text), f"no such deed in a script: {text}"
    return "say", text


def parse_line(line):
    when, _, actions = line.partition(": ")
    phase, *options = when.split()
    assert phase in PHASES, f"no such phase in a script: {line}"
    rule = Rule(phase, [parse_action(action) for action in actions.split(";")])
    if phase in ("sent", "read"):
        rule.octets = int(options.pop(0))
    for option in options:
        if match := re.fullmatch(r"#(\d+)(-?)", option):
            rule.first_connection = int(match.group(1))
            rule.last_connection = 1 << 30 if match.group(2) else rule.first_connection
        elif match := re.fullmatch(r"x(\d+)", option):
            rule.remaining = int(match.group(1))
        elif option == "once":
            rule.seen = set()
        else:
            rule.texts.append(option)
    return rule


class Script:
    """The rules of one receiver."""

    def __init__(self, text):
        self.rules = [parse_line(line) for line in map(str.strip, text.splitlines()) if line]

    def find(self, phase, connection, command=""):
        """The rule that decides, which is thereby used once; or None."""
        for rule in self.rules:
            if rule.fits(phase, connection, command):
                rule.count(command)
                return rule
        return None

    def has(self, phase):
        return any(rule.phase == phase for rule in self.rules)


def unescape(text):
    """`raw` of a script as octets."""
    return text.encode("latin-1").decode("unicode_escape").encode("latin-1")


def reply_octets(text):
    """A reply of a script as it goes out."""
    return text.replace("|", "\r\n").encode("latin-1") + b"\r\n"
