"""Content of messages: what a relay may put on top, and what has to stay as it was."""
import re

TRACE = re.compile(rb"\A(?:Received|Return-Path): [^\r\n]*\r\n(?:[ \t][^\r\n]*\r\n)*", re.IGNORECASE)
FIELD = rb"^%s: [^\r\n]*\r\n(?:[ \t][^\r\n]*\r\n)*"


def trace(content):
    """The trace fields on top, newest first; and the rest."""
    fields = []
    while match := TRACE.match(content):
        fields.append(match.group(0).decode("utf-8", "replace"))
        content = content[match.end():]
    return fields, content


def without_field(content, name):
    """Content without the fields of that name in its header; and how many there were."""
    header, separator, body = content.partition(b"\r\n\r\n")
    header, count = re.subn(FIELD % name.encode(), b"", header + b"\r\n", flags=re.MULTILINE | re.IGNORECASE)
    return header + separator[2:] + body, count
