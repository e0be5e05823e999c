"""What an operator meets: a config that is wrong, signals, the log, versions, ports that are taken."""
import json
import os
import re
import signal
import socket
import subprocess
import time

import pytest

from lab.gateway import BINARY, REPORTS
from lab.machine import patience, wait_until

GOOD = """hostname = "relay.example.com"
data_dir = "{folder}/data"
listener "smtp" {{
    bind = {{"127.0.0.1:2525"}}
}}
route "*" {{
    to = "smtp://127.0.0.1:2526"
}}
"""

USERS = 'auth {\n    users = "/nonexistent/users"\n}\n'
CERTIFICATE = 'tls {\n    certificate = "/nonexistent/cert.pem"\n    private_key = "/nonexistent/key.pem"\n}\n'

# name: (what replaces what in GOOD, or is appended; the line that must be named; a word of the complaint)
WRONG = {
    "unknown option": (('hostname =', 'hostnam ='), 1, "hostnam"),
    "unknown section": (None, 9, "nosuch", 'nosuch "x" {\n}\n'),
    "unknown option in a section": (("    bind", "    binds"), 4, "binds"),
    "syntax": (("bind = {", "bind = = {"), 4, ""),
    "section not closed": (("    to = \"smtp://127.0.0.1:2526\"\n}", "    to = \"smtp://127.0.0.1:2526\"\n"), None, ""),
    "bad address": (("127.0.0.1:2525", "127.0.0.256:2525"), 4, "127.0.0.256"),
    "bad port": (("127.0.0.1:2525", "127.0.0.1:99999"), 4, "99999"),
    "not a number": (None, 9, "workers", "workers = many\n"),
    "out of range": (None, 9, "workers", "workers = 100000\n"),
    "bad size": (("    bind", '    max_message_size = "50X"\n    bind'), 4, "max_message_size"),
    "bad time": (None, 10, "max_age", 'retry {\n    max_age = "5 fortnights"\n}\n'),
    "bad network": (None, 10, "10.0.0.0/33", 'relay {\n    networks = {"10.0.0.0/33"}\n}\n'),
    "bad scheme": (("smtp://", "gopher://"), 7, "gopher"),
    "no such host": (("smtp://127.0.0.1", "smtp://no-such-host.invalid"), 7, "no-such-host.invalid"),
    "bad log format": (None, 10, "format", 'log {\n    format = "xml"\n}\n'),
    "bad log level": (None, 10, "level", 'log {\n    level = "loud"\n}\n'),
    "admin does not work yet": (None, 9, "admin", 'admin {\n    socket = "/run/sluice/admin.sock"\n}\n'),
    "tls without a certificate": (("    bind", '    tls = "starttls"\n    bind'), 4, "certificate"),
    "auth without users": (("    bind", '    auth = "required"\n    bind'), 4, "users"),
    "auth in the clear": (("    bind", '    auth = "required"\n    bind'), 4, "auth_without_tls", USERS),
    "submission without a login": (("    bind", '    submission = true\n    auth = "optional"\n    bind'), 5,
                                   "required", USERS),
    "proxies that nobody named": (("    bind", "    proxy_protocol = true\n    bind"), 4, "proxy_networks"),
    "proxies for nothing": (("    bind", '    proxy_networks = {"10.0.0.1/32"}\n    bind'), 4, "proxy_protocol"),
    "everybody a proxy": (("    bind", '    xclient = true\n    proxy_networks = {"0.0.0.0/0"}\n    bind'), 5,
                          "0.0.0.0/0"),
    "everybody may relay": (None, 10, "0.0.0.0/0", 'relay {\n    networks = {"0.0.0.0/0"}\n}\n'),
    "everybody may relay by IPv6": (None, 10, "[::]/0", 'relay {\n    networks = {"[::]/0"}\n}\n'),
    "fewer keys than certificates": (None, 11, "private_key",
                                     'tls {\n    certificate = {"/a", "/b"}\n    private_key = {"/c"}\n}\n'),
    "client certificates without a CA": (("    bind", '    client_certificate = "ask"\n    bind'), 4,
                                         "client_certificate"),
    "recipients of a domain of nobody": (None, 9, "example.org", 'recipients "example.org" {\n    file = "/x"\n}\n'),
    "relaying cannot be tried dry": (None, 10, "relay", 'admission {\n    dry_run = {"relay"}\n}\n'),
    "a rate of nothing": (None, 9, "planet", 'rate "planet" {\n    connections = 1\n}\n'),
    "a certificate that is not there": (None, 10, "/nonexistent/cert.pem", CERTIFICATE),
    "mx beside a host": (('"smtp://127.0.0.1:2526"', '{"smtp://127.0.0.1:2526", "mx"}'), 7, "mx"),
}


def run(*arguments):
    result = subprocess.run([BINARY, *arguments], text=True, capture_output=True, check=False, timeout=patience(20),
                            stdin=subprocess.DEVNULL)
    assert not REPORTS.search(result.stderr), result.stderr
    return result


def write(folder, text):
    path = os.path.join(folder, "test.conf")
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    return path


@pytest.mark.parametrize("name", WRONG)
def test_wrong_config_is_named_with_its_line(folder, name):
    change, line, word, *appended = WRONG[name]
    text = GOOD.format(folder=folder)
    if change:
        assert change[0] in text
        text = text.replace(*change)
    path = write(folder, text + "".join(appended))
    checked = run("-t", "-c", path)
    said = checked.stderr + checked.stdout
    assert checked.returncode == 1, f"-t: expected exit 1, got {checked.returncode}: {said}"
    where = rf"^{re.escape(path)}:{line if line else '[0-9]+'}: \S"
    assert re.search(where, said, re.MULTILINE), f"expected a line {where!r}, got {said!r}"
    assert word in said, f"expected {word!r} in {said!r}"
    started = run("-c", path)
    assert started.returncode == 78, f"start: expected exit 78, got {started.returncode}: {started.stderr}"
    assert f"{path}:" in started.stderr


def test_good_config(folder):
    path = write(folder, GOOD.format(folder=folder))
    checked = run("-t", "-c", path)
    assert checked.returncode == 0, checked.stderr
    assert not os.path.exists(f"{folder}/data"), "a check must leave nothing behind"


def test_missing_config(folder):
    path = f"{folder}/missing.conf"
    assert run("-t", "-c", path).returncode == 1
    started = run("-c", path)
    assert started.returncode == 78 and path in started.stderr


def test_usage():
    assert run("--no-such-flag").returncode == 64
    assert "-t" in run("--help").stdout


def test_version_names_the_libraries():
    version = run("--version").stdout
    assert re.match(r"sluice \d+\.\d+\.\d+", version)
    for library in ("liburing", "BoringSSL", "ldns", "libConfuse"):
        assert library.lower() in version.lower(), f"{library} is not in {version!r}"


def test_port_in_use(sluice, sink):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        gateway = sluice(sink(), start=False, ports=[port])
        gateway.launch()
        assert gateway.wait_exit() == 71
    assert f"127.0.0.1:{port}" in gateway.log_text() and "EADDRINUSE" in gateway.log_text().replace(
        "Address already in use", "EADDRINUSE"), "expected the address and the reason in the log"


def test_data_folder_that_cannot_be_made(sluice, sink):
    gateway = sluice(sink(), start=False, data_dir="/proc/nothing/here")
    gateway.launch()
    assert gateway.wait_exit() in (71, 74)
    assert "/proc/nothing/here" in gateway.log_text()


def test_term_drains(sluice, sink):
    """What is under way ends in good order: the open transaction is finished, new clients are not taken."""
    hop = sink()
    gateway = sluice(hop)
    with gateway.client() as client:
        client.hello().envelope("a@example.com", ["b@example.net"])
        client.send(b"Subject: half")
        gateway.signal(signal.SIGTERM)
        gateway.wait_event("drain")
        client.send(b" and half\r\n.\r\n")
        client.expect(250)
        assert gateway.wait_exit() == 0
    assert gateway.events("stop")
    if not hop.messages:
        gateway.start()
        wait_until(lambda: hop.messages, 10, "the message, after a restart")


def test_second_term_ends_at_once(sluice, sink):
    hop = sink("end: silence")
    gateway = sluice(hop)
    with gateway.client() as client:
        client.hello().message("a@example.com", ["b@example.net"], b"Subject: x\r\n\r\n")
        wait_until(lambda: hop.received, 10, "the delivery that never ends")
        client.envelope("a@example.com", ["b@example.net"])
        gateway.signal(signal.SIGTERM)
        gateway.wait_event("drain")
        time.sleep(0.2)
        assert gateway.is_running(), "the first SIGTERM should have waited for the open transaction"
        started = time.monotonic()
        gateway.signal(signal.SIGTERM)
        gateway.wait_exit()
        assert time.monotonic() - started < patience(1)


def test_term_of_an_idle_gateway_is_quick(sluice, sink):
    gateway = sluice(sink())
    clients = [gateway.client().hello() for _ in range(5)]
    started = time.monotonic()
    gateway.stop()
    assert time.monotonic() - started < patience(3)
    for client in clients:
        client.close()


def relay_code(gateway, domain):
    """What a stranger reads who wants to send to a domain."""
    with gateway.client(source="127.0.0.2") as client:
        client.hello().command("MAIL FROM:<a@example.com>", 250)
        client.send(f"RCPT TO:<b@{domain}>\r\n".encode())
        return client.reply()[0]


def test_reload(sluice, sink):
    gateway = sluice(sink(), relay={"networks": ["127.0.0.1/32"], "domains": ["one.example"]})
    assert (relay_code(gateway, "one.example"), relay_code(gateway, "two.example")) == (250, 550)
    with gateway.client() as kept:
        kept.hello()
        gateway.settings["relay"]["domains"] = ["two.example"]
        gateway.write_config()
        gateway.signal(signal.SIGHUP)
        gateway.wait_event("reload")
        wait_until(lambda: relay_code(gateway, "two.example") == 250, 5, "the new config to be in force")
        assert relay_code(gateway, "one.example") == 550
        kept.message("a@example.com", ["b@example.net"], b"Subject: x\r\n\r\n")


@pytest.mark.parametrize("change", ["broken", "workers", "port"])
def test_bad_reload_is_refused(sluice, sink, change):
    gateway = sluice(sink(), relay={"networks": ["127.0.0.1/32"], "domains": ["one.example"]})
    gateway.settings["relay"]["domains"] = ["two.example"]
    text = gateway.config_text()
    text = {"broken": text + "nonsense = 1\n", "workers": text.replace("workers = 2", "workers = 3"),
            "port": text.replace(f":{gateway.port}\"", ":2\"")}[change]
    gateway.config_path.write_text(text, encoding="utf-8")
    gateway.signal(signal.SIGHUP)
    event, = gateway.wait_event("reload")
    assert str(gateway.config_path) in json.dumps(event), f"expected the file and line in {event}"
    time.sleep(0.2)
    assert (relay_code(gateway, "one.example"), relay_code(gateway, "two.example")) == (250, 550)


def test_reload_changes_routes(sluice, sink):
    old, new = sink(), sink()
    gateway = sluice(old)
    with gateway.client() as client:
        client.hello().message("a@example.com", ["b@example.net"], b"Subject: old\r\n\r\n")
        wait_until(lambda: old.messages, 10, "the first message")
        gateway.routes = {"*": f"smtp://127.0.0.1:{new.port}"}
        gateway.write_config()
        gateway.signal(signal.SIGHUP)
        gateway.wait_event("reload")
        time.sleep(0.3)
        client.message("a@example.com", ["b@example.net"], b"Subject: new\r\n\r\n")
    wait_until(lambda: new.messages, 10, "the second message at the new next hop")
    assert len(old.messages) == 1


def test_reload_under_load(sluice, sink, smtp_source):
    hop = sink(keep=False)
    gateway = sluice(hop)
    for index in range(20):
        smtp_source(gateway, "-s", "10", "-l", "1024", "-m", "100", "-d")
        gateway.settings["listener"] = {"max_recipients": 100 + index}
        gateway.write_config()
        gateway.signal(signal.SIGHUP)
        gateway.wait_event("reload", count=index + 1) # signals that come while one is obeyed are one
    wait_until(lambda: len(hop.messages) >= 2000, 30, lambda: f"2000 messages, got {len(hop.messages)}")
    assert len(hop.messages) == 2000


COUNTED = {"connections_accepted": 2, "messages_accepted": 3, "recipients_accepted": 6, "recipients_refused": 1,
           "recipients_delivered": 6, "messages_waiting": 0, "connections_open": 0, "log_lines_dropped": 0}


def test_stats(sluice, sink):
    gateway = sluice(sink(), relay={"networks": ["127.0.0.1/32"], "domains": []})
    assert relay_code(gateway, "example.net") == 550
    with gateway.client() as client:
        client.hello()
        for _ in range(3):
            client.message("a@example.com", ["b@example.net", "c@example.net"], b"Subject: x\r\n\r\n")
        client.quit()
    gateway.wait_event("deliver", count=6)
    wait_until(lambda: gateway.stats()["connections_open"] == 0 and gateway.stats()["messages_waiting"] == 0, 5,
               lambda: f"the counters to settle, got {gateway.stats()}")
    stats = gateway.stats()
    got = {name: stats.get(name) for name in COUNTED}
    # wait_listening() looks in as well.
    assert {**got, "connections_accepted": 2} == COUNTED, stats
    assert 0 < stats["log_writes"] and stats["log_write_bytes"] % 4096 == 0


EVIL = ['"quoted\\" string"@example.net', "a=b@example.net", "x'y@example.net", "{json}@example.net"]


@pytest.mark.parametrize("form", ["json", "text"])
def test_log_lines_are_whole(sluice, sink, form):
    """Whatever a client says, a line of the log is one event with fields that can be read back."""
    gateway = sluice(sink(), start=False, log={"format": form, "level": "debug"})
    gateway.launch()
    wait_until(lambda: "listen" in gateway.log_text(), 10, "the listen event")
    time.sleep(0.2)
    with gateway.client() as client:
        client.hello("evil=name")
        client.message('"forged\\" event=accept"@example.com', EVIL, b"Subject: x\r\n\r\n")
        client.send(b"MAIL FROM:<\xff\xfe\x01@example.com>\r\n")
        client.reply()
    wait_until(lambda: gateway.log_text().count("deliver") >= len(EVIL), 10, "the deliver events")
    for line in gateway.log_text().splitlines():
        if form == "json":
            event = json.loads(line)
            assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", event["time"]), event
        else:
            assert re.fullmatch(r'\S+Z [a-z-]+( [a-z0-9_]+=("(\\.|[^"\\])*"|[^\s"]*))*', line), line
    if form == "json":
        accept, = gateway.events("accept")
        assert accept["from"] == '"forged\\" event=accept"@example.com'
        assert sorted(e["to"] for e in gateway.events("deliver")) == sorted(EVIL)
        for name in ("id", "from", "size", "client"):
            assert name in accept, f"{name} is missing in {accept}"
        for name in ("id", "to", "site", "host", "reply", "attempt", "delay_ms"):
            assert name in gateway.events("deliver")[0], f"{name} is missing in {gateway.events('deliver')[0]}"


def test_log_file_is_opened_again(sluice, sink, folder):
    path = os.path.join(folder, "sluice.log")
    gateway = sluice(sink(), start=False, log={"destination": path})
    gateway.launch()
    wait_until(lambda: os.path.exists(path) and "listen" in open(path, encoding="utf-8").read(), 10, "the log file")
    os.rename(path, path + ".1")
    gateway.signal(signal.SIGHUP)
    wait_until(lambda: os.path.exists(path), 5, "a new log file after SIGHUP")
