"""Mail servers that submit through the gateway: each is an installation of its own in a folder, queues an Order and relays
it to the gateway as its smarthost, with TLS and a login. They need root, for their own users and mounts."""
import os
import pathlib
import shlex
import shutil
import smtplib
import subprocess
import time

from . import unpacked
from .machine import free_port, patience, tool, wait_until
from .senders import Order, run, smtp_session

SERVICES = """
pickup     unix  n       -       n       1       1       pickup
cleanup    unix  n       -       n       -       0       cleanup
qmgr       unix  n       -       n       300     1       qmgr
rewrite    unix  -       -       n       -       -       trivial-rewrite
bounce     unix  -       -       n       -       0       bounce
defer      unix  -       -       n       -       0       bounce
trace      unix  -       -       n       -       0       bounce
smtp       unix  -       -       n       -       -       smtp
tlsmgr     unix  -       -       n       1000?   1       tlsmgr
error      unix  -       -       n       -       -       error
retry      unix  -       -       n       -       -       error
scache     unix  -       -       n       -       1       scache
postlog    unix-dgram n  -       n       -       1       postlogd
"""


def make_folder(path, owner=None, mode=0o755):
    """A folder, reachable for servers that have given up root."""
    path.mkdir(parents=True)
    path.chmod(mode)
    if owner is not None:
        os.chown(path, owner, owner)
    return path


class Postfix:
    """An instance with directories of its own; its master runs only for the time of `send`."""
    mechanisms = ("PLAIN", "LOGIN", "SCRAM-SHA-256")

    def send(self, order, folder):
        home = make_folder(folder / "postfix")
        config, queue, data = (make_folder(home / name) for name in ("config", "queue", "data"))
        shutil.chown(data, "postfix", "postfix")
        self.make_queue(queue)
        (config / "main.cf").write_text(self.main(order, home, queue, data), encoding="utf-8")
        (config / "master.cf").write_text(SERVICES.lstrip(), encoding="ascii")
        daemons = run([tool("postconf"), "-c", str(config), "-h", "daemon_directory"]).strip()
        # pylint: disable-next=consider-using-with
        master = subprocess.Popen([f"{daemons}/master", "-c", str(config), "-d"], stdin=subprocess.DEVNULL,
                                  stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        try:
            wait_until((queue / "public/pickup").exists, 10, "Postfix's pickup service")
            dsn = ["-N", "success,failure", "-V", order.envelope_id] if order.envelope_id else []
            lines = Order(**{**vars(order), "content": order.content.replace(b"\r\n", b"\n")})
            run([tool("sendmail"), "-C", str(config), "-i", "-f", order.sender, *dsn, *order.recipients], lines)
            log = home / "log"
            wait_until(lambda: "status=" in read(log) and "removed" in read(log), 20,
                       lambda: f"Postfix to send: {read(log)}")
            assert read(log).count("status=sent") == len(order.recipients), read(log)
            level = "Verified TLS connection established"
            assert level in read(log), f"expected {level!r} in {read(log)}"
        finally:
            master.terminate()
            master.wait(patience(20))

    @staticmethod
    def make_queue(queue):
        """What `postfix check` would make in some seconds."""
        for name in "active bounce corrupt defer deferred flush hold incoming private saved trace".split():
            shutil.chown(make_folder(queue / name, mode=0o700), "postfix")
        for name, mode in (("maildrop", 0o1730), ("public", 0o2710)):
            shutil.chown(make_folder(queue / name), "postfix", "postdrop")
            (queue / name).chmod(mode)
        make_folder(queue / "pid")

    @staticmethod
    def main(order, home, queue, data):
        return f"""
compatibility_level = 3.6
queue_directory = {queue}
data_directory = {data}
maillog_file = {home}/log
maillog_file_prefixes = /
myhostname = postfix.example
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mydestination =
alias_maps =
alias_database =
smtp_dns_support_level = disabled
smtputf8_enable = yes
relayhost = [127.0.0.1]:{order.port}
smtp_tls_security_level = secure
smtp_tls_secure_cert_match = relay.example.com
smtp_tls_CAfile = {order.authority.path}
smtp_tls_loglevel = 1
smtp_tls_wrappermode = {"yes" if order.is_implicit else "no"}
smtp_sasl_auth_enable = yes
smtp_sasl_password_maps = inline:{{ {{ [127.0.0.1]:{order.port} = {":".join(order.login)} }} }}
smtp_sasl_security_options = noanonymous
smtp_sasl_mechanism_filter = {order.mechanism.lower()}
"""


def read(path):
    return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""


class Unpacked:
    """A server from an unpacked package: in a mount namespace it sees an /etc of its own, and folders of its own over
    some of the system's."""
    accounts = ()  # (name, uid)
    covers = ()    # Folders of the system that a folder in `home` of the same base name is laid over.
    needs_usr = False  # It looks for its own parts under /usr.

    def private_etc(self, home, files):
        etc = make_folder(home / "etc")
        accounts = (("root", 0), ("mail", 8), ("nobody", 65534), *self.accounts)
        files = {
            "passwd": "".join(f"{name}:x:{uid}:{uid}::/nonexistent:/bin/sh\n" for name, uid in accounts),
            "group": "".join(f"{name}:x:{uid}:\n" for name, uid in accounts),
            "hosts": "127.0.0.1 localhost\n::1 localhost\n",
            "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",
            "resolv.conf": "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n",
            "services": "smtp 25/tcp\nsmtps 465/tcp\nsubmission 587/tcp\n",
            "mailname": "peer.example\n", "aliases": "", **files}
        for name, text in files.items():
            (etc / name).parent.mkdir(parents=True, exist_ok=True)
            (etc / name).write_text(text, encoding="utf-8")
        # The same libraries as outside.
        shutil.copy("/etc/ld.so.cache", etc)
        return etc

    def inside(self, command, home, files):
        """The command line that runs `command` there, in the foreground."""
        etc = self.private_etc(home, files)
        steps = [f"mount -t overlay overlay -o {shlex.quote(f'lowerdir={unpacked.root()}/usr:/usr')} /usr"
                 ] if self.needs_usr else []
        for cover in self.covers:
            (home / pathlib.Path(cover).name).mkdir(exist_ok=True)
            steps.append(f"mount --bind {shlex.quote(str(home / pathlib.Path(cover).name))} {cover}")
        steps += [f"mount --bind {shlex.quote(str(etc))} /etc", f"exec {shlex.join(command)}"]
        return ["unshare", "--mount", "--propagation", "private", "sh", "-ec", "\n".join(steps)]


class Exim(Unpacked):
    """Takes the message on standard input (-bs) and delivers it before it ends (-odf)."""
    mechanisms = ("PLAIN", "LOGIN")
    accounts = (("Debian-exim", 64001),)

    def send(self, order, folder):
        home = make_folder(folder / "exim")
        # It runs itself again as its own user, who may not reach the build directory.
        binary = shutil.copy(unpacked.program("usr/sbin/exim4"), home)
        spool = make_folder(home / "spool", owner=64001, mode=0o750)
        said = run(self.inside([binary, "-odf", "-bs"], home, {"exim4/exim4.conf": self.config(order, binary, spool)}),
                   Order(**{**vars(order), "content": smtp_session(order, "exim.example")}))
        log = read(spool / "mainlog")
        assert log.count("=> ") + log.count("-> ") == len(order.recipients) and "Completed" in log, f"{said}\n{log}"
        # X: TLS, CV: the certificate was verified, A: the login, K: by BDAT.
        for word in (" X=TLS", " CV=yes", " A=client", " K "):
            assert word in log, f"expected {word!r} in Exim's log: {log}"

    @staticmethod
    def config(order, binary, spool):
        name, password = order.login
        login = f"^{name}^{password}" if order.mechanism == "PLAIN" else f": {name} : {password}"
        return f"""
exim_path = {binary}
primary_hostname = exim.example
spool_directory = {spool}
log_file_path = {spool}/%slog
log_selector = +pipelining +tls_certificate_verified
host_lookup =
tls_advertise_hosts =
dsn_advertise_hosts = *
smtputf8_advertise_hosts = *
keep_environment =
acl_smtp_rcpt = accept
begin routers
smarthost:
  driver = manualroute
  route_list = * 127.0.0.1
  self = send
  transport = submit
begin transports
submit:
  driver = smtp
  port = {order.port}
  protocol = {"smtps" if order.is_implicit else "smtp"}
  allow_localhost = true
  hosts_require_tls = *
  hosts_require_auth = *
  tls_verify_certificates = {order.authority.path}
  tls_verify_hosts = *
  tls_verify_cert_hostnames =
begin retry
* * F,1h,1m
begin authenticators
client:
  driver = plaintext
  public_name = {order.mechanism}
  client_send = {login}
"""


class OpenSmtpd(Unpacked):
    """Listens for the message on a port of its own; runs only for the time of `send`. It picks the mechanism itself."""
    mechanisms = ("PLAIN",)
    accounts = (("opensmtpd", 64002), ("opensmtpq", 64003))
    covers = ("/var/spool", "/var/lib", "/run")

    def send(self, order, folder):
        home = make_folder(folder / "opensmtpd")
        port = free_port()
        trusted = pathlib.Path(order.authority.path).read_text(encoding="ascii")
        command = self.inside(
            [unpacked.program("usr/sbin/smtpd"), "-d"], home,
            {"smtpd.conf": self.config(order, port), "ssl/cert.pem": trusted, "ssl/certs/ca-certificates.crt": trusted})
        (home / "etc/smtpd.conf").chmod(0o600)
        make_folder(home / "lib/opensmtpd/empty")
        make_folder(home / "spool/smtpd", mode=0o711)
        log = home / "log"
        with open(log, "wb") as output:
            # pylint: disable-next=consider-using-with
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        try:
            self.queue(order, port, log)
            wait_until(lambda: read(log).count('result="Ok"') == len(order.recipients), 20,
                       lambda: f"OpenSMTPD to send: {read(log)[-3000:]}")
            assert 'server-cert-check result="success"' in read(log), read(log)
        finally:
            process.terminate()
            process.wait(patience(20))

    @staticmethod
    def queue(order, port, log):
        deadline = time.monotonic() + patience(10)
        while True:
            try:
                with smtplib.SMTP("127.0.0.1", port, local_hostname="local.example", timeout=patience(10)) as client:
                    client.sendmail(order.sender, order.recipients, order.content)
                return
            except (ConnectionError, smtplib.SMTPServerDisconnected) as error:
                if time.monotonic() > deadline:
                    raise AssertionError(f"OpenSMTPD did not take the message: {error}: {read(log)[-3000:]}") from error
                time.sleep(0.05)

    @staticmethod
    def config(order, port):
        scheme = "smtps" if order.is_implicit else "smtp+tls"
        return f"""
table secrets {{ gateway = "{":".join(order.login)}" }}
listen on 127.0.0.1 port {port} hostname opensmtpd.example
action "relay" relay host {scheme}://gateway@127.0.0.1:{order.port} auth <secrets>
match from any for any action "relay"
"""
