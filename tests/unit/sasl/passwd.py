#!/usr/bin/python3
"""Runs `sluicectl passwd` as a user would, and looks at the file with another implementation of both hashes.

    passwd.py SLUICECTL
"""
import base64
import ctypes
import hashlib
import hmac
import json
import os
import pathlib
import pty
import re
import signal
import subprocess
import sys
import tempfile
import termios
import time

SLUICECTL = sys.argv[1]
LIBCRYPT = ctypes.CDLL("libcrypt.so.1")
LIBCRYPT.crypt.restype = ctypes.c_char_p

OK, USAGE, DATAERR, NOINPUT, NOUSER, NOPERM = 0, 64, 65, 66, 67, 77


def run(*arguments, password=None, code=OK):
    """Standard output of `sluicectl passwd`, which must exit with `code`."""
    given = None if password is None else password.encode() if isinstance(password, str) else password
    done = subprocess.run([SLUICECTL, "passwd", *map(str, arguments)], input=given if given is not None else b"",
                          capture_output=True, check=False, timeout=60, start_new_session=True)
    assert done.returncode == code, (arguments, done)
    assert (code == OK) == (done.stderr == b"") or "--json" in arguments, done
    return (done.stdout + done.stderr).decode()


def set_password(path, name, password, *options):
    return run("-f", path, "--stdin", *options, name, password=password + "\n")


def fields(path):
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    return {line.split(":")[0]: line.split(":", 2)[1:] for line in lines}


def hash_matches(stored, password):
    return LIBCRYPT.crypt(password.encode(), stored.encode()).decode() == stored


def scram_matches(stored, password):
    form = re.fullmatch(r"SCRAM-SHA-256\$(\d+):([^$]+)\$([^:]+):(.+)", stored)
    count, salt, stored_key, server_key = form.groups()
    assert int(count) >= 10000 and len(base64.b64decode(salt)) == 16
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), base64.b64decode(salt), int(count))
    client = hmac.new(salted, b"Client Key", "sha256").digest()
    return (hashlib.sha256(client).digest() == base64.b64decode(stored_key)
            and hmac.new(salted, b"Server Key", "sha256").digest() == base64.b64decode(server_key))


def test_both_forms_are_of_the_password(folder):
    path = folder / "users"
    assert "added" in set_password(path, "alice", "pässword")
    assert path.stat().st_mode & 0o7777 == 0o600
    crypt, scram = fields(path)["alice"]
    assert crypt.startswith("$y$") and hash_matches(crypt, "pässword") and not hash_matches(crypt, "other")
    assert scram_matches(scram, "pässword") and not scram_matches(scram, "other")
    assert "changed" in set_password(path, "alice", "second", "--sha512")
    crypt, scram = fields(path)["alice"]
    assert crypt.startswith("$6$rounds=100000$") and hash_matches(crypt, "second") and scram_matches(scram, "second")


def test_verify_knows_right_from_wrong(folder):
    path = folder / "users"
    set_password(path, "alice", "secret")
    before = path.read_bytes()
    run("-f", path, "--verify", "--stdin", "alice", password="secret\n")
    run("-f", path, "--verify", "--stdin", "alice", password="secret")  # no line feed
    run("-f", path, "--verify", "--stdin", "alice", password="Secret\n", code=NOPERM)
    run("-f", path, "--verify", "--stdin", "bob", password="secret\n", code=NOUSER)
    run("-f", folder / "none", "--verify", "--stdin", "bob", password="secret\n", code=NOINPUT)
    assert path.read_bytes() == before
    crypt, _ = fields(path)["alice"]
    set_password(path, "alice", "other")
    path.write_text(f"alice:{crypt}:{fields(path)['alice'][1]}\n")
    assert "two passwords" in run("-f", path, "--verify", "--stdin", "alice", password="secret\n", code=NOPERM)
    path.write_text(f"alice:{crypt}:-\n")
    run("-f", path, "--verify", "--stdin", "alice", password="secret\n")
    path.write_text("alice:-:-\n")
    assert "locked" in run("-f", path, "--verify", "--stdin", "alice", password="secret\n", code=NOPERM)


def test_other_lines_stay_as_they_are(folder):
    path = folder / "users"
    path.write_text("# people\n\nalice2:-:-\nalice:-:-\n# end\nzo\u00eb:-:-")
    path.chmod(0o640)
    set_password(path, "alice", "secret")
    lines = path.read_text().split("\n")
    assert lines[:3] == ["# people", "", "alice2:-:-"] and lines[4:] == ["# end", "zo\u00eb:-:-"], lines
    assert lines[3].startswith("alice:$y$")
    assert path.stat().st_mode & 0o7777 == 0o640
    set_password(path, "bob", "secret")
    assert path.read_text().split("\n")[5] == "zo\u00eb:-:-"
    run("-f", path, "--delete", "alice")
    run("-f", path, "--delete", "alice", code=NOUSER)
    assert list(fields(path)) == ["alice2", "zo\u00eb", "bob"]
    run("-f", path, "--delete", "bob")
    assert path.read_text() == "# people\n\nalice2:-:-\n# end\nzo\u00eb:-:-\n"
    assert [entry.name for entry in folder.iterdir()] == ["users"]


def test_a_link_stays_a_link(folder):
    (folder / "real").mkdir()
    target, link = folder / "real" / "users", folder / "users"
    target.write_text("")
    target.chmod(0o600)
    link.symlink_to(target)
    set_password(link, "alice", "secret")
    assert link.is_symlink() and "alice" in fields(target)


def test_the_owner_stays(folder):
    if os.geteuid() != 0:
        return
    path = folder / "users"
    path.write_text("")
    path.chmod(0o640)
    os.chown(path, 0, 12345)
    set_password(path, "alice", "secret")
    assert (path.stat().st_uid, path.stat().st_gid, path.stat().st_mode & 0o7777) == (0, 12345, 0o640)


def test_a_file_with_a_mistake_is_not_touched(folder):
    path = folder / "users"
    path.write_text("alice:-:-\nbob\n")
    path.chmod(0o600)
    for arguments in (["--stdin", "alice"], ["--delete", "alice"]):
        said = run("-f", path, *arguments, password="secret\n", code=DATAERR)
        assert f"{path}:2: " in said, said
    assert path.read_text() == "alice:-:-\nbob\n"
    path.write_text("alice:-:-\n")
    path.chmod(0o644)
    assert "0644" in run("-f", path, "--stdin", "alice", password="secret\n", code=DATAERR)


def test_what_is_no_name_or_password_is_refused(folder):
    path = folder / "users"
    for name in ("a b", "a:b", "*", "#a", "", "a\tb", b"\xff".decode("utf-8", "surrogateescape"), "a" * 256):
        run("-f", path, "--stdin", "--", name, password="secret\n", code=USAGE)
    for password in ("\n", "a\tb\n", "x" * 256 + "\n", b"\xff\n", b"a\0b\n", "secret\r\n"):
        run("-f", path, "--stdin", "alice", password=password, code=DATAERR)
    run("-f", path, "--stdin", "alice", password="", code=NOINPUT)
    for wrong in (["a", "b"], [], ["--no-such", "a"], ["-f"], ["--delete", "--verify", "a"], ["--verify", "--sha512", "a"]):
        run(*wrong, code=USAGE)
    run("-f", folder / "no" / "users", "--stdin", "alice", password="secret\n", code=NOINPUT)
    assert "no terminal" in run("-f", path, "alice", code=NOINPUT)
    assert not path.exists()
    set_password(path, "a" * 255, "x" * 255)
    run("-f", path, "--verify", "--stdin", "a" * 255, password="x" * 255)


def test_json_says_the_same(folder):
    path = folder / 'us"ers'
    said = json.loads(set_password(path, "zo\u00eb", "secret", "--json"))
    assert said == {"command": "passwd", "file": str(path), "name": "zo\u00eb", "result": "added", "hash": "yescrypt",
                    "scram_iterations": 20000}
    said = json.loads(run("-f", path, "--json", "--verify", "--stdin", "zo\u00eb", password="secret"))
    assert said["result"] == "matches" and said["has_hash"] and said["has_scram"]
    said = json.loads(run("-f", path, "--json", "--verify", "--stdin", "zo\u00eb", password="x", code=NOPERM))
    assert "not the password" in said["error"] and said["code"] == NOPERM
    said = json.loads(run("--bad\x01\\", "--json", code=USAGE))
    assert "--bad\x01\\" in said["error"]
    said = json.loads(run("-f", path, "--json", "--delete", "zo\u00eb"))
    assert said == {"command": "passwd", "file": str(path), "name": "zo\u00eb", "result": "deleted"}


def test_two_at_once_take_turns(folder):
    path = folder / "users"
    names = [f"user{number}" for number in range(24)]
    runs = [subprocess.Popen([SLUICECTL, "passwd", "-f", path, "--stdin", name], stdin=subprocess.PIPE,
                             stdout=subprocess.DEVNULL) for name in names]
    for one, name in zip(runs, names):
        one.stdin.write(name.encode() + b"\n")
        one.stdin.close()
    assert [one.wait(60) for one in runs] == [OK] * len(names)
    assert sorted(fields(path)) == sorted(names)
    assert all(hash_matches(crypt, name) for name, (crypt, _) in fields(path).items())


def on_terminal(arguments, answers, *, interrupt=False):
    """Runs on a terminal of its own; answers each prompt. (exit status, what was shown, whether echo is on)"""
    child, terminal = pty.fork()
    if child == 0:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.execv(SLUICECTL, [SLUICECTL, "passwd", *map(str, arguments)])
    shown = b""
    for answer in answers:
        deadline = time.monotonic() + 20
        while not shown.endswith(b": "):
            assert time.monotonic() < deadline, shown
            shown += os.read(terminal, 1024)
        assert not termios.tcgetattr(terminal)[3] & termios.ECHO, "what is typed is shown"
        if interrupt:
            os.write(terminal, b"\x03")
        else:
            os.write(terminal, answer.encode() + b"\n")
        shown += b"|"
    while True:
        try:
            piece = os.read(terminal, 1024)
        except OSError:
            break
        if not piece:
            break
        shown += piece
    echoes = bool(termios.tcgetattr(terminal)[3] & termios.ECHO)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    os.close(terminal)
    return status, shown.decode(), echoes


def test_a_terminal_is_asked_twice_and_shows_nothing(folder):
    path = folder / "users"
    status, shown, echoes = on_terminal(["-f", path, "alice"], ["hidden", "hidden"])
    assert status == OK and "hidden" not in shown and echoes, (status, shown)
    assert hash_matches(fields(path)["alice"][0], "hidden")
    before = path.read_bytes()
    status, shown, _ = on_terminal(["-f", path, "alice"], ["hidden", "hiddem"])
    assert status == DATAERR and "differ" in shown and path.read_bytes() == before
    status, _, _ = on_terminal(["-f", path, "--verify", "alice"], ["hidden"])
    assert status == OK
    status, _, echoes = on_terminal(["-f", path, "alice"], [""], interrupt=True)
    assert status == -signal.SIGINT and echoes and path.read_bytes() == before


def test_help_is_there(folder):
    assert "--verify" in run("--help")
    for arguments, code, wanted in ((["--help"], 0, "passwd"), (["--version"], 0, "sluicectl "), ([], 64, "usage"),
                                    (["nonsense"], 64, "unknown command 'nonsense'")):
        done = subprocess.run([SLUICECTL, *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == code and wanted in done.stdout + done.stderr, done


def main():
    tests = [value for name, value in globals().items() if name.startswith("test_")]
    for test in tests:
        with tempfile.TemporaryDirectory() as folder:
            test(pathlib.Path(folder))
        print(f"{test.__name__}: good", flush=True)


main()
