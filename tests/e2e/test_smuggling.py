"""What a client may say that two readers could read in two ways. Each row of conversations/splitting.py, and each address below,
is played in one packet, octet by octet, and cut before and behind each octet that matters."""
import os
import re
import shutil
import ssl
import subprocess
import threading
import time
import uuid

import pytest
from conftest import sluice_maker
from conversations.splitting import DATA, ENDINGS, ENVELOPE, HEAD, ID, INNER, MAIL, ROWS, SMALL, Row, bdat
from lab.certificates import trusting
from lab.client import Client, Closed
from lab.content import trace
from lab.machine import disk_folder, free_port, patience, tool, wait_until
from lab.peers import SERVICES, Postfix, make_folder
from lab.sink import Sink

EXTENSIONS = ("PIPELINING", "SIZE", "8BITMIME", "SMTPUTF8", "DSN", "CHUNKING", "BINARYMIME")


# -- Playing ------------------------------------------------------------------------------------------------------

@pytest.fixture(scope="module", name="hop")
def shared_hop():
    """One next hop for all rows; each finds its messages by its own word."""
    sink = Sink(extensions=EXTENSIONS)
    yield sink
    sink.stop()


@pytest.fixture(scope="module", name="gateway_of_all")
def shared_gateway(hop, authority, users, request):
    folder = disk_folder()
    make, finish = sluice_maker(request.node, folder)
    yield make(hop, relay={"networks": ["127.0.0.1/32"]}, listener={"max_message_size": "1M"},
               tls={"certificate": authority.server.path, "private_key": authority.server.key},
               auth={"users": users, "failure_delay": "0s", "failures_per_minute": 0},
               listeners={"normalise": {"bare_newlines": "normalise"}, "starttls": {"tls": "starttls"},
                          "tls": {"tls": "implicit", "max_message_size": "1M"},
                          "login": {"auth": "required", "auth_without_tls": True}})
    finish()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(name="gateway")
def gateway_with_log(gateway_of_all, request):
    """The same, and its log is shown when this test fails."""
    request.node.gateways = [gateway_of_all]
    return gateway_of_all


def whole(said):
    return [said]


def octets(said):
    return [said[i:i + 1] for i in range(len(said))] if len(said) < 5000 else [said[i:i + 997] for i in range(0, len(said), 997)]


def before(said):
    return [piece for piece in re.split(rb"(?=[\r\n\0.])", said) if piece]


def behind(said):
    return [piece for piece in re.split(rb"(?<=[\r\n\0.])", said) if piece]


EXPECTED = {}  # word of a play: how many messages came of it
CUTS = (whole, octets, before, behind)
PAUSE = 0.0003  # Between pieces that the server should see as such.


def say(client, pieces, pause):
    for piece in pieces:
        try:
            client.send(piece)
        except (BrokenPipeError, ConnectionResetError, ssl.SSLError):
            return  # The server had enough; what it said before is still read.
        if pause and len(pieces) < 500:
            time.sleep(pause)


def read_to_end(client):
    """The last lines of all replies until the server closes."""
    lines = []
    try:
        while True:
            lines.append(client.reply()[1][-1])
    except Closed:
        return lines


def as_text(line, expected):
    """A reply in the form in which it was expected: CODE or CODE/STATUS."""
    words = line.decode("latin-1").split(" ")
    return "/".join(words[:2]) if "/" in expected else words[0]


def play(gateway, row, cut, context=None):
    """Says it all, through TLS if there is a context for it; returns the word that stood for ID."""
    word_of_play = "m" + uuid.uuid4().hex[:12]
    EXPECTED[word_of_play] = len(row.arrived)
    expected = row.replies.split()
    said = row.said if expected[-1] == "closed" else row.said + "QUIT\r\n"
    expected = expected[:-1] if expected[-1] == "closed" else [*expected, "221"]
    with gateway.client("tls" if context else row.listener, source=row.source) as client:
        if context:
            client.socket = context.wrap_socket(client.socket, server_hostname="relay.example.com")
        client.hello()
        say(client, cut(said.replace(ID, word_of_play).encode("latin-1")), PAUSE * (cut in (before, behind)))
        lines = read_to_end(client)
    got = [as_text(line, expected[i] if i < len(expected) else "") for i, line in enumerate(lines)]
    assert got == expected, f"cut {cut.__name__}: expected {expected}, got {lines}\n{client.conversation()}"
    return word_of_play


def arrived(hop, mark):
    return [message for message in list(hop.messages) if mark in " ".join(message.lines)]


def wait_arrived(hop, mark, count):
    """The messages of a play. Whether more come is seen at the end, by those that were expected."""
    EXPECTED[mark] = count
    wait_until(lambda: len(arrived(hop, mark)) >= count, 10, lambda: f"{count} messages, got {arrived(hop, mark)}")
    return arrived(hop, mark)


def check_arrived(hop_messages, row, mark):
    contents = [content.replace(ID, mark).encode("latin-1") for content in row.arrived]
    got = []
    for message in hop_messages:
        fields, rest = trace(message.content)
        assert len(fields) == 1, f"expected one trace field: {message.content[:500]!r}"
        got.append(rest)
        assert message.is_chunked or not re.search(rb"(?<!\r)\n|\r(?!\n)|\0|\r\n\.\r\n", message.wire), \
            f"the next hop could read this in two ways: {message.wire[:500]!r}"
    assert sorted(got) == sorted(contents), f"expected {contents!r:.500} at the next hop, got {got!r:.500}"


@pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])
def test_row(gateway, hop, row):
    marks = [play(gateway, row, cut) for cut in CUTS]
    for mark in marks:
        check_arrived(wait_arrived(hop, mark, len(row.arrived)), row, mark)


PLAIN_ROWS = [row for row in ROWS if row.listener == "smtp" and not row.source and "STARTTLS" not in row.said]


@pytest.mark.parametrize("cut", [whole, octets], ids=["records", "octets"])
def test_rows_through_tls(gateway, hop, authority, cut):
    """The same where each piece is a TLS record, perhaps of one octet."""
    context = trusting(authority)
    for row in PLAIN_ROWS:
        mark = play(gateway, row, cut, context)
        check_arrived(wait_arrived(hop, mark, len(row.arrived)), row, mark)


def test_a_hundred_thousand_chunks_of_one_octet(gateway, hop):
    count = 100_000
    content = "".join(chr(ord("a") + i % 26) if i % 70 else "\n" if i % 140 else "\r\n" for i in range(count))
    content = re.sub("\r?\n", "\r\n", content)[:count - 2] + "\r\n"
    mark = "m" + uuid.uuid4().hex[:12]
    said = ENVELOPE.replace(ID, mark) + "".join(bdat(one, False) for one in content[:-1]) + bdat(content[-1]) + "QUIT\r\n"
    with gateway.client(timeout=60) as client:
        client.hello()
        sender = threading.Thread(target=say, args=(client, [said.encode("latin-1")], 0))
        sender.start()
        lines = read_to_end(client)
        sender.join()
    assert [line[:3] for line in lines] == [b"250"] * (2 + len(content)) + [b"221"]
    message, = wait_arrived(hop, mark, 1)
    assert trace(message.content)[1] == content.encode("latin-1")


# -- Addresses and parameters ------------------------------------------------------------------------------------

LABELS = ".".join(["d" * 63] * 3)  # 191 octets
UTF8 = "\u00fc".encode().decode("latin-1")
XTEXT = "501/5.5.4"

# (what follows MAIL FROM: or RCPT TO:, the reply, what the next hop reads behind the colon; None: the same as was said)
SENDERS = [
    ("<>", "250", None),
    ("<a@example.com>", "250", None),
    ("  <a@example.com>  ", "250", "<a@example.com>"),
    ("<@one.example,@two.example:a@example.com>", "250", "<a@example.com>"),
    ('<"a b"@example.com>', "250", None),
    ('<"a@b>"@example.com>', "250", None),
    ('<"a\\"b\\\\"@example.com>', "250", None),
    ("<a@[192.0.2.1]>", "250", None),
    ("<a@[IPv6:2001:db8::1]>", "250", None),
    ("<a@[192.0.2.256]>", "501/5.1.7", None),
    ("<a@[2001:db8::1]>", "501/5.1.7", None),
    ("<a@[IPv6:2001:db8:::1]>", "501/5.1.7", None),
    ('<"a@example.com>', "501/5.1.7", None),
    ("<a.@example.com>", "501/5.1.7", None),
    ("<a..b@example.com>", "501/5.1.7", None),
    ("<a@example..com>", "501/5.1.7", None),
    ("<a@-example.com>", "501/5.1.7", None),
    ("<a@example.com", "501/5.1.7", None),
    ("<a@example.com>SIZE=1", "501/5.5.4", None),
    ("<<a@example.com>>", "501/5.1.7", None),
    ("<a@example.com> <b@example.com>", "501/5.5.4", None),
    (f"<{'a' * 63}@example.com>", "250", None),
    (f"<{'a' * 64}@example.com>", "250", None),
    (f"<{'a' * 65}@example.com>", "501/5.1.7", None),
    (f'<"{"a" * 62}"@example.com>', "250", None),
    (f'<"{"a" * 63}"@example.com>', "501/5.1.7", None),
    (f"<a@{'d' * 63}.com>", "250", None),
    (f"<a@{'d' * 64}.com>", "501/5.1.7", None),
    (f"<a@{LABELS}.{'d' * 60}>", "250", None),  # a path of 256
    (f"<a@{LABELS}.{'d' * 61}>", "501/5.1.7", None),
    (f"<a@{LABELS}.{'d' * 63}>", "501/5.1.7", None),  # a domain of 255, too long as a path
    (f"<a@{LABELS}.{'d' * 63}.d>", "501/5.1.7", None),
    (f"<{UTF8}@example.com>", "553/5.6.7", None),
    (f"<{UTF8}@example.com> SMTPUTF8", "250", None),
    (f"<a@b{UTF8}.example> SMTPUTF8", "250", None),
    ("<\xfc@example.com> SMTPUTF8", "501/5.1.7", None),
    ("<\xc0\xaf@example.com> SMTPUTF8", "501/5.1.7", None),
    ("<a@example.com> SMTPUTF8=1", XTEXT, None),
    ("<a@example.com> SMTPUTF8 SMTPUTF8", XTEXT, None),
    ("<a@example.com> RET=HDRS ENVID=a+2Bb", "250", None),
    ("<a@example.com> ENVID=" + "+41" * 100, "250", None),
    ("<a@example.com> ENVID=" + "+41" * 101, XTEXT, None),
    *((f"<a@example.com> ENVID={text}", XTEXT, None) for text in (
        "a+0D+0ARCPT", "a+0d+0a", "+00", "+0A", "+1B", "+7F", "+", "+4", "+4g", "a=b", "a+2b", UTF8, "")),
    ("<a@example.com> ENVID=a ENVID=b", XTEXT, None),
    ("<a@example.com> RET=SOME", XTEXT, None),
    ("<a@example.com> NOTIFY=NEVER", "555/5.5.4", None),
    ("<a@example.com> AUTH=<>", "555/5.5.4", None),
    ("<a@example.com> =", XTEXT, None),
    ("<a@example.com> SIZE=", XTEXT, None),
    ("<a@example.com> SIZE=-1", XTEXT, None),
    ("<a@example.com> BODY=", XTEXT, None),
]
RECIPIENTS = [
    ("<>", "501/5.1.3", None),
    ("<Postmaster>", "250", None),
    ("<someone>", "501/5.1.3", None),
    ("<@one.example,@two.example:a@example.net>", "250", "<a@example.net>"),
    ("<@one.example:@two.example:a@example.net>", "501/5.1.3", None),
    ("<@one.example:>", "501/5.1.3", None),
    ('<"a b"@example.net>', "250", None),
    ('<"<a>"@example.net>', "250", None),
    ("<a%b@example.net>", "250", None),
    ("<a!b@example.net>", "250", None),
    ("<A.B@EXAMPLE.net>", "250", None),
    ("<a@[127.0.0.1]>", "250", None),
    ("<a@[127.0.0.1>", "501/5.1.3", None),
    (f"<{'a' * 64}@example.net>", "250", None),
    (f"<{'a' * 65}@example.net>", "501/5.1.3", None),
    (f"<{UTF8}@example.net>", "553/5.6.7", None),
    (f"<a@b{UTF8}.example>", "553/5.6.7", None),
    ("<a@example.net> NOTIFY=SUCCESS,DELAY", "250", None),
    ("<a@example.net> NOTIFY=NEVER,FAILURE", XTEXT, None),
    ("<a@example.net> NOTIFY=", XTEXT, None),
    ("<a@example.net> ORCPT=rfc822;a+2Bb@example.net", "250", None),
    *((f"<a@example.net> ORCPT={text}", XTEXT, None) for text in (
        "rfc822;a+0D+0Ab", "rfc822;+00", "rfc822;+0a", "rfc822;", "a@example.net", ";a", "rfc+0A822;a", "utf-8;\\x{0D}",
        "utf-8;\\x{0}", "utf-8;+0D", "rfc822;" + "a" * 494)),
    ("<a@example.net> ORCPT=rfc822;" + "a" * 493, "250", None),
    ("<a@example.net> RET=FULL", "555/5.5.4", None),
    ("<a@example.net> SIZE=1", "555/5.5.4", None),
]


def split_path(text):
    """A path, and the set of the parameters behind it."""
    path, _, parameters = text.rpartition(">")
    return path + ">", set(parameters.split())


def said_of(rows, template):
    """Rows of the table of addresses as one of the great table, in one session each."""
    return [pytest.param(text, reply, text.strip() if read is None else read, template, id=f"{template.split()[0]} {text[:60]}")
            for text, reply, read in rows]


@pytest.mark.parametrize("text, reply, read, template", [
    *said_of(SENDERS, "MAIL FROM:{}\r\nRCPT TO:<" + ID + "@example.net>\r\n"),
    *said_of(RECIPIENTS, MAIL + "RCPT TO:{}\r\n")])
def test_address(gateway, hop, text, reply, read, template):
    """What is accepted goes on as it came, and with nothing behind it that was not said."""
    is_sender = template.startswith("MAIL FROM:{}")
    replies = [reply, "250" if reply == "250" else "503"] if is_sender else ["250", reply]
    taken = reply == "250"
    content = f"DATA\r\n{SMALL}.\r\n"
    row = Row(text, template.format(text) + (content if taken else ""), " ".join(replies + ["354", "250"] * taken),
              (SMALL,) * taken)
    for cut in (whole, octets):
        mark = play(gateway, row, cut)
        messages = wait_arrived(hop, mark, int(taken))
        check_arrived(messages, row, mark)
        for message in messages:
            line = message.lines[0 if is_sender else 1]
            got, expected = split_path(line.partition(":")[2]), split_path(read)
            assert got[0] == expected[0] and expected[1] <= got[1], f"expected {read!r} at the next hop, got {line!r}"
            assert {word.partition("=")[0] for word in got[1] - expected[1]} <= {"SIZE", "BODY"}, line


# -- STARTTLS -----------------------------------------------------------------------------------------------------

INJECTED = [INNER + "x\r\n.\r\n", "\r\n", "NOOP\r\n", "\0", "\x16\x03\x01", "EHLO a\r\n" + INNER]


@pytest.mark.parametrize("injected", INJECTED, ids=[repr(text[:20]) for text in INJECTED])
@pytest.mark.parametrize("cut", CUTS, ids=[cut.__name__ for cut in CUTS])
def test_what_comes_with_starttls_is_never_a_command(gateway, hop, injected, cut):
    """In one packet it is answered 554; in another it is a broken handshake. Either way it is the end."""
    mark = "m" + uuid.uuid4().hex[:12]
    with gateway.client("starttls") as client:
        client.hello()
        say(client, cut(b"STARTTLS\r\n" + injected.replace(ID, mark).encode("latin-1")), PAUSE)
        client.socket.shutdown(1)
        line = client.line()
        rest = b""
        try:
            while data := client.socket.recv(4096):
                rest += data
        except ConnectionResetError:
            pass
    if cut is whole:
        assert line.startswith(b"554 5.5.0") and not rest, (line, rest)
    assert line.startswith((b"554 5.5.0", b"220 2.0.0"))
    alert = rb"\x15\x03[\x01\x03]\x00\x02\x02."
    rest = client.buffer + rest
    assert re.fullmatch(rb"(%s)?" % alert, rest, re.DOTALL), f"something was answered in the clear: {rest!r}"
    wait_arrived(hop, mark, 0)


def test_nothing_said_before_starttls_counts(gateway, authority):
    """The handshake takes back EHLO; and a handshake that is begun by force does not run commands of before."""
    with gateway.client("starttls") as client:
        client.hello()
        client.command("MAIL FROM:<a@example.com>", 250)
        client.command("STARTTLS", 503)
        client.command("RSET", 250)
        client.command("STARTTLS", 220)
        client.socket = trusting(authority).wrap_socket(client.socket, server_hostname="relay.example.com")
        client.command("MAIL FROM:<a@example.com>", 503)
        client.send(b"EHLO b\r\n")
        lines = client.reply()[1]
        assert not any(b"STARTTLS" in line for line in lines), lines
        client.command("STARTTLS", 503)
        client.command("MAIL FROM:<a@example.com>", 250)


def test_a_client_hello_with_starttls_is_refused(gateway, authority):
    """A client that does not wait for the 220 cannot know who answered."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = trusting(authority).wrap_bio(incoming, outgoing, server_hostname="relay.example.com")
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    with gateway.client("starttls") as client:
        client.hello()
        client.send(b"STARTTLS\r\n" + outgoing.read())
        assert client.expect(554).startswith(b"554 5.5.0")
        client.assert_closed()


# -- A second reader ----------------------------------------------------------------------------------------------

class PostfixServer:
    """A Postfix that takes everything and holds it: `messages` are what it made of what it was told."""

    def __init__(self, folder):
        self.home = make_folder(folder / "postfix")
        config, self.queue, data = (make_folder(self.home / name) for name in ("config", "queue", "data"))
        shutil.chown(data, "postfix", "postfix")
        Postfix.make_queue(self.queue)
        self.host, self.port = "127.0.0.1", free_port()
        (config / "main.cf").write_text(f"""
compatibility_level = 3.6
queue_directory = {self.queue}
data_directory = {data}
maillog_file = {self.home}/log
maillog_file_prefixes = /
myhostname = postfix.example
mynetworks = 127.0.0.0/8
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mydestination =
alias_maps =
alias_database =
smtpd_client_restrictions = static:HOLD
smtpd_recipient_restrictions = permit_mynetworks, reject
strict_rfc821_envelopes = no
smtputf8_enable = no
""", encoding="utf-8")
        service = f"127.0.0.1:{self.port} inet n - n - - smtpd\nanvil unix - - n - 1 anvil\nproxymap unix - - n - - proxymap\n"
        (config / "master.cf").write_text(service + SERVICES.lstrip(), encoding="ascii")
        self.config = config
        daemons = subprocess.run([tool("postconf"), "-c", str(config), "-h", "daemon_directory"], check=True, text=True,
                                 capture_output=True).stdout.strip()
        # pylint: disable-next=consider-using-with
        self.master = subprocess.Popen([f"{daemons}/master", "-c", str(config), "-d"], stdin=subprocess.DEVNULL,
                                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)

    def stop(self):
        self.master.terminate()
        self.master.wait(patience(20))

    def is_up(self):
        try:
            with Client(self.host, self.port) as client:
                return client.reply()[0] == 220
        except (OSError, Closed):
            return False

    def messages(self, mark):
        """The text of each message that it holds."""
        paths = [path for path in (self.queue / "hold").rglob("*") if path.is_file()]
        texts = [subprocess.run([tool("postcat"), "-c", str(self.config), str(path)], check=True, capture_output=True).stdout
                 for path in paths]
        return [text for text in texts if mark.encode() in text]


@pytest.fixture(name="postfix")
def postfix_server(open_folder):
    server = PostfixServer(open_folder)
    try:
        wait_until(server.is_up, 20, "Postfix to listen")
        yield server
    finally:
        server.stop()


def outer(ending, mark):
    return (DATA + HEAD + f"{mark} outer" + ending + INNER + ".\r\n").replace(ID, mark).encode("latin-1")


@pytest.mark.skipif(os.geteuid() != 0, reason="Postfix changes to users of its own: needs root")
def test_postfix_behind_it_sees_the_same_messages(sluice, postfix):
    """Debian's Postfix takes LF.CRLF for an end. Behind the gateway it sees each message that was accepted, and no other."""
    with Client(postfix.host, postfix.port) as client:
        client.hello()
        say(client, [outer("\n.\r\n", "control") + b"QUIT\r\n"], 0)
        read_to_end(client)
    wait_until(lambda: len(postfix.messages("control")) >= 2, 10, "the control: Postfix to be fooled when it is asked directly")
    gateway = sluice(postfix, listeners={"normalise": {"bare_newlines": "normalise"}})
    accepted = 0
    for listener in ("smtp", "normalise"):
        for ending, _ in ENDINGS.values():
            with gateway.client(listener) as client:
                client.hello()
                say(client, [outer(ending, "behind") + b"QUIT\r\n"], 0)
                accepted += sum(b"queued as" in line for line in read_to_end(client))
    assert accepted > len(ENDINGS)
    wait_until(lambda: len(gateway.events("deliver")) >= accepted, 20, lambda: f"{accepted} deliveries")
    gateway.wait_empty()
    held = postfix.messages("behind")
    assert len(held) == accepted
    assert all(text.count(b"\nsender: behind@example.com\n") == 1 for text in held)


# -- The end ------------------------------------------------------------------------------------------------------

def test_the_next_hop_got_nothing_else(gateway, hop):
    """No part of any content above became a message of its own, and nothing came twice."""
    gateway.wait_empty()
    for mark, count in EXPECTED.items():
        assert len(arrived(hop, mark)) == count, f"expected {count} messages: {arrived(hop, mark)}"
    assert len(hop.messages) == sum(EXPECTED.values()), "a message came that nobody sent"
