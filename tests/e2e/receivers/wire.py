"""A connection's octets, in the clear or through TLS, and the places where a script lets it break."""
import asyncio
import socket
import ssl
import struct


class Hangup(Exception):
    """The script, or the peer, ends the connection."""


class Wire:
    """Both directions of one connection. `sent_rule` and `read_rule` are the script's rules about octets, or None;
    `on_limit(rule)` does what they say."""

    def __init__(self, reader, writer, sent_rule, read_rule, on_limit):
        self.reader, self.writer = reader, writer
        self.sent_rule, self.read_rule, self.on_limit = sent_rule, read_rule, on_limit
        self.sent = self.read = 0
        self.is_reset = False
        self.tls = self.incoming = self.outgoing = None

    async def send(self, data):
        if self.tls is not None:
            self.tls.write(data)
            data = self.outgoing.read()
        await self.send_octets(data)

    async def receive(self):
        """What came, at least one octet."""
        if self.tls is None:
            return await self.receive_octets()
        while True:
            try:
                data = self.tls.read(65536)
            except ssl.SSLWantReadError:
                self.incoming.write(await self.receive_octets())
                continue
            except ssl.SSLError:
                data = b""
            if not data:
                raise Hangup()
            return data

    async def handshake(self, context):
        """A TLS handshake as a server; an SSLError is the peer's doing, or the script's wish."""
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(self.incoming, self.outgoing, server_side=True)
        while True:
            try:
                tls.do_handshake()
            except ssl.SSLWantReadError:
                await self.send_octets(self.outgoing.read())
                self.incoming.write(await self.receive_octets())
                continue
            except ssl.SSLError:
                await self.send_octets(self.outgoing.read())
                raise Hangup() from None
            await self.send_octets(self.outgoing.read())
            self.tls = tls
            return

    async def send_octets(self, data):
        rule = self.sent_rule
        if rule is not None and self.sent + len(data) >= rule.octets:
            first, data = data[:rule.octets - self.sent], data[rule.octets - self.sent:]
            self.sent_rule = None
            self.sent += len(first)
            self.writer.write(first)
            await self.writer.drain()
            await self.on_limit(rule)
        self.sent += len(data)
        self.writer.write(data)
        await self.writer.drain()

    async def receive_octets(self):
        rule = self.read_rule
        if rule is not None and self.read >= rule.octets:
            self.read_rule = None
            await self.on_limit(rule)
            rule = None
        data = await self.reader.read(65536 if rule is None else rule.octets - self.read)
        if not data:
            raise Hangup()
        self.read += len(data)
        return data

    async def flush_input(self):
        """Forgets what came until now, in the clear."""
        await asyncio.sleep(0.05)
        try:
            while True:
                self.read += len(await asyncio.wait_for(self.reader.read(65536), 0.001))
        except asyncio.TimeoutError:
            pass

    def close(self):
        if self.is_reset:
            self.writer.transport.abort()
        else:
            self.writer.close()

    def reset(self):
        """A RST instead of a FIN, as from a host that crashed."""
        self.is_reset = True
        end = self.writer.get_extra_info("socket")
        if end.family != socket.AF_UNIX:
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raise Hangup()
