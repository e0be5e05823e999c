"""What runs during one measurement: next hops, the way to them, a server, the load; all ended by close()."""

import json
import os
import pathlib
import re
import shutil
import socket
import subprocess
import tempfile
import time

from harness.cell import Failed, await_greeting
from harness.group import Group

HOST, PORT = "127.0.0.1", 2525
FIRST_HOST = "10.1.0.0"  # next hops live in 10.1.0.0/16, all of which is this machine's


def own_network():
    """Every address of 10.1.0.0/16 can be listened at, once per namespace."""
    found = subprocess.run(["ip", "route", "show", "table", "local", "10.1.0.0/16"], capture_output=True, text=True, check=True)
    if not found.stdout.strip():
        subprocess.run(["ip", "address", "add", "10.1.0.1/16", "dev", "lo"], check=True)


class Sink:
    """bench/sink, its control socket, its time series."""

    def __init__(self, stage, groups, numbers=0, threads=1, slack_ms=50, series_ms=0, punctual=False):
        self.control = stage.folder / "sink.control"
        self.series_path = stage.folder / "series.csv"
        series = ["--series", self.series_path, "--interval-ms", str(series_ms)] if series_ms else []
        series += ["--punctual"] if punctual else []
        self.process = stage.spawn("sink", [stage.tools["sink"], "--threads", str(threads), "--control", self.control,
                                            "--numbers", str(numbers), "--slack-ms", str(slack_ms), *series, *groups],
                                   stdout=subprocess.DEVNULL)
        self.began = time.monotonic()
        deadline = self.began + 10
        while not self.control.exists():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise Failed("the sink did not start")
            time.sleep(0.01)

    def _ask(self, request):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(self.control))
            connection.sendall(request.encode() + b"\n")
            return b"".join(iter(lambda: connection.recv(65536), b"")).decode()

    def set(self, group, **values):
        answer = self._ask(f"set {group} " + " ".join(f"{name}={value}" for name, value in values.items()))
        if answer != "ok\n":
            raise Failed(f"the sink said: {answer}")

    def stats(self):
        return json.loads(self._ask("stats"))

    def total(self, name="messages", groups=None):
        found = self.stats()["groups"]
        return sum(found[group][name] for group in (groups or found))

    def series(self):
        """Rows of (seconds, group, messages, messages refused, connections refused, connections), all but seconds sums so far."""
        rows = []
        for line in self.series_path.read_text().splitlines():
            seconds, name, *numbers = line.split(",")
            rows.append((float(seconds), name, *map(int, numbers)))
        return rows


class Stage:
    """Holds all that a measurement has started. Use it in a with statement."""

    def __init__(self, tools, work, keep=False, port=PORT):
        self.tools, self.keep, self.port = tools, keep, port
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="run-", dir=work))
        self.folder.chmod(0o755)
        self.groups, self.processes = {}, []
        self.server = None

    def __enter__(self):
        own_network()
        return self

    def __exit__(self, *_):
        for group in self.groups.values():
            group.close()
        for process in self.processes:
            process.wait()
        if not self.keep:
            shutil.rmtree(self.folder, ignore_errors=True)

    def group(self, name):
        if name not in self.groups:
            self.groups[name] = Group(f"{self.folder.name}-{name}", adopts=name == "server")
        return self.groups[name]

    def spawn(self, group, command, **streams):
        process = subprocess.Popen([str(word) for word in command], stdin=subprocess.DEVNULL,
                                   preexec_fn=self.group(group).enter, cwd=self.folder, **streams)
        self.group(group).add_root(process.pid)
        self.processes.append(process)
        return process

    def sink(self, *groups, **options):
        return Sink(self, groups, **options)

    def delay(self, port, target, ms):
        """The long way: what is sent to `port` is passed on to `target`, "HOST:PORT"."""
        process = self.spawn("delay", [self.tools["delay"], "--listen", f"{HOST}:{port}", "--to", target, "--ms", ms])
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline and process.poll() is None:
            with socket.socket() as connection:
                if connection.connect_ex((HOST, port)) == 0:
                    return
            time.sleep(0.02)
        raise Failed("the delay did not start")

    def start(self, kind, *arguments, **options):
        """Starts a server of deliveries.relays; it is ready when this returns."""
        self.server = kind(self.folder / "server", self.port, self.tools, *arguments, **options)
        self.server.start(self.group("server"))
        self.processes.append(self.server.process)
        await_greeting(self.port, self.server.process, self.server.said)
        return self.server

    def load(self, messages, **options):
        """Runs bench/load to its end; returns what it says."""
        process = self.begin_load(messages, **options)
        return self.end_load(process)

    def begin_load(self, messages, **options):
        command = [self.tools["load"], HOST, self.port, "--messages", messages]
        for name, value in options.items():
            command += [f"--{name}", value]
        return self.spawn("load", command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def end_load(self, process, timeout_s=600):
        try:
            output, errors = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            raise Failed(f"the load did not end; the server said: {self.server.said()}") from None
        if process.returncode != 0:
            raise Failed(f"{errors[-300:]}; the server said: {self.server.said()}")
        return json.loads(output)

    def wait_for(self, look, total, stall_s=30, most_s=600, every_s=0.02):
        """Returns look() when it has reached `total`, or after `most_s`; no progress for `stall_s` is a failure."""
        last, since, began = None, time.monotonic(), time.monotonic()
        while True:
            value = look()
            now = time.monotonic()
            if value >= total or now - began > most_s:
                return value
            if self.server.process.poll() is not None:
                raise Failed(f"the server ended with {self.server.process.returncode}; it said: {self.server.said()}")
            if value != last:
                last, since = value, now
            elif now - since > stall_s:
                raise Failed(f"stalled at {value} of {total}; the server said: {self.server.said()}")
            time.sleep(every_s)


def memory_max(pid):
    """The most memory a process ever had, octets."""
    found = re.search(r"VmHWM:\s+(\d+)", pathlib.Path(f"/proc/{pid}/status").read_text())
    return int(found.group(1)) * 1024


def say(line):
    print(line, file=os.sys.stderr, flush=True)


def table(head, rows):
    """Markdown; all columns but the first to the right."""
    lines = ["| " + " | ".join(head) + " |", "|---" + "|---:" * (len(head) - 1) + "|"]
    return "\n".join(lines + ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows])
