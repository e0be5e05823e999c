"""Scripted next hops by SMTP and LMTP, over TCP and Unix sockets: a Receiver is one of them, and a Town is the thread that
they live in."""
import asyncio
import base64
import binascii
import re
import socket
import threading
import time
from dataclasses import dataclass, field

from lab.client import unstuff

from .script import REPLIES, Script, reply_octets, unescape
from .wire import Hangup, Wire

VERBS = {"ehlo", "helo", "lhlo", "starttls", "auth", "mail", "rcpt", "data", "bdat", "rset", "noop", "quit"}
EXTENSIONS = ("PIPELINING", "SIZE", "8BITMIME")


@dataclass
class Copy:
    """A message whose content came in whole, at the monotonic time `when`; `taken` are the recipients for whom the receiver
    took it."""
    connection: int
    sender: str
    recipients: list
    content: bytes
    is_chunked: bool
    is_secure: bool
    lines: list
    when: float
    taken: list = field(default_factory=list)


class Town:
    """The thread of many receivers. `stop` ends them all and raises what went wrong in a receiver itself."""

    def __init__(self):
        self.receivers = []
        self.errors = []
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()

    def call(self, coroutine):
        """Runs a coroutine in the town's thread and waits for it."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(30)

    def receiver(self, script="", **options):
        """A new one that listens."""
        one = Receiver(self, script, **options)
        self.call(one.listen())
        self.receivers.append(one)
        return one

    def stop(self):
        for one in self.receivers:
            self.call(one.shut())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(10)
        self.loop.close()
        assert not self.errors, f"a receiver failed itself: {self.errors}"


class Receiver:
    """One next hop. `copies` are the messages that came in whole, `commands` every (connection, line), `answers` what was
    said to a 334; `times` has the moment of each connection, `highest` how many were open at once. A connection
    beyond `limit` hears 421. `contexts` are the TLS contexts of the first connection, the second, …; the last one serves
    all that follow."""

    def __init__(self, town, script, *, extensions=EXTENSIONS, secure_extensions=None, is_lmtp=False, path=None, limit=0,
                 contexts=(), keep=True):
        self.town, self.script = town, Script(script)
        self.extensions = extensions
        self.secure_extensions = extensions if secure_extensions is None else secure_extensions
        self.is_lmtp, self.limit, self.contexts, self.keep = is_lmtp, limit, contexts, keep
        self.host, self.port, self.path = "127.0.0.1", 0, path
        self.open = self.highest = self.handshakes = 0
        self.times, self.copies, self.commands, self.answers = [], [], [], []
        self.server = None
        self.tasks = set()

    connections = property(lambda self: len(self.times))

    @property
    def target(self):
        """What a route has for it."""
        protocol = "lmtp" if self.is_lmtp else "smtp"
        return f"{protocol}:{self.path}" if self.path else f"{protocol}://{self.host}:{self.port}"

    def taken(self, recipient=None):
        """How many copies it took, for this recipient or for any."""
        return sum(1 for copy in list(self.copies) if (recipient in copy.taken if recipient else copy.taken))

    def verbs(self, connection=None):
        """The verbs that came in, in order."""
        return [line.split(" ")[0].upper() for number, line in list(self.commands) if connection in (None, number)]

    async def listen(self):
        if self.path:
            self.server = await asyncio.start_unix_server(self.serve, self.path)
        else:
            # A small buffer: what the peer believes to have sent is then not far ahead of what is read.
            listener = socket.socket()
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
            listener.bind((self.host, self.port))
            self.server = await asyncio.start_server(self.serve, sock=listener, backlog=1024)
            self.port = self.server.sockets[0].getsockname()[1]

    async def shut(self):
        self.server.close()
        for task in list(self.tasks):
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    async def serve(self, reader, writer):
        self.times.append(time.monotonic())
        self.open += 1
        self.highest = max(self.highest, self.open)
        task = asyncio.current_task()
        self.tasks.add(task)
        conversation = Conversation(self, self.connections, reader, writer)
        try:
            await conversation.run()
        except (Hangup, ConnectionError, asyncio.CancelledError):
            pass
        except Exception as error:  # pylint: disable=broad-except
            self.town.errors.append(error)
        finally:
            self.open -= 1
            self.tasks.discard(task)
            conversation.wire.close()


class Conversation:
    """One connection of a receiver."""

    def __init__(self, receiver, number, reader, writer):
        self.receiver, self.number = receiver, number
        find = receiver.script.find
        self.wire = Wire(reader, writer, find("sent", number), find("read", number), self.on_limit)
        self.has_idle = receiver.script.has("idle")
        self.buffer = b""
        self.drip = 0.0
        self.copy = None
        self.forget()

    def forget(self):
        """No transaction is open."""
        self.sender, self.recipients, self.lines, self.chunks = None, [], [], b""

    async def run(self):
        if self.receiver.limit and self.receiver.open > self.receiver.limit:
            await self.wire.send(b"421 4.3.2 too many connections\r\n")
            raise Hangup()
        await self.act("greeting")
        while True:
            await self.command(await self.line())

    async def on_limit(self, rule):
        for deed, argument in rule.actions:
            await self.do(deed, argument, rule.phase)

    # -- what comes in ---------------------------------------------------------------------------------------

    async def line(self):
        """The next line without its CRLF."""
        while b"\r\n" not in self.buffer:
            if self.has_idle and self.receiver.copies and not self.buffer:
                await self.wait_idle()
            else:
                self.buffer += await self.wire.receive()
        line, self.buffer = self.buffer.split(b"\r\n", 1)
        return line.decode("latin-1")

    async def wait_idle(self):
        """Something to say when the peer says nothing."""
        reading = asyncio.ensure_future(self.wire.receive())
        done, _ = await asyncio.wait([reading], timeout=0.05)
        if not done:
            self.has_idle = False
            await self.act("idle")
        self.buffer += await reading

    async def command(self, line):
        if self.receiver.keep:
            self.receiver.commands.append((self.number, line))
        verb = line.split(" ", 1)[0].lower()
        if verb not in VERBS:
            await self.act("unknown", line)
        elif verb == "bdat":
            await self.chunk(line)
        else:
            code = await self.act(verb, line)
            after = getattr(self, f"after_{verb}", None)
            if after is not None:
                await after(line, code)

    async def after_mail(self, line, code):
        if code.startswith("2"):
            self.forget()
            self.sender, self.lines = re.search(r"<(.*?)>", line).group(1), [line]

    async def after_rcpt(self, line, code):
        if code.startswith("2"):
            self.recipients.append(re.search(r"<(.*?)>", line).group(1))
            self.lines.append(line)

    async def after_data(self, _, code):
        if code.startswith("354"):
            await self.content()

    async def after_starttls(self, _, code):
        if not code.startswith("220"):
            return
        await self.act("handshake")
        contexts = self.receiver.contexts
        self.buffer = b""
        await self.wire.handshake(contexts[min(self.number, len(contexts)) - 1])
        self.receiver.handshakes += 1
        self.forget()

    async def after_auth(self, _, code):
        if code.startswith("334"):
            await self.act("answer", await self.line())

    async def after_quit(self, _line, _code):
        raise Hangup()

    async def after_reset(self, _line, _code):
        self.forget()

    after_rset = after_ehlo = after_helo = after_lhlo = after_reset

    async def content(self):
        rule = self.receiver.script.find("content", self.number)
        for deed, argument in rule.actions if rule else ():
            await self.do(deed, argument, "content")
        start = 0
        while not self.buffer.startswith(b".\r\n") and (end := self.buffer.find(b"\r\n.\r\n", start)) < 0:
            start = max(0, len(self.buffer) - 4)
            self.buffer += await self.wire.receive()
        if self.buffer.startswith(b".\r\n"):
            wire, self.buffer = b"", self.buffer[3:]
        else:
            wire, self.buffer = self.buffer[:end + 2], self.buffer[end + 5:]
        await self.came(unstuff(wire), False)

    async def chunk(self, line):
        """BDAT: RFC 3030. Its octets come whatever the reply will be."""
        size, *last = line.split()[1:]
        phase = "end" if last else "bdat"
        rule = self.receiver.script.find(phase, self.number, line)
        if rule and any(deed == "ignore" for deed, _ in rule.actions):
            await self.wire.send(reply_octets(REPLIES["unknown"]))
            return
        if rule:
            rule.count(line, -1)
        while len(self.buffer) < int(size):
            self.buffer += await self.wire.receive()
        self.chunks, self.buffer = self.chunks + self.buffer[:int(size)], self.buffer[int(size):]
        if not self.recipients:
            await self.wire.send(b"503 5.5.1 no recipients\r\n")
        elif last:
            await self.came(self.chunks, True, line)
        else:
            await self.act("bdat", line)

    async def came(self, content, is_chunked, line=""):
        """A message is here in whole."""
        self.copy = Copy(self.number, self.sender, self.recipients, content if self.receiver.keep else content[:2048],
                         is_chunked, self.wire.tls is not None, self.lines, time.monotonic())
        self.receiver.copies.append(self.copy)
        copy, recipients = self.copy, self.recipients
        self.forget()
        for whom in [[one] for one in recipients] if self.receiver.is_lmtp else [recipients]:
            self.copy = copy
            await self.act("end", f"{line} {copy.sender} {' '.join(whom)}", whom)
        self.copy = None

    def take(self, recipients):
        self.copy.taken += [one for one in recipients if one not in self.copy.taken]

    # -- what goes out ---------------------------------------------------------------------------------------

    async def act(self, phase, command="", recipients=()):
        """Does what the script says for this phase; returns the last reply that was given, or ''."""
        rule = self.receiver.script.find(phase, self.number, command)
        reply = ""
        for deed, argument in rule.actions if rule else [("ok", "")]:
            reply = await self.do(deed, argument, phase, command, recipients) or reply
        self.drip = 0.0
        return reply

    async def do(self, deed, argument, phase, command="", recipients=()):  # pylint: disable=too-many-arguments
        """One deed of a script; the reply that was given, or None."""
        if deed == "take":
            self.take(recipients)
        elif deed == "after":
            while len(self.buffer) < int(argument):
                self.buffer += await self.wire.receive()
        elif deed == "ok" and phase == "auth":
            return await self.authenticate(command)
        elif deed in ("ok", "say"):
            reply = argument if deed == "say" else self.default(phase)
            if phase == "end" and reply.startswith("2"):
                self.take(recipients)
            if reply:
                await self.send(reply_octets(reply))
            return reply
        else:
            await getattr(self, f"do_{deed}")(argument, phase)
        return None

    async def do_raw(self, argument, _):
        await self.send(unescape(argument))

    async def do_nothing(self, *_):
        pass

    async def do_part(self, argument, phase):
        await self.send(reply_octets(self.default(phase))[:int(argument)])

    async def do_drip(self, argument, _):
        self.drip = float(argument)

    async def do_delay(self, argument, _):
        await asyncio.sleep(float(argument))

    async def do_flush(self, *_):
        await self.wire.flush_input()
        self.buffer = b""

    async def do_endless(self, argument, _):
        line = unescape(argument) + b"\r\n"
        for _ in range(1 << 20):
            await self.wire.send(line * 100)
            await asyncio.sleep(0.001)

    async def do_close(self, *_):
        raise Hangup()

    async def do_reset(self, *_):
        self.wire.reset()

    async def do_silence(self, *_):
        await asyncio.sleep(3600)

    async def send(self, data):
        if not self.drip:
            await self.wire.send(data)
            return
        for octet in data:
            await self.wire.send(bytes([octet]))
            await asyncio.sleep(self.drip)

    def default(self, phase):
        if (phase == "rcpt" and self.sender is None) or (phase == "data" and not self.recipients):
            return "503 5.5.1 not now"
        if phase == ("ehlo" if self.receiver.is_lmtp else "lhlo"):
            return "500 5.5.1 not here"
        if phase in ("ehlo", "lhlo"):
            extensions = self.receiver.extensions if self.wire.tls is None else self.receiver.secure_extensions
            lines = ["receiver.example", *extensions]
            return "|".join(f"250{'-' if i < len(lines) - 1 else ' '}{line}" for i, line in enumerate(lines))
        return REPLIES.get(phase, "")

    # -- logins ----------------------------------------------------------------------------------------------

    async def authenticate(self, command):
        """PLAIN and LOGIN of anybody; a script that wants more says so."""
        _, mechanism, *initial = command.split(" ")
        challenges = {"PLAIN": [""], "LOGIN": ["VXNlcm5hbWU6", "UGFzc3dvcmQ6"]}.get(mechanism.upper())
        if challenges is None:
            return await self.do("say", "504 5.5.4 unknown mechanism", "auth")
        for index, challenge in enumerate(challenges):
            text = initial.pop() if initial and index == 0 else await self.ask(challenge)
            try:
                self.receiver.answers.append(base64.b64decode(text, validate=True))
            except binascii.Error:
                return await self.do("say", "501 5.5.2 not base64", "auth")
        return await self.do("say", REPLIES["auth"], "auth")

    async def ask(self, challenge):
        await self.send(reply_octets(f"334 {challenge}"))
        return await self.line()
