"""What TLS costs: one Sluice with a listener for each way in, loaded by bench/source in alternating rounds."""

import json
import pathlib
import re
import subprocess
import tempfile
import time

from harness.cell import PORT, SINK_PORT, Failed, Sink, await_greeting
from harness.group import Group, ThreadClock
from harness.servers import HOST, SluiceTls

SETTLE_S = 0.2
STALL_S = 60
COUNTERS = ("enter_calls", "loop_completions", "sends", "log_writes", "log_write_bytes", "bytes_received", "heap_allocations")
# How a round opens connections: name, port, arguments of the source.
OPENINGS = (
    ("clear", PORT, ("--tls", "clear")),
    ("full", SluiceTls.IMPLICIT, ("--tls", "implicit")),
    ("resumed", SluiceTls.IMPLICIT, ("--tls", "implicit", "--resume")),
    ("full, STARTTLS", SluiceTls.STARTTLS, ("--tls", "starttls")),
)
WAYS = (("clear", PORT), ("implicit", SluiceTls.IMPLICIT))


class Stage:
    """The gateway under load, and its sink. close() ends both whatever happened."""

    def __init__(self, kind, options, tools, work):
        self.options, self.tools, self.sent, self.sink = options, tools, 0, None
        self.folder = tempfile.TemporaryDirectory(prefix="tls-", dir=work)
        pathlib.Path(self.folder.name).chmod(0o755)
        self.group = Group("tls-server")
        self.server = kind(pathlib.Path(self.folder.name) / "server", PORT, SINK_PORT, tools)

    def start(self):
        self.sink = Sink(self.folder.name)
        await_greeting(SINK_PORT, self.sink.process, lambda: "")
        self.server.start(self.group)
        await_greeting(PORT, self.server.process, self.server.said)
        self.clock = ThreadClock(self.server.process.pid)

    def close(self):
        self.group.close()
        if self.server.process:
            self.server.process.wait()
        if self.sink:
            self.sink.close()
        self.folder.cleanup()

    def _source(self, port, *arguments):
        command = [self.tools["source"], HOST, str(port), "--sessions", str(self.options.sessions),
                   "--threads", str(min(2, self.options.sessions)), *map(str, arguments)]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def _finish(self, source):
        try:
            output, errors = source.communicate("\n", timeout=STALL_S)
        except subprocess.TimeoutExpired:
            source.kill()
            source.communicate()
            raise Failed(f"the source stalled; the server said: {self.server.said()}") from None
        if source.returncode != 0:
            raise Failed(f"{errors[-300:]}; the server said: {self.server.said()}")
        return json.loads(output)

    def _expect(self, source, word):
        line = source.stdout.readline().strip()
        if line != word:
            raise Failed(f"{source.communicate()[1][-300:]}; the server said: {self.server.said()}")

    def _stats(self):
        stats = self.server.stats()
        if stats is None:
            raise Failed(f"no counters; the server said: {self.server.said()}")
        return stats

    def relay(self, way, port):
        """Messages over kept sessions; opening and closing those is not counted."""
        count = self.options.messages
        source = self._source(port, "--tls", way, "--messages", count, "--size", self.options.size, "--hold")
        self._expect(source, "ready")
        time.sleep(SETTLE_S)
        stats, before = self._stats(), self.clock.cpu_us()
        source.stdin.write("\n")
        source.stdin.flush()
        self._expect(source, "done")
        self.sent += count
        self.sink.wait_for(self.sent, self.server)
        time.sleep(SETTLE_S)
        cost, late = self.clock.cpu_us() - before, self._stats()
        said = self._finish(source)
        return {"cpu_us": cost / count, "relayed_per_second": count / said["seconds"], "cipher": said["cipher"],
                **{name: said[name] / count for name in said if name.startswith("record")},
                **{name: (late[name] - stats[name]) / count for name in COUNTERS}}

    def opening(self, port, *arguments):
        """Connections that say EHLO and QUIT. Of resumed ones the first of each session is a full handshake."""
        count = self.options.connects
        before = self.clock.cpu_us()
        said = self._finish(self._source(port, "--connects", count, *arguments))
        time.sleep(SETTLE_S)
        return {"cpu_us": (self.clock.cpu_us() - before) / count, "per_second": count / said["seconds"],
                "resumed": said["resumed"] / count}


def micro(tools):
    """The micro-benchmark's ns by name, the better of what was seen; noise only adds."""
    output = subprocess.run([tools["micro-tls"]], check=True, capture_output=True, text=True).stdout
    return {name.strip(): float(ns) for name, ns in re.findall(r"^(.+?)\s+([\d.]+) ns/op", output, re.MULTILINE)}


def _round(stage, number, relays, openings):
    for way, port in WAYS if number % 2 else WAYS[::-1]:
        relays[way].append(stage.relay(way, port))
    turn = number % len(OPENINGS)
    for name, port, arguments in OPENINGS[turn:] + OPENINGS[:turn]:
        openings[name].append(stage.opening(port, *arguments))


def run(kind, options, tools, work, say):
    """All rounds: {relays: {way: [...]}, openings: {name: [...]}, micro: {line: ns}}."""
    stage = Stage(kind, options, tools, work)
    relays, openings = {way: [] for way, _ in WAYS}, {name: [] for name, _, _ in OPENINGS}
    try:
        stage.start()
        best = micro(tools)
        for way, port in WAYS:
            stage.relay(way, port)  # warms up
        for number in range(1, options.rounds + 1):
            _round(stage, number, relays, openings)
            clear, secured = (relays[way][-1]["cpu_us"] for way, _ in WAYS)
            say(f"  round {number:2}  clear {clear:6.1f} µs  TLS {secured:6.1f} µs  ratio {secured / clear:.3f}")
        again = micro(tools)
        return {"relays": relays, "openings": openings, "micro": {name: min(best[name], again[name]) for name in best}}
    finally:
        stage.close()
