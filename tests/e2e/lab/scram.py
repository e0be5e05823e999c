"""SCRAM-SHA-256 as a client does it: RFC 5802, RFC 7677, channel binding of RFC 5929. Written from the RFCs alone, so
that it can disagree with the gateway."""
import base64
import hashlib
import hmac
import os


def digest(key, text):
    return hmac.new(key, text.encode(), hashlib.sha256).digest()


def end_point(tls_socket):
    """The tls-server-end-point data of a connection: the hash of the server's certificate."""
    return hashlib.sha256(tls_socket.getpeercert(binary_form=True)).digest()


class Scram:
    """One exchange. `binding` is (name, data) for -PLUS; first() and final() are the client's two messages in base64."""

    def __init__(self, name, password, binding=None, header=None):
        self.password = password
        self.header = header or (f"p={binding[0]},," if binding else "n,,")
        self.data = binding[1] if binding else b""
        self.bare = f"n={name.replace('=', '=3D').replace(',', '=2C')},r={os.urandom(12).hex()}"
        self.server_signature = None

    def first(self):
        return base64.b64encode((self.header + self.bare).encode()).decode()

    def final(self, challenge):
        """The answer to the server's first message (base64, as it stands behind 334)."""
        server_first = base64.b64decode(challenge, validate=True).decode()
        nonce, salt, iterations = (part.partition("=")[2] for part in server_first.split(",")[:3])
        assert nonce.startswith(self.bare.rpartition("r=")[2]), f"the server's nonce is not behind ours: {server_first}"
        salted = hashlib.pbkdf2_hmac("sha256", self.password.encode(), base64.b64decode(salt), int(iterations))
        client_key = digest(salted, "Client Key")
        binding = base64.b64encode(self.header.encode() + self.data).decode()
        without_proof = f"c={binding},r={nonce}"
        whole = f"{self.bare},{server_first},{without_proof}"
        signature = digest(hashlib.sha256(client_key).digest(), whole)
        proof = bytes(a ^ b for a, b in zip(client_key, signature))
        self.server_signature = digest(digest(salted, "Server Key"), whole)
        return base64.b64encode(f"{without_proof},p={base64.b64encode(proof).decode()}".encode()).decode()

    def is_server_proven(self, challenge):
        """Whether the server's last message shows that it knows the password."""
        said = base64.b64decode(challenge, validate=True).decode()
        return said.partition("=")[2] == base64.b64encode(self.server_signature).decode()
