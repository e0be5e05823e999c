"""Mail servers as next hops: each is an installation of its own in a folder, takes mail for everybody and keeps it as
files. `port` asks for nothing, each of `login_ports` for TLS and a login of one mechanism. They need root, for their own
users and mounts."""
import json
import os
import pathlib
import shutil
import socket
import subprocess

from . import unpacked
from .machine import free_port, patience, tool, wait_until
from .peers import SERVICES, Postfix, Unpacked, make_folder, read
from .senders import run

LOGIN = ("relay@example.com", "long-secret")
NAME = "next.example"
FULL = "full@example.net"
MAIL = 8  # The uid and gid of the system's user "mail", which keeps what comes.


class NextHop:
    """One server; `certificate` is for NAME."""
    scheme = "smtp"
    mechanisms = ()   # Of logins.
    extensions = ()   # Of those that tests ask for.
    has_tls = True
    tells_wishes = True  # Its notices hold ENVID and ORCPT.
    chunk_mark = None  # What its reply says of content that came by BDAT.

    def __init__(self, folder, certificate):
        self.home = make_folder(pathlib.Path(folder))
        self.certificate = certificate
        self.box = make_folder(self.home / "box", owner=MAIL)
        self.log = self.home / "log"
        self.port = free_port()
        self.login_ports = {mechanism: free_port() for mechanism in self.mechanisms}
        self.processes = []
        self.cache = {}

    def url(self, port=None):
        return f"{self.scheme}://127.0.0.1:{port or self.port}"

    def launch(self, command, port, output="output", **options):
        with open(self.home / output, "wb") as log:
            # pylint: disable-next=consider-using-with
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                                       **options)
        self.processes.append(process)
        wait_until(lambda: process.poll() is not None or answers(port), 20, lambda: f"{command} to listen: {self.said()}")
        assert process.poll() is None, f"{command} ended with {process.returncode}: {self.said()}"

    def said(self):
        """What its logs end with."""
        return "\n".join(read(path)[-3000:] for path in map(self.home.joinpath, ("output", "log", "spool/mainlog")))

    def stop(self):
        for process in reversed(self.processes):
            process.terminate()
        for process in self.processes:
            try:
                process.wait(patience(10))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def stored(self):
        """What it keeps, a file for each recipient."""
        return [self.read(path) for path in sorted(self.box.rglob("*")) if path.parent.name == "new" and path.is_file()]

    def read(self, path):
        """A file that is never changed."""
        if path not in self.cache:
            self.cache[path] = path.read_bytes()
        return self.cache[path]


def answers(where):
    """Whether somebody greets at a port of this machine, or at a socket of that path."""
    family, address = (socket.AF_UNIX, where) if isinstance(where, str) else (socket.AF_INET, ("127.0.0.1", where))
    try:
        with socket.socket(family) as probe:
            probe.settimeout(patience(5))
            probe.connect(address)
            return where if isinstance(where, str) else probe.recv(3) == b"220"
    except OSError:
        return False


DOVECOT = """
base_dir = {home}/run
log_path = {home}/log
ssl = yes
ssl_cert = <{certificate}
ssl_key = <{key}
first_valid_uid = 1
auth_username_chars =
"""


class Dovecot(NextHop, Unpacked):
    """LMTP over TCP, and over the Unix socket `socket`. The mailbox of FULL takes nothing."""
    scheme = "lmtp"
    extensions = ("CHUNKING",)
    accounts = (("dovecot", 64011), ("dovenull", 64012))
    needs_usr = True

    def __init__(self, folder, certificate):
        super().__init__(folder, certificate)
        self.socket = str(self.home / "lmtp")
        users = self.home / "users"
        users.write_text(f"{FULL}::{MAIL}:{MAIL}::{self.box}/full::userdb_quota_rule=*:bytes=1\n", encoding="ascii")
        self.start_dovecot(f"""protocols = lmtp
mail_location = maildir:~
mail_plugins = quota
plugin {{
  quota = maildir:mailbox
}}
service lmtp {{
  inet_listener lmtp {{
    address = 127.0.0.1
    port = {self.port}
  }}
  unix_listener {self.socket} {{
    mode = 0666
  }}
}}
passdb {{
  driver = static
  args = nopassword=y
}}
userdb {{
  driver = passwd-file
  args = {users}
}}
userdb {{
  driver = static
  args = uid={MAIL} gid={MAIL} home={self.box} allow_all_users=yes
}}
""", self.port)

    def start_dovecot(self, config, where):
        text = DOVECOT.format(home=self.home, certificate=self.certificate.path, key=self.certificate.key) + config
        (self.home / "dovecot.conf").write_text(text, encoding="ascii")
        self.launch(self.inside([str(unpacked.root() / "usr/sbin/dovecot"), "-F", "-c", str(self.home / "dovecot.conf")],
                                self.home, {}), where)


class DovecotLogins(Dovecot):
    """Dovecot as Postfix has it: it answers whether a login is right, at the Unix socket `socket`."""

    def __init__(self, folder, certificate, path):  # pylint: disable=super-init-not-called
        NextHop.__init__(self, folder, certificate)
        name, password = LOGIN
        users = self.home / "users"
        users.write_text(f"{name}:{{PLAIN}}{password}\n", encoding="ascii")
        self.start_dovecot(f"""protocols =
auth_mechanisms = plain login scram-sha-256
passdb {{
  driver = passwd-file
  args = {users}
}}
service auth {{
  unix_listener {path} {{
    mode = 0666
  }}
}}
""", path)


class PostfixHop(NextHop):
    """Postfix, with Dovecot for its logins."""
    chunk_mark = " bytes queued as"
    mechanisms = ("SCRAM-SHA-256", "PLAIN", "LOGIN")
    extensions = ("CHUNKING", "SMTPUTF8", "DSN")

    def __init__(self, folder, certificate):
        super().__init__(folder, certificate)
        config, queue, data = (make_folder(self.home / name) for name in ("config", "queue", "data"))
        shutil.chown(data, "postfix", "postfix")
        Postfix.make_queue(queue)
        self.logins = DovecotLogins(self.home / "dovecot", certificate, f"{queue}/private/auth")
        (config / "main.cf").write_text(self.main(queue, data), encoding="utf-8")
        (config / "master.cf").write_text(SERVICES.lstrip() + f"""
anvil      unix  -       -       n       -       1       anvil
proxymap   unix  -       -       n       -       -       proxymap
virtual    unix  -       n       n       -       -       virtual
127.0.0.1:{self.port} inet n     -       n       -       -       smtpd
""" + "".join(f"""
127.0.0.1:{port} inet n -     n       -       -       smtpd
  -o smtpd_tls_security_level=encrypt
  -o smtpd_sasl_auth_enable=yes
  -o smtpd_sasl_mechanism_filter={mechanism}
  -o smtpd_relay_restrictions=permit_sasl_authenticated,reject
""" for mechanism, port in self.login_ports.items()), encoding="ascii")
        daemons = run([tool("postconf"), "-c", str(config), "-h", "daemon_directory"]).strip()
        self.launch([f"{daemons}/master", "-c", str(config), "-d"], self.port)

    def main(self, queue, data):
        return f"""
compatibility_level = 3.6
queue_directory = {queue}
data_directory = {data}
maillog_file = {self.log}
maillog_file_prefixes = /
myhostname = {NAME}
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mydestination =
alias_maps =
alias_database =
smtp_dns_support_level = disabled
smtpd_peername_lookup = no
smtpd_relay_restrictions = reject_unauth_destination
in_flow_delay = 0
smtputf8_enable = yes
message_size_limit = 50000000
virtual_mailbox_limit = 0
virtual_mailbox_domains = static:all
virtual_mailbox_maps = static:box/
virtual_mailbox_base = {self.home}
virtual_uid_maps = static:{MAIL}
virtual_gid_maps = static:{MAIL}
virtual_minimum_uid = 1
smtpd_tls_security_level = may
smtpd_tls_chain_files = {self.certificate.key}, {self.certificate.path}
smtpd_sasl_type = dovecot
smtpd_sasl_path = private/auth
"""

    def stop(self):
        super().stop()
        self.logins.stop()


class EximHop(NextHop, Unpacked):
    """Exim in the foreground; a delivery is a process of its own."""
    chunk_mark = " byte chunk, total"
    mechanisms = ("PLAIN", "LOGIN")
    extensions = ("CHUNKING", "SMTPUTF8", "DSN")
    accounts = (("Debian-exim", 64001),)

    def __init__(self, folder, certificate):
        super().__init__(folder, certificate)
        # It runs itself again as its own user, who may not reach the build directory.
        binary = shutil.copy(unpacked.program("usr/sbin/exim4"), self.home)
        spool = make_folder(self.home / "spool", owner=64001, mode=0o750)
        files = [shutil.copy(path, spool) for path in (certificate.path, certificate.key)]
        for path in files:
            os.chown(path, 64001, 64001)
        os.chown(self.box, 64001, 64001)
        self.launch(self.inside([binary, "-bdf"], self.home, {"exim4/exim4.conf": self.config(binary, spool, *files)}),
                    self.port)

    def config(self, binary, spool, certificate, key):
        name, password = LOGIN
        plain, login = self.login_ports.values()
        is_login_port = f"${{if !eq{{$received_port}}{{{self.port}}}}}"
        return f"""
exim_path = {binary}
primary_hostname = {NAME}
spool_directory = {spool}
log_file_path = {spool}/%slog
local_interfaces = 127.0.0.1
daemon_smtp_ports = {self.port} : {plain} : {login}
tls_advertise_hosts = *
tls_certificate = {certificate}
tls_privatekey = {key}
auth_advertise_hosts = ${{if and{{{{!eq{{$received_port}}{{{self.port}}}}}{{def:tls_in_cipher}}}}{{*}}}}
dsn_advertise_hosts = *
smtputf8_advertise_hosts = *
smtp_accept_queue_per_connection = 0
host_lookup =
keep_environment =
acl_smtp_rcpt = rcpt
begin acl
rcpt:
  deny
    condition = {is_login_port}
    !authenticated = *
  accept
begin routers
everybody:
  driver = accept
  transport = box
begin transports
box:
  driver = appendfile
  directory = {self.box}
  maildir_format
  user = Debian-exim
begin authenticators
plain:
  driver = plaintext
  public_name = PLAIN
  server_advertise_condition = ${{if eq{{$received_port}}{{{plain}}}}}
  server_prompts = :
  server_condition = ${{if and{{{{eq{{$auth2}}{{{name}}}}}{{eq{{$auth3}}{{{password}}}}}}}}}
  server_set_id = $auth2
login:
  driver = plaintext
  public_name = LOGIN
  server_advertise_condition = ${{if eq{{$received_port}}{{{login}}}}}
  server_prompts = <| Username: | Password:
  server_condition = ${{if and{{{{eq{{$auth1}}{{{name}}}}}{{eq{{$auth2}}{{{password}}}}}}}}}
  server_set_id = $auth1
"""


class OpenSmtpdHop(NextHop, Unpacked):
    """OpenSMTPD, which has no PIPELINING; its TLS is mended by a shim, which tells why."""
    extensions = ("DSN",)
    tells_wishes = False
    shim = os.environ.get("SLUICE_SHIM_KEEP_KEY")
    has_tls = shim is not None
    accounts = (("opensmtpd", 64002), ("opensmtpq", 64003))
    covers = ("/var/spool", "/var/lib", "/run")
    needs_usr = True

    def __init__(self, folder, certificate):
        super().__init__(folder, certificate)
        for name, path in (("cert", certificate.path), ("key", certificate.key)):
            shutil.copy(path, self.home / name)
            (self.home / name).chmod(0o600)
        preload = ["env", f"LD_PRELOAD={self.shim}"] if self.shim else []
        command = self.inside([*preload, str(unpacked.root() / "usr/sbin/smtpd"), "-d"], self.home,
                              {"smtpd.conf": self.config()})
        (self.home / "etc/smtpd.conf").chmod(0o600)
        make_folder(self.home / "lib/opensmtpd/empty")
        make_folder(self.home / "spool/smtpd", mode=0o711)
        self.launch(command, self.port, output="log")

    def config(self):
        return f"""
pki next cert "{self.home}/cert"
pki next key "{self.home}/key"
table everybody {{ "@" = "mail" }}
smtp max-message-size "50M"
listen on 127.0.0.1 port {self.port} tls pki next hostname {NAME}
action "box" maildir "{self.box}" virtual <everybody>
match from any for any action "box"
"""


class OpenSmtpdAsPackaged(OpenSmtpdHop):
    """As it is in Debian 12: it offers STARTTLS, and then breaks off each handshake."""
    shim = None
    has_tls = False


NODE = """
const {SMTPServer} = require('smtp-server'), fs = require('fs'), told = JSON.parse(process.argv[1]);
let count = 0;
function listen(port, mechanisms) {
    const server = new SMTPServer({
        name: told.name, cert: fs.readFileSync(told.certificate), key: fs.readFileSync(told.key), size: 50000000,
        hideDSN: false, hideENHANCEDSTATUSCODES: false, disableReverseLookup: true,
        authOptional: !mechanisms.length, authMethods: mechanisms,
        onAuth: (login, session, done) => login.username === told.login[0] && login.password === told.login[1]
            ? done(null, {user: login.username}) : done(new Error('535 5.7.8 no')),
        onData: (stream, session, done) => {
            const path = told.box + '/' + ++count, parts = [];
            stream.on('data', part => parts.push(part));
            stream.on('end', () => {
                const told = {...session.envelope, secure: session.secure, user: session.user};
                fs.writeFileSync(path + '.json', JSON.stringify(told));
                fs.writeFileSync(path + '.part', Buffer.concat(parts));
                fs.renameSync(path + '.part', path + '.eml');
                done();
            });
        }});
    server.on('error', error => console.error(String(error)));
    server.listen(port, '127.0.0.1');
}
listen(told.port, []);
for (const [mechanism, port] of Object.entries(told.login_ports)) listen(port, [mechanism]);
"""


class NodeHop(NextHop):
    """npm's smtp-server, which writes what it gets as it came, and the envelope beside it."""
    mechanisms = ("PLAIN", "LOGIN")
    extensions = ("SMTPUTF8", "DSN")

    def __init__(self, folder, certificate):
        super().__init__(folder, certificate)
        told = {"name": NAME, "certificate": certificate.path, "key": certificate.key, "box": str(self.box),
                "port": self.port, "login_ports": self.login_ports, "login": LOGIN}
        self.launch([tool("node"), "-e", NODE, json.dumps(told)], self.port,
                    env={"NODE_PATH": str(unpacked.node_modules()), "PATH": "/usr/bin:/bin"})

    def stored(self):
        """With a line on top that tells of TLS and a login."""
        found = []
        for path, envelope in self.envelopes():
            protocol = "ESMTP" + ("S" if envelope["secure"] else "") + ("A" if envelope.get("user") else "")
            top = f"Received: by {NAME} with {protocol}\r\n".encode()
            found += [top + self.read(path)] * len(envelope["rcptTo"])
        return found

    def envelopes(self):
        return [(path, json.loads(path.with_suffix(".json").read_text(encoding="utf-8")))
                for path in sorted(self.box.glob("*.eml"))]


ALL = {"Postfix": PostfixHop, "Exim": EximHop, "OpenSMTPD": OpenSmtpdHop, "Dovecot": Dovecot, "smtp-server": NodeHop}
