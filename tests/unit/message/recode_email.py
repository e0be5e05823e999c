"""Reads converted messages with Python's email package: each has the parts, fields and octets that it had before, all
of them below 128, in lines of at most 998 octets.

    recode_email.py PROGRAM
"""
import email
import email.policy
import random
import re
import struct
import subprocess
import sys

NOTHING, POSSIBLE, IN_HEADER, IN_SEALED, IN_STRANGE, UNSURE, BEYOND = range(7)
MIME = b"Subject: x\r\nMIME-Version: 1.0\r\n"
REWRITTEN = {"content-transfer-encoding", "mime-version", "content-type"}
ENCODED = {"quoted-printable", "base64"}


def field(name, value):
    return f"{name}: {value}\r\n".encode()


def part(kind, body, encoding=None, **parameters):
    """An entity: header, blank line, body. The body's last line end belongs to the boundary behind it."""
    head = field("Content-Type", kind + "".join(f'; {name}="{value}"' for name, value in parameters.items()))
    if encoding is not None:
        head += field("Content-Transfer-Encoding", encoding)
    return head + b"\r\n" + body


def multipart(boundary, *parts, subtype="mixed", encoding="8bit", preamble=b"", epilogue=b"", closed=True):
    delimiter = b"--" + boundary.encode()
    body = preamble + b"".join(delimiter + b"\r\n" + each + b"\r\n" for each in parts)
    if closed:
        body += delimiter + b"--\r\n" + epilogue
    return part("multipart/" + subtype, body, encoding, boundary=boundary)


HIGH = "für Jörg — 8 Bit\r\n".encode()
BINARY = bytes(octet for octet in range(256) if octet not in b"\r\n") * 3
TEXT = part("text/plain", HIGH, "8bit", charset="utf-8")
LINES = [
    b"\xe4" * 998 + b"\r\n", b" \xe4 \t \r\n", b"\xe4\r\n", b"trailing blanks \t  \r\n", b"\t\r\n", b"\r\n",
    b"= = =\r\n", b".one dot\r\n", b"...\r\n", b".\r\n", b"-- \r\n", b"--\r\n", b"outer--\r\n", b"From here\r\n",
    b"a" * 74 + b".b\r\n", b"a" * 75 + b".b\r\n", b"a" * 75 + b"-b\r\n", b"a" * 76 + b"\r\n", b"a" * 77 + b"\r\n",
    b"a" * 73 + b"\xe4\r\n", b"a" * 75 + b" \r\n", b"a" * 76 + b" \r\n", b"a" * 74 + b"\t\r\n", b"\0\x7f\x1b\r\n",
    b"a" * 5000 + b"\r\n", b"=\r\n", b"a" * 75 + b"=\r\n", b"a" * 75 + b"--outer\r\n",
    b"\xe4" * 1023 + b".x\r\n", b"a" * 72 + b"\xe4\xe4--outer--\r\n",
]
ALL_LINES = b"".join(LINES) + HIGH

CONVERTED = {
    "a text": MIME + TEXT,
    "every kind of line": MIME + part("text/plain", ALL_LINES, "8bit"),
    "no encoding named": MIME + part("text/html", HIGH),
    "called 7bit": MIME + part("text/plain", HIGH, "7bit"),
    "called binary, in capitals": MIME + part("TEXT/PLAIN", HIGH, "BINARY"),
    "no MIME at all": b"Subject: x\r\n\r\n" + HIGH,
    "no MIME and no header": b"\r\n" + HIGH,
    "MIME without a type": MIME + b"\r\n" + HIGH,
    "a type without MIME": b"Subject: x\r\n" + TEXT,
    "only an encoding": b"Content-Transfer-Encoding: 8bit\r\n\r\n" + HIGH,
    "encoding before type": MIME + b"Content-Transfer-Encoding: 8bit\r\nContent-Type: image/x\r\n\r\n" + BINARY
                            + b"\r\n",
    "folded fields": MIME + b"Content-Type:\r\n text/plain;\r\n\tcharset=utf-8\r\n"
                     b"Content-Transfer-Encoding:\r\n 8bit \r\n\r\n" + HIGH,
    "long fields": b"To: " + b"a@example.com,\r\n " * 1000 + b"b@example.com\r\n" + MIME + TEXT,
    "not text": MIME + part("application/octet-stream", BINARY + b"\r\n", "8bit"),
    "not text, all lines": MIME + part("application/octet-stream", ALL_LINES, "binary"),
    "two parts": MIME + multipart("outer", TEXT, part("image/png", BINARY, "8bit")),
    "no final newline in parts": MIME + multipart("outer", part("text/plain", b"\xe4"), part("image/png", b"\xe4")),
    "a final newline in parts": MIME + multipart(
        "outer", part("text/plain", b"\xe4\r\n"), part("image/png", b"\xe4\r\n\r\n")),
    "empty parts": MIME + multipart("outer", b"\r\n", b"", TEXT, part("image/png", b""), part("text/plain", b"\r\n")),
    "a part without a header": MIME + multipart("outer", b"\r\n" + HIGH),
    "base64 beside": MIME + multipart("outer", part("image/png", b"4pyT4pyT\r\n", "base64"), TEXT,
                                      part("text/plain", b"f=C3=BCr\r\n", "quoted-printable")),
    "uuencode beside": MIME + multipart("outer", part("image/png", b"begin 644 x\r\nend\r\n", "x-uuencode"), TEXT),
    "a line too long beside": MIME + multipart("outer", part("text/plain", b"a" * 999 + b"\r\n", "8bit"), TEXT),
    "all lines in a part": MIME + multipart("outer", part("text/plain", ALL_LINES), part("audio/x", ALL_LINES)),
    "7-bit parts beside": MIME + multipart("outer", part("text/plain", b"plain\r\n"), TEXT,
                                           part("text/plain", b"called 8bit\r\n", "8bit")),
    "three deep": MIME + multipart("outer", multipart("middle", multipart("inner", TEXT, TEXT), TEXT), TEXT),
    "preamble and epilogue": MIME + multipart("outer", TEXT, preamble=b"Hi.\r\n--no\r\n", epilogue=b"The\r\nend.\r\n"),
    "never closed": MIME + multipart("outer", TEXT, part("image/png", b"\xe4"), closed=False),
    "closed by the outer one": MIME + multipart("outer", multipart("inner", TEXT, closed=False), TEXT),
    "blanks behind a boundary": MIME + multipart("outer", TEXT).replace(b"--outer\r\n", b"--outer \t\r\n"),
    "odd boundary": MIME + multipart("a'()+_,-./:=? b", TEXT),
    "boundary like an encoded line": MIME + multipart("----=E4", part("text/plain", b"------\xe4\r\nx\r\n")),
    "boundary bare": MIME + multipart("----=_Part_1", TEXT).replace(b'"----=_Part_1"', b"----=_Part_1; type=x ;"),
    "boundary in the text": MIME + multipart("outer", part("text/plain", b"x--outer\r\n --outer\r\nouter\r\n" + HIGH)),
    "a message in a part": MIME + multipart("outer", part("message/rfc822", MIME + TEXT, "8bit"), TEXT),
    "a message without MIME in a part": MIME + multipart("outer", part("message/rfc822", b"Subject: y\r\n\r\n" + HIGH)),
    "a message with MIME in one without": b"Subject: x\r\n" + multipart(
        "outer", part("message/rfc822", MIME + b"\r\n7 bit\r\n"), TEXT),
    "a message in a message": MIME + part("message/rfc822", MIME + part("message/rfc822", MIME + TEXT), "8bit"),
    "multiparts in messages": MIME + multipart(
        "outer", part("message/rfc822", MIME + multipart("inner", TEXT, TEXT)), TEXT),
    "a digest": MIME + multipart("outer", b"\r\n" + MIME + TEXT, b"\r\nSubject: y\r\n\r\n" + HIGH, subtype="digest"),
    "a report": MIME + multipart(
        "outer", TEXT, part("message/delivery-status", b"Reporting-MTA: dns; x\r\n\r\nAction: failed"),
        part("message/rfc822", MIME + TEXT), subtype="report"),
    "signed beside": MIME + multipart("outer", TEXT, multipart(
        "sealed", part("text/plain", b"7 bit\r\n", "8bit"), part("application/pgp-signature", b"x"), subtype="signed")),
    "sixteen deep": MIME,  # replaced below
}

REFUSED = {
    "8 bit in the header": (IN_HEADER, "Subject: ü\r\n".encode() + TEXT),
    "8 bit in a part's header": (IN_HEADER, MIME + multipart("outer", b"X: \xe4\r\n" + TEXT)),
    "8 bit in a message's header": (IN_HEADER, MIME + multipart(
        "outer", part("message/rfc822", b"Subject: \xe4\r\n\r\n"))),
    "signed": (IN_SEALED, MIME + multipart("outer", TEXT, part("application/pgp-signature", b"x"), subtype="signed")),
    "deep in signed": (IN_SEALED, MIME + multipart("outer", multipart("inner", part("message/rfc822", MIME + TEXT)),
                                                   subtype="signed")),
    "encrypted": (IN_SEALED, MIME + multipart("outer", TEXT, subtype="encrypted")),
    "8 bit in base64": (IN_STRANGE, MIME + part("text/plain", HIGH, "base64")),
    "8 bit in what we do not know": (IN_STRANGE, MIME + part("text/plain", HIGH, "x-uuencode")),
    "8 bit in the preamble": (IN_STRANGE, MIME + multipart("outer", TEXT, preamble=HIGH)),
    "8 bit in the epilogue": (IN_STRANGE, MIME + multipart("outer", TEXT, epilogue=HIGH)),
    "8 bit in what looks like a part behind the last": (IN_STRANGE, MIME + multipart(
        "outer", TEXT, epilogue=b"--outer\r\n\r\n\xe4\r\n")),
    "8 bit in a partial message": (IN_STRANGE, MIME + part("message/partial", HIGH)),
    "8 bit in an encoded message": (IN_STRANGE, MIME + part("message/rfc822", HIGH, "base64")),
    "a type twice": (UNSURE, MIME + b"Content-Type: text/html\r\n" + TEXT),
    "an encoding twice": (UNSURE, MIME + b"Content-Transfer-Encoding: 7bit\r\n" + TEXT),
    "a multipart in base64": (UNSURE, MIME + multipart("outer", TEXT, encoding="base64")),
    "a multipart without a boundary": (UNSURE, MIME + part("multipart/mixed", HIGH)),
    "two boundaries": (UNSURE, MIME + multipart("outer", TEXT).replace(b"boundary", b"boundary=x; boundary")),
    "a boundary as of RFC 2231": (UNSURE, MIME + multipart("outer", TEXT).replace(b"boundary", b"boundary*0")),
    "a boundary that is too long": (UNSURE, MIME + multipart("b" * 71, TEXT)),
    "a boundary with something behind it": (UNSURE, MIME + multipart("outer", TEXT, preamble=b"--outer2\r\n")),
    "a boundary with endless blanks": (UNSURE, MIME + multipart(
        "outer", TEXT, preamble=b"--outer" + b" " * 1100 + b"\r\n")),
    "a boundary that begins another": (UNSURE, MIME + multipart("outer", multipart("outer-2", TEXT))),
    "a boundary like another's end": (UNSURE, MIME + multipart("outer", multipart("outer--", TEXT))),
    "the same boundary twice": (UNSURE, MIME + multipart("outer", multipart("outer", TEXT))),
    "a type that is none": (UNSURE, MIME + part("text", HIGH)),
    "a comment in a multipart's type": (UNSURE, MIME + multipart("outer", TEXT).replace(b"mixed;", b"mixed (a);")),
    "a blank before the colon": (UNSURE, MIME + TEXT.replace(b"Content-Type:", b"Content-Type :")),
    "a line that is no field": (UNSURE, b"From a@example.com Sat Nov 21 10:00:00 2026\r\n" + MIME + TEXT),
    "a header that begins with a fold": (UNSURE, b" x\r\n" + MIME + TEXT),
    "a line of blanks in the header": (UNSURE, MIME + b" \t\r\n" + TEXT),
    "a bare newline": (UNSURE, MIME + TEXT + b"a\nb\r\n"),
    "a bare carriage return": (UNSURE, MIME + TEXT + b"a\rb\r\n"),
    "no newline at the end": (UNSURE, MIME + TEXT + b"a"),
    "a type of more than 8 KB": (BEYOND, MIME + part("text/plain", HIGH, x="a").replace(b"; x=", b"; y=1\r\n " * 1200)),
    "more parts than 1024": (BEYOND, MIME + multipart("outer", *[b"\r\n\xe4"] * 1024)),
}

deep = TEXT
for depth in range(16):
    deep = multipart(f"<{depth}>".translate({60: 40, 62: 41}), deep)
CONVERTED["sixteen deep"] = MIME + deep
REFUSED["seventeen deep"] = (BEYOND, MIME + multipart("more", deep))

PLAIN = {"seven bits": MIME + part("text/plain", b"plain\r\n", "8bit"), "nothing": b"", "only lines": b"\r\n\r\n",
         "broken, but seven bits": b"x\r\n" + multipart("outer", multipart("outer"))}


def stuff(content):
    return re.sub(rb"(?m)^\.", b"..", content)


def unstuff(stored):
    return re.sub(rb"(?m)^\.", b"", stored)


def run(program, contents, *arguments):
    """Verdict and output of each content."""
    stdin = b"".join(struct.pack("<I", len(each)) + each for each in contents)
    stdout = subprocess.run([program, *arguments], input=stdin, stdout=subprocess.PIPE, check=True).stdout
    results = []
    for _ in contents:
        verdict, size = struct.unpack_from("<BI", stdout)
        results.append((verdict, stdout[5:5 + size]))
        stdout = stdout[5 + size:]
    assert stdout == b""
    return results


def parts_of(content):
    """Each entity: its fields but for those that may change, its type, and a leaf's octets."""
    message = email.message_from_bytes(content, policy=email.policy.compat32)
    for entity in message.walk():
        fields = [(name, value) for name, value in entity.items() if name.lower() not in REWRITTEN]
        leaf = None if entity.is_multipart() else entity.get_payload(decode=True)
        yield fields, entity.get_content_type(), leaf


def check_encoding(name, content):
    """Every leaf that was encoded says so once, and whatever is above it is MIME and called 7bit."""
    message = email.message_from_bytes(content, policy=email.policy.compat32)
    for entity in message.walk():
        values = [value.strip().lower() for value in entity.get_all("Content-Transfer-Encoding", [])]
        assert len(values) <= 1, (name, values)
        if entity.is_multipart():
            assert not ENCODED.intersection(values), (name, values)
    if any(entity.get("Content-Transfer-Encoding", "").strip() in ENCODED for entity in message.walk()):
        assert message["MIME-Version"] == "1.0", name


def check_converted(name, before, verdict, stored):
    assert verdict == POSSIBLE, (name, verdict)
    assert max(stored) < 128, name
    lines = stored.split(b"\r\n")
    assert lines.pop() == b"" and b"." not in lines, name
    assert not any(b"\r" in line or b"\n" in line for line in lines), name
    if all(len(line) <= 998 for line in before.split(b"\r\n\r\n")[0].split(b"\r\n")):
        assert max(map(len, lines)) <= 998, name
    after = unstuff(stored)
    was, now = list(parts_of(before)), list(parts_of(after))
    assert len(was) == len(now), name
    for old, new in zip(was, now):
        assert old == new, f"{name}: {old} is now {new}"
    check_encoding(name, after)


def check_tables(program):
    names, contents = zip(*CONVERTED.items())
    assert any(b"\n." in content for content in contents)
    small = [name for name in names if len(CONVERTED[name]) < 3000]
    for arguments, chosen in (((), names), (("cuts",), small)):
        results = run(program, [stuff(CONVERTED[name]) for name in chosen], *arguments)
        for name, (verdict, stored) in zip(chosen, results):
            check_converted(name, CONVERTED[name], verdict, stored)
    for name, (verdict, _) in zip(REFUSED, run(program, [stuff(content) for _, content in REFUSED.values()])):
        assert verdict == REFUSED[name][0], (name, verdict)
    for name, (verdict, _) in zip(PLAIN, run(program, [stuff(content) for content in PLAIN.values()])):
        assert verdict == NOTHING, (name, verdict)


def check_samples(program):
    """The output itself, where it is worth reading."""
    samples = {
        b"Subject: x\r\n\r\n\xe4 \r\n..dot\r\n":
            b"Subject: x\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=unknown-8bit\r\n"
            b"Content-Transfer-Encoding: quoted-printable\r\n\r\n=E4=20\r\n=2Edot\r\n",
        MIME + b"content-transfer-encoding: 8bit\r\nContent-Type: image/x\r\n\r\n\xff\r\n":
            MIME + b"Content-Transfer-Encoding: base64\r\nContent-Type: image/x\r\n\r\n/w0K\r\n",
        MIME + multipart("b", TEXT, part("text/plain", b"7 bit = \r\n", "8bit"), preamble=b"..\r\n"):
            MIME + multipart("b", part("text/plain", b"f=C3=BCr J=C3=B6rg =E2=80=94 8 Bit\r\n", "quoted-printable",
                                       charset="utf-8"),
                             part("text/plain", b"7 bit = \r\n", "7bit"), encoding="7bit", preamble=b"..\r\n"),
    }
    for content, (verdict, stored) in zip(samples, run(program, list(samples), "cuts")):
        assert verdict == POSSIBLE and stored == samples[content], stored


def random_entity(source, depth, names):
    choice = source.random()
    if depth < 4 and choice < 0.35:
        boundary = f"={next(names)}="
        parts = [random_entity(source, depth + 1, names) for _ in range(source.randrange(4))]
        return multipart(boundary, *parts, encoding=source.choice([None, "7bit", "8bit"]), closed=source.random() < 0.9)
    if depth < 4 and choice < 0.45:
        return part("message/rfc822", source.choice([b"", MIME]) + random_entity(source, depth + 1, names))
    body = b"".join(source.choices(LINES, k=source.randrange(12)))
    if source.random() < 0.3:
        body = body.removesuffix(b"\r\n")
    kind = source.choice(["text/plain", "text/html", "image/png"])
    return part(kind, body, source.choice([None, "7bit", "8bit", "binary"]))


def check_random(program):
    source = random.Random(6152)
    contents = [MIME + random_entity(source, 0, iter(range(10**6))) + b"\r\n" for _ in range(1500)]
    converted = 0
    results = run(program, [stuff(each) for each in contents])
    for number, (content, (verdict, stored)) in enumerate(zip(contents, results)):
        if max(content) < 128:
            assert verdict == NOTHING, content
            continue
        check_converted(f"random {number}", content, verdict, stored)
        converted += 1
    assert converted > 500, converted


def main():
    program = sys.argv[1]
    check_samples(program)
    check_tables(program)
    check_random(program)


main()
