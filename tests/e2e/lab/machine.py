"""Small services of the machine: time, ports, folders, waiting."""
import os
import random
import resource
import shutil
import socket
import subprocess
import tempfile
import threading
import time

# Sanitized builds are slower; meson says by how much.
SLOWNESS = float(os.environ.get("SLUICE_SLOWNESS", "1"))
IS_LONG = bool(os.environ.get("SLUICE_LONG"))
SANITIZER = os.environ.get("SLUICE_SANITIZER", "none")


def patience(seconds):
    """A time limit for this build."""
    return seconds * SLOWNESS


def wait_until(condition, seconds, what):
    """Polls until condition() is true and returns its value; fails by saying what was waited for. A condition that is dear
    to look at gets half of the time, so that it does not hold up what it waits for."""
    deadline = time.monotonic() + patience(seconds)
    while True:
        began = time.monotonic()
        value = condition()
        if value:
            return value
        now = time.monotonic()
        if now > deadline:
            raise AssertionError(f"waited {patience(seconds):g} s in vain for: {what() if callable(what) else what}")
        time.sleep(max(0.01, now - began))


class Ports:
    """Ports below the kernel's range for outgoing connections. Test processes that run side by side never get the same: each
    holds a share of them for as long as it lives, by a socket in the network's own name space of Unix sockets."""
    FIRST, SIZE, SHARES = 20000, 500, 24

    def __init__(self):
        self.taken = 0
        self.lock = threading.Lock()
        for number in random.sample(range(self.SHARES), self.SHARES):
            self.claim = socket.socket(socket.AF_UNIX)
            try:
                self.claim.bind(f"\0sluice-test-ports-{number}")
            except OSError:
                self.claim.close()
                continue
            self.start = self.FIRST + number * self.SIZE
            return
        raise AssertionError(f"{self.SHARES} test processes run already")

    def next(self):
        """One after the other, so that a port rests long before it comes again."""
        with self.lock:
            self.taken += 1
            return self.start + self.taken % self.SIZE


# Taken at once: who asks from within a network of its own would claim the share there.
PORTS = Ports()


def free_port(host="127.0.0.1"):
    """A port nobody listens on, and that no other test is given."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for _ in range(Ports.SIZE):
        port = PORTS.next()
        with socket.socket(family) as probe:
            try:
                probe.bind((host, port))
                return port
            except OSError:
                continue
    raise AssertionError(f"no free port on {host}")


def disk_folder():
    """A new folder that is not in memory."""
    for parent in (os.environ.get("TMPDIR"), "/var/tmp", os.getcwd()):
        if parent and os.path.isdir(parent) and file_system(parent) not in ("tmpfs", "ramfs"):
            return tempfile.mkdtemp(prefix="sluice-test-", dir=parent)
    raise AssertionError("found no folder on a disk; name one in TMPDIR")


def file_system(path):
    return subprocess.run(["stat", "-f", "-c", "%T", path], text=True, capture_output=True, check=True).stdout.strip()


def tool(name):
    """The path of a program that may lie in sbin."""
    path = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    assert path, f"{name} is not installed: run deploy/install-packages build load test"
    return path


def raise_open_files(count):
    """Lets this process and its children open `count` files; False if the system does not allow it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft >= count:
        return True
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, max(hard, count)))
    except (ValueError, OSError):
        return False
    return True
