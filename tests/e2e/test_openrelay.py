"""Nobody becomes an open relay by leaving something out: every combination of settings that may be missing, and a stranger
who tries what strangers try."""
import itertools
import os
import ssl
import subprocess

import pytest

from lab.certificates import Authority, trusting
from lab.client import Client, Closed
from lab.gateway import BINARY, REPORTS
from lab.machine import SANITIZER, patience
from lab.network import Network
from lab.proxies import header_v1
from lab.tls_client import TlsClient

HERE, STRANGER, HERE6, STRANGER6 = "192.0.2.1", "192.0.2.66", "2001:db8::1", "2001:db8::66"
OURS = "ours.example"

# What may stand in the section relay, or be missing. None: there is no such section.
RELAYS = {
    "no section": None,
    "empty section": {},
    "no networks": {"networks": []},
    "loopback": {"networks": ["127.0.0.0/8", "[::1]/128"]},
    "domains alone": {"domains": [OURS, f".{OURS}"]},
    "networks and domains": {"networks": ["10.0.0.0/8"], "domains": [OURS]},
    "a certificate": {"client_certificates": ["app.example.com"]},
}
# Settings of a listener, each of which may be missing.
CHOICES = {
    "tls": (None, "starttls", "implicit"),
    "auth": (None, "optional", "required"),
    "auth_without_tls": (None, True),
    "submission": (None, True),
    "client_certificate": (None, "ask"),
    "proxy": (None, "proxy_protocol", "xclient"),
}


def listeners():
    """Every combination as the settings of a listener, under a name that says which."""
    for index, values in enumerate(itertools.product(*CHOICES.values())):
        chosen = {name: value for name, value in zip(CHOICES, values) if value is not None}
        name = "-".join("on" if value is True else str(value) for value in chosen.values()) or "plain"
        proxy = chosen.pop("proxy", None)
        if proxy:
            chosen.update({proxy: True, "proxy_networks": ["192.0.2.200/32"]})
        yield f"{index}-{name}", chosen


pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="strangers need a network of their own: needs root")


@pytest.fixture
def network():
    with Network(f"{HERE}/24", f"{STRANGER}/24", f"{HERE6}/64", f"{STRANGER6}/64"):
        yield


@pytest.fixture
def stranger(authority, shared):
    """What a stranger has to show: a certificate in the right name, of a CA of its own."""
    return Authority(shared / "strangers", "Stranger").issue("forged", names=("app.example.com",), usage="client")


def permitted(gateway, folder):
    """Those listeners that the gateway takes a configuration with; the others cannot be had at all."""
    found = {}
    for name, settings in listeners():
        gateway.settings["listeners"] = {name: settings}
        gateway.listener_ports = {name: 10000}
        path = os.path.join(folder, "check.conf")
        with open(path, "w", encoding="utf-8") as file:
            file.write(gateway.config_text())
        checked = subprocess.run([BINARY, "-t", "-c", path], text=True, capture_output=True, check=False,
                                 timeout=patience(20), stdin=subprocess.DEVNULL)
        assert checked.returncode in (0, 1) and not REPORTS.search(checked.stderr), checked.stderr
        if checked.returncode == 0:
            found[name] = settings
    return found


# Envelopes that have made relays open: routes, percent signs, quotes, our own domain as the sender.
SENDERS = ("spam@example.com", "", f"postmaster@{OURS}", "root@relay.example.com", "root@localhost", "root@[127.0.0.1]")
RECIPIENTS = ("victim@example.net", f"@{OURS}:victim@example.net", f"@[192.0.2.1],@{OURS}:victim@example.net",
              "victim%example.net@example.net", f'"victim@{OURS}"@example.net', f"victim@{OURS}@example.net",
              "victim@[192.0.2.9]", f"victim@example.net.{OURS}.example.net", f"victim@x{OURS}")


def attempt(client):
    """Asks for every recipient from every sender; none may be accepted."""
    for sender in SENDERS:
        client.send(f"MAIL FROM:<{sender}>\r\n".encode())
        if client.reply()[0] != 250:
            continue
        for recipient in RECIPIENTS:
            client.send(f"RCPT TO:<{recipient}>\r\n".encode())
            code, lines = client.reply()
            assert code >= 400, f"an open relay: {lines}\n{client.conversation()}"
        client.command("RSET", 250)


def hello(client):
    client.expect(220)
    client.send(b"EHLO localhost\r\n")
    return b" ".join(client.reply()[1])


def try_in_the_clear(host, port, source):
    with Client(host, port, source=source) as client:
        offered = hello(client)
        attempt(client)
        for line in ("XCLIENT ADDR=127.0.0.1", "XCLIENT ADDR=127.0.0.1 LOGIN=anna@example.com",
                     "XFORWARD ADDR=127.0.0.1", "AUTH EXTERNAL =", "AUTH ANONYMOUS =", "AUTH PLAIN AAA="):
            client.send(line.encode() + b"\r\n")
            code, lines = client.reply()
            assert code >= 400, f"{line} got {lines}\n{client.conversation()}"
        client.send(b"RSET\r\n")
        client.reply()
        attempt(client)
        return offered


def try_with_tls(host, port, source, certificate, is_implicit):
    """With a certificate of one's own making. The handshake may refuse it, and in TLS 1.3 the client hears of it later."""
    context = trusting(check_hostname=False, certificate=certificate)
    context.verify_mode = ssl.CERT_NONE
    try:
        with TlsClient(host, port, context, implicit=is_implicit, source=source) as client:
            if is_implicit:
                hello(client)
            else:
                client.start_tls()
            attempt(client)
    except (ssl.SSLError, ConnectionError, Closed):
        return False
    return True


def try_proxy_header(host, port, source):
    """Claims to be a proxy in front of loopback."""
    with Client(host, port, source=source) as client:
        claimed = "::1" if ":" in host else "127.0.0.1"
        try:
            client.send(header_v1(claimed) + b"EHLO x\r\nMAIL FROM:<a@example.com>\r\nRCPT TO:<victim@example.net>\r\n")
            while True:
                assert not client.line().startswith(b"250 2.1.5"), client.conversation()
        except (Closed, ConnectionError):
            pass
        except AssertionError as error:
            assert "did not reply in time" in str(error), error


# Which of the sections tls and auth are missing: how many listeners can be had at least, and with which sections relay
# they are tried.
MISSING = {(): (100, list(RELAYS)), ("tls",): (10, ["no section"]), ("auth",): (20, ["no section"]),
           ("tls", "auth"): (5, ["no section", "domains alone"])}
if SANITIZER != "none":
    MISSING = {(): (100, ["no section", "networks and domains"])}


@pytest.mark.parametrize("missing", MISSING, ids=lambda missing: " and ".join(missing) or "nothing")
def test_every_listener_with_every_relay_section(network, sluice, sink, authority, users, stranger, folder, missing):
    """One gateway for each relay section, with a port for each of the listeners that can be had at all."""
    hop = sink()
    chosen = permitted(make(sluice, hop, authority, users, missing, None), folder)
    at_least, titles = MISSING[missing]
    assert len(chosen) >= at_least, chosen  # Or this test has shown nothing.
    for title in titles:
        gateway = make(sluice, hop, authority, users, missing, RELAYS[title])
        gateway.settings["listeners"] = chosen
        gateway.listener_ports = {name: 10000 + index for index, name in enumerate(chosen)}
        gateway.start()
        for name, settings in {"smtp": {}, **chosen}.items():
            probe(gateway, name, settings, stranger)
        assert not gateway.events("accept")
        gateway.stop()
    assert not hop.received


def make(sluice, hop, authority, users, missing, relay):
    settings = {"tls": {"certificate": authority.server.path, "private_key": authority.server.key,
                        "client_ca": authority.path},
                "auth": {"users": users, "failure_delay": "0s", "failures_per_minute": 0}}
    settings = {name: value for name, value in settings.items() if name not in missing}
    if relay is not None:
        settings["relay"] = relay
    return sluice(hop, start=False, hosts=(HERE, HERE6), workers=1,
                  rates={"client": {"errors_per_minute": 0}}, **settings)


def test_who_is_no_stranger_is_seen_to_relay(network, sluice, sink):
    """The control: what the other test looks for does show where somebody may relay."""
    gateway = sluice(sink(), hosts=(HERE, HERE6), relay={"networks": [f"{STRANGER}/32"]},
                     rates={"client": {"errors_per_minute": 0}})
    with pytest.raises(AssertionError, match="an open relay"):
        try_in_the_clear(HERE, gateway.port, STRANGER)
    try_in_the_clear(HERE6, gateway.ports[1], STRANGER6)


def probe(gateway, name, settings, stranger):
    port = gateway.port_of(name)
    try:
        if settings.get("proxy_protocol"):
            try_proxy_header(HERE, port, STRANGER)
            return
        if settings.get("tls") == "implicit":
            assert try_with_tls(HERE, port, STRANGER, None, True)
            try_with_tls(HERE, port, STRANGER, stranger, True)
            return
        if name == "smtp":
            try_in_the_clear(HERE6, gateway.ports[1], STRANGER6)
        offered = try_in_the_clear(HERE, port, STRANGER)
        assert b"XCLIENT" not in offered
        if settings.get("tls") == "starttls":
            assert b"STARTTLS" in offered
            assert try_with_tls(HERE, port, STRANGER, None, False)
            try_with_tls(HERE, port, STRANGER, stranger, False)
    except AssertionError as error:
        relay = gateway.settings.get("relay")
        raise AssertionError(f"listener {name} {settings} with relay {relay}: {error}") from error
