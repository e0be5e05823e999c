"""The servers under test: how each is configured, started and asked for its own counters.

Each is tuned by its own guide and never away from what it syncs by default. Postfix and OpenSMTPD log to syslog, and
no syslog daemon listens in the namespace, which favours them a little; Exim and Sluice log to a file.
"""

import json
import os
import pathlib
import pwd
import re
import shlex
import shutil
import signal
import subprocess
import time

HOST = "127.0.0.1"


class Server:
    """One server in its own folder `home`, listening on `port`, relaying everything to `sink`."""

    name = ""

    def __init__(self, home, port, sink, tools):
        self.home, self.port, self.sink, self.tools = pathlib.Path(home), port, sink, tools
        self.process = None
        self.output = self.home / "output"

    def prepare(self):
        """Writes what has to lie on disk and returns the command line, which stays in the foreground."""
        raise NotImplementedError

    def start(self, group):
        self.home.mkdir(parents=True)
        self.home.chmod(0o755)
        command = self.prepare()
        with open(self.output, "wb") as output:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                                            cwd=self.home, preexec_fn=group.enter)
        group.add_root(self.process.pid)

    def counters(self):
        """The server's own {messages_accepted, log_writes, log_write_bytes}, if it keeps them; may stop it."""
        return None

    def said(self):
        return self.output.read_text(errors="replace")[-2000:] if self.output.exists() else ""


class Floor(Server):
    name = "floor"

    def prepare(self):
        return [self.tools["floor"], "--listen", str(self.port), "--sink", f"{HOST}:{self.sink}",
                "--log", str(self.home / "log")]

    def counters(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(10)
        return json.loads(self.output.read_text())


class Sluice(Server):
    name = "sluice"

    def listeners(self):
        return f'listener "smtp" {{ bind = {{"{HOST}:{self.port}", "[::1]:{self.port}"}} tls = "off" }}'

    def prepare(self):
        self.log = self.home / "sluice.log"
        data = self.home / "data"
        account = pwd.getpwnam("nobody")
        data.mkdir(mode=0o700)
        for path in (self.home, data):
            os.chown(path, account.pw_uid, account.pw_gid)
        config = self.home / "sluice.conf"
        config.write_text(f"""
hostname = "sluice.bench.example"
data_dir = "{data}"
user = "nobody"
{self.listeners()}
relay {{ networks = {{"127.0.0.0/8", "[::1]/128"}} }}
route "*" {{ to = "smtp://{HOST}:{self.sink}" }}
log {{ level = "info" destination = "{self.log}" }}
""")
        return [self.tools["sluice"], "-c", str(config)]

    def _stats_events(self):
        text = self.log.read_text(errors="replace") if self.log.exists() else self.output.read_text(errors="replace")
        return [line for line in text.splitlines() if re.search(r"\bstats\b", line) and "log_writes" in line]

    def stats(self):
        """All counters by name, or None if the server does not tell them."""
        before = len(self._stats_events())
        self.process.send_signal(signal.SIGUSR1)
        deadline = time.monotonic() + 3
        while time.monotonic() < deadline:
            events = self._stats_events()
            if len(events) > before:
                pairs = re.findall(r'"?\b([a-z_]+)\b"?\s*[=:]\s*"?(\d+)', events[-1])
                return {name: int(value) for name, value in pairs}
            time.sleep(0.02)
        return None

    def counters(self):
        return self.stats()

    def said(self):
        log = self.log.read_text(errors="replace")[-2000:] if self.log.exists() else ""
        return super().said() + log


class SluiceTls(Sluice):
    """One process, a listener for each way in, so that whatever else differs between two runs differs for all."""

    name = "sluice-tls"
    IMPLICIT, STARTTLS = 2465, 2587
    key_options = ("ec", "-pkeyopt", "ec_paramgen_curve:prime256v1")

    def listeners(self):
        subprocess.run(["openssl", "req", "-x509", "-nodes", "-days", "2", "-subj", "/CN=sluice.bench.example",
                        "-keyout", self.home / "key.pem", "-out", self.home / "cert.pem",
                        "-newkey", *self.key_options], check=True, capture_output=True)
        for name in ("key.pem", "cert.pem"):
            (self.home / name).chmod(0o644)
        return f"""listener "clear" {{ bind = {{"{HOST}:{self.port}"}} tls = "off" }}
listener "implicit" {{ bind = {{"{HOST}:{self.IMPLICIT}"}} tls = "implicit" }}
listener "starttls" {{ bind = {{"{HOST}:{self.STARTTLS}"}} tls = "starttls" }}
tls {{ certificate = "{self.home}/cert.pem" private_key = "{self.home}/key.pem" }}"""


class SluiceTlsRsa(SluiceTls):
    key_options = ("rsa:2048",)


class Postfix(Server):
    name = "postfix"

    services = """
smtp       unix  -       -       n       -       -       smtp
relay      unix  -       -       n       -       -       smtp
pickup     unix  n       -       n       60      1       pickup
cleanup    unix  n       -       n       -       0       cleanup
qmgr       unix  n       -       n       300     1       qmgr
tlsmgr     unix  -       -       n       1000?   1       tlsmgr
rewrite    unix  -       -       n       -       -       trivial-rewrite
bounce     unix  -       -       n       -       0       bounce
defer      unix  -       -       n       -       0       bounce
trace      unix  -       -       n       -       0       bounce
verify     unix  -       -       n       -       1       verify
flush      unix  n       -       n       1000?   0       flush
proxymap   unix  -       -       n       -       -       proxymap
proxywrite unix  -       -       n       -       1       proxymap
showq      unix  n       -       n       -       -       showq
error      unix  -       -       n       -       -       error
retry      unix  -       -       n       -       -       error
discard    unix  -       -       n       -       -       discard
anvil      unix  -       -       n       -       1       anvil
scache     unix  -       -       n       -       1       scache
"""

    def prepare(self):
        config, queue, data = (self.home / part for part in ("config", "queue", "data"))
        for folder in (config, queue, data):
            folder.mkdir()
        shutil.chown(data, "postfix", "postfix")
        (config / "main.cf").write_text(f"""
compatibility_level = 3.6
queue_directory = {queue}
data_directory = {data}
myhostname = postfix.bench.example
inet_interfaces = {HOST}
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
mydestination =
alias_maps =
alias_database =
local_recipient_maps =
relayhost = [{HOST}]:{self.sink}
smtpd_relay_restrictions = permit_mynetworks, reject
smtpd_peername_lookup = no
smtp_dns_support_level = disabled
smtp_connection_cache_on_demand = yes
smtp_connection_cache_destinations = [{HOST}]:{self.sink}
default_process_limit = 300
default_destination_concurrency_limit = 50
smtpd_client_connection_count_limit = 0
smtpd_client_event_limit_exceptions = static:all
in_flow_delay = 0
message_size_limit = 104857600
smtpd_tls_security_level = none
smtp_tls_security_level = none
""")
        (config / "master.cf").write_text(f"{HOST}:{self.port} inet n - n - - smtpd\n{self.services.lstrip()}")
        subprocess.run(["postfix", "-c", str(config), "check"], check=False, stdin=subprocess.DEVNULL,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        daemons = subprocess.run(["postconf", "-c", str(config), "-h", "daemon_directory"], check=True,
                                 capture_output=True, text=True).stdout.strip()
        return [f"{daemons}/master", "-c", str(config), "-d"]


class Unpacked(Server):
    """A server from an unpacked package: it sees an /etc of its own, and folders of its own over the system's."""

    accounts = ()  # (name, uid)
    covers = ()    # system folders that a folder in `home` of the same base name is laid over

    def private_etc(self):
        etc = self.home / "etc"
        etc.mkdir()
        root = self.tools["rivals"]
        accounts = (("root", 0), ("mail", 8), ("nobody", 65534), *self.accounts)
        (etc / "passwd").write_text("".join(f"{name}:x:{uid}:{uid}::/nonexistent:/bin/sh\n" for name, uid in accounts))
        (etc / "group").write_text("".join(f"{name}:x:{uid}:\n" for name, uid in accounts))
        (etc / "hosts").write_text("127.0.0.1 localhost\n::1 localhost\n")
        (etc / "nsswitch.conf").write_text("passwd: files\ngroup: files\nhosts: files\n")
        (etc / "resolv.conf").write_text("lookup file\nnameserver 127.0.0.1\noptions timeout:1 attempts:1\n")
        (etc / "services").write_text("smtp 25/tcp\n")
        (etc / "mailname").write_text(f"{self.name}.bench.example\n")
        (etc / "aliases").write_text("")
        libraries = pathlib.Path("/etc/ld.so.conf.d").glob("*.conf")
        extra = [str(path) for path in sorted({path.parent for path in root.rglob("*.so.*")})]
        system = [path.read_text() for path in libraries]
        # The system's own libraries come first: they carry its security updates.
        (etc / "ld.so.conf").write_text("\n".join([*system, *extra]) + "\n")
        return etc

    def inside(self, command):
        etc = self.private_etc()
        steps = []
        for cover in self.covers:
            folder = self.home / pathlib.Path(cover).name
            folder.mkdir(exist_ok=True)
            steps.append(f"mount --bind {shlex.quote(str(folder))} {cover}")
        steps += [f"mount --bind {shlex.quote(str(etc))} /etc", "ldconfig -X", f"exec {shlex.join(command)}"]
        return ["unshare", "--mount", "--propagation", "private", "sh", "-ec", "\n".join(steps)]


class Exim(Unpacked):
    name = "exim"
    accounts = (("Debian-exim", 64001),)

    def prepare(self):
        binary = self.tools["rivals"] / "usr/sbin/exim4"
        config = f"""
exim_path = {binary}
primary_hostname = exim.bench.example
spool_directory = {self.home}/spool
log_file_path = {self.home}/spool/%slog
daemon_smtp_ports = {self.port}
local_interfaces = {HOST}
disable_ipv6 = true
host_lookup =
rfc1413_query_timeout = 0s
tls_advertise_hosts =
keep_environment =
split_spool_directory = true
smtp_accept_max = 1000
smtp_accept_queue = 0
smtp_accept_queue_per_connection = 0
smtp_accept_max_per_connection = 0
smtp_connect_backlog = 1000
recipients_max = 10000
queue_run_max = 10
remote_max_parallel = 10
message_size_limit = 100M
acl_smtp_rcpt = accept_loopback
begin acl
accept_loopback:
  accept hosts = {HOST}
begin routers
smarthost:
  driver = manualroute
  route_list = * {HOST}
  self = send
  transport = remote_smtp
begin transports
remote_smtp:
  driver = smtp
  port = {self.sink}
  allow_localhost = true
  connection_max_messages = 500
  hosts_avoid_tls = *
begin retry
* * F,1h,1m
"""
        command = self.inside([str(binary), "-bdf", "-q1m"])
        (self.home / "spool").mkdir(mode=0o750)
        os.chown(self.home / "spool", 64001, 64001)
        (self.home / "etc/exim4").mkdir()
        (self.home / "etc/exim4/exim4.conf").write_text(config)
        return command

    def said(self):
        logs = [(self.home / "spool" / name) for name in ("paniclog", "mainlog")]
        return super().said() + "".join(log.read_text(errors="replace")[-1000:] for log in logs if log.exists())


class OpenSmtpd(Unpacked):
    name = "opensmtpd"
    accounts = (("opensmtpd", 64002), ("opensmtpq", 64003))
    covers = ("/var/spool", "/var/lib", "/run")

    def prepare(self):
        command = self.inside([str(self.tools["rivals"] / "usr/sbin/smtpd"), "-F"])
        (self.home / "etc/smtpd.conf").write_text(f"""
smtp max-message-size 100M
smtp limit max-mails 1000000
smtp limit max-rcpt 10000
mta limit max-conn-per-host 50
mta limit max-conn-per-route 50
mta limit max-conn-per-source 1000
mta limit max-conn-per-connector 50
mta limit max-conn-per-relay 50
mta limit max-conn-per-domain 50
mta limit conn-delay-host 0
mta limit conn-delay-source 0
mta limit conn-delay-connector 0
mta limit conn-delay-relay 0
mta limit conn-delay-domain 0
mta limit reconn-delay-route 0
mta limit session-mail-max 100000
mta limit session-transaction-delay 0
scheduler limit max-inflight 50000
scheduler limit max-schedule 1000
listen on {HOST} port {self.port} hostname opensmtpd.bench.example
action "relay" relay host smtp+notls://{HOST}:{self.sink}
match from any for any action "relay"
""")
        (self.home / "etc/smtpd.conf").chmod(0o600)
        (self.home / "lib/opensmtpd/empty").mkdir(parents=True)
        (self.home / "spool/smtpd").mkdir()
        (self.home / "spool/smtpd").chmod(0o711)
        return command


SERVERS = {server.name: server for server in (Sluice, Floor, Postfix, Exim, OpenSmtpd)}
