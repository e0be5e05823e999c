"""Name servers, in a network of the test's own: NSD has the zones, and unbound stands in front of it on port 53, as on
most machines that send mail."""
import contextlib
import signal
import subprocess

from . import unpacked
from .machine import patience, wait_until
from .peers import make_folder, read
from .proxies import is_open

HEAD = """$TTL 300
@ IN SOA ns root 1 3600 600 86400 60
@ IN NS ns
ns IN A 127.0.0.1
"""
NSD_PORT = 5300


class NameServers:
    """`zones` is {origin: records}; records of None are a zone that NSD was told of and does not have. What lies in none
    of them fails, since no other name server can be reached."""

    def __init__(self, folder, zones):
        self.folder = make_folder(folder)
        self.processes = []
        for origin, records in zones.items():
            if records is not None:
                (self.folder / f"{origin}.zone").write_text(HEAD + records, encoding="ascii")
        self.launch("nsd", self.nsd(zones), NSD_PORT)
        self.launch("unbound", self.unbound(zones), 53)

    def launch(self, name, config, port):
        path, log = self.folder / f"{name}.conf", self.folder / f"{name}.log"
        path.write_text(config, encoding="ascii")
        with open(log, "wb") as output:
            # pylint: disable-next=consider-using-with
            process = subprocess.Popen([unpacked.program(f"usr/sbin/{name}"), "-d", "-c", str(path)],
                                       stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        self.processes.append(process)
        wait_until(lambda: process.poll() is not None or is_open(port), 20, lambda: f"{name}: {read(log)}")
        assert process.poll() is None, f"{name} ended with {process.returncode}: {read(log)}"

    @contextlib.contextmanager
    def silent(self):
        """For the time of the block nobody answers."""
        *_, front = self.processes
        front.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            front.send_signal(signal.SIGCONT)

    def stop(self):
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            try:
                process.wait(patience(10))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def nsd(self, zones):
        places = "".join(f'zone:\n  name: "{origin}"\n  zonefile: "{origin}.zone"\n' for origin in zones)
        return f"""server:
  ip-address: 127.0.0.1@{NSD_PORT}
  username: ""
  chroot: ""
  database: ""
  zonesdir: "{self.folder}"
  pidfile: "{self.folder}/nsd.pid"
  xfrdfile: "{self.folder}/xfrd.state"
  xfrdir: "{self.folder}"
  zonelistfile: "{self.folder}/zone.list"
  server-count: 1
remote-control:
  control-enable: no
{places}"""

    def unbound(self, zones):
        stubs = "".join(f'stub-zone:\n  name: "{origin}"\n  stub-addr: 127.0.0.1@{NSD_PORT}\n' for origin in zones)
        return f"""server:
  interface: 127.0.0.1@53
  do-ip6: no
  do-daemonize: no
  use-syslog: no
  logfile: ""
  username: ""
  chroot: ""
  directory: "{self.folder}"
  pidfile: ""
  num-threads: 1
  do-not-query-localhost: no
  local-zone: "test." nodefault
  module-config: "iterator"
{stubs}"""
