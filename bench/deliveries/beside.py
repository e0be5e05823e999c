"""Measurements side by side, for servers that wait and hardly compute: each in a process of its own, ended by it."""

import multiprocessing
import multiprocessing.connection
import signal
import sys
import threading

from harness import namespace
from harness.cell import Failed

context = multiprocessing.get_context("fork")


class Beside:
    """What a measurement knows of the others: its place among them, and when all have come to a point."""

    LONGEST_S = 900

    def __init__(self, place, barrier):
        self.place, self.barrier = place, barrier

    def wait_for_all(self):
        try:
            self.barrier.wait(self.LONGEST_S)
        except threading.BrokenBarrierError:
            raise Failed("those beside it did not come so far") from None


def _run(measure, beside, answer):
    namespace.settle_in_part()
    try:
        answer.send((measure(beside), None))
    except Failed as failure:
        answer.send((None, str(failure)))
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGTERM)


def side_by_side(measures):
    """Calls each with a Beside; returns what they return. If one fails, all are ended."""
    if not measures:
        return []
    barrier = context.Barrier(len(measures))
    answers, processes = [], []
    try:
        for place, measure in enumerate(measures):
            ours, theirs = context.Pipe(duplex=False)
            processes.append(context.Process(target=_run, args=(measure, Beside(place, barrier), theirs)))
            processes[-1].start()
            theirs.close()
            answers.append(ours)
        return _gather(answers)
    finally:
        for process in processes:
            if process.is_alive():
                process.terminate()  # it closes its stage
        for process in processes:
            process.join()


def _gather(answers):
    results, waiting = {}, list(answers)
    while waiting:
        for answer in multiprocessing.connection.wait(waiting):
            try:
                results[answer], failure = answer.recv()
            except EOFError:
                failure = "a measurement ended without a word"
            if failure:
                raise Failed(failure)
            waiting.remove(answer)
    return [results[answer] for answer in answers]
