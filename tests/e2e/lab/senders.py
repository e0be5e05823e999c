"""Programs that submit mail, each told in its own words to do the same: `send` delivers one Order and fails if the
program says that it could not. The mail servers among them are in lab/peers.py."""
import json
import re
import smtplib
import subprocess
from dataclasses import dataclass, field

from .certificates import trusting
from .client import stuff
from .machine import patience, tool


@dataclass
class Order:
    """What is to be sent, and how. `content` is CRLF lines, without dots stuffed."""
    port: int
    authority: object
    content: bytes
    tls: str = "starttls"
    login: tuple = ("anna@example.com", "correct horse")
    mechanism: str = "PLAIN"
    sender: str = "anna@example.com"
    recipients: list = field(default_factory=lambda: ["to@example.net"])
    envelope_id: str = ""  # If given: RET=HDRS ENVID=…, and NOTIFY=SUCCESS,FAILURE for every recipient.
    is_utf8: bool = False

    is_implicit = property(lambda self: self.tls == "implicit")


def run(command, order=None, **options):
    """A program to its end; what it printed."""
    content = order.content if order else None
    result = subprocess.run(command, input=content, capture_output=True, check=False, timeout=patience(60), **options)
    said = (result.stdout + result.stderr).decode("utf-8", "replace")
    assert result.returncode == 0, f"{command[0]} exited {result.returncode}: {said[-3000:]}"
    return said


def write(folder, name, content):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    path.chmod(0o600)
    return str(path)


class Swaks:
    mechanisms = ("PLAIN", "LOGIN")
    options = ()

    def send(self, order, folder):
        # It ends the last line itself.
        content = write(folder, "content", order.content.removesuffix(b"\r\n"))
        said = run([tool("swaks"), "--server", "127.0.0.1", "--port", str(order.port), "--ehlo", "swaks.example",
                    "--tls-on-connect" if order.is_implicit else "--tls",
                    "--tls-verify", "--tls-ca-path", order.authority.path,
                    "--auth", order.mechanism, "--auth-user", order.login[0], "--auth-password", order.login[1],
                    "--from", order.sender, "--to", ",".join(order.recipients),
                    "--data", f"@{content}", *self.options])
        # swaks is content with a server that offers no login, if one was only wished for.
        assert re.search(r"~> AUTH ", said), said


class SwaksPipelining(Swaks):
    options = ("--pipeline",)


class Smtplib:
    mechanisms = ("PLAIN", "LOGIN")

    def send(self, order, _folder):
        context = trusting(order.authority)
        kind = {"context": context} if order.is_implicit else {}
        with (smtplib.SMTP_SSL if order.is_implicit else smtplib.SMTP)(
                "127.0.0.1", order.port, local_hostname="python.example", timeout=patience(20), **kind) as client:
            if not order.is_implicit:
                client.starttls(context=context)
            client.ehlo()
            client.user, client.password = order.login
            client.auth(order.mechanism, getattr(client, f"auth_{order.mechanism.lower()}"))
            options = ["SMTPUTF8", "BODY=8BITMIME"] if order.is_utf8 else []
            if order.envelope_id:
                options += ["RET=HDRS", f"ENVID={order.envelope_id}"]
            refused = client.sendmail(order.sender, order.recipients, order.content, options,
                                      ["NOTIFY=SUCCESS,FAILURE"] if order.envelope_id else [])
            assert not refused, refused


class Curl:
    mechanisms = ("PLAIN", "LOGIN")

    def send(self, order, folder):
        scheme = "smtps" if order.is_implicit else "smtp"
        recipients = [word for recipient in order.recipients for word in ("--mail-rcpt", recipient)]
        run([tool("curl"), "--silent", "--show-error", "--url", f"{scheme}://127.0.0.1:{order.port}/curl.example",
             "--ssl-reqd", "--cacert", order.authority.path, "--user", ":".join(order.login),
             "--login-options", f"AUTH={order.mechanism}", "--mail-from", order.sender, *recipients,
             "--upload-file", write(folder, "content", order.content)])


class Msmtp:
    mechanisms = ("PLAIN", "LOGIN", "SCRAM-SHA-256")

    def send(self, order, folder):
        config = write(folder, "msmtprc", f"""account default
host 127.0.0.1
port {order.port}
domain msmtp.example
from {order.sender}
tls on
tls_starttls {"off" if order.is_implicit else "on"}
tls_trust_file {order.authority.path}
auth {order.mechanism.lower()}
user {order.login[0]}
password {order.login[1]}
{"dsn_return headers" if order.envelope_id else ""}
{"dsn_notify failure,success" if order.envelope_id else ""}
""")
        # It makes CRLF of LF.
        order = Order(**{**vars(order), "content": order.content.replace(b"\r\n", b"\n")})
        run([tool("msmtp"), "--file", config, "--", *order.recipients], order)


NODE = """
const order = JSON.parse(process.argv[1]);
const transport = require('nodemailer').createTransport({
    host: '127.0.0.1', port: order.port, name: 'node.example', secure: order.implicit, requireTLS: !order.implicit,
    tls: {ca: require('fs').readFileSync(order.ca)}, authMethod: order.mechanism,
    auth: {user: order.login[0], pass: order.login[1]}});
const dsn = {id: order.id, return: 'headers', notify: ['success', 'failure'], recipient: order.sender};
transport.sendMail({envelope: {from: order.sender, to: order.recipients},
    raw: require('fs').readFileSync(order.content), dsn: order.id ? dsn : undefined},
    (error, info) => {
        transport.close();
        if (error || info.rejected.length) { console.error(error || info); process.exitCode = 1; }
    });
"""


class Nodemailer:
    mechanisms = ("PLAIN", "LOGIN")

    def send(self, order, folder):
        told = {"port": order.port, "implicit": order.is_implicit, "ca": order.authority.path, "id": order.envelope_id,
                "mechanism": order.mechanism, "login": order.login, "sender": order.sender,
                "recipients": order.recipients, "content": write(folder, "content", order.content)}
        run([tool("node"), "-e", NODE, json.dumps(told)],
            env={"NODE_PATH": "/usr/share/nodejs", "PATH": "/usr/bin:/bin"})


def smtp_session(order, hello):
    """The order as what a client says to a server that talks SMTP on its standard input, all of it at once."""
    parameters = " BODY=8BITMIME SMTPUTF8" if order.is_utf8 else ""
    notify = ""
    if order.envelope_id:
        parameters += f" RET=HDRS ENVID={order.envelope_id}"
        notify = " NOTIFY=SUCCESS,FAILURE"
    lines = [f"EHLO {hello}", f"MAIL FROM:<{order.sender}>{parameters}"]
    lines += [f"RCPT TO:<{recipient}>{notify}" for recipient in order.recipients]
    text = "".join(line + "\r\n" for line in [*lines, "DATA"])
    return text.encode() + stuff(order.content) + b".\r\nQUIT\r\n"
