"""The network namespace in which servers and load meet: nothing outside it is reachable, every port is free."""

import ctypes
import os
import pathlib
import shutil
import signal
import subprocess

from harness.group import MODE

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
PREFIX = "sluice-bench-"
RESOLV_CONF = "# no name is looked up in here\nnameserver 127.0.0.1\noptions timeout:1 attempts:1\n"


def _control_process(option, value):
    ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def _end_with_parent():
    _control_process(PR_SET_PDEATHSIG, signal.SIGTERM)


def _remove(name):
    subprocess.run(["ip", "netns", "delete", name], stderr=subprocess.DEVNULL, check=False)
    shutil.rmtree(f"/etc/netns/{name}", ignore_errors=True)


def _remove_stale():
    """A harness that was killed outright left its namespace; the name holds the pid it ran as."""
    for path in pathlib.Path("/run/netns").glob(PREFIX + "*"):
        pid = path.name[len(PREFIX):]
        if pid.isdigit() and not os.path.exists(f"/proc/{pid}"):
            _remove(path.name)


def run_inside(command):
    """Runs `command` in a fresh namespace with private mounts, passes signals on, and returns its exit status.

    `ip netns exec` would put a new /sys over the groups that CPU time is read from, hence nsenter.
    """
    _remove_stale()
    name = f"{PREFIX}{os.getpid()}"
    child = None

    def forward(number, _frame):
        if child is not None and child.poll() is None:
            child.send_signal(number)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, forward)
    try:
        subprocess.run(["ip", "netns", "add", name], check=True)
        directory = pathlib.Path("/etc/netns", name)
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "resolv.conf").write_text(RESOLV_CONF)
        child = subprocess.Popen(
            ["nsenter", f"--net=/run/netns/{name}", "unshare", "--mount", "--propagation", "private", *command],
            env={**os.environ, "SLUICE_BENCH_NAMESPACE": name}, start_new_session=True,
            preexec_fn=_end_with_parent)
        return child.wait()
    finally:
        _remove(name)


def settle_in():
    """The inner side of run_inside(): this namespace's resolver file, loopback, and ports to spare."""
    name = os.environ["SLUICE_BENCH_NAMESPACE"]
    subprocess.run(["mount", "--bind", f"/etc/netns/{name}/resolv.conf", "/etc/resolv.conf"], check=True)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    pathlib.Path("/proc/sys/net/ipv4/ip_local_port_range").write_text("10000 65000\n")
    pathlib.Path("/proc/sys/net/core/somaxconn").write_text("4096\n")
    _adopt_orphans()


def settle_in_part():
    """A process of the harness that measures on its own: it goes with its parent, and adopts as its parent does."""
    _end_with_parent()
    _adopt_orphans()


def _adopt_orphans():
    if MODE == "process tree":
        # A delivery whose parent has ended becomes our child, and as a zombie keeps its times readable.
        _control_process(PR_SET_CHILD_SUBREAPER, 1)
