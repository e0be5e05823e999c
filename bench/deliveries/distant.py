"""Distant: a few connections over a long way.

The next hop is 50 or 150 ms away, each way, and 10 connections go there. A server's rate is then made of round trips:
what it sends before it must hear an answer. The sink announces what each gear of Sluice needs. Gear 2 is forced by a sink
that cuts off whoever sends behind the final dot before its reply, until the gateway has learned not to; cutting goes on for as
long as the measurement does, and the table shows how often it happened.

A row is measured for some seconds, one after the other; or all messages of each row are sent, and then those that wait for the
way more than they compute are measured side by side.
"""

import functools
import os
import time

from deliveries.beside import side_by_side
from deliveries.relays import Exim, Postfix, Sluice
from deliveries.stage import HOST, PORT, Stage, own_network, say, table
from harness.group import machine_busy_us

CONNECTIONS = 10
FIRST_WAY_PORT = 2600
GEARS = {"gear 1": {"pipelining": 0, "chunking": 0}, "gear 2": {"chunking": 0, "overlap": 0},
         "gear 3": {"chunking": 0}, "gear 4": {}}
SWIFT = "gear 4"  # alone: it needs the CPUs
LEARNING_S = 60
OPENING_S = 8
BY_TIME = 5000  # messages, when a row is measured by time
LONGEST_S = 1200  # for the messages of a row
TAIL_S = 150  # for the last of them: Exim tries anew after a minute
CUT_MOST = 0.002  # of the messages


def add_arguments(parser):
    parser.add_argument("--ms", type=int, action="append", help="each way; may be repeated (default 50 and 150)")
    parser.add_argument("--messages", type=int, default=0,
                        help="each row sends so many, most rows side by side (default 0: by time, one after the other)")
    parser.add_argument("--size", type=int, default=10240, help="of a message, octets (default 10240)")
    parser.add_argument("--seconds", type=int, default=15, help="a row is measured at most, if by time (default 15)")
    parser.add_argument("--only", help="comma-separated: gear 1 to 4, postfix, exim (default all but gear 1)")


def sluice(stage, target):
    return stage.start(Sluice, f'route "*" {{ to = "smtp://{target}" }}',
                       f'site "default" {{ connections = {CONNECTIONS} messages_per_connection = 0 }}\n'
                       'retry { schedule = {"2s"} }')


def postfix(stage, target):
    return stage.start(Postfix, target, f"""
default_destination_concurrency_limit = {CONNECTIONS}
initial_destination_concurrency = {CONNECTIONS}
smtp_connection_reuse_time_limit = 3600s
""")


def exim(stage, target):
    return stage.start(Exim, target, runners=CONNECTIONS)


def learn_gear(stage, sink, options):
    """Sends until nothing was cut off for some messages on every connection. Returns how many were sent."""
    sent, calm = 0, 0
    deadline = time.monotonic() + LEARNING_S
    while calm < 2 and time.monotonic() < deadline:
        before = sink.total("connections_cut")
        stage.load(CONNECTIONS * 6, first=sent, size=options.size, sessions=CONNECTIONS)
        sent += CONNECTIONS * 6
        stage.wait_for(lambda: sink.stats()["numbers"]["distinct"], sent)
        calm = calm + 1 if sink.total("connections_cut") == before else 0
    return sent


def wait_for_connections(sink, enough):
    """They open one after the other, which takes round trips, too: not what is measured."""
    deadline = time.monotonic() + OPENING_S
    while time.monotonic() < deadline and sink.total("connections_now") < CONNECTIONS and sink.total() < enough:
        time.sleep(0.02)
    time.sleep(1)


def measure(name, ms, options, tools, work, beside=None):
    place = beside.place if beside else 0
    hop, way = f"10.1.{place}.1:2526", FIRST_WAY_PORT + place
    with Stage(tools, work, options.keep, PORT + 10 * place) as stage:
        announced = GEARS.get(name, {})
        settings = "".join(f",{key}={value}" for key, value in announced.items())
        sink = stage.sink(f"far={hop}{settings}", numbers=(options.messages or BY_TIME) + 10000)
        stage.delay(way, hop, ms)
        {"postfix": postfix, "exim": exim}.get(name, sluice)(stage, f"{HOST}:{way}")
        if beside and name in GEARS:
            beside.wait_for_all()  # Postfix and Exim work hard until they have their mail
        learned = learn_gear(stage, sink, options) if announced.get("overlap") == 0 else 0
        row = count(stage, sink, learned, options, beside if name not in GEARS else None)
    say(f"  {ms} ms {name:8} {row['per_second']:8.1f}/s, {row['arrived']} messages, {row['connections_most']} connections, "
        f"{row['cut']} cut off")
    return row


def count(stage, sink, learned, options, beside):
    """Loads the server and counts at the sink, of which `learned` messages are known. `beside`: all mail is in before that."""
    messages, before = options.messages or BY_TIME, sink.stats()["groups"]["far"]
    load, loaded = stage.begin_load(messages, first=learned, size=options.size, sessions=50), time.monotonic()
    if beside:
        stage.end_load(load)
        beside.wait_for_all()
    wait_for_connections(sink, before["messages"] + messages // 5)
    began, busy_us, first = time.monotonic(), machine_busy_us(), sink.total() - before["messages"]
    got = stage.wait_for(lambda: sink.total() - before["messages"], int(messages * 0.98), stall_s=TAIL_S,
                         most_s=LONGEST_S if options.messages else options.seconds)
    seconds, busy_us = time.monotonic() - began, machine_busy_us() - busy_us
    if options.messages:
        stage.wait_for(lambda: sink.stats()["numbers"]["distinct"], learned + messages, stall_s=2 * TAIL_S, most_s=TAIL_S)
    in_all, stats = time.monotonic() - loaded, sink.stats()
    if load.poll() is None:
        load.kill()
    load.communicate()
    after = stats["groups"]["far"]
    return {"per_second": (got - first) / seconds, "messages": got - first, "seconds": seconds,
            "busy": busy_us / 1e6 / seconds / os.cpu_count(), "seconds_in_all": in_all, "connections_most": after["connections_most"],
            "cut": after["connections_cut"] - before["connections_cut"], "arrived": stats["numbers"]["distinct"] - learned,
            "twice": stats["numbers"]["repeated"]}


def run(options, tools, work):
    names = options.only.split(",") if options.only else [*GEARS][1:] + ["postfix", "exim"]
    figures, parts = {}, []
    for ms in options.ms or [50, 150]:
        beside = [name for name in names if options.messages and name != SWIFT]
        own_network()
        rows = {name: measure(name, ms, options, tools, work) for name in names if name not in beside}
        rows.update(zip(beside, side_by_side([functools.partial(measure, name, ms, options, tools, work) for name in beside])))
        figures[str(ms)] = {name: rows[name] for name in names}
        parts.append(show(ms, figures[str(ms)], options))
    good = all(is_good(rows, options) for rows in figures.values())
    return {"figures": figures, "text": "\n\n".join(parts) + "\n", "good": good}


def ratio(rows, name, base="gear 2"):
    return rows[name]["per_second"] / rows[base]["per_second"] if base in rows and rows[base]["per_second"] else 0


def is_good(rows, options):
    wanted = {"gear 3": 1.9, "gear 4": 8}
    if options.messages and any(row["arrived"] < options.messages for name, row in rows.items() if name in GEARS):
        return False
    if "gear 2" not in rows:
        return True
    return rows["gear 2"]["cut"] <= CUT_MOST * rows["gear 2"]["arrived"] and \
        all(ratio(rows, name) >= least for name, least in wanted.items() if name in rows)


def show(ms, rows, options):
    lines = [(name if name not in GEARS else f"sluice, {name}", f"{row['per_second']:.1f}", f"{ratio(rows, name):.2f}",
              f"{row['per_second'] * 2 * ms / 1000 / CONNECTIONS:.2f}", row["messages"], f"{row['seconds']:.1f}",
              *((row["arrived"], f"{row['seconds_in_all']:.1f}") if options.messages else ()),
              row["connections_most"], row["cut"], f"{100 * row['busy']:.0f}") for name, row in rows.items()]
    head = ("server", "messages/s", "× gear 2", "messages/round trip/connection", "messages counted", "in s",
            *(("messages in all", "in s") if options.messages else ()), "most connections", "cut off", "CPUs busy %")
    how = f", {SWIFT} alone and the others side by side" if options.messages else ""
    return f"## {ms} ms each way, {options.size:,} octets, {CONNECTIONS} connections{how}\n\n{table(head, lines)}"
