"""The examples of README.md, run as they stand: their ports, addresses, paths and user, in a network and an /etc of
their own."""
import os
import pathlib
import pty
import re
import select
import shlex
import shutil
import smtplib
import subprocess

import pytest

from lab import readme
from lab.certificates import trusting
from lab.client import Client
from lab.content import trace
from lab.gateway import BINARY, ROOT, SLUICECTL, Gateway
from lab.machine import patience, wait_until
from lab.names import NameServers
from lab.network import Network
from lab.tls_client import TlsClient

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="well-known ports, /etc and a user of its own: needs root")

HERE, STRANGER, OURS = "192.0.2.1", "192.0.2.66", "10.0.0.254"
USER_ID = 64010
CONTENT = b"From: shop@example.com\r\nSubject: x\r\n\r\nbody\r\n"


class Machine:
    """A fresh machine, as far as the examples see: /etc/sluice with certificates, a user "sluice", an empty /var/lib."""

    def __init__(self, folder, authority):
        self.etc, self.var = folder / "etc", folder / "var"
        (self.etc / "sluice").mkdir(parents=True)
        self.var.mkdir()
        for name in ("ld.so.cache", "nsswitch.conf", "hosts"):
            if os.path.exists(f"/etc/{name}"):
                shutil.copy(f"/etc/{name}", self.etc)
        self.write("passwd", f"root:x:0:0::/root:/bin/sh\nsluice:x:{USER_ID}:{USER_ID}::/nonexistent:/bin/sh\n")
        self.write("group", f"root:x:0:\nsluice:x:{USER_ID}:\n")
        for source, name in ((authority.server.path, "cert.pem"), (authority.server.key, "key.pem")):
            shutil.copy(source, self.etc / "sluice" / name)
            os.chown(self.etc / "sluice" / name, USER_ID, USER_ID)

    def write(self, name, text):
        (self.etc / name).write_text(text, encoding="utf-8")

    def inside(self):
        """What to put in front of a command that is to run on this machine, in the foreground."""
        steps = [f"mount --bind {shlex.quote(str(path))} {cover}" for path, cover in
                 ((self.etc, "/etc"), (self.var, "/var/lib"))]
        return ["unshare", "--mount", "--propagation", "private", "sh", "-ec", "\n".join([*steps, 'exec "$@"']), "sh"]

    def type_in(self, script, answers):
        """Runs a shell script at a terminal, and gives each answer when it is asked for a password."""
        pid, terminal = pty.fork()
        if pid == 0:
            os.chdir(ROOT)
            os.environ["PATH"] = f"{pathlib.Path(SLUICECTL).parent}:{os.environ['PATH']}:/usr/sbin:/sbin"
            os.execvp("unshare", [*self.inside(), "sh", "-ec", script])
        said = b""
        try:
            while select.select([terminal], [], [], patience(20))[0]:
                try:
                    data = os.read(terminal, 4096)
                except OSError:  # What Linux says at the end of a terminal.
                    break
                said += data
                if said.endswith(b": ") and answers:
                    os.write(terminal, answers.pop(0).encode() + b"\n")
                    said += b"\n"
        finally:
            os.close(terminal)
        _, status = os.waitpid(pid, 0)
        assert os.waitstatus_to_exitcode(status) == 0, said.decode()
        assert not answers, f"was not asked for a password: {said.decode()}"


class Example(Gateway):
    """A gateway that runs a text as its configuration; only its log is told to be JSON."""

    def __init__(self, folder, text, machine, ports):
        super().__init__(folder, {}, hosts=(HERE,) * len(ports), ports=ports)
        self.text = text
        self.wrapper = machine.inside()

    def config_text(self):
        return self.text + ("" if re.search(r"^log\b", self.text, re.MULTILINE) else 'log { format = "json" }\n')


@pytest.fixture
def network():
    with Network(f"{HERE}/24", f"{STRANGER}/24") as one:
        yield one


@pytest.fixture
def machine(open_folder, authority):
    return Machine(open_folder, authority)


@pytest.fixture
def run(request, machine, open_folder):
    """run(title, port…) runs the example under that heading."""
    made = []
    request.node.gateways = made

    def start(title, *ports):
        made.append(Example(open_folder, readme.configuration(title), machine, list(ports)))
        return made[-1].start()

    yield start
    for one in made:
        one.finish()


def configurations():
    """Every block of README.md that is a configuration."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    found = [content for _, content in readme.blocks(text) if re.search(r"^listener\b", content, re.MULTILINE)]
    assert len(found) >= 4, "README.md has lost its examples"
    return found


def test_every_configuration_is_valid(machine, open_folder):
    shutil.copy(ROOT / "deploy/sites.conf", machine.etc / "sluice")
    for name in ("users", "senders", "example.com.recipients"):
        machine.write(f"sluice/{name}", "")
        (machine.etc / "sluice" / name).chmod(0o600)
        os.chown(machine.etc / "sluice" / name, USER_ID, USER_ID)
    for text in configurations():
        (open_folder / "test.conf").write_text(text, encoding="utf-8")
        checked = subprocess.run([*machine.inside(), BINARY, "-t", "-c", str(open_folder / "test.conf")], text=True,
                                 capture_output=True, check=False, timeout=patience(20), stdin=subprocess.DEVNULL)
        assert checked.returncode == 0, f"{checked.stderr}{checked.stdout}\n{text}"


def codes(client, sender, *recipients):
    """The reply to each recipient, its first nine characters."""
    client.command(f"MAIL FROM:<{sender}>", 250)
    replies = []
    for recipient in recipients:
        client.send(f"RCPT TO:<{recipient}>\r\n".encode())
        replies.append(client.reply()[1][-1][:9].decode())
    client.command("RSET", 250)
    return replies


def test_in_front_of_your_mail_servers(network, sink, machine, run, authority):
    with network.beside(*(f"10.0.0.{last}/24" for last in (5, 6, 7, 9))):
        hops = {last: sink(host=f"10.0.0.{last}", port=25) for last in (5, 6, 7, 9)}
    machine.write("sluice/example.com.recipients", "# people\nanna\nbob@example.com\n")
    gateway = run("In front of your mail servers", 25)
    trusted = trusting(authority, check_hostname=False)
    with TlsClient(HERE, 25, trusted, implicit=False, source=STRANGER) as client:
        client.start_tls()
        assert codes(client, "a@example.org", "anna@example.com", "bob@example.com", "postmaster@example.com",
                     "nobody@example.com", "x@sub.example.net", "x@example.org") == [
            "250 2.1.5", "250 2.1.5", "250 2.1.5", "550 5.1.1", "250 2.1.5", "550 5.7.1"]
        client.message("a@example.org", ["anna@example.com"], CONTENT)
        client.message("a@example.org", ["x@sub.example.net"], CONTENT)
    with Client(HERE, 25, source=OURS) as client:
        client.hello().message("anna@example.com", ["x@example.org"], CONTENT)
    for last, recipient in ((5, "anna@example.com"), (7, "x@sub.example.net"), (9, "x@example.org")):
        wait_until(lambda hop=hops[last]: hop.messages, 10, f"the message for {recipient}")
        assert hops[last].messages[0].recipients == [recipient]
        assert trace(hops[last].messages[0].content)[1] == CONTENT
    with Client(HERE, 25, source=STRANGER) as client:
        client.send(b"EHLO impatient.example\r\n")
        client.expect(554)
        client.assert_closed()
    # The hosts of a route in their order: with the first one down, the second has its turn.
    assert not hops[6].connections
    hops[5].down()
    with Client(HERE, 25, source=OURS) as client:
        client.hello().message("x@example.org", ["anna@example.com"], CONTENT)
    wait_until(lambda: hops[6].messages, 20, lambda: f"the message at the second host: {gateway.log_tail()}")


def test_for_your_applications_to_submit_to(network, sink, machine, run, authority):
    with network.beside("10.0.0.9/24"):
        hop = sink(host="10.0.0.9", port=25)
    title = "For your applications to submit to"
    scripts = [content for _, content in readme.blocks(readme.section(title), "sh")]
    assert scripts, "the example has lost its commands"
    for script in scripts:
        machine.type_in(script, ["a good password"] * 2)
    os.chown(machine.etc / "sluice/users", USER_ID, USER_ID)
    run(title, 587, 465)
    trusted = trusting(authority, check_hostname=False)
    for port in (587, 465):
        with TlsClient(HERE, port, trusted, implicit=port == 465, source=STRANGER) as client:
            greet = client.hello if port == 465 else client.start_tls
            greet()
            client.command("MAIL FROM:<shop@example.com>", 530)
        kind = smtplib.SMTP_SSL if port == 465 else smtplib.SMTP
        with kind(HERE, port, "app.example", timeout=patience(20), source_address=(STRANGER, 0),
                  **({"context": trusted} if port == 465 else {})) as client:
            if port == 587:
                client.starttls(context=trusted)
            client.login("shop@example.com", "a good password")
            assert client.mail("other@example.com")[0] == 553
            for sender in ("shop@example.com", "autumn@news.example.com"):
                client.sendmail(sender, ["customer@example.org"], CONTENT)
    wait_until(lambda: len(hop.messages) == 4, 10, lambda: f"four messages, got {hop.messages}")
    assert {m.sender for m in hop.messages} == {"shop@example.com", "autumn@news.example.com"}


PROVIDERS = {"google.com": ("mx1.google.com", "mx2.google.com"), "provider.test": ("a.provider.test", "b.provider.test"),
             "small.test": ("mx.small.test",)}
DOMAINS = [f"list{number}.test" for number in range(20)]


def place(index):
    return f"198.51.100.{index + 1}"


def zones():
    """Twenty domains at three providers, and the sender's own."""
    hosts = [host for names in PROVIDERS.values() for host in names]
    records = {"test": "", "google.com": "", "example.com": f"@ IN MX 10 mx\nmx IN A {place(len(hosts))}\n"}
    for index, host in enumerate(hosts):
        zone = next(zone for zone in records if host.endswith(f".{zone}"))
        records[zone] += f"{host}. IN A {place(index)}\n"
    for number, domain in enumerate(DOMAINS):
        names = list(PROVIDERS.values())[number % 3]
        records["test"] += "".join(f"{domain}. IN MX {10 * rank} {name}.\n" for rank, name in enumerate(names, 1))
    return records


@pytest.fixture
def world():
    """A network in which mail servers have the addresses that the DNS tells."""
    with Network(f"{HERE}/24", f"{STRANGER}/24", *(f"{place(index)}/24" for index in range(6))) as one:
        yield one


@pytest.fixture
def name_servers(world, open_folder):
    one = NameServers(open_folder / "names", zones())
    yield one
    one.stop()


def test_send_your_newsletter(world, name_servers, sink, machine, run, authority):
    title = "Send your newsletter"
    setup, counts = (content for _, content in readme.blocks(readme.section(title), "sh"))
    machine.type_in(setup, ["a good password"] * 2)
    os.chown(machine.etc / "sluice/users", USER_ID, USER_ID)
    hops = [sink("rcpt nobody@: 550 5.1.1 no such user", host=place(index), port=25, certificate=authority.server)
            for index in range(6)]
    gateway = run(title, 587)
    recipients = [f"reader{number}@{DOMAINS[number % 20]}" for number in range(500)]
    with smtplib.SMTP(HERE, 587, "app.example", timeout=patience(20), source_address=(STRANGER, 0)) as client:
        client.starttls(context=trusting(authority, check_hostname=False))
        client.login("news@example.com", "a good password")
        for recipient in [*recipients, f"nobody@{DOMAINS[0]}"]:
            client.sendmail("news@example.com", [recipient], CONTENT)
    *providers, home = hops
    wait_until(lambda: sum(len(one.messages) for one in providers) == 500 and home.messages, 30,
               lambda: f"500 messages and a notice, got {[len(one.messages) for one in hops]}: {gateway.log_tail()}")
    assert sorted(r for one in providers for m in one.messages for r in m.recipients) == sorted(recipients)
    assert not providers[1].messages and not providers[3].messages, "the first of two hosts is preferred"
    # What the table says of the log.
    events = gateway.wait_event("deliver", count=501)
    assert {event["site"] for event in events} >= set(PROVIDERS)
    for event in events:
        assert event["host"] and event["tls"].startswith("TLSv1.") and event["reply"] and event["delay_ms"] >= 0, event
    bounce, = gateway.events("bounce")
    assert bounce["class"] == "bad-mailbox" and "550 5.1.1" in bounce["reply"]
    os.symlink(gateway.log_path, gateway.folder / "sluice.log")
    counted = subprocess.run(["sh", "-ec", counts], cwd=gateway.folder, text=True, capture_output=True, check=True).stdout
    assert counted.split() == ["1", '"class":"bad-mailbox"'], counted
    assert gateway.wait_event("notice")
    notice, = home.messages
    assert notice.sender == "" and notice.recipients == ["news@example.com"]
    assert b"550 5.1.1 no such user" in notice.content and b"postmaster@example.com" in notice.content
    assert not gateway.events("defer")
