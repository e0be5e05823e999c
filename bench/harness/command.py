"""What the command lines share: numbers, root, the namespace, Ctrl-C."""

import argparse
import os
import signal
import sys

from harness import namespace


def positive(text):
    number = int(text)
    if number <= 0:
        raise argparse.ArgumentTypeError("must be above 0")
    return number


def _interrupt(number, _frame):
    signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def run(script, arguments, prepare, measure):
    """Outside the namespace: prepares and goes inside; there: measures. Returns the exit status."""
    if os.geteuid() != 0:
        sys.exit(f"{os.path.basename(script)}: needs root, for the namespace and the servers' users")
    if not arguments.inside:
        prepare()
        return namespace.run_inside([sys.executable, script, "--inside", *sys.argv[1:]])
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    try:
        return int(measure(arguments))
    except KeyboardInterrupt:
        return 130
