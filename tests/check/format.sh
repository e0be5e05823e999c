#!/bin/bash
# Checks that every C file is as .clang-format says. Exit 77 (skipped) where clang-format-14 is missing.
set -euo pipefail
root=$1
tool=$(command -v clang-format-14) || { echo "skipped: clang-format-14 is not installed"; exit 77; }
cd "$root"
find proto queue gateway bench tests -name '*.[ch]' -print0 | xargs -0 "$tool" --dry-run -Werror
