"""Conversations written as SMTP, in files of several cases:

    == title                     begins a case
    only line                    play it only as written, not in the other two ways (see play)
    from 127.0.0.2               the client's own address
    C: MAIL FROM:<a@b>           the client sends this line, with CRLF; $ID is a word unique to this run
    C 3x: NOOP                   … three times
    C> "no end\\n\\x00"            the client sends these bytes, written as a Python string
    C> "a" * 5000                … or an expression of strings and numbers
    S: 250 2.1.0                 the next reply line begins with this
    S~ 250.*ID                   the next reply line matches this regular expression as a whole
    S* 250                       a whole reply of this code, with any number of lines
    S 3x: 250                    three reply lines that begin so
    closed                       the server has closed
    close                        the client closes, without a word
    pause 0.5                    nobody says anything for so long
    sink 1                       so many messages with $ID in their sender reach the next hop, and no more
    holds "text"                 … and each of them holds these bytes

A line that begins with # is a comment.
"""
import ast
import re
import time
import uuid
from dataclasses import dataclass, field

from .client import Client
from .machine import patience, wait_until


@dataclass
class Case:
    """One conversation."""
    name: str
    steps: list = field(default_factory=list)
    is_line_only: bool = False
    source: str = None


WAYS = ("line", "whole", "bytes")


def read(path):
    """The cases of a file."""
    cases = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        if line.startswith("== "):
            cases.append(Case(f"{path.stem}: {line[3:].strip()}"))
            continue
        assert cases, f"{path}:{number}: a case begins with a line '== title'"
        if line.strip() == "only line":
            cases[-1].is_line_only = True
        elif line.startswith("from "):
            cases[-1].source = line.split()[1]
        else:
            cases[-1].steps += parse_step(line, f"{path.name}:{number}")
    return cases


def parse_step(line, where):
    """A line as a list of (kind, value, where); the list is longer than one for repetitions."""
    if match := re.match(r"([CS])(?: (\d+)x)?: ?(.*)$", line):
        kind, times, text = match.groups()
        return [(kind, text, where)] * int(times or 1)
    word, _, rest = line.partition(" ")
    if word == "C>":
        return [("raw", evaluate(ast.parse(rest, mode="eval").body).encode("latin-1"), where)]
    if word == "holds":
        return [("holds", ast.literal_eval(rest).encode("latin-1"), where)]
    assert word in ("S~", "S*", "closed", "close", "pause", "sink"), f"{where}: what does this mean? {line}"
    return [(word, rest, where)]


def evaluate(node):
    """Strings and numbers with + and *, and nothing else."""
    if isinstance(node, ast.Constant):
        return node.value
    assert isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Add, ast.Mult)), "only + and * of constants"
    left, right = evaluate(node.left), evaluate(node.right)
    return left + right if isinstance(node.op, ast.Add) else left * right


class Player:
    """Plays one case against a port. In the way "line" as it is written; "whole": everything the client has to
    say in one packet, then the replies are read; "bytes": each byte in a packet of its own."""

    def __init__(self, case, way, host, port, sink):
        self.case, self.way, self.sink = case, way, sink
        self.id = "c" + uuid.uuid4().hex[:12]
        self.client = Client(host, port, source=case.source)

    def play(self):
        if self.way == "whole":
            self.send(b"".join(self.bytes_of(step) for step in self.case.steps if step[0] in ("C", "raw")))
        with self.client:
            for step in self.case.steps:
                self.step(*step)

    def bytes_of(self, step):
        kind, value, _ = step
        return value if kind == "raw" else value.replace("$ID", self.id).encode("latin-1") + b"\r\n"

    def step(self, kind, value, where):
        try:
            if kind in ("C", "raw"):
                self.say(self.bytes_of((kind, value, where)))
            elif kind == "S":
                line = self.client.line().decode("latin-1")
                assert line.startswith(value), f"expected a reply line {value!r}…, got {line!r}"
            elif kind == "S~":
                line = self.client.line().decode("latin-1")
                assert re.fullmatch(value, line), f"expected a reply line like {value!r}, got {line!r}"
            elif kind == "S*":
                self.client.expect(int(value))
            elif kind == "closed":
                self.client.assert_closed()
            elif kind == "close":
                self.client.close()
            elif kind == "pause":
                time.sleep(patience(float(value)))
            else:
                self.check_sink(kind, value)
        except Exception as error:
            raise AssertionError(f"{where} ({self.way}): {error}\n{self.client.conversation()}") from error

    def say(self, data):
        if self.way == "line":
            self.send(data)
        elif self.way == "bytes":
            for index in range(len(data)):
                self.send(data[index:index + 1])

    def send(self, data):
        try:
            self.client.send(data)
        except (BrokenPipeError, ConnectionResetError):
            pass  # The server had enough; what it said before is still checked.

    def arrived(self):
        return [message for message in list(self.sink.messages) if self.id in message.sender]

    def check_sink(self, kind, value):
        if kind == "holds":
            for message in self.arrived():
                assert value in message.content, f"expected {value!r} in {message.content[:2000]!r}"
            return
        if int(value):
            wait_until(lambda: len(self.arrived()) >= int(value), 10, f"{value} message(s) at the next hop")
        time.sleep(0.15)  # One too many would come about now.
        assert len(self.arrived()) == int(value), f"expected {value} message(s), got {self.arrived()}"
