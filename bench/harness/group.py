"""A group of processes whose cost is counted together: a control group where there is one, else the process tree."""

import os
import pathlib
import signal
import time

ROOT = pathlib.Path("/sys/fs/cgroup")
CLOCK_TICK_US = 1_000_000 // os.sysconf("SC_CLK_TCK")


def _mode():
    if (ROOT / "cgroup.controllers").exists():
        return "cgroup v2"
    if (ROOT / "cpuacct" / "cgroup.procs").exists() and os.access(ROOT / "cpuacct", os.W_OK):
        return "cgroup v1"
    return "process tree"


MODE = _mode()


def _fields(path):
    """Lines of `name value`, as a dict of integers."""
    return {name: int(value) for name, value in (line.split()[-2:] for line in path.read_text().splitlines())}


def _stat(pid):
    """The fields of /proc/PID/stat from the state on, or None if it is gone."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None


def _time_us(stat):
    """User and system time of a process and of the children that it has reaped."""
    return sum(map(int, stat[11:15])) * CLOCK_TICK_US if stat else 0


class Group:
    """Made before its first process starts; `enter` is a preexec_fn; close() ends whatever is left in it.

    Without control groups the processes are found by their parents. An orphan becomes a child of the harness
    (namespace.settle_in()); as only servers leave orphans, it belongs to the one group that `adopts`.
    """

    started = set()  # by the harness itself

    def __init__(self, name, adopts=False):
        self.roots = []
        self.adopts = adopts
        self.ended_us = 0
        self.folders = {}
        name = f"sluice-bench-{os.getpid()}-{name}"
        if MODE == "cgroup v1":
            for controller in ("cpuacct", "memory"):
                if (ROOT / controller / "cgroup.procs").exists():
                    self.folders[controller] = ROOT / controller / name
        elif MODE == "cgroup v2":
            try:
                (ROOT / "cgroup.subtree_control").write_text("+memory")
            except OSError:
                pass  # CPU time is counted without a controller
            self.folders["cpuacct"] = ROOT / name
        for folder in self.folders.values():
            folder.mkdir(exist_ok=True)

    def enter(self):
        for folder in self.folders.values():
            (folder / "cgroup.procs").write_text("0")

    def add_root(self, pid):
        """Names a process that the harness has started in this group."""
        self.roots.append(pid)
        self.started.add(pid)

    def add_ended(self, pid):
        """Keeps the time of a root that has ended and is about to be reaped."""
        if not self.folders:
            self.ended_us += _time_us(_stat(pid))
            self.roots.remove(pid)

    def pids(self):
        if self.folders:
            return [int(pid) for pid in (self.folders["cpuacct"] / "cgroup.procs").read_text().split()]
        children = {}
        for entry in os.listdir("/proc"):
            stat = _stat(entry) if entry.isdigit() else None
            if stat:
                children.setdefault(int(stat[1]), []).append(int(entry))
        found = [pid for pid in self.roots if _stat(pid)]
        if self.adopts:
            found += [pid for pid in children.get(os.getpid(), []) if pid not in self.started]
        for pid in found:  # grows while it is walked
            found.extend(children.get(pid, []))
        return found

    def cpu_us(self):
        """User and system time of all processes so far."""
        if MODE == "cgroup v1":
            return int((self.folders["cpuacct"] / "cpuacct.usage").read_text()) // 1000
        if MODE == "cgroup v2":
            return _fields(self.folders["cpuacct"] / "cpu.stat")["usage_usec"]
        return self.ended_us + sum(_time_us(_stat(pid)) for pid in self.pids())

    def memory_bytes(self):
        """Anonymous memory of all processes now; without a memory group the sum of their peaks."""
        if MODE == "cgroup v1" and "memory" in self.folders:
            return _fields(self.folders["memory"] / "memory.stat")["total_rss"]
        if MODE == "cgroup v2" and (self.folders["cpuacct"] / "memory.stat").exists():
            return _fields(self.folders["cpuacct"] / "memory.stat")["anon"]
        total = 0
        for pid in self.pids():
            try:
                status = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
            except OSError:
                continue
            total += sum(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM:"))
        return total

    def _alive(self):
        return [pid for pid in self.pids() if (_stat(pid) or ["Z"])[0] != "Z"]

    def close(self):
        """SIGTERM, three seconds of grace, SIGKILL; reaps what has become our child and removes the group."""
        for number, grace_s in ((signal.SIGTERM, 3), (signal.SIGKILL, 5)):
            for pid in self._alive():
                try:
                    os.kill(pid, number)
                except ProcessLookupError:
                    pass
            deadline = time.monotonic() + grace_s
            while time.monotonic() < deadline and self._alive():
                time.sleep(0.02)
        for pid in self.pids():
            try:
                os.waitpid(pid, os.WNOHANG)
            except ChildProcessError:
                pass
        for folder in self.folders.values():
            for _ in range(50):
                try:
                    folder.rmdir()
                    break
                except OSError:
                    time.sleep(0.02)


class Disk:
    """What the block device under `path` has written, by everyone: journal and other processes too."""

    def __init__(self, path):
        device = os.stat(path).st_dev
        self.path = pathlib.Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}/stat")

    def counters(self):
        """(writes, bytes written), or None where the file system has no block device."""
        if not self.path.exists():
            return None
        fields = self.path.read_text().split()
        return int(fields[4]), int(fields[6]) * 512


class ThreadClock:
    """CPU time of one process from the scheduler's own sums, ns exact; threads that have ended stay counted."""

    def __init__(self, pid):
        self.tasks = pathlib.Path(f"/proc/{pid}/task")
        self.seen = {}

    def cpu_us(self):
        for task in self.tasks.iterdir():
            try:
                self.seen[task.name] = int((task / "schedstat").read_text().split()[0])
            except (OSError, IndexError):
                pass  # it ended between two looks
        return sum(self.seen.values()) / 1000


def machine_busy_us():
    """CPU time that all CPUs spent on anything but idling."""
    fields = [int(field) for field in pathlib.Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    idle = fields[3] + fields[4]
    return (sum(fields) - idle) * CLOCK_TICK_US
