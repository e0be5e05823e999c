"""A network of its own for the thread that enters it: nothing of the machine is reachable, every port is free, and
addresses are what the test wants. What the thread starts in there (threads, processes, sockets) belongs to it."""
import contextlib
import ctypes
import ipaddress
import os
import subprocess

CLONE_NEWNET = 0x40000000
LIBC = ctypes.CDLL(None, use_errno=True)


def check(result):
    if result != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


class Network:
    """Addresses with a prefix, "192.0.2.1/24", all on the loopback interface. Needs root."""

    def __init__(self, *addresses):
        self.addresses = addresses
        self.outside = None

    def __enter__(self):
        # pylint: disable-next=consider-using-with
        self.outside = open("/proc/thread-self/ns/net", encoding="ascii")
        check(LIBC.unshare(CLONE_NEWNET))
        self.ip("link", "set", "lo", "up")
        for address in self.addresses:
            self.ip("address", "add", address, "dev", "lo", *(["nodad"] if ":" in address else []))
        return self

    def __exit__(self, *_):
        check(LIBC.setns(self.outside.fileno(), CLONE_NEWNET))
        self.outside.close()

    @contextlib.contextmanager
    def beside(self, *addresses):
        """A second network with these addresses and a cable to this one, whose end here takes the last address of
        their networks ("10.0.0.5/24": 10.0.0.254); the thread is over there for the time of the block."""
        # pylint: disable-next=consider-using-with
        here = open("/proc/thread-self/ns/net", encoding="ascii")
        check(LIBC.unshare(CLONE_NEWNET))
        with here, open("/proc/thread-self/ns/net", encoding="ascii") as there:
            self.ip("link", "set", "lo", "up")
            self.ip("link", "add", "there", "type", "veth", "peer", "name", "here", "netns",
                    f"/proc/{os.getpid()}/fd/{here.fileno()}")
            for address in addresses:
                self.ip("address", "add", address, "dev", "there")
            self.ip("link", "set", "there", "up")
            check(LIBC.setns(here.fileno(), CLONE_NEWNET))
            for own in {str(list(ipaddress.ip_interface(address).network.hosts())[-1]) for address in addresses}:
                self.ip("address", "add", f"{own}/24", "dev", "here")
            self.ip("link", "set", "here", "up")
            check(LIBC.setns(there.fileno(), CLONE_NEWNET))
            try:
                yield
            finally:
                check(LIBC.setns(here.fileno(), CLONE_NEWNET))

    @staticmethod
    def ip(*arguments):
        subprocess.run(["ip", *arguments], check=True, stdin=subprocess.DEVNULL)
