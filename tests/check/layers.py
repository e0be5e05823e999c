#!/usr/bin/python3
"""Enforces who may include whom: reads every #include under proto/, queue/ and gateway/.

    layers.py ROOT COMPILER... [-- FLAG...]    check the tree; compiles every header alone
    layers.py --self-test ROOT COMPILER...     plants violations in a copy of the tree; each must be found

The table below is the rule; the rest only reads files.
"""
import fnmatch
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor

# Headers that are not ours, by what they give. What matches no pattern is plain libc.
FOREIGN = {
    "sockets": ["sys/socket.h", "sys/un.h", "netinet/*", "arpa/*", "netdb.h", "net/*", "sys/epoll.h", "poll.h"],
    "liburing": ["liburing.h", "liburing/*", "linux/io_uring.h"],
    "boringssl": ["openssl/*"],
    "ldns": ["ldns/*"],
    "libconfuse": ["confuse.h"],
    "libcrypt": ["crypt.h"],
    "libidn2": ["idn2.h"],
    "libpsl": ["libpsl.h"],
    "jemalloc": ["jemalloc/*"],
    "microhttpd": ["microhttpd.h"],
    "curl": ["curl/*"],
    "jansson": ["jansson.h"],
}

# proto does no I/O, so it may see only headers that cannot do any.
PURE = ["stdint.h", "stddef.h", "stdbool.h", "stdalign.h", "limits.h", "string.h", "assert.h", "*mmintrin.h",
        "arm_neon.h"]

# room -> (rooms and single headers that it may include, foreign libraries that it may include)
# The longest room that is a prefix of a file's path is the file's room; "gateway" is thus only the wiring
# (worker, main, spool): what lies in gateway/ itself.
RULES = {
    "proto": (["proto"], []),
    "queue": (["queue"], []),
    "gateway/base": (["gateway/base"], ["sockets", "libconfuse", "libidn2"]),
    "gateway/net": (["gateway/base", "gateway/net"], ["sockets", "liburing", "boringssl"]),
    "gateway/sasl": (["gateway/base", "gateway/sasl", "proto"], ["boringssl", "libcrypt"]),
    "gateway/ctl": (["gateway/base", "gateway/sasl", "gateway/ctl", "proto"], ["boringssl", "libcrypt"]),
    "gateway/inbound": (
        ["gateway/base", "gateway/net", "gateway/message", "gateway/sasl", "gateway/inbound", "proto",
         "queue/queue.h"],
        ["sockets"]),
    "gateway/outbound": (
        ["gateway/base", "gateway/net", "gateway/message", "gateway/sasl", "gateway/outbound", "proto",
         "queue/queue.h"],
        ["sockets", "ldns", "libpsl"]),
    "gateway/message": (["gateway/base", "gateway/message", "proto"], ["sockets", "boringssl"]),
    "gateway/control": (
        ["gateway/base", "gateway/control", "queue/queue.h"],
        ["sockets", "microhttpd", "curl", "jansson"]),
    "gateway": (
        ["gateway/base", "gateway/net", "gateway/inbound", "gateway/outbound", "gateway/message",
         "gateway/sasl", "gateway/control", "gateway", "proto", "queue/queue.h", "queue/ring.h", "queue/storage.h"],
        ["sockets", "liburing", "ldns", "jemalloc"]),
}

# Rooms whose arrows may only point one way. The wiring includes everything, so nothing may include it.
TOP = ["proto", "queue", "gateway"]

INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*(?:"([^"]+)"|<([^>]+)>)', re.MULTILINE)
COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)


def room_of(path):
    """The room that a path from the root belongs to, or None."""
    parts = pathlib.PurePosixPath(path).parts[:-1]
    for length in range(len(parts), 0, -1):
        room = "/".join(parts[:length])
        if room in RULES:
            return room
    return None


def blank(match):
    """A comment's replacement: the same number of lines, so that line numbers stay right."""
    return "\n" * match.group(0).count("\n")


def includes_of(root, path):
    """(line, name, is_quoted) of each #include in a file."""
    text = COMMENT.sub(blank, (root / path).read_text(encoding="utf-8"))
    for match in INCLUDE.finditer(text):
        line = text.count("\n", 0, match.start()) + 1
        yield line, match.group(1) or match.group(2), match.group(1) is not None


def resolve(root, path, name):
    """Where a quoted name leads, from the root or from beside the file; None if nowhere in the tree."""
    for candidate in (root / name, (root / path).parent / name):
        if candidate.is_file():
            return os.path.relpath(os.path.realpath(candidate), os.path.realpath(root))
    return None


def matches(name, patterns):
    return any(fnmatch.fnmatch(name, pattern) for pattern in patterns)


def check_foreign(room, name):
    """What is wrong with <name> in this room, or None."""
    if room == "proto":
        return None if matches(name, PURE) else f"proto may include only pure headers, not <{name}>"
    for library, patterns in FOREIGN.items():
        if matches(name, patterns) and library not in RULES[room][1]:
            return f"{room} may not include {library} (<{name}>)"
    return None


def check_own(room, target):
    """What is wrong with including our own file `target` in this room, or None."""
    allowed = RULES[room][0]
    if target in allowed:
        return None
    target_room = room_of(target)
    if target_room is None:
        return f"{target} belongs to no room"
    # A rule that names a single header of a room allows that header and no other.
    return None if target_room in allowed else f"{room} may not include {target}"


def sources(root):
    for top in TOP:
        for path in sorted((root / top).rglob("*")):
            if path.suffix in (".c", ".h", ".def") and path.is_file():
                yield path.relative_to(root).as_posix()


def find_cycle(graph):
    """One cycle of a directed graph as a list of nodes, or None."""
    done, trail = set(), []

    def visit(node):
        if node in trail:
            return trail[trail.index(node):] + [node]
        if node in done:
            return None
        trail.append(node)
        for target in sorted(graph.get(node, ())):
            cycle = visit(target)
            if cycle:
                return cycle
        trail.pop()
        done.add(node)
        return None

    for node in sorted(graph):
        cycle = visit(node)
        if cycle:
            return cycle
    return None


def check_includes(root):
    """All complaints about who includes whom, and about cycles among files and among rooms."""
    complaints, files, rooms = [], {}, {}
    for path in sources(root):
        room = room_of(path)
        files[path] = set()
        for line, name, is_quoted in includes_of(root, path):
            target = resolve(root, path, name) if is_quoted else None
            if is_quoted and target is None:
                complaint = f'"{name}" leads nowhere; our own headers are named from the root'
            elif target is None:
                complaint = check_foreign(room, name)
            else:
                complaint = check_own(room, target)
                files[path].add(target)
                if room_of(target) not in (None, room):
                    rooms.setdefault(room, set()).add(room_of(target))
            if complaint:
                complaints.append(f"{path}:{line}: {complaint}")
    for kind, graph in (("files", files), ("rooms", rooms)):
        cycle = find_cycle(graph)
        if cycle:
            complaints.append(f"a cycle among {kind}: " + " -> ".join(cycle))
    if not files:
        complaints.append(f"no sources found under {root}: the check looked in the wrong place")
    return complaints


def check_headers(root, compiler):
    """Complaints of the compiler about headers that do not compile alone."""
    headers = [path for path in sources(root) if path.endswith(".h")]

    def compile_one(path):
        command = compiler + ["-I", str(root), "-fsyntax-only", "-Wno-unused", "-x", "c", "-"]
        # Twice: a header without "#pragma once" that defines something fails here as well.
        text = f'#include "{path}"\n#include "{path}"\n'
        run = subprocess.run(command, input=text, text=True, capture_output=True, check=False)
        return None if run.returncode == 0 else f"{path} does not compile alone:\n{run.stderr.rstrip()}"

    with ThreadPoolExecutor(2) as pool:
        return [complaint for complaint in pool.map(compile_one, headers) if complaint]


# What the self-test plants: (file, text appended or a new file, what the complaint must contain)
PLANTS = [
    ("proto/planted.c", "#include <stdlib.h>\n", "proto may include only pure headers, not <stdlib.h>"),
    ("proto/planted.c", "#include <sys/socket.h>\n", "not <sys/socket.h>"),
    ("proto/planted.c", '#include "queue/queue.h"\n', "proto may not include queue/queue.h"),
    ("queue/planted.c", '#include "gateway/base/planted.h"\n', "queue may not include gateway/base/planted.h"),
    ("queue/planted.c", "#include <sys/socket.h>\n", "queue may not include sockets"),
    ("queue/planted.c", "#include <liburing.h>\n", "queue may not include liburing"),
    ("gateway/base/planted.c", '#include "queue/queue.h"\n', "gateway/base may not include queue/queue.h"),
    ("gateway/net/planted.c", "#include <ldns/ldns.h>\n", "gateway/net may not include ldns"),
    ("gateway/inbound/planted.c", '#include "queue/planted.h"\n', "gateway/inbound may not include queue/planted.h"),
    ("gateway/inbound/planted.c", '#include "gateway/outbound/planted.h"\n',
     "gateway/inbound may not include gateway/outbound/planted.h"),
    ("gateway/outbound/planted.c", '#include "gateway/planted.h"\n',
     "gateway/outbound may not include gateway/planted.h"),
    ("gateway/planted.c", '#include "queue/planted.h"\n', "gateway may not include queue/planted.h"),
    ("gateway/planted.c", '#include "no/such.h"\n', '"no/such.h" leads nowhere'),
    ("proto/planted.h", '#include "proto/planted_b.h"\n', "a cycle among files"),
    ("gateway/message/planted.h", '#include "gateway/inbound/planted.h"\n', "a cycle among rooms"),
]
SUPPORT = {
    "proto/planted_b.h": '#pragma once\n#include "proto/planted.h"\n',
    "gateway/base/planted.h": "#pragma once\n",
    "gateway/outbound/planted.h": "#pragma once\n",
    "gateway/inbound/planted.h": '#pragma once\n#include "gateway/message/planted_b.h"\n',
    "gateway/message/planted_b.h": "#pragma once\n",
    "gateway/planted.h": "#pragma once\n",
    "queue/planted.h": "#pragma once\n",
    "queue/queue.h": "#pragma once\n",
}


def with_plant(root, plant, check):
    """Runs `check` on a copy of the tree with one thing planted."""
    path, text = plant
    with tempfile.TemporaryDirectory() as temporary:
        copy = pathlib.Path(temporary)
        for top in TOP:
            shutil.copytree(root / top, copy / top)
        for name, content in {**SUPPORT, path: text}.items():
            target = copy / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if name == path or not target.exists():
                target.write_text(content, encoding="utf-8")
        return check(copy)


def self_test(root, compiler):
    """Every planted violation must be found, and nothing may be found in a comment."""
    missed = []
    for path, text, wanted in PLANTS:
        found = with_plant(root, (path, text), check_includes)
        if not any(wanted in complaint for complaint in found):
            missed.append(f"planted {text!r} in {path}: expected a complaint with {wanted!r}, got {found}")
    found = with_plant(root, ("proto/planted.c", "/*\n#include <stdlib.h>\n*/\n"), check_includes)
    if any("proto/planted.c" in complaint for complaint in found):
        missed.append(f"an include inside a comment was counted: {found}")
    found = with_plant(root, ("queue/alone.h", "#pragma once\nuint8_t planted(void);\n"),
                       lambda copy: check_headers(copy, compiler))
    if not any("queue/alone.h does not compile alone" in complaint for complaint in found):
        missed.append("a header that lacks <stdint.h> was not found")
    print(f"{len(PLANTS) + 2} plants, {len(missed)} missed")
    return missed


def main():
    arguments = sys.argv[1:]
    is_self_test = arguments[0] == "--self-test"
    if is_self_test:
        arguments = arguments[1:]
    root, compiler = pathlib.Path(arguments[0]).resolve(), arguments[1:]
    complaints = self_test(root, compiler) if is_self_test else check_includes(root) + check_headers(root, compiler)
    for complaint in complaints:
        print(complaint)
    sys.exit(1 if complaints else 0)


main()
