"""An SMTP client that does exactly what it is told, right or wrong."""
import re
import socket

from .machine import patience


class Closed(Exception):
    """The server closed the connection."""


class Client:
    """One connection. Lines and replies are bytes-exact; nothing is repaired on the way."""

    def __init__(self, host, port, source=None, timeout=10):
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_STREAM)
        self.socket.settimeout(patience(timeout))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if source:
            self.socket.bind((source, 0))
        self.socket.connect((host, port))
        self.buffer = b""
        self.transcript = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.socket.close()

    def send(self, data):
        """Raw bytes."""
        if self.transcript and self.transcript[-1][0] == "C":
            data_before = self.transcript.pop()[1]
            self.transcript.append(("C", (data_before + data)[-1000:]))
        else:
            self.transcript.append(("C", data))
        self.socket.sendall(data)

    def line(self):
        """One reply line, without its CRLF."""
        while b"\r\n" not in self.buffer:
            try:
                data = self.socket.recv(65536)
            except ConnectionResetError:
                data = b""
            except socket.timeout:
                raise AssertionError("the server did not reply in time\n" + self.conversation()) from None
            if not data:
                raise Closed(self.conversation())
            self.buffer += data
        line, self.buffer = self.buffer.split(b"\r\n", 1)
        self.transcript.append(("S", line))
        return line

    def reply(self):
        """A whole reply: (code, lines)."""
        lines = [self.line()]
        while lines[-1][3:4] == b"-":
            lines.append(self.line())
        assert re.fullmatch(rb"[2-5]\d\d([ -].*)?", lines[-1]), f"malformed reply {lines!r}"
        return int(lines[-1][:3]), lines

    def expect(self, code):
        """A whole reply of that code; its last line."""
        got, lines = self.reply()
        assert got == code, f"expected a reply {code}, got {lines[-1]!r}\n{self.conversation()}"
        return lines[-1]

    def command(self, text, code):
        self.send(text.encode() + b"\r\n")
        return self.expect(code)

    def hello(self, name="client.example"):
        self.expect(220)
        self.command(f"EHLO {name}", 250)
        return self

    def envelope(self, sender, recipients):
        """MAIL, RCPT and DATA, each with its reply awaited."""
        self.command(f"MAIL FROM:<{sender}>", 250)
        for recipient in recipients:
            self.command(f"RCPT TO:<{recipient}>", 250)
        self.command("DATA", 354)

    def message(self, sender, recipients, content):
        """A whole transaction; returns the queue id of the 250."""
        self.envelope(sender, recipients)
        self.send(stuff(content) + b".\r\n")
        return queue_id(self.expect(250))

    def quit(self):
        self.command("QUIT", 221)
        self.close()

    def assert_closed(self):
        """The server must have closed, without another word."""
        try:
            line = self.line()
        except Closed:
            return
        raise AssertionError(f"expected the server to close, got {line!r}\n{self.conversation()}")

    def conversation(self):
        """What was said, readable."""
        return "\n".join(f"{who}: {data[:300]!r}" for who, data in self.transcript[-30:])


def stuff(content):
    """Content in its form on the wire: dot-stuffed. It must be CRLF lines, or empty."""
    assert not content or content.endswith(b"\r\n"), "content ends with CRLF"
    return re.sub(rb"^\.", b"..", content, flags=re.MULTILINE)


def unstuff(wire):
    return re.sub(rb"^\.", b"", wire, flags=re.MULTILINE)


def queue_id(line):
    match = re.fullmatch(rb"250 2\.0\.0 Ok: queued as (\S+)", line)
    assert match, f'expected "250 2.0.0 Ok: queued as ID", got {line!r}'
    return match.group(1).decode()
