"""Servers whose packages would start at the next boot, or exclude each other, laid in a folder beside the system.

    unpacked.py FOLDER          brings them, if they are not there yet

Their files lie in $SLUICE_PEERS (default: "peers" in the build directory). Nothing of the system is changed: packages
are fetched and taken apart; no script of theirs runs. Their libraries are in deploy/packages/test.txt.
"""
import fcntl
import os
import pathlib
import subprocess
import sys

PACKAGES = ("exim4-daemon-light", "opensmtpd", "haproxy", "nginx", "libnginx-mod-mail")


def root():
    """The folder that stands for / of the unpacked packages."""
    default = pathlib.Path(os.environ.get("SLUICE", "build/release/gateway/sluice")).resolve().parents[1] / "peers"
    return unpack(pathlib.Path(os.environ.get("SLUICE_PEERS", default)))


def program(path):
    """The path of an unpacked program, for example "usr/sbin/exim4"."""
    found = root() / path
    assert found.exists(), f"{path} is in none of the packages {PACKAGES}"
    return str(found)


def unpack(folder):
    """Fetches and unpacks, once; several processes may come at a time."""
    folder.mkdir(parents=True, exist_ok=True)
    stamp = folder / "unpacked"
    wanted = " ".join(PACKAGES)
    with open(folder / "lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not stamp.exists() or stamp.read_text(encoding="ascii") != wanted:
            fetch(folder)
            for package in folder.glob("*.deb"):
                run("dpkg", "-x", str(package), str(folder / "root"))
                package.unlink()
            stamp.write_text(wanted, encoding="ascii")
    return folder / "root"


def fetch(folder):
    try:
        run("apt-get", "download", "-q", *PACKAGES, cwd=folder)
    except AssertionError:
        # The usual reason is a package index that is old or was never fetched.
        run(*([] if os.geteuid() == 0 else ["sudo", "-n"]), "apt-get", "update", "-q")
        run("apt-get", "download", "-q", *PACKAGES, cwd=folder)


def run(*command, cwd=None):
    result = subprocess.run(command, text=True, capture_output=True, check=False, stdin=subprocess.DEVNULL, cwd=cwd)
    said = result.stdout[-500:] + result.stderr[-1000:]
    assert result.returncode == 0, f"{' '.join(command)} exited {result.returncode}: {said}"


if __name__ == "__main__":
    try:
        unpack(pathlib.Path(sys.argv[1]).resolve())
    except AssertionError as error:
        sys.exit(f"unpacked.py: {error}")
