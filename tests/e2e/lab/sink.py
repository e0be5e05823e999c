"""A next hop that records what it gets and misbehaves as a script says. It takes BDAT whether it announces it or not, and
offers STARTTLS if it has a certificate.

The script is lines of `WHEN: DO; DO; …`. WHEN is a phase and, behind it, what narrows it down:

    phase     greeting, ehlo, helo, mail, rcpt, data, content, end, rset, noop, quit; `end` is also BDAT LAST
    #2        only on the second connection;  #2- from the second on
    x3        only the first three times
    other     only if the command holds this text

DO is one of

    250 text        this reply; several lines are written with "|": 250-first|250 last
    raw TEXT        these bytes as they are, with Python's escapes
    ok              the reply that the phase has by default
    delay S         wait S seconds
    close, reset    end the connection with a FIN, with a RST
    silence         say nothing more and read nothing more
    cut N           in `content`: end the connection with a RST after N bytes of content

The first line that fits decides; where none fits the sink behaves well.
"""
import asyncio
import functools
import re
import socket
import ssl
import struct
import threading
import time
from dataclasses import dataclass, field

from .client import unstuff
from .machine import free_port

DEFAULT = {
    "greeting": "220 sink.example ESMTP",
    "helo": "250 sink.example",
    "mail": "250 2.1.0 Ok",
    "rcpt": "250 2.1.5 Ok",
    "data": "354 Go ahead",
    "end": "250 2.0.0 Ok: taken",
    "rset": "250 2.0.0 Ok",
    "noop": "250 2.0.0 Ok",
    "quit": "221 2.0.0 Bye",
}


@dataclass
class Rule:
    """One line of a script."""
    phase: str
    actions: list
    first_connection: int = 1
    last_connection: int = 1 << 30
    remaining: int = 1 << 30
    texts: list = field(default_factory=list)

    def fits(self, phase, connection, command):
        return (self.phase == phase and self.first_connection <= connection <= self.last_connection
                and self.remaining > 0 and all(text in command for text in self.texts))


@dataclass
class Message:
    """A message whose content came in whole."""
    connection: int
    sender: str
    recipients: list
    wire: bytes
    lines: list = field(default_factory=list)  # MAIL and every RCPT as they came, with their parameters
    is_chunked: bool = False
    reply: str = ""
    is_tls: bool = False

    @functools.cached_property
    def content(self):
        """Without the dots that the way by DATA needs."""
        return self.wire if self.is_chunked else unstuff(self.wire)


def parse_script(script):
    rules = []
    for line in filter(None, (line.strip() for line in script.splitlines())):
        when, _, actions = line.partition(": ")
        phase, *options = when.split()
        assert phase in DEFAULT or phase in ("ehlo", "content"), f"no such phase in a script: {line}"
        rule = Rule(phase, [action.strip() for action in actions.split(";")])
        for option in options:
            if match := re.fullmatch(r"#(\d+)(-?)", option):
                rule.first_connection = int(match.group(1))
                rule.last_connection = 1 << 30 if match.group(2) else rule.first_connection
            elif match := re.fullmatch(r"x(\d+)", option):
                rule.remaining = int(match.group(1))
            else:
                rule.texts.append(option)
        rules.append(rule)
    return rules


def server_context(certificate, client_authority=None):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.path, certificate.key)
    if client_authority:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(client_authority.path)
    return context


class Hangup(Exception):
    """The script, or the peer, ends the connection."""


class Sink:
    """Runs in a thread of its own. `messages` are those it answered with 2xx, `received` all that came in whole,
    `commands` every (connection, line), `chunks` every (connection, bytes) as recv gave them."""

    def __init__(self, script="", *, host="127.0.0.1", port=None, extensions=("PIPELINING", "SIZE", "8BITMIME"),
                 keep=True, certificate=None, client_authority=None):
        self.rules = parse_script(script)
        self.extensions = extensions
        self.tls = server_context(certificate, client_authority) if certificate else None
        self.keep = keep
        self.host, self.port = host, port or free_port(host)
        self.connections = 0
        self.open_connections = 0
        self.peak = 0  # The most connections that were open at a time.
        self.connection_times = []
        self.messages, self.received, self.commands, self.chunks, self.errors = [], [], [], [], []
        self.times = []
        self.server = None
        self.tasks = set()
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        self.call(self.listen())

    def call(self, coroutine):
        """Runs a coroutine in the sink's thread and waits for it."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(30)

    async def listen(self):
        self.server = await asyncio.start_server(self.serve, self.host, self.port, backlog=1024, limit=1 << 20)

    async def shut(self):
        self.server.close()
        for task in list(self.tasks):
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    def down(self):
        """Stops listening and drops every connection; what was recorded stays."""
        self.call(self.shut())

    def up(self):
        """Listens again, on the same port."""
        self.call(self.listen())

    def stop(self):
        if self.loop.is_running():
            self.down()
            self.loop.call_soon_threadsafe(self.loop.stop)
            self.thread.join(10)
            self.loop.close()

    def script(self, text):
        """Replaces the script; takes effect at the next command."""
        self.rules = parse_script(text)

    def verbs(self, connection=None):
        """The verbs that came in, in order."""
        return [line.split()[0].upper() if line.split() else "" for number, line in list(self.commands)
                if connection in (None, number)]

    async def serve(self, reader, writer):
        self.connections += 1
        self.open_connections += 1
        self.peak = max(self.peak, self.open_connections)
        self.connection_times.append(time.monotonic())
        task = asyncio.current_task()
        self.tasks.add(task)
        connection = Connection(self, self.connections, reader, writer)
        try:
            await connection.run()
        except (Hangup, ConnectionError, asyncio.CancelledError):
            pass
        except Exception as error:  # pylint: disable=broad-except
            self.errors.append(error)
        finally:
            self.open_connections -= 1
            self.tasks.discard(task)
            writer.transport.abort() if connection.is_reset else writer.close()


class Connection:
    """One connection of a sink."""

    def __init__(self, sink, number, reader, writer):
        self.sink, self.number, self.reader, self.writer = sink, number, reader, writer
        self.buffer = b""
        self.is_reset = False
        self.is_tls = False
        self.forget()

    def forget(self):
        """No transaction is open."""
        self.sender, self.recipients, self.lines, self.chunks = None, [], [], b""

    async def fill(self):
        """Reads more; what was said so far goes out first."""
        await self.writer.drain()
        data = await self.reader.read(65536)
        if not data:
            raise Hangup()
        if self.sink.keep:
            self.sink.chunks.append((self.number, data))
        self.buffer += data

    async def run(self):
        await self.act("greeting", "")
        while True:
            while b"\r\n" not in self.buffer:
                await self.fill()
            line, self.buffer = self.buffer.split(b"\r\n", 1)
            await self.command(line.decode("latin-1"))

    async def command(self, line):
        if self.sink.keep:
            self.sink.commands.append((self.number, line))
        verb = line.split(" ", 1)[0].lower()
        if verb == "starttls" and self.sink.tls and not self.is_tls:
            await self.start_tls()
            return
        if verb not in ("ehlo", "helo", "mail", "rcpt", "data", "rset", "noop", "quit", "bdat"):
            self.say(f"500 5.5.2 unknown: {line[:80]}")
            return
        if verb == "bdat":
            await self.chunk(line)
            return
        code = await self.act(verb, line)
        if verb == "mail" and code.startswith("2"):
            self.forget()
            self.sender, self.lines = re.search(r"<(.*?)>", line).group(1), [line]
        elif verb == "rcpt" and code.startswith("2"):
            self.recipients.append(re.search(r"<(.*?)>", line).group(1))
            self.lines.append(line)
        elif verb == "data" and code.startswith("354"):
            await self.content()
        elif verb in ("rset", "ehlo", "helo"):
            self.forget()
        elif verb == "quit":
            await self.writer.drain()
            raise Hangup()

    async def start_tls(self):
        """What came behind the command is forgotten, and so is all that was said before (RFC 3207 §4.2)."""
        self.say("220 2.0.0 go ahead")
        self.buffer = b""
        self.forget()
        try:
            await self.writer.start_tls(self.sink.tls)
        except ssl.SSLError as error:
            raise Hangup() from error
        self.is_tls = True

    async def content(self):
        rule = self.find("content", "")
        limit = None
        for action in rule.actions if rule else ():
            word, _, argument = action.partition(" ")
            if word == "cut":
                limit = int(argument)
            else:
                await self.do(word, argument, "content")
        start = 0
        while not self.buffer.startswith(b".\r\n") and (end := self.buffer.find(b"\r\n.\r\n", start)) < 0:
            start = max(0, len(self.buffer) - 4)
            if limit is not None and len(self.buffer) >= limit:
                self.reset()
            await self.fill()
        if limit is not None:
            self.reset()
        if self.buffer.startswith(b".\r\n"):
            wire, self.buffer = b"", self.buffer[3:]
        else:
            wire, self.buffer = self.buffer[:end + 2], self.buffer[end + 5:]
        await self.came(wire, False)

    async def chunk(self, line):
        """BDAT: RFC 3030. Its octets come whatever the reply will be."""
        size, *last = line.split()[1:]
        while len(self.buffer) < int(size):
            await self.fill()
        self.chunks, self.buffer = self.chunks + self.buffer[:int(size)], self.buffer[int(size):]
        if not self.recipients:
            self.say("503 5.5.1 not now")
        elif not last:
            self.say("250 2.0.0 Ok")
        else:
            await self.came(self.chunks, True)

    async def came(self, wire, is_chunked):
        """A message is here in whole."""
        message = Message(self.number, self.sender, self.recipients, wire if self.sink.keep else wire[:2048], self.lines,
                          is_chunked, is_tls=self.is_tls)
        self.sink.received.append(message)
        self.forget()
        message.reply = await self.act("end", f"{message.sender} {' '.join(message.recipients)}")
        if message.reply.startswith("2"):
            self.sink.messages.append(message)
            self.sink.times.append(time.monotonic())

    def find(self, phase, command):
        for rule in self.sink.rules:
            if rule.fits(phase, self.number, command):
                rule.remaining -= 1
                return rule
        return None

    async def act(self, phase, command):
        """Does what the script says for this phase; returns the reply that was given, or ''."""
        rule = self.find(phase, command)
        reply = ""
        for action in rule.actions if rule else ["ok"]:
            word, _, argument = action.partition(" ")
            reply = await self.do(word, argument, phase, action) or reply
        return reply

    async def do(self, word, argument, phase, action=""):
        if word == "ok":
            return self.say(self.default(phase))
        if word == "delay":
            await self.writer.drain()
            await asyncio.sleep(float(argument))
        elif word == "close":
            await self.writer.drain()
            raise Hangup()
        elif word == "reset":
            await self.writer.drain()
            self.reset()
        elif word == "silence":
            await self.writer.drain()
            await asyncio.sleep(3600)
        elif word == "raw":
            self.writer.write(argument.encode("latin-1").decode("unicode_escape").encode("latin-1"))
        else:
            return self.say(action)
        return ""

    def default(self, phase):
        if (phase == "rcpt" and self.sender is None) or (phase == "data" and not self.recipients):
            return "503 5.5.1 not now"
        if phase == "ehlo":
            lines = ["sink.example", *self.sink.extensions]
            if self.sink.tls and not self.is_tls:
                lines.append("STARTTLS")
            return "|".join(f"250{'-' if i < len(lines) - 1 else ' '}{line}" for i, line in enumerate(lines))
        return DEFAULT[phase]

    def say(self, reply):
        self.writer.write(reply.replace("|", "\r\n").encode("latin-1") + b"\r\n")
        return reply

    def reset(self):
        """A RST instead of a FIN, as from a host that crashed."""
        self.is_reset = True
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raise Hangup()
