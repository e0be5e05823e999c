"""A name server of few words that may change its mind: MX and A records, failures, silence. For the rest see names.py."""
import socket
import struct
import threading

A, MX, SERVFAIL, NXDOMAIN = 1, 15, 2, 3


def wire(name):
    """A name as it stands in a message; "" is the root."""
    return b"".join(bytes([len(label)]) + label.encode() for label in name.split(".") if label) + b"\0"


def asked_for(query):
    """The name, the type, and the octets of the question."""
    labels, at = [], 12
    while query[at]:
        labels.append(query[at + 1:at + 1 + query[at]].decode().lower())
        at += 1 + query[at]
    return ".".join(labels), struct.unpack_from(">H", query, at + 1)[0], query[12:at + 5]


class ScriptedNames:
    """`zone` is {name: [(preference, exchange), …] or [address, …] or "SERVFAIL" or "silent"}, and may be changed at any time;
    other names do not exist."""

    def __init__(self, zone, ttl=300):
        self.zone, self.ttl = zone, ttl
        self.asked = []  # domains, as often as their MX was asked for
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.socket.getsockname()[1]}"
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def stop(self):
        self.socket.sendto(b"", self.socket.getsockname())
        self.thread.join()
        self.socket.close()

    def serve(self):
        while True:
            query, client = self.socket.recvfrom(4096)
            if not query:
                return
            answer = self.answer(query)
            if answer:
                self.socket.sendto(answer, client)

    def answer(self, query):
        name, kind, question = asked_for(query)
        if kind == MX:
            self.asked.append(name)
        known = self.zone.get(name, "NXDOMAIN")
        if known == "silent":
            return None
        code = {"SERVFAIL": SERVFAIL, "NXDOMAIN": NXDOMAIN}.get(known, 0) if isinstance(known, str) else 0
        records = [] if code else [record for record in map(self.record, known) if record[0] == kind]
        answer = b"".join(b"\xc0\x0c" + struct.pack(">HHIH", kind, 1, self.ttl, len(data)) + data for kind, data in records)
        return query[:2] + struct.pack(">HHHHH", 0x8180 | code, 1, len(records), 0, 0) + question + answer

    @staticmethod
    def record(entry):
        """Type and data of a line of the zone."""
        if isinstance(entry, str):
            return A, socket.inet_aton(entry)
        preference, exchange = entry
        return MX, struct.pack(">H", preference) + wire(exchange)
