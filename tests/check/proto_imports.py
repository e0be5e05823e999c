#!/usr/bin/python3
"""Checks that the objects of proto/ import nothing that could do I/O, allocate, lock or tell the time.

    proto_imports.py LIBPROTO
"""
import re
import subprocess
import sys

ALLOWED = re.compile(
    r"mem(chr|rchr|cpy|move|set|cmp)|__mem(cpy|move|set)_chk|str(len|nlen|cmp|ncmp)"
    r"|__assert_fail|__stack_chk_fail"
    r"|__cpu_model|__cpu_indicator_init|__cpu_features2"  # __builtin_cpu_supports()
    r"|_GLOBAL_OFFSET_TABLE_")


def symbols(library, option):
    run = subprocess.run(["nm", option, "-P", library], text=True, capture_output=True, check=True)
    return {line.split()[0] for line in run.stdout.splitlines() if len(line.split()) >= 2}


def main():
    library = sys.argv[1]
    defined = symbols(library, "--defined-only")
    imported = symbols(library, "--undefined-only") - defined
    foreign = sorted(name for name in imported if not ALLOWED.fullmatch(name))
    if not defined:
        sys.exit(f"{library} defines nothing: the check looked in the wrong place")
    if foreign:
        sys.exit(f"proto may import only pure functions, but imports: {', '.join(foreign)}")
    print(f"{len(defined)} symbols defined; imported: {', '.join(sorted(imported))}")


main()
