"""Reads the log's JSON lines with Python's parser: every line is one object with the expected names, each value is
what was put in, and a byte that begins no character reads as U+FFFD.

    log_json.py WRITER
"""
import codecs
import json
import os
import re
import subprocess
import sys
import tempfile

NAMES = ["time", "event", "level", "hex", "value", "from", "size", "delta", "flag", "id"]


def replace_each_byte(error):
    return "\ufffd" * (error.end - error.start), error.end


def main():
    codecs.register_error("each", replace_each_byte)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "log")
        subprocess.run([sys.argv[1], path], check=True, timeout=60)
        with open(path, "rb") as file:
            lines = file.read().split(b"\n")
    assert lines.pop() == b"", "the last line has no newline"
    assert len(lines) == 5000, len(lines)
    for line in lines:
        line.decode("utf-8")
        assert not re.search(rb"[\x00-\x1f\x7f]", line), line
        pairs = json.loads(line, object_pairs_hook=list)
        assert [name for name, _ in pairs] == NAMES, line
        fields = dict(pairs)
        expected = bytes.fromhex(fields["hex"]).decode("utf-8", errors="each")
        assert fields["value"] == expected, (fields["value"], expected)
        assert fields["from"] == expected
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", fields["time"])
        assert (fields["event"], fields["level"]) == ("accept", "warning")
        assert (fields["size"], fields["delta"], fields["flag"]) == (2**64 - 1, -2**63, True)
        assert fields["id"] == "fzzzzzzzzzzzz"
    print(f"{len(lines)} lines came through")


main()
