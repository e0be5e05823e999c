"""TLS as it is seen from outside: scanners, certificates, sessions, clients that break it off or mix it with clear text."""
import hashlib
import json
import re
import shutil
import socket
import ssl
import subprocess
import time

import pytest

from lab.certificates import Authority, trusting
from lab.client import Client, Closed
from lab.machine import SANITIZER, patience, tool, wait_until
from lab.tls_client import Records, TlsClient

CONTENT = b"Subject: x\r\n\r\nbody\r\n"
LISTENERS = {"starttls": {"tls": "starttls"}, "implicit": {"tls": "implicit"}}


@pytest.fixture
def make(sluice, sink, authority):
    """make(**settings) starts a gateway with a port for each kind of TLS; `hop` is its next hop."""
    def start(**settings):
        hop = sink()
        one = sluice(hop, tls={"certificate": [authority.server.path], "private_key": [authority.server.key]},
                     listeners=LISTENERS, **settings)
        one.hop = hop
        return one
    return start


@pytest.fixture
def gateway(make):
    return make()


def connect(gateway, context, listener="implicit", **options):
    client = TlsClient("127.0.0.1", gateway.port_of(listener), context, implicit=listener != "starttls", **options)
    if listener == "starttls":
        return client.start_tls()
    client.hello()
    return client


# -- scanners ------------------------------------------------------------------------------------------------------

# What a server offers does not depend on how it was built: under a sanitizer one port is enough.
SCANNED = {"starttls": ["-t", "smtp"], "implicit": []} if SANITIZER == "none" else {"starttls": ["-t", "smtp"]}


# What testssl says of itself. It lacks a GOST engine; and in TLS 1.3 it may hang up before the ticket comes that it then
# wants to show: resuming is tested below.
UNABLE = {("engine_problem", "WARN"), ("sessionresumption_ticket", "WARN")}


@pytest.mark.parametrize("listener", SCANNED)
def test_testssl_finds_nothing_above_low(gateway, authority, open_folder, listener):
    found = open_folder / "findings.json"
    result = subprocess.run(
        [tool("testssl"), "--quiet", "--color", "0", "--warnings", "off", "--nodns", "min", "--add-ca", authority.path,
         "--ip", "127.0.0.1", "--jsonfile", str(found),
         "--protocols", "--server-defaults", "--server-preference", "--fs", "--std", "--vulnerable",
         *SCANNED[listener], f"relay.example.com:{gateway.port_of(listener)}"],
        text=True, capture_output=True, check=False, timeout=patience(240), stdin=subprocess.DEVNULL)
    assert found.exists(), result.stdout[-3000:] + result.stderr[-1000:]
    findings = json.loads(found.read_text(encoding="utf-8"))
    by_id = {finding["id"]: finding for finding in findings}
    for name in ("TLS1_2", "TLS1_3", "cert_chain_of_trust", "heartbleed", "PFS"):
        assert by_id[name]["severity"] == "OK", f"testssl did not get through: {by_id[name]}"
    bad = [f"{f['id']}: {f['severity']}: {f['finding']}" for f in findings
           if f["severity"] not in ("OK", "INFO", "LOW", "DEBUG") and (f["id"], f["severity"]) not in UNABLE]
    assert not bad, "\n".join(bad)


@pytest.mark.parametrize("listener", SCANNED)
def test_sslscan(gateway, listener):
    starttls = ["--starttls-smtp"] if listener == "starttls" else []
    said = subprocess.run(
        [tool("sslscan"), "--no-colour", *starttls, "--sni-name=relay.example.com",
         f"127.0.0.1:{gateway.port_of(listener)}"],
        text=True, capture_output=True, check=True, timeout=patience(120), stdin=subprocess.DEVNULL).stdout
    for protocol in ("SSLv2", "SSLv3", "TLSv1.0", "TLSv1.1", "TLSv1.2", "TLSv1.3"):
        state = "enabled" if protocol in ("TLSv1.2", "TLSv1.3") else "disabled"
        assert re.search(rf"^{re.escape(protocol)}\s+{state}", said, re.MULTILINE), f"{protocol} is not {state}:\n{said}"
    accepted = re.findall(r"^(?:Accepted|Preferred)\s+(\S+)\s+(\d+) bits\s+(\S+)", said, re.MULTILINE)
    assert accepted, said
    for version, bits, cipher in accepted:
        is_good = version == "TLSv1.3" or re.match("ECDHE-.*(GCM|POLY1305)", cipher)
        assert int(bits) >= 128 and is_good, (version, cipher)
    assert "Session renegotiation not supported" in said and "to heartbleed" in said, said
    assert "vulnerable to heartbleed" not in said.replace("not vulnerable", ""), said


# -- certificates --------------------------------------------------------------------------------------------------

def shown(gateway, listener="implicit", **options):
    """The certificate that a client sees, in DER."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with connect(gateway, context, listener, **options) as client:
        return client.socket.getpeercert(binary_form=True)


def der(certificate):
    with open(certificate.path, encoding="ascii") as file:
        return ssl.PEM_cert_to_DER_cert(file.read())


@pytest.mark.parametrize("listener", LISTENERS)
def test_certificate_by_name(gateway, authority, listener):
    others = [authority.issue("other", names=("mx.example.net", "mail.example.net")),
              authority.issue("wild", names=("*.example.org",))]
    gateway.settings["tls"]["certificate"] += [one.path for one in others]
    gateway.settings["tls"]["private_key"] += [one.key for one in others]
    gateway.reload()
    wait_until(lambda: shown(gateway, server_name="mx.example.net") == der(others[0]), 5, "the new certificates")
    expected = {"relay.example.com": authority.server, "mx.example.net": others[0], "MAIL.example.net": others[0],
                "any.example.org": others[1], "two.levels.example.org": authority.server,
                "unknown.example": authority.server, None: authority.server}
    for name, certificate in expected.items():
        assert shown(gateway, listener, server_name=name) == der(certificate), name


def test_certificates_are_reloaded_under_open_sessions(gateway, authority, open_folder):
    first, second = authority.issue("first"), authority.issue("second")
    path, key = str(open_folder / "live.pem"), str(open_folder / "live.key")
    shutil.copy(first.path, path)
    shutil.copy(first.key, key)
    gateway.settings["tls"] = {"certificate": path, "private_key": key}
    gateway.reload()
    wait_until(lambda: shown(gateway) == der(first), 5, "the first certificate")
    with connect(gateway, trusting(authority)) as kept:
        kept.envelope("kept@example.com", ["b@example.net"])
        shutil.copy(second.path, path)
        shutil.copy(second.key, key)
        gateway.reload()
        wait_until(lambda: shown(gateway) == der(second), 5, "the second certificate")
        kept.send(CONTENT + b".\r\n")
        kept.expect(250)
        kept.message("kept@example.com", ["b@example.net"], CONTENT)
    wait_until(lambda: len(gateway.hop.messages) == 2, 10, "both messages of the kept session")
    # A key of another certificate: refused, and the old pair stays.
    shutil.copy(first.key, key)
    event = gateway.reload()
    assert event["level"] == "error" and key in json.dumps(event), event
    assert shown(gateway) == der(second)


# -- client certificates -------------------------------------------------------------------------------------------

def relays(gateway, context, listener):
    """250 or 550 for a recipient elsewhere; None if there was no session to ask in."""
    try:
        with connect(gateway, context, listener) as client:
            client.command("MAIL FROM:<a@example.com>", 250)
            client.send(b"RCPT TO:<b@example.net>\r\n")
            return client.reply()[0]
    except (ssl.SSLError, Closed, ConnectionError):
        return None


@pytest.mark.parametrize("listener", LISTENERS)
@pytest.mark.parametrize("by", ["name", "fingerprint"])
def test_client_certificates(sluice, sink, authority, shared, listener, by):
    good = authority.issue("good-client", names=("first.example.com", "app.example.com"), usage="client")
    other = authority.issue("other-client", names=("other.example.com",), usage="client")
    forged = Authority(shared / "stranger", "Stranger").issue("forged", names=("app.example.com",), usage="client")
    fingerprint = re.sub("(..)(?=.)", r"\1:", good.fingerprint().upper())
    common = {"client_certificate": "ask"}
    gateway = sluice(
        sink(), tls={"certificate": authority.server.path, "private_key": authority.server.key,
                     "client_ca": authority.path},
        relay={"networks": ["[::1]/128"],
               "client_certificates": ["app.example.com" if by == "name" else f"sha256:{fingerprint}"]},
        listeners={name: {**values, **common} for name, values in LISTENERS.items()})
    assert relays(gateway, trusting(authority, certificate=good), listener) == 250
    assert relays(gateway, trusting(authority, certificate=other), listener) == 550
    assert relays(gateway, trusting(authority), listener) == 550
    assert relays(gateway, trusting(authority, certificate=forged), listener) in (550, None)
    for values in gateway.settings["listeners"].values():
        values["client_certificate"] = "require"
    gateway.reload()
    wait_until(lambda: relays(gateway, trusting(authority), listener) is None, 5, "certificates to be demanded")
    assert relays(gateway, trusting(authority, certificate=good), listener) == 250
    assert relays(gateway, trusting(authority, certificate=forged), listener) is None


# -- sessions ------------------------------------------------------------------------------------------------------

def session_of(gateway, context, listener):
    """A session to resume; in TLS 1.3 it comes behind the handshake."""
    with connect(gateway, context, listener) as client:
        client.command("NOOP", 250)
        return client.socket.session


VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("listener", LISTENERS)
def test_sessions_resume_on_every_worker_and_no_other_listener(gateway, authority, version, listener):
    context = trusting(authority)
    context.minimum_version = context.maximum_version = VERSIONS[version]
    session = session_of(gateway, context, listener)
    before = gateway.stats()
    for _ in range(24):  # The kernel spreads connections over the workers: all on one would be one chance in 8 million.
        with connect(gateway, context, listener, session=session) as client:
            assert client.socket.session_reused, "a full handshake where a session was shown"
            client.command("NOOP", 250)
    after = gateway.stats()
    assert after["tls_resumed"] - before["tls_resumed"] == 24
    other = next(name for name in LISTENERS if name != listener)
    with connect(gateway, context, other, session=session) as client:
        assert not client.socket.session_reused, "a session of one listener was taken by another"
        client.command("NOOP", 250)


def test_sessions_outlive_a_reload(gateway, authority):
    context = trusting(authority)
    session = session_of(gateway, context, "implicit")
    gateway.reload()
    time.sleep(patience(0.3))
    with connect(gateway, context, session=session) as client:
        assert client.socket.session_reused


# -- clear text and TLS --------------------------------------------------------------------------------------------

@pytest.mark.parametrize("behind", [b"MAIL FROM:<a@example.com>\r\n", b"EHLO x\r\n", b"NOOP\r\n", b"\r\n", b"x"])
def test_nothing_in_one_packet_behind_starttls(gateway, behind):
    """What came in the clear is never read as if it came through TLS: the session ends."""
    with gateway.client("starttls") as client:
        client.hello().send(b"STARTTLS\r\n" + behind)
        client.expect(554)
        client.assert_closed()


def test_clear_text_behind_the_reply_to_starttls(gateway, authority):
    """Sent after 220, as a man in the middle would put it before the client's first record."""
    with gateway.client("starttls") as client:
        client.hello().command("STARTTLS", 220)
        client.socket.sendall(b"MAIL FROM:<injected@example.com>\r\n")
        with pytest.raises((ssl.SSLError, ConnectionError)):
            trusting(authority).wrap_socket(client.socket, server_hostname="relay.example.com")
    gateway.wait_event("disconnect", reason="tls")
    assert not gateway.events("accept")


def test_state_is_forgotten_at_starttls(gateway, authority):
    with TlsClient("127.0.0.1", gateway.port_of("starttls"), trusting(authority), implicit=False) as client:
        client.hello().command("STARTTLS", 220)
        client.secure().command("MAIL FROM:<a@example.com>", 503)
        client.send(b"EHLO again\r\n")
        assert not any(b"STARTTLS" in line for line in client.reply()[1])
        client.send(b"STARTTLS\r\n")
        assert client.reply()[0] in (502, 503)


def test_starttls_in_a_transaction(gateway):
    with gateway.client("starttls") as client:
        client.hello().command("MAIL FROM:<a@example.com>", 250)
        client.command("STARTTLS", 503)
        client.command("RCPT TO:<b@example.net>", 250)


@pytest.fixture
def records(gateway, authority):
    """records() opens a session on the implicit port and returns its Records, greeted."""
    opened = []

    def make():
        raw = socket.create_connection(("127.0.0.1", gateway.port_of("implicit")))
        raw.settimeout(patience(10))
        opened.append(raw)
        one = Records(raw, trusting(authority))
        assert one.read().startswith(b"220 ")
        return one

    yield make
    for raw in opened:
        raw.close()


def say(one, data, code):
    one.raw.sendall(one.seal(data))
    reply = b""
    while not re.search(rb"(?m)^\d\d\d [^\r]*\r\n\Z", reply):
        data = one.read()
        assert data, f"the session ended after {reply!r}"
        reply += data
    assert reply.rstrip().split(b"\r\n")[-1].startswith(code), reply
    return reply


# How the client comes to its content, the half of it that it sends, and what would complete it.
HALVES = {
    "DATA": (b"DATA\r\n", b"354", b"Subject: x\r\n\r\nhalf", b"\r\n.\r\n"),
    "DATA before the dot": (b"DATA\r\n", b"354", b"Subject: x\r\n\r\nwhole\r\n", b".\r\n"),
    "BDAT": (b"BDAT 4\r\nx: y", b"250", b"BDAT 8 LAST\r\n\r\n\r\n", b"ab\r\n"),
    "between two BDAT": (b"BDAT 8\r\nx: y\r\n\r\n", b"250", b"", b"BDAT 0 LAST\r\n"),
}
ENDS = ["close_notify", "close_notify and clear text", "close_notify and a record", "end of stream", "cut record"]


@pytest.mark.parametrize("name", HALVES)
@pytest.mark.parametrize("end", ENDS)
def test_end_in_the_middle_of_content(gateway, records, name, end):
    """No byte after a close_notify counts, and half a message is none, however the other half comes."""
    command, code, half, rest = HALVES[name]
    one = records()
    for line, reply in ((b"EHLO x\r\n", b"250"), (b"MAIL FROM:<a@example.com>\r\n", b"250"),
                        (b"RCPT TO:<b@example.net>\r\n", b"250"), (command, code)):
        say(one, line, reply)
    sent = one.seal(half) if half else b""
    if end.startswith("close_notify"):
        sent += one.farewell()
        record = b"\x17\x03\x03" + (len(rest) + 17).to_bytes(2, "big") + rest + b"\0" * 17
        sent += {"close_notify": b"", "close_notify and clear text": rest, "close_notify and a record": record}[end]
    elif end == "cut record":
        sent += one.seal(rest)[:-1]
    one.raw.sendall(sent)
    host, port = one.raw.getsockname()
    if not end.startswith("close_notify"):
        one.raw.shutdown(socket.SHUT_WR)
        assert one.read() == b""
    else:
        # The answer is a close_notify; until our FIN the server waits a while.
        assert one.raw.recv(4096)[:1] in (b"\x17", b"\x15", b"")
        one.raw.close()
    gateway.wait_event("disconnect", client=f"{host}:{port}")
    time.sleep(patience(0.1))
    assert not gateway.events("accept") and not gateway.hop.received


def test_whole_content_and_close_notify_in_one_packet(gateway, records):
    """The control of the test above: with its end in front of the close_notify, the message counts."""
    one = records()
    for line, reply in ((b"EHLO x\r\n", b"250"), (b"MAIL FROM:<a@example.com>\r\n", b"250"),
                        (b"RCPT TO:<b@example.net>\r\n", b"250"), (b"DATA\r\n", b"354")):
        say(one, line, reply)
    one.raw.sendall(one.seal(CONTENT + b".\r\n") + one.farewell())
    wait_until(lambda: gateway.hop.messages, 10, "the message")


# -- handshakes ----------------------------------------------------------------------------------------------------

def client_hello(authority):
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = trusting(authority).wrap_bio(incoming, outgoing, server_hostname="relay.example.com")
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


@pytest.mark.parametrize("listener", LISTENERS)
@pytest.mark.parametrize("way", ["silent", "half", "drops"])
def test_slow_handshake_times_out(make, authority, listener, way):
    """The time is for the whole of it: a byte now and then wins none."""
    gateway = make(timeouts={"inbound_handshake": "1s"})
    hello = client_hello(authority)
    with gateway.client(listener) as client:
        if listener == "starttls":
            client.hello().command("STARTTLS", 220)
        began = time.monotonic()
        client.socket.settimeout(0.1)
        sent = len(hello) // 2 if way == "half" else 0
        client.socket.sendall(hello[:sent])
        while time.monotonic() - began < patience(8):
            try:
                if way == "drops" and sent < len(hello) - 1:
                    client.socket.sendall(hello[sent:sent + 1])
                    sent += 1
                if client.socket.recv(4096) == b"":
                    break
            except socket.timeout:
                continue
            except ConnectionError:
                break
        took = time.monotonic() - began
    assert 0.8 < took < patience(4), f"the session ended after {took:.1f} s"


@pytest.mark.parametrize("cut", ["bytes", "halves"])
def test_handshake_in_pieces(gateway, authority, cut):
    """However the client's records are cut, and with its first command in the packet of its Finished."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = trusting(authority).wrap_bio(incoming, outgoing, server_hostname="relay.example.com")
    with Client("127.0.0.1", gateway.port_of("implicit")) as client:
        is_done, said = False, b""
        while not said.endswith(b"221 2.0.0 Bye\r\n"):
            try:
                if not is_done:
                    tls.do_handshake()
                    is_done = True
                    tls.write(b"EHLO x\r\nMAIL FROM:<a@example.com>\r\nQUIT\r\n")
                said += tls.read(4096)
            except ssl.SSLWantReadError:
                data = outgoing.read()
                step = 1 if cut == "bytes" else max(1, len(data) // 2)
                for start in range(0, len(data), step):
                    client.socket.sendall(data[start:start + step])
                    time.sleep(0.001)
                received = client.socket.recv(65536)
                assert received, f"the session ended after {said!r}"
                incoming.write(received)
    assert re.match(rb"220 [^\r]*\r\n250-[^\r]*\r\n(?:250[^\r]*\r\n)+250 2\.1\.0 Ok\r\n221 ", said), said


@pytest.mark.parametrize("sent", [b"EHLO x\r\n", b"\x16\x03\x01\x02\x00" + b"\0" * 512, b"\x80\x2e\x01\0\x02", b"\0" * 4096],
                         ids=["EHLO", "a record of zeros", "SSLv2", "zeros"])
def test_no_handshake_at_all(gateway, sent):
    with gateway.client("implicit") as client:
        client.send(sent)
        try:
            said = client.socket.recv(4096)
        except ConnectionError:
            said = b""
        assert b"220" not in said and b"250" not in said, said
    with gateway.client("implicit"):
        pass  # It still takes connections.
    assert gateway.wait_event("disconnect", reason="tls")[0]["tls_error"]


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
def test_old_versions_are_refused(gateway, authority, version):
    context = trusting(authority)
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = version
    with pytest.raises((ssl.SSLError, ConnectionError)):
        connect(gateway, context)


def test_minimum_version(gateway, authority):
    gateway.settings["tls"]["min_version"] = "1.3"
    gateway.reload()
    context = trusting(authority)
    context.maximum_version = ssl.TLSVersion.TLSv1_2

    def is_refused():
        try:
            connect(gateway, context).close()
            return False
        except (ssl.SSLError, ConnectionError):
            return True
    wait_until(is_refused, 5, "TLS 1.2 to be refused")
    connect(gateway, trusting(authority)).close()


def test_big_message_both_ways(gateway, authority):
    """Many records, read slowly at the other end."""
    lines = (hashlib.sha256(str(number).encode()).hexdigest() for number in range(80_000))
    content = b"Subject: big\r\n\r\n" + b"".join(line.encode() + b"\r\n" for line in lines)
    with connect(gateway, trusting(authority), "starttls") as client:
        client.message("a@example.com", ["b@example.net"], content)
        client.send(b"NOOP\r\n" * 20_000)
        for _ in range(20_000):
            client.expect(250)
    wait_until(lambda: gateway.hop.messages, 20, "the message")
    assert gateway.hop.messages[0].content.endswith(content)
