"""The resolver against real servers: NSD has the zones, one of them signed and one signed and then changed; unbound
stands in front, follows aliases, and validates.

    test_real.py ASK FOLDER     ASK is the program of ask.c, FOLDER keeps the unpacked servers
"""
import os
import pathlib
import re
import socket
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "e2e"))
from lab import unpacked  # noqa: E402

unpacked.PACKAGES = ("ldnsutils", "nsd", "unbound")

HEAD = """$TTL 300
@ IN SOA ns root 1 3600 600 86400 60
@ IN NS ns
ns IN A 127.0.0.1
"""

PLAIN = HEAD + """
@        IN MX 20 b
@        IN MX 10 a
a        IN A 192.0.2.1
b        IN A 192.0.2.2
b        IN AAAA 2001:db8::2
implicit IN A 192.0.2.3
null     IN MX 0 .
alias    IN CNAME chain
chain    IN CNAME implicit
circle   IN CNAME square
square   IN CNAME circle
foreign  IN MX 10 alias
nothing  IN TXT "neither mail nor an address"
gone     IN MX 10 missing
xn--bcher-kva IN MX 5 a
""" + "".join(f"many IN MX {2000 - number} host{number}\nhost{number} IN A 198.51.100.{number % 250 + 1}\n"
              for number in range(1000))

SECURE = HEAD + """
@  IN MX 10 mx
mx IN A 192.0.2.10
mx IN AAAA 2001:db8::10
"""


def free_port():
    """A port that is free for UDP and TCP, for a moment."""
    for _ in range(50):
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as tcp, \
                socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            tcp.bind(("127.0.0.1", 0))
            try:
                udp.bind(tcp.getsockname())
            except OSError:
                continue
            return tcp.getsockname()[1]
    raise AssertionError("no port is free for both UDP and TCP")


def run(*command, cwd):
    result = subprocess.run(command, text=True, capture_output=True, check=False, cwd=cwd)
    assert result.returncode == 0, f"{command} exited {result.returncode}: {result.stdout}{result.stderr}"
    return result.stdout.strip()


def sign(bin_folder, folder, origin):
    """Signs the zone in place; the name of the file with the key that unbound is to trust."""
    key = run(str(bin_folder / "ldns-keygen"), "-a", "ED25519", "-k", origin, cwd=folder)
    run(str(bin_folder / "ldns-signzone"), "-f", f"{origin}.zone", "-o", origin, f"{origin}.unsigned", key, cwd=folder)
    return f"{key}.key"


def write_zones(bin_folder, folder):
    """Plain, signed, and signed and then changed: the address is another one than the one that was signed."""
    (folder / "plain.test.zone").write_text(PLAIN, encoding="ascii")
    keys = []
    for origin in ("signed.test", "bogus.test"):
        (folder / f"{origin}.unsigned").write_text(SECURE, encoding="ascii")
        keys.append(sign(bin_folder, folder, origin))
    bogus = folder / "bogus.test.zone"
    text = bogus.read_text(encoding="ascii")
    assert "192.0.2.10" in text
    bogus.write_text(text.replace("192.0.2.10", "192.0.2.66"), encoding="ascii")
    return keys


def nsd_config(folder, port):
    zones = "".join(f'zone:\n  name: "{origin}"\n  zonefile: "{origin}.zone"\n'
                    for origin in ("plain.test", "signed.test", "bogus.test"))
    return f"""server:
  ip-address: 127.0.0.1@{port}
  do-ip6: no
  username: ""
  chroot: ""
  database: ""
  zonesdir: "{folder}"
  pidfile: "{folder}/nsd.pid"
  xfrdfile: "{folder}/xfrd.state"
  xfrdir: "{folder}"
  zonelistfile: "{folder}/zone.list"
  server-count: 1
remote-control:
  control-enable: no
{zones}"""


def unbound_config(folder, port, nsd_port, keys):
    stubs = "".join(f'stub-zone:\n  name: "{origin}"\n  stub-addr: 127.0.0.1@{nsd_port}\n'
                    for origin in ("plain.test", "signed.test", "bogus.test"))
    anchors = "".join(f'  trust-anchor-file: "{folder}/{key}"\n' for key in keys)
    return f"""server:
  interface: 127.0.0.1@{port}
  port: {port}
  do-ip6: no
  do-daemonize: no
  use-syslog: no
  logfile: ""
  username: ""
  chroot: ""
  directory: "{folder}"
  pidfile: ""
  num-threads: 1
  do-not-query-localhost: no
  local-zone: "test." nodefault
  domain-insecure: "plain.test"
  module-config: "validator iterator"
{anchors}{stubs}"""


def wait_for(port, process):
    """Until somebody listens there; the zones are served from then on."""
    for _ in range(200):
        assert process.poll() is None, f"{process.args} ended: {process.returncode}"
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.05)
    raise AssertionError(f"nobody listens on port {port}")


class Servers:
    """Starts both; the end of the block stops them, by their pids."""

    def __init__(self, root, folder):
        self.folder = folder
        self.sbin = root / "usr/sbin"
        self.keys = write_zones(root / "usr/bin", folder)
        self.port = free_port()
        self.processes = []

    def start(self, name, config, port, *arguments):
        path = self.folder / f"{name}.conf"
        path.write_text(config, encoding="ascii")
        log = open(self.folder / f"{name}.log", "wb")
        process = subprocess.Popen([self.sbin / name, "-d", "-c", path, *arguments], stdout=log, stderr=log)
        log.close()
        self.processes.append(process)
        wait_for(port, process)

    def __enter__(self):
        nsd_port = free_port()
        self.start("nsd", nsd_config(self.folder, nsd_port), nsd_port)
        self.port = free_port()
        self.start("unbound", unbound_config(self.folder, self.port, nsd_port, self.keys), self.port)
        return self

    def __exit__(self, *_):
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(10)


def ask(program, port, trust, *questions):
    """Question -> answer, and the counters."""
    lines = run(program, f"127.0.0.1:{port}", trust, *questions, cwd="/").split("\n")
    counters = dict(re.findall(r"(\w+) (\d+)", lines.pop()))
    return dict(line.split(": ", 1) for line in lines), {name: int(value) for name, value in counters.items()}


PLAIN_ANSWERS = {
    "mx implicit.plain.test": "ok plain 0:implicit.plain.test=192.0.2.3:25",
    "mx null.plain.test": "null plain",
    "mx alias.plain.test": "ok plain 0:implicit.plain.test=192.0.2.3:25",
    "mx foreign.plain.test": "ok plain 10:alias.plain.test=192.0.2.3:25",
    "mx nothing.plain.test": "none plain",
    "mx gone.plain.test": "none plain",
    "mx nowhere.plain.test": "nxdomain plain",
    "mx circle.plain.test": "temporary plain",
    "mx xn--bcher-kva.plain.test": "ok plain 5:a.plain.test=192.0.2.1:25",
    "a alias.plain.test": "ok plain 192.0.2.3",
    "aaaa b.plain.test": "ok plain 2001:db8::2",
    "aaaa a.plain.test": "nodata plain",
    "a nowhere.plain.test": "nxdomain plain",
}


def plain(program, port):
    answers, counters = ask(program, port, "trust", *PLAIN_ANSWERS)
    assert answers == PLAIN_ANSWERS, {key: value for key, value in answers.items() if PLAIN_ANSWERS[key] != value}
    assert counters["timeouts"] == 0, counters
    both = ask(program, port, "doubt", "mx plain.test")[0]["mx plain.test"]
    assert both.startswith("ok plain 10:a.plain.test=192.0.2.1:25 20:b.plain.test="), both
    assert "192.0.2.2:25" in both and "[2001:db8::2]:25" in both, both


def many(program, port):
    answers, counters = ask(program, port, "doubt", "mx many.plain.test")
    hosts = answers["mx many.plain.test"].split()[2:]
    assert [host.split("=")[0] for host in hosts] == [f"{1001 + n}:host{999 - n}.plain.test" for n in range(20)], hosts
    assert counters["tcp"] == 1 and counters["queries"] == 2 + 2 * 20, counters


def secure(program, port):
    answers = ask(program, port, "trust", "mx signed.test", "a mx.signed.test", "a none.signed.test", "a mx.bogus.test",
                  "mx bogus.test")[0]
    assert answers["mx signed.test"].startswith("ok authentic 10:mx.signed.test="), answers
    assert answers["a mx.signed.test"] == "ok authentic 192.0.2.10", answers
    assert answers["a none.signed.test"] == "nxdomain authentic", answers
    assert answers["a mx.bogus.test"] == "temporary plain", answers
    # Its MX and AAAA records are as they were signed; only the address is not.
    assert answers["mx bogus.test"] == "ok authentic 10:mx.bogus.test=[2001:db8::10]:25", answers
    answers = ask(program, port, "doubt", "a mx.signed.test")[0]
    assert answers["a mx.signed.test"] == "ok plain 192.0.2.10", answers


def crowd(program, port):
    """Nothing is asked twice, and no answer is lost, when hundreds are asked at once."""
    questions = [f"a host{number}.plain.test" for number in range(1000)]
    answers, counters = ask(program, port, "doubt", *questions, *questions)
    wrong = [answer for number in range(1000)
             if (answer := answers[questions[number]]) != f"ok plain 198.51.100.{number % 250 + 1}"]
    assert not wrong, wrong[:5]
    assert counters["answers"] == 1000 and counters["queries"] <= 1100, counters


def nobody(program, port):
    answers, _ = ask(program, port, "doubt", "mx plain.test")
    assert answers["mx plain.test"] == "temporary plain", answers


def main():
    program, keep = str(pathlib.Path(sys.argv[1]).resolve()), pathlib.Path(sys.argv[2])
    root = unpacked.unpack(keep.resolve())
    with tempfile.TemporaryDirectory(prefix="sluice-dns-") as temporary:
        folder = pathlib.Path(temporary)
        os.chmod(folder, 0o755)
        with Servers(root, folder) as servers:
            for case in (plain, many, secure, crowd):
                case(program, servers.port)
                print(f"{case.__name__}: good")
        nobody(program, servers.port)
        print("nobody: good")


main()
