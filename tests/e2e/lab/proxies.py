"""Proxies in front of the gateway: the real HAProxy and nginx, and headers of the PROXY protocol made by hand."""
import http.server
import ipaddress
import pathlib
import struct
import subprocess
import threading
from urllib.parse import unquote

from . import unpacked
from .machine import free_port, patience, wait_until

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
LOCAL, PROXY = 0x20, 0x21
ALPN, AUTHORITY, CRC32C, NOOP = 1, 2, 3, 4


def header_v1(source, destination="192.0.2.1", source_port=5000, destination_port=25):
    family = "TCP6" if ":" in source else "TCP4"
    return f"PROXY {family} {source} {destination} {source_port} {destination_port}\r\n".encode()


def header_v2(source, *tlvs, destination="192.0.2.1", source_port=5000, command=PROXY):
    """`tlvs` are (type, bytes)."""
    source, destination = ipaddress.ip_address(source), ipaddress.ip_address(destination)
    body = source.packed + destination.packed + struct.pack(">HH", source_port, 25)
    body += b"".join(struct.pack(">BH", kind, len(value)) + value for kind, value in tlvs)
    return SIGNATURE + struct.pack(">BBH", command, 0x11 if source.version == 4 else 0x21, len(body)) + body


class Program:
    """A proxy in the foreground, with its files in a folder; `listening` are the ports that it opens."""

    def __init__(self, folder, name):
        self.folder = pathlib.Path(folder) / name
        self.folder.mkdir()
        self.process = None
        self.log = self.folder / "output"

    def launch(self, command, ports):
        with open(self.log, "wb") as output:
            # pylint: disable-next=consider-using-with
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                                            cwd=self.folder)

        def listens():
            assert self.process.poll() is None, f"{command[0]} ended: {self.said()}"
            return all(is_open(port) for port in ports)
        try:
            wait_until(listens, 10, lambda: f"{command[0]} to listen: {self.said()}")
        except AssertionError:
            self.stop()
            raise

    def said(self):
        return self.log.read_text(encoding="utf-8", errors="replace")[-3000:]

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(patience(10))
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


def is_open(port):
    """Whether somebody listens; without a connection, which a proxy would pass on."""
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with open(table, encoding="ascii") as lines:
            if any(words[1].endswith(f":{port:04X}") and words[3] == "0A" for words in map(str.split, lines)):
                return True
    return False


class Haproxy(Program):
    """Passes connections on to a port with a header; `option` is HAProxy's word for the kind of header."""

    def __init__(self, folder, target, option, host="127.0.0.1", certificate=None, check=""):
        super().__init__(folder, "haproxy")
        self.host, self.port = host, free_port(host)
        crypto = ""
        if certificate:
            combined = self.folder / "certificate.pem"
            combined.write_text("".join(pathlib.Path(path).read_text(encoding="ascii")
                                        for path in (certificate.path, certificate.key)), encoding="ascii")
            crypto = f" ssl crt {combined}"
        (self.folder / "haproxy.cfg").write_text(f"""
defaults
    mode tcp
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    log stdout format raw local0
listen mail
    bind {host}:{self.port}{crypto}
    {"option smtpchk EHLO haproxy.example" if check else ""}
    server gateway 127.0.0.1:{target} {option} {check}
""", encoding="ascii")
        self.launch([unpacked.program("usr/sbin/haproxy"), "-db", "-f", str(self.folder / "haproxy.cfg")], [self.port])


class Permission(http.server.BaseHTTPRequestHandler):
    """What nginx asks whether a client may go on, and where to."""

    def do_GET(self):  # pylint: disable=invalid-name
        """Everyone may, with the password "open sesame" where there is one."""
        self.server.asked.append(dict(self.headers))
        known = self.headers.get("Auth-Method") == "none" or unquote(self.headers.get("Auth-Pass", "")) == "open sesame"
        self.send_response(200)
        self.send_header("Auth-Status", "OK" if known else "Invalid login or password")
        self.send_header("Auth-Server", "127.0.0.1")
        self.send_header("Auth-Port", str(self.server.target))
        self.end_headers()

    def log_message(self, *_):  # pylint: disable=arguments-differ
        """Says nothing."""


class Nginx(Program):
    """nginx's mail proxy with `xclient on`; `auth` is its smtp_auth: "none" or mechanisms."""

    def __init__(self, folder, target, auth, host="127.0.0.1"):
        super().__init__(folder, "nginx")
        self.host, self.port = host, free_port(host)
        self.door = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Permission)
        self.door.target, self.door.asked = target, []
        threading.Thread(target=self.door.serve_forever, daemon=True).start()
        module = unpacked.program("usr/lib/nginx/modules/ngx_mail_module.so")
        where = f"[{host}]" if ":" in host else host
        (self.folder / "nginx.conf").write_text(f"""
load_module {module};
daemon off;
master_process off;
worker_processes 1;
pid {self.folder}/pid;
error_log stderr info;
events {{ worker_connections 64; }}
mail {{
    server_name nginx.example;
    auth_http 127.0.0.1:{self.door.server_port}/;
    resolver off;
    xclient on;
    server {{
        listen {where}:{self.port};
        protocol smtp;
        smtp_auth {auth};
    }}
}}
""", encoding="ascii")
        try:
            self.launch([unpacked.program("usr/sbin/nginx"), "-p", str(self.folder), "-e", "stderr",
                         "-c", str(self.folder / "nginx.conf")], [self.port])
        except AssertionError:
            self.stop()
            raise

    def stop(self):
        super().stop()
        self.door.shutdown()
        self.door.server_close()
