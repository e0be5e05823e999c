"""Name servers of a run: NSD has the zone, unbound stands in front of it, as an operator would have it."""

import pathlib
import re
import subprocess
import time

from harness.cell import Failed

NSD_PORT = 5353
PACKAGES = ("nsd", "unbound")


def install(cache):
    """Lays both beside the system: their packages would start with the machine."""
    folder = cache / "names"
    stamp = folder / "unpacked"
    if stamp.exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["apt-get", "update", "-q"], check=False, stdout=subprocess.DEVNULL)
    subprocess.run(["apt-get", "download", "-q", *PACKAGES], check=True, cwd=folder, stderr=subprocess.DEVNULL)
    for package in folder.glob("*.deb"):
        subprocess.run(["dpkg", "-x", package, folder / "root"], check=True)
    for program in ("nsd", "unbound", "unbound-control"):
        linked = subprocess.run(["ldd", folder / "root/usr/sbin" / program], check=True, capture_output=True, text=True).stdout
        missing = re.findall(r"(\S+) => not found", linked)
        if missing:
            raise SystemExit(f"deliver: {program} needs {', '.join(missing)}: install nsd and unbound")
    stamp.touch()


class Names:
    """Serves one zone; `records` are lines of a zone file, relative to it."""

    def __init__(self, stage, zone, records):
        self.programs = pathlib.Path(stage.tools["names"]) / "usr/sbin"
        self.folder = stage.folder / "names"
        self.folder.mkdir()
        (self.folder / "zone").write_text(f"$ORIGIN {zone}.\n$TTL 3600\n@ SOA ns.{zone}. root.{zone}. 1 3600 600 86400 300\n"
                                          "@ NS ns\nns A 127.0.0.1\n" + "\n".join(records) + "\n")
        self._start_nsd(stage, zone)
        self._start_unbound(stage, zone)
        self._await(stage, zone)

    def _start_nsd(self, stage, zone):
        config = self.folder / "nsd.conf"
        config.write_text(f"""
server:
    ip-address: 127.0.0.1@{NSD_PORT}
    server-count: 1
    username: ""
    zonesdir: "{self.folder}"
    database: ""
    pidfile: "{self.folder}/nsd.pid"
    xfrdfile: "{self.folder}/xfrd.state"
    zonelistfile: "{self.folder}/zone.list"
    logfile: "{self.folder}/nsd.log"
remote-control:
    control-enable: no
zone:
    name: "{zone}"
    zonefile: zone
""")
        stage.spawn("nsd", [self.programs / "nsd", "-d", "-c", config], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def _start_unbound(self, stage, zone):
        self.config = self.folder / "unbound.conf"
        self.config.write_text(f"""
server:
    interface: 127.0.0.1@53
    username: ""
    chroot: ""
    directory: "{self.folder}"
    pidfile: "{self.folder}/unbound.pid"
    logfile: "{self.folder}/unbound.log"
    use-syslog: no
    num-threads: 1
    msg-cache-size: 64m
    rrset-cache-size: 128m
    do-not-query-localhost: no
    do-ip6: no
    module-config: "iterator"
    extended-statistics: yes
    statistics-cumulative: yes
stub-zone:
    name: "{zone}"
    stub-addr: 127.0.0.1@{NSD_PORT}
remote-control:
    control-enable: yes
    control-interface: {self.folder}/unbound.control
    control-use-cert: no
""")
        stage.spawn("unbound", [self.programs / "unbound", "-d", "-c", self.config], stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL)

    def _await(self, stage, zone):
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            if self._control("lookup", f"ns.{zone}").returncode == 0 and "nsd started" in self._nsd_said():
                return
            time.sleep(0.1)
        said = self.folder / "unbound.log"
        raise Failed(f"the name servers did not start: {self._nsd_said()} {said.read_text() if said.exists() else ''}")

    def _nsd_said(self):
        log = self.folder / "nsd.log"
        return log.read_text(errors="replace") if log.exists() else ""

    def _control(self, *words):
        return subprocess.run([self.programs / "unbound-control", "-c", self.config, *words], capture_output=True, text=True,
                              check=False)

    def questions(self):
        """What clients asked so far, by type of record; and in all as ""."""
        output = self._control("stats_noreset").stdout
        found = {name: int(count) for name, count in re.findall(r"^num\.query\.type\.(\w+)=(\d+)", output, re.M)}
        total = re.search(r"^total\.num\.queries=(\d+)", output, re.M)
        if total is None:
            raise Failed(f"unbound tells no figures: {output}")
        return {"": int(total.group(1)), **found}
