"""Reads notices with Python's email package: each is one multipart/report without a defect, of the parts and fields
of RFC 3464 and no others, and what strangers said is where it belongs and nowhere else.

    notice_email.py WRITER
"""
import email
import email.errors
import email.policy
import email.utils
import os
import re
import subprocess
import sys
import tempfile

ACTIONS = ["failed", "delayed", "delivered", "relayed", "expanded"]
HEADER = ["From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted", "MIME-Version", "Content-Type"]
MESSAGE_FIELDS = ["Original-Envelope-Id", "Reporting-MTA", "Arrival-Date"]
RECIPIENT_FIELDS = ["Original-Recipient", "Final-Recipient", "Action", "Status", "Remote-MTA", "Diagnostic-Code",
                    "Last-Attempt-Date", "Final-Log-ID", "Will-Retry-Until"]
RETURNED = {(1, 0): "text/rfc822-headers", (1, 1): "message/global-headers",
            (2, 0): "message/rfc822", (2, 1): "message/global"}
# The package complains of UTF-8 in a header as such; RFC 6532 allows it.
BEYOND_ASCII = (email.errors.NonASCIILocalPartDefect, email.errors.UndecodableBytesDefect)
POLICY = email.policy.SMTPUTF8.clone(raise_on_defect=False)


def read_facts(path):
    with open(path, encoding="ascii") as file:
        pairs = [line.rstrip("\n").split(" ") for line in file]
    return [(name, bytes.fromhex(value)) for name, value in pairs]


def unstuff(stored):
    """What a reader gets after DATA."""
    return re.sub(rb"(?m)^\.", b"", stored)


def split_parts(body, boundary):
    """The octets of each part, by the plain rule of RFC 2046: what stands between delimiters."""
    pieces = (b"\r\n" + body).split(b"\r\n--" + boundary)
    assert pieces[0].strip() == b"" and pieces[-1] == b"--\r\n", (pieces[0], pieces[-1])
    return [piece.removeprefix(b"\r\n").split(b"\r\n\r\n", 1)[1] if b"\r\n\r\n" in piece else b""
            for piece in pieces[1:-1]]


def read_groups(part):
    """The fields of message/delivery-status, group by group."""
    groups = []
    for text in part.decode("utf-8").rstrip("\r\n").split("\r\n\r\n"):
        unfolded = re.sub(r"\r\n[ \t]", " ", text)
        groups.append([tuple(line.split(": ", 1)) for line in unfolded.split("\r\n")])
    return groups


def is_in_order(names, allowed):
    return names == [name for name in allowed if name in names] and len(set(names)) == len(names)


def harmless(octets, is_utf8):
    """The words of a foreign text, with "?" for what may not be written, which also stands for any octet here."""
    text = octets.decode("utf-8", "replace")
    bad = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ufffd]"
                     if is_utf8 else r"[^\t\r\n\x20-\x7e]")
    return [re.sub(r"\?+", "?", word) for word in re.split(r"[ \t\r\n]+", bad.sub("?", text)) if word]


def one_reply(octets, code):
    """The reply as one line: its code and its enhanced code stand once, at the beginning."""
    words, status = [code], None
    for line in octets.split(b"\n"):
        for number, word in enumerate(re.findall(rb"[^ \t\r\n]+", line)):
            if number == 0 and (word == code or word.startswith(code + b"-")):
                word = word[4:]
            if not word or word == status:
                continue
            if len(words) == 1 and re.fullmatch(rb"\d\.\d{1,5}\.\d{1,5}", word):
                status = word
            words.append(word)
    return b" ".join(words)


def check_recipient(group, facts, kind, is_utf8):
    names, fields = [name for name, _ in group], dict(group)
    assert is_in_order(names, RECIPIENT_FIELDS), names
    assert fields["Action"] == ACTIONS[int(facts["action"])]
    digits = {0: "45", 1: "4", 2: "2"}[kind]
    assert re.fullmatch(rf"[{digits}]\.\d{{1,5}}\.\d{{1,5}}", fields["Status"]), fields["Status"]
    kind_of_address, address = fields["Final-Recipient"].split("; ", 1)
    if facts["address"].isascii():
        assert kind_of_address == "rfc822"
        assert len(address) == len(facts["address"])
    else:
        assert kind_of_address == "utf-8" and (is_utf8 or address.isascii())
    if int(facts["code"]) or facts["reply"]:
        reply = facts["reply"][:1024]
        if int(facts["code"]):
            reply = one_reply(reply, facts["code"])
        words = " ".join(harmless(reply, is_utf8))[:300]
        said = fields["Diagnostic-Code"].removeprefix("smtp; ").removeprefix("X-Sluice; ")
        said = re.sub(r"\?+", "?", re.sub(r"[ \t]+", " ", said))
        assert words in said, (words, said)
        assert fields["Diagnostic-Code"].startswith("smtp; " if int(facts["code"]) else "X-Sluice; ")
    if "Last-Attempt-Date" in fields:
        email.utils.parsedate_to_datetime(fields["Last-Attempt-Date"])
    return address


def check_header(message, facts, is_utf8):
    names = [name for name in message.keys() if name != "Content-Transfer-Encoding"]
    assert names == HEADER, names
    assert not message.defects, message.defects
    for name in message.keys():
        defects = [defect for defect in message[name].defects if not (is_utf8 and isinstance(defect, BEYOND_ASCII))]
        assert not defects, (name, message[name], defects)
    assert message["From"].addresses[0].display_name == "Mail Delivery System"
    assert message["From"].addresses[0].username == "mailer-daemon"
    assert message["Auto-Submitted"] == "auto-replied"
    assert message["Date"].datetime.year == 2026
    assert re.fullmatch(r"<0000000000abc@.+>", message["Message-ID"])
    sender = facts["sender"]
    known = re.fullmatch(rb"[\w.+=']+@[\w.\[\]:]+|\"a b\"@example\.com", sender)
    if known and message["To"].addresses:
        assert message["To"].addresses[0].addr_spec.encode() == sender, (message["To"], sender)
    assert len(message["To"].addresses) <= 1


def check(stored, pairs):
    facts = dict(pairs)
    kind, is_utf8, returned = int(facts["kind"]), int(facts["utf8"]), int(facts["returned"])
    assert all(not line.startswith(b".") or line == b"..dots" for line in stored.split(b"\r\n"))
    octets = unstuff(stored)
    octets.decode("utf-8" if is_utf8 else "ascii")
    message = email.message_from_bytes(octets, policy=POLICY)
    check_header(message, facts, is_utf8)
    assert message.get_content_type() == "multipart/report"
    prefix = "global-" if is_utf8 else ""
    assert message.get_param("report-type") == prefix + "delivery-status"

    types = ["text/plain", f"message/{prefix}delivery-status"] + ([RETURNED[returned, is_utf8]] if returned else [])
    parts = message.get_payload()
    assert [part.get_content_type() for part in parts] == types
    for part in parts[:2]:
        assert not part.defects, part.defects
    octets_of_parts = split_parts(octets.split(b"\r\n\r\n", 1)[1], message.get_boundary().encode())
    assert len(octets_of_parts) == len(types)
    if returned:
        assert octets_of_parts[2] == unstuff(facts["original"]), octets_of_parts[2]

    told = octets_of_parts[0].decode("utf-8" if is_utf8 else "ascii")
    groups = read_groups(octets_of_parts[1])
    assert is_in_order([name for name, _ in groups[0]], MESSAGE_FIELDS), groups[0]
    recipients = []
    for name, value in pairs:
        if name == "action":
            recipients.append({})
        if recipients:
            recipients[-1][name] = value
    assert len(groups) == 1 + len(recipients), (len(groups), len(recipients))
    for group, recipient in zip(groups[1:], recipients):
        address = check_recipient(group, recipient, kind, is_utf8)
        if is_utf8 or recipient["address"].isascii():
            assert f"\r\n  <{address}>\r\n" in told, address
    if not is_utf8:  # the package's own reading of the fields; it knows only this type
        assert len(parts[1].get_payload()) == len(groups)
    return len(recipients)


def main():
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.argv[1], folder], check=True, timeout=60)
        names = sorted((name for name in os.listdir(folder) if name.endswith(".notice")),
                       key=lambda name: int(name.split(".")[0]))
        assert len(names) == 500, len(names)
        recipients = 0
        for name in names:
            path = os.path.join(folder, name)
            with open(path, "rb") as file:
                stored = file.read()
            try:
                recipients += check(stored, read_facts(path.replace(".notice", ".facts")))
            except Exception:
                sys.stdout.write(f"{name}:\n{stored.decode('utf-8', 'replace')}\n")
                raise
    print(f"{len(names)} notices about {recipients} recipients came through")


main()
