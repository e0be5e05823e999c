#!/usr/bin/python3
"""Checks that the project speaks of itself alone: nothing left to do, no place of somebody's machine.

    words.py ROOT
"""
import pathlib
import re
import subprocess
import sys

PATTERNS = [
    (re.compile(r"\b(?:TO" r"DO|FIX" r"ME|X" r"XX|HA" r"CK)\b"), "work left undone"),
    (re.compile(r"(?<![\w.~$}])/(?:work|home|root|Users|tmp/b-)[/\w]"), "a path of somebody's machine"),
]
SKIPPED_FOLDERS = {".git", ".cache", "__pycache__", "corpus", ".pytest_cache"}


def files(root):
    """What git would hold; in a tree without git, all but the build directories."""
    listing = subprocess.run(["git", "-C", root, "ls-files", "-co", "--exclude-standard", "-z"],
                             capture_output=True, check=False)
    if listing.returncode == 0 and listing.stdout:
        names = [root / name for name in listing.stdout.decode().split("\0") if name]
    else:
        names = root.rglob("*")
    for path in names:
        parts = path.relative_to(root).parts
        if path.is_file() and not path.is_symlink() and not SKIPPED_FOLDERS & set(parts) \
                and not parts[0].startswith("build"):
            yield path


def main():
    root = pathlib.Path(sys.argv[1]).resolve()
    seen, complaints = 0, 0
    for path in files(root):
        seen += 1
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
            for pattern, meaning in PATTERNS:
                if pattern.search(line):
                    print(f"{path.relative_to(root)}:{number}: {meaning}: {line.strip()[:120]}")
                    complaints += 1
    print(f"{seen} files read, {complaints} complaints")
    sys.exit(1 if complaints or not seen else 0)


main()
