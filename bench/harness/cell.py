"""One run of one server: start sink and server, warm up, load, count at the sink, read the meters, stop everything."""

import dataclasses
import itertools
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time

from harness.group import Disk, Group, machine_busy_us

PORT, SINK_PORT = 2525, 2526
STALL_S = 30
SETTLE_S = 0.5
PROBE_INTERVAL_MS = 25
WARM_UP = 100
ENOUGH_TO_RATE_S = 0.7
_serial = itertools.count()


@dataclasses.dataclass(frozen=True)
class Profile:
    size: int = 10240
    sessions: int = 50
    kept: bool = True
    recipients: int = 1

    def title(self):
        size = f"{self.size // 1024} KB" if self.size % 1024 == 0 else f"{self.size} B"
        kept = f"{'kept ' if self.kept else ''}session{'' if self.sessions == 1 else 's'}"
        kept += "" if self.kept else ", one message a connection"
        recipients = "" if self.recipients == 1 else f", {self.recipients} recipients"
        return f"{size}, {self.sessions} {kept}{recipients}"


class Failed(Exception):
    """The server did not do its part; the message says what was seen."""


class Sink:
    """smtp-sink and its running count, which it writes into a file in memory: one short write a message."""

    def __init__(self, home):
        self.group = Group("sink")
        folder = "/dev/shm" if os.access("/dev/shm", os.W_OK) else home
        self.counter = tempfile.TemporaryFile(dir=folder)
        self.process = subprocess.Popen(["smtp-sink", "-u", "postfix", "-c", f"127.0.0.1:{SINK_PORT}", "1000"],
                                        stdin=subprocess.DEVNULL, stdout=self.counter, stderr=subprocess.DEVNULL,
                                        cwd="/", preexec_fn=self.group.enter)
        self.group.add_root(self.process.pid)

    def count(self):
        size = os.fstat(self.counter.fileno()).st_size
        tail = os.pread(self.counter.fileno(), 200, max(0, size - 200))
        found = re.findall(rb"mesg=(\d+)\s", tail)
        return int(found[-1]) if found else 0

    def wait_for(self, total, server):
        """Returns when `total` messages have arrived; no progress for STALL_S is a failure."""
        last, since = -1, time.monotonic()
        while True:
            count = self.count()
            if count >= total:
                return
            if count != last:
                last, since = count, time.monotonic()
            elif time.monotonic() - since > STALL_S:
                raise Failed(f"stalled at {count} of {total} messages at the sink; it said: {server.said()}")
            time.sleep(0.01)

    def close(self):
        self.group.close()
        self.process.wait()
        self.counter.close()


def await_greeting(port, process, what):
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise Failed(f"ended at start with status {process.returncode}; it said: {what()}")
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
                if connection.recv(100).startswith(b"220"):
                    connection.sendall(b"QUIT\r\n")
                    connection.recv(100)
                    return
        except OSError:
            pass
        time.sleep(0.05)
    raise Failed(f"no greeting on port {port}; it said: {what()}")


class Peaks(threading.Thread):
    """Samples the memory of a group."""

    def __init__(self, group):
        super().__init__(daemon=True)
        self.group, self.peak, self.stopped = group, 0, threading.Event()

    def run(self):
        while not self.stopped.wait(0.2):
            self.peak = max(self.peak, self.group.memory_bytes())

    def stop(self):
        self.stopped.set()
        self.join()
        return self.peak


class Run:
    """Holds what a run has started, so that close() can end it whatever happened."""

    def __init__(self, kind, profile, tools, work):
        self.profile, self.tools = profile, tools
        self.home = pathlib.Path(work) / f"{kind.name}-{next(_serial)}"
        self.groups = {}
        self.probes = []
        self.sent = 0
        self.peaks = None
        self.work, self.sink = work, None
        self.server = kind(self.home, PORT, SINK_PORT, tools)
        for name in ("server", "source", "probe"):
            self.groups[name] = Group(name, adopts=name == "server")

    def close(self):
        if self.peaks:
            self.peaks.stop()
        for group in self.groups.values():
            group.close()
        if self.sink:
            self.sink.close()
        for process in [*self.probes, *([self.server.process] if self.server.process else [])]:
            process.wait()
            if process.stdout:
                process.stdout.close()
        shutil.rmtree(self.home, ignore_errors=True)

    def _spawn(self, group, command, **streams):
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, preexec_fn=self.groups[group].enter, **streams)
        self.groups[group].add_root(process.pid)
        return process

    def _probe(self, *arguments):
        process = self._spawn("probe", [self.tools["latency"], *arguments, "--count", "200000", "--interval-ms",
                                        str(PROBE_INTERVAL_MS)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        self.probes.append(process)
        return process

    def _finish_probe(self, process):
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=STALL_S)
        if process.returncode != 0:
            raise Failed(f"a probe ended with status {process.returncode}; the server said: {self.server.said()}")
        return json.loads(output)

    def load(self, messages):
        """Runs smtp-source to its end."""
        profile = self.profile
        command = ["smtp-source", "-s", str(min(profile.sessions, messages)), "-m", str(messages),
                   "-l", str(profile.size), "-r", str(profile.recipients), "-M", "source.bench.example",
                   "-f", "source@source.example", "-t", "sink@sink.example"]
        command += (["-d"] if profile.kept else []) + [f"127.0.0.1:{PORT}"]
        process = self._spawn("source", command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        errors = process.stderr.read()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        self.groups["source"].add_ended(process.pid)
        process.communicate()
        if process.returncode != 0:
            raise Failed(f"smtp-source: {errors.decode(errors='replace')[-300:]}; it said: {self.server.said()}")
        self.sent += messages

    def start(self):
        self.sink = Sink(self.work)
        await_greeting(SINK_PORT, self.sink.process, lambda: "")
        self.server.start(self.groups["server"])
        await_greeting(PORT, self.server.process, self.server.said)

    def rate(self):
        """Warms the server up and returns about how many messages a second it relays."""
        messages = WARM_UP
        while True:
            start = time.monotonic()
            self.load(messages)
            self.sink.wait_for(self.sent, self.server)
            took = time.monotonic() - start
            if took > ENOUGH_TO_RATE_S:
                return messages / took
            messages *= 8

    def _meters(self):
        return {"time": time.monotonic(), "server": self.groups["server"].cpu_us(),
                "source": self.groups["source"].cpu_us(), "sink": self.sink.group.cpu_us(),
                "probe": self.groups["probe"].cpu_us(), "busy": machine_busy_us(),
                "disk": Disk(self.home).counters()}

    def measure(self, messages):
        disk_probe = self._probe("disk", str(self.home))
        time.sleep(1)  # it writes its file first
        before_count = self.sent
        before = self._meters()
        self.peaks = Peaks(self.groups["server"])
        self.peaks.start()
        smtp_probe = self._probe("smtp", "127.0.0.1", str(PORT), "--size", str(self.profile.size))
        self.load(messages)
        accepted = self._finish_probe(smtp_probe)
        self.sent += accepted["count"]
        self.sink.wait_for(self.sent, self.server)
        end = time.monotonic()
        disk = self._finish_probe(disk_probe)
        time.sleep(SETTLE_S)  # what the server still does for a message that has left is part of its cost
        after = self._meters()
        relayed = self.sent - before_count
        return {"messages": relayed, "seconds": end - before["time"], "accept": accepted, "disk_probe": disk,
                "memory_bytes": self.peaks.stop(), **self._costs(before, after, relayed, disk["count"])}

    def _costs(self, before, after, relayed, disk_probes):
        """Per message; the disk probe's own blocks are taken off what the device wrote."""
        per_message = {f"{name}_cpu_us": (after[name] - before[name]) / relayed
                       for name in ("server", "source", "sink")}
        known = sum(after[name] - before[name] for name in ("server", "source", "sink", "probe"))
        elapsed_us = (after["time"] - before["time"]) * 1e6 * os.cpu_count()
        costs = {**per_message, "other_cpu_percent": 100 * (after["busy"] - before["busy"] - known) / elapsed_us}
        if before["disk"] and after["disk"]:
            writes, size = (late - early for late, early in zip(after["disk"], before["disk"]))
            costs["device_writes"] = (writes - disk_probes) / relayed
            costs["device_bytes"] = (size - 4096 * disk_probes) / relayed
        return costs

    def log_costs(self):
        """Writes and bytes per message by the server's own counters, for those that keep some."""
        own = self.server.counters()
        if not own or not own.get("messages_accepted"):
            return {}
        accepted = own["messages_accepted"]
        return {"log_writes": own["log_writes"] / accepted, "log_bytes": own["log_write_bytes"] / accepted}


def run(kind, profile, tools, work, messages, seconds):
    """The figures of one run. `messages` is a number, or None for as many as take about `seconds`."""
    current = Run(kind, profile, tools, work)
    try:
        current.start()
        rate = current.rate()
        measured = current.measure(messages or max(profile.sessions, WARM_UP, int(rate * seconds)))
        measured.update(current.log_costs())
        measured["relayed_per_second"] = measured["messages"] / measured["seconds"]
        return measured
    finally:
        current.close()
