"""Servers whose packages would start at the next boot, or exclude each other, laid in a folder beside the system.

    unpacked.py FOLDER          brings them, if they are not there yet

Their files lie in $SLUICE_PEERS (default: "peers" in the build directory). Nothing of the system is changed: packages
are fetched and taken apart; no script of theirs runs. Their libraries are in deploy/packages/test.txt. Modules of npm lie
beside them; only where there is no npm at all, Debian's is installed.
"""
import fcntl
import os
import pathlib
import shutil
import subprocess
import sys

PACKAGES = ("exim4-daemon-light", "opensmtpd", "dovecot-core", "dovecot-lmtpd", "haproxy", "nginx", "libnginx-mod-mail",
            "ldnsutils", "nsd", "unbound")
MODULES = ("smtp-server@3.18.5",)


def folder_of_peers():
    default = pathlib.Path(os.environ.get("SLUICE", "build/release/gateway/sluice")).resolve().parents[1] / "peers"
    return pathlib.Path(os.environ.get("SLUICE_PEERS", default))


def root():
    """The folder that stands for / of the unpacked packages."""
    return unpack(folder_of_peers())


def node_modules():
    """The folder with the modules of npm."""
    return bring_modules(folder_of_peers())


def program(path):
    """The path of an unpacked program, for example "usr/sbin/exim4"."""
    found = root() / path
    assert found.exists(), f"{path} is in none of the packages {PACKAGES}"
    return str(found)


def unpack(folder):
    """Fetches and unpacks, once; several processes may come at a time."""
    once(folder, "unpacked", PACKAGES, fetch)
    return folder / "root"


def bring_modules(folder):
    once(folder, "modules", MODULES, fetch_modules)
    return folder / "npm/node_modules"


def once(folder, name, wanted, bring):
    """Calls bring(folder), unless it did so before for the same."""
    folder.mkdir(parents=True, exist_ok=True)
    stamp = folder / name
    with open(folder / "lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not stamp.exists() or stamp.read_text(encoding="ascii") != " ".join(wanted):
            bring(folder)
            stamp.write_text(" ".join(wanted), encoding="ascii")


def fetch(folder):
    try:
        run("apt-get", "download", "-q", *PACKAGES, cwd=folder)
    except AssertionError:
        # The usual reason is a package index that is old or was never fetched.
        run(*as_root(), "apt-get", "update", "-q")
        run("apt-get", "download", "-q", *PACKAGES, cwd=folder)
    for package in folder.glob("*.deb"):
        run("dpkg", "-x", str(package), str(folder / "root"))
        package.unlink()


def fetch_modules(folder):
    if not shutil.which("npm"):
        run(*as_root(), "apt-get", "install", "-q", "-y", "--no-install-recommends", "--no-remove", "npm")
    place = folder / "npm"
    place.mkdir(exist_ok=True)
    run("npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix", str(place), *MODULES, cwd=place)


def as_root():
    return [] if os.geteuid() == 0 else ["sudo", "-n"]


def run(*command, cwd=None):
    result = subprocess.run(command, text=True, capture_output=True, check=False, stdin=subprocess.DEVNULL, cwd=cwd)
    said = result.stdout[-500:] + result.stderr[-1000:]
    assert result.returncode == 0, f"{' '.join(command)} exited {result.returncode}: {said}"


if __name__ == "__main__":
    try:
        unpack(pathlib.Path(sys.argv[1]).resolve())
        bring_modules(pathlib.Path(sys.argv[1]).resolve())
    except AssertionError as error:
        sys.exit(f"unpacked.py: {error}")
