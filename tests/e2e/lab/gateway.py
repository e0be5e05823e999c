"""The gateway as a process: writes its config, starts, watches and stops it, and reads its log."""
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import time

from .client import Client
from .machine import SANITIZER, free_port, patience, wait_until

ROOT = pathlib.Path(__file__).resolve().parents[3]
BINARY = os.environ.get("SLUICE", str(ROOT / "build/release/gateway/sluice"))

SLUICECTL = os.environ.get("SLUICECTL", str(pathlib.Path(BINARY).parent / "ctl/sluicectl"))

# What a sanitizer or a failed assertion leaves behind, whatever the exit code was.
REPORTS = re.compile(r"ERROR: \w+Sanitizer|WARNING: ThreadSanitizer|runtime error:|Assertion .* failed|panic",
                     re.IGNORECASE)


def value_text(value):
    """A Python value as libConfuse writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, tuple)):
        return "{" + ", ".join(value_text(item) for item in value) + "}"
    return str(value) if isinstance(value, int) else f'"{value}"'


def bind_text(host, port):
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def section_text(head, values):
    body = "".join(f"    {name} = {value_text(value)}\n" for name, value in values.items())
    return f"{head} {{\n{body}}}\n"


SECTIONS = ("relay", "tls", "auth", "admission", "outbound", "notices", "dns", "limits", "queue", "timeouts")
TITLED = {"sites": "site", "recipients": "recipients", "rates": "rate"}


class Gateway:
    """One gateway. `settings` override single options: listener=…, relay=…, tls=…, auth=…, admission=…, retry=…, limits=…,
    timeouts=…, queue=…, log=…, outbound=…, notices=…, dns=… are dicts; sites=…, recipients=…, rates=… and listeners=…
    (those besides "smtp", each on a port of its own of the first host) are {title: dict}; workers, hostname,
    recipient_delimiter and route_file are values; routes is {pattern: target, list, or a dict with all its keys}."""

    def __init__(self, folder, routes, *, name="gateway", hosts=("127.0.0.1",), ports=None, **settings):
        self.folder = pathlib.Path(folder)
        self.name = name
        self.data = settings.pop("data_dir", str(self.folder / f"{name}.data"))
        self.hosts = hosts
        self.ports = ports or [free_port(host) for host in hosts]
        self.listener_ports = {name: free_port(hosts[0]) for name in settings.get("listeners", {})}
        self.routes = routes if isinstance(routes, dict) else {"*": routes}
        self.settings = settings
        self.config_path = self.folder / f"{name}.conf"
        self.log_path = self.folder / f"{name}.log"
        self.process = None
        self.wrapper = []
        self.expected_exit = 0
        self.starts = 0
        self.log = []  # every event so far
        self.log_read = 0  # octets of the log that these are of
        self.log_before = 0  # how many of them are of earlier starts

    port = property(lambda self: self.ports[0])
    pid = property(lambda self: self.process.pid)

    # -- life ------------------------------------------------------------------------------------------------

    def config_text(self):
        """The whole config; short retries, so that no test waits for minutes."""
        given = self.settings
        text = f'hostname = "{given.get("hostname", "relay.example.com")}"\ndata_dir = "{self.data}"\n'
        text += f'workers = {given.get("workers", 2)}\n'
        for name in ("recipient_delimiter", "route_file"):
            if name in given:
                text += f'{name} = "{given[name]}"\n'
        binds = [bind_text(host, port) for host, port in zip(self.hosts, self.ports)]
        text += section_text('listener "smtp"', {"bind": binds, **given.get("listener", {})})
        for name, values in given.get("listeners", {}).items():
            text += section_text(f'listener "{name}"',
                                 {"bind": bind_text(self.hosts[0], self.listener_ports[name]), **values})
        for pattern, target in self.routes.items():
            text += section_text(f'route "{pattern}"', target if isinstance(target, dict) else {"to": target})
        for setting, head in TITLED.items():
            for title, values in given.get(setting, {}).items():
                text += section_text(f'{head} "{title}"', values)
        text += section_text("retry", {"schedule": ["1s"], "max_age": "1h", **given.get("retry", {})})
        text += section_text("log", {"format": "json", "level": "info", **given.get("log", {})})
        for head in SECTIONS:
            if head in given:
                text += section_text(head, given[head])
        return text

    def write_config(self):
        self.config_path.write_text(self.config_text(), encoding="utf-8")

    def launch(self, *arguments):
        """Starts the process and returns at once."""
        self.write_config()
        self.read_log()
        self.log_before = len(self.log)
        # Half a line that a kill has left is nobody's beginning.
        self.log_read = self.log_path.stat().st_size if self.log_path.exists() else 0
        with open(self.log_path, "ab") as log:
            command = [*self.wrapper, BINARY, "-c", str(self.config_path), *arguments]
            # pylint: disable-next=consider-using-with
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.starts += 1
        return self

    def start(self):
        """Starts the process and returns when every listener listens."""
        self.launch()
        self.wait_listening()
        return self

    def wait_listening(self, seconds=20):
        def is_listening():
            assert self.process.poll() is None, f"the gateway ended at start, exit code {self.process.returncode}"
            return len(self.events("listen")) >= 1 and all(
                can_connect(host, port) for host, port in self.addresses())
        wait_until(is_listening, seconds, "the gateway's listen event")

    def addresses(self):
        return [*zip(self.hosts, self.ports), *((self.hosts[0], port) for port in self.listener_ports.values())]

    def port_of(self, listener):
        return self.ports[0] if listener == "smtp" else self.listener_ports[listener]

    def is_running(self):
        return self.process is not None and self.process.poll() is None

    def signal(self, number):
        self.process.send_signal(number)

    def wait_exit(self, seconds=20):
        """The exit code; negative for a signal."""
        try:
            return self.process.wait(patience(seconds))
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the gateway did not end within {patience(seconds):g} s") from None

    def stop(self, seconds=20):
        """SIGTERM; the gateway must drain and exit 0."""
        self.signal(signal.SIGTERM)
        code = self.wait_exit(seconds)
        assert code == 0, f"exit code after SIGTERM: expected 0, got {code}"

    def kill(self):
        """kill -9: what a power cut looks like to a process."""
        self.expected_exit = -signal.SIGKILL
        self.process.kill()
        self.process.wait()

    def finish(self):
        """The end of each test: stops what still runs, then asserts that nothing went wrong unseen."""
        if self.process is None:
            return
        code = None
        if self.is_running():
            self.signal(signal.SIGTERM)
            try:
                code = self.process.wait(patience(20))
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                raise AssertionError("the gateway ignored SIGTERM for 20 s at the end of the test") from None
        self.assert_no_report()
        assert code in (None, 0), f"exit code at the end of the test: expected 0, got {code}"

    def assert_no_report(self):
        text = self.log_text()
        match = REPORTS.search(text)
        if match:
            raise AssertionError(f"the gateway's output holds a report (SLUICE_SANITIZER={SANITIZER}):\n"
                                 + text[match.start():match.start() + 5000])

    # -- what it says ----------------------------------------------------------------------------------------

    def log_text(self):
        """Everything it ever wrote."""
        return self.log_path.read_text(encoding="utf-8", errors="replace") if self.log_path.exists() else ""

    def log_tail(self, lines=40):
        return "\n".join(self.log_text().splitlines()[-lines:])

    def read_log(self):
        """What the log has got since the last look, in whole lines."""
        if not self.log_path.exists():
            return
        with open(self.log_path, "rb") as log:
            log.seek(self.log_read)
            text = log.read()
        text = text[:text.rfind(b"\n") + 1]
        self.log_read += len(text)
        self.log += filter(None, map(parse_event, text.split(b"\n")))

    def events(self, name=None, all_starts=False, **fields):
        """The events of this start (or of all) of that name whose fields have those values."""
        self.read_log()
        return [event for event in self.log[0 if all_starts else self.log_before:]
                if name in (None, event["event"]) and all(event.get(k) == v for k, v in fields.items())]

    def wait_event(self, name, seconds=10, count=1, **fields):
        """The events, once there are `count` of them."""
        wait_until(lambda: len(self.events(name, **fields)) >= count, seconds,
                   lambda: f"{count} event(s) {name} with {fields}, got {self.events(name)[-5:]}")
        return self.events(name, **fields)

    def stats(self):
        """All counters, by SIGUSR1."""
        before = len(self.events("stats"))
        self.signal(signal.SIGUSR1)
        return self.wait_event("stats", count=before + 1)[-1]

    def rss(self):
        """Resident memory in bytes."""
        status = pathlib.Path(f"/proc/{self.pid}/status").read_text(encoding="ascii")
        return int(re.search(r"VmRSS:\s+(\d+) kB", status).group(1)) * 1024

    def wait_empty(self, seconds=20):
        """Until nothing waits in the queue."""
        deadline = time.monotonic() + patience(seconds)
        while True:
            waiting = self.stats()["messages_waiting"]
            if waiting == 0:
                return
            assert time.monotonic() < deadline, f"{waiting} messages still wait"
            time.sleep(0.1)

    # -- talking to it ---------------------------------------------------------------------------------------

    def client(self, listener="smtp", **options):
        return Client(self.hosts[0], self.port_of(listener), **options)

    def reload(self):
        """SIGHUP with the config as `settings` say now; the event that tells how it went."""
        self.write_config()
        before = len(self.events("reload"))
        self.signal(signal.SIGHUP)
        return self.wait_event("reload", count=before + 1)[-1]


def parse_event(line):
    """A JSON log line as a dict, or None for anything else (a sanitizer's report)."""
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) and "event" in event else None


def can_connect(host, port):
    """Whether somebody takes connections there; the gateway sees a client that says nothing."""
    try:
        socket.create_connection((host, port), 1).close()
        return True
    except OSError:
        return False


def add_user(path, name, password):
    """A line in a file of users, as an operator makes it; returns the path."""
    result = subprocess.run([SLUICECTL, "passwd", "-f", path, "--stdin", name], input=password + "\n", text=True,
                            capture_output=True, check=False, timeout=patience(20))
    assert result.returncode == 0, f"sluicectl passwd exited {result.returncode}: {result.stderr}{result.stdout}"
    return path
