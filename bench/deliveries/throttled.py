"""Throttled: a next hop that allows so much and no more, and changes its mind.

The sink takes --rate messages in any second and --connections at a time, and answers 450 to MAIL and 421 to the greeting
beyond. It never says what its limits are. Half-way the rate is doubled. Shown is what was taken and refused in each second.
"""

import time

from deliveries.picture import Picture
from deliveries.relays import Sluice
from deliveries.stage import Stage, say, table

SINK = "10.1.0.1:2526"
FOUND_S = 60  # the time to find a limit


def add_arguments(parser):
    parser.add_argument("--rate", type=int, default=200, help="messages in any second, doubled half-way (default 200)")
    parser.add_argument("--connections", type=int, default=8, help="at a time (default 8)")
    parser.add_argument("--seconds", type=int, default=85, help="before the limit rises, and again after it (default 85)")
    parser.add_argument("--size", type=int, default=2048, help="of a message, octets (default 2048)")


def run(options, tools, work):
    with Stage(tools, work, options.keep) as stage:
        sink = stage.sink(f"site={SINK},rate={options.rate},connections={options.connections}", series_ms=1000, punctual=True)
        stage.start(Sluice, f'route "*" {{ to = "smtp://{SINK}" }}',
                    'site "default" { connections = 50 messages_per_connection = 0 }\nretry { schedule = {"5s"} }')
        messages = int(options.rate * options.seconds * 3 * 1.2)
        load = stage.begin_load(messages, size=options.size, sessions=20)
        stage.wait_for(sink.total, 1)
        began = time.monotonic() - sink.began
        time.sleep(options.seconds)
        sink.set("site", rate=options.rate * 2)
        rose = time.monotonic() - sink.began
        say(f"  {sink.total()} taken in {options.seconds} s; the limit rises")
        time.sleep(options.seconds)
        sums = sink.series()
        if load.poll() is None:
            load.kill()
        load.communicate()
    seconds = differences(sums)
    phases = [phase("first limit", seconds, began, rose, options.rate),
              phase("doubled", seconds, rose, rose + options.seconds, options.rate * 2)]
    figures = {"phases": phases, "seconds": seconds, "began": began, "rose": rose}
    good = all(part["used"] >= 0.9 and part["refused"] < 0.01 for part in phases)
    return {"figures": figures, "good": good, "text": show(phases, options), "files": {".svg": draw(seconds, began, rose, options)}}


def differences(sums):
    """What happened in each interval: (end, length, taken, refused messages, refused connections, connections)."""
    rows = []
    for before, after in zip(sums, sums[1:]):
        rows.append((after[0], after[0] - before[0], *(after[index] - before[index] for index in (2, 3, 4)), after[5]))
    return rows


def phase(name, seconds, start, end, limit):
    """What holds from FOUND_S after its start on."""
    settled = [row for row in seconds if row[0] - row[1] >= start + FOUND_S and row[0] <= end]
    taken, refused = sum(row[2] for row in settled), sum(row[3] + row[4] for row in settled)
    length = sum(row[1] for row in settled)
    found = next((row[0] - start for row in seconds if row[0] - row[1] >= start and row[2] / row[1] >= 0.9 * limit), None)
    return {"name": name, "limit": limit, "used": taken / (limit * length) if length else 0,
            "refused": refused / max(1, taken + refused), "found_s": found,
            "refused_before": sum(row[3] + row[4] for row in seconds if start <= row[0] < start + FOUND_S)}


def show(phases, options):
    rows = [(part["name"], part["limit"], f"{100 * part['used']:.1f} %", f"{100 * part['refused']:.2f} %", part["refused_before"],
             "never" if part["found_s"] is None else f"{part['found_s']:.0f} s") for part in phases]
    head = ("", "messages/s allowed", f"used, from {FOUND_S} s on", "refused, from then on", "refused before", "first second at 90 % of it")
    return f"{options.connections} connections allowed, {options.size:,} octets.\n\n{table(head, rows)}\n"


def draw(seconds, began, rose, options):
    rows = [(row[0] - began, row) for row in seconds if row[0] >= began]
    end, rise = rows[-1][0], rose - began
    refused = [(at, (row[3] + row[4]) / row[1]) for at, row in rows]
    connections = [(at, row[5]) for at, row in rows]
    picture = Picture("A next hop that limits the rate, and then allows twice as much", "seconds; what is judged is shaded", end)
    for start, stop in ((0, rise), (rise, end)):
        if start + FOUND_S < stop:
            picture.shade(start + FOUND_S, stop)
    rates = picture.panel("messages a second", options.rate * 2.3, 270)
    rates.line("taken", [(at, row[2] / row[1]) for at, row in rows])
    rates.line("allowed", [(0, options.rate), (rise, options.rate), (rise, options.rate * 2), (end, options.rate * 2)], dashed=True)
    others = picture.panel("number", 1.15 * max(value for _, value in refused + connections), 90)
    others.line("refused, messages and connections a second", refused)
    others.line("connections open", connections)
    return picture.text()
