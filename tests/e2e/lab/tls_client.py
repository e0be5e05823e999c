"""Client over TLS: as lab/client.py, and what can go wrong below it."""
import ssl

from .client import Client
from .machine import patience


class TlsClient(Client):
    """A Client whose socket speaks TLS from the start, or once start_tls() was called."""

    def __init__(self, host, port, context, *, implicit=True, server_name="relay.example.com", session=None, **options):
        super().__init__(host, port, **options)
        self.context, self.server_name, self.session = context, server_name, session
        self.raw = self.socket
        if implicit:
            self.secure()

    def secure(self):
        """The handshake."""
        self.socket = self.context.wrap_socket(self.raw, server_hostname=self.server_name, session=self.session)
        self.socket.settimeout(patience(10))
        return self

    def start_tls(self):
        """Greeting, EHLO, STARTTLS, the handshake, EHLO."""
        self.hello().command("STARTTLS", 220)
        self.secure().command("EHLO client.example", 250)
        return self

    def close(self):
        self.socket.close()
        self.raw.close()


class Records:
    """TLS in memory: `seal` gives the records of some bytes, for a socket that a test writes as it likes."""

    def __init__(self, raw, context, server_name="relay.example.com"):
        self.raw = raw
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname=server_name)
        self.run(self.tls.do_handshake)

    def run(self, action):
        """Until it needs no more of the peer's bytes."""
        while True:
            try:
                return action()
            except ssl.SSLWantReadError:
                self.flush()
                data = self.raw.recv(65536)
                if not data:
                    self.incoming.write_eof()
                self.incoming.write(data)
            finally:
                self.flush()

    def flush(self):
        if self.outgoing.pending:
            self.raw.sendall(self.outgoing.read())

    def seal(self, data):
        """The records of these bytes, not sent."""
        self.tls.write(data)
        return self.outgoing.read()

    def farewell(self):
        """The record of a close_notify, not sent."""
        try:
            self.tls.unwrap()
        except ssl.SSLWantReadError:
            pass
        return self.outgoing.read()

    def read(self):
        """What came, b"" at the end."""
        try:
            return self.run(lambda: self.tls.read(65536))
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError, ConnectionResetError):
            return b""
