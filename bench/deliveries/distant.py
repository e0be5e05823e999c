"""Distant: a few connections over a long way.

The next hop is 50 or 150 ms away, each way, and 10 connections go there. A server's rate is then made of round trips:
what it sends before it must hear an answer. The sink announces what each gear of Sluice needs. Gear 2 is forced by a sink
that cuts off whoever sends behind the final dot before its reply, until the gateway has learned not to; cutting goes on for as
long as the measurement does, and the table shows that it did not happen.
"""

import time

from deliveries.relays import Exim, Postfix, Sluice
from deliveries.stage import HOST, Stage, say, table

CONNECTIONS = 10
SINK, WAY_PORT = "10.1.0.1:2526", 2527
GEARS = {"gear 1": {"pipelining": 0, "chunking": 0}, "gear 2": {"chunking": 0, "overlap": 0},
         "gear 3": {"chunking": 0}, "gear 4": {}}
LEARNING_S = 60
OPENING_S = 8


def add_arguments(parser):
    parser.add_argument("--ms", type=int, action="append", help="each way; may be repeated (default 50 and 150)")
    parser.add_argument("--messages", type=int, default=5000, help="default 5000")
    parser.add_argument("--size", type=int, default=10240, help="of a message, octets (default 10240)")
    parser.add_argument("--seconds", type=int, default=15, help="a row is measured at most (default 15)")
    parser.add_argument("--only", help="comma-separated: gear 1 to 4, postfix, exim (default all but gear 1)")


def sluice(stage):
    return stage.start(Sluice, f'route "*" {{ to = "smtp://{HOST}:{WAY_PORT}" }}',
                       f'site "default" {{ connections = {CONNECTIONS} messages_per_connection = 0 }}\n'
                       'retry { schedule = {"2s"} }')


def postfix(stage):
    return stage.start(Postfix, f"{HOST}:{WAY_PORT}", f"""
default_destination_concurrency_limit = {CONNECTIONS}
initial_destination_concurrency = {CONNECTIONS}
smtp_connection_reuse_time_limit = 3600s
""")


def exim(stage):
    return stage.start(Exim, f"{HOST}:{WAY_PORT}", runners=CONNECTIONS)


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


def measure(name, ms, options, tools, work):
    with Stage(tools, work, options.keep) as stage:
        announced = GEARS.get(name, {})
        settings = "".join(f",{key}={value}" for key, value in announced.items())
        sink = stage.sink(f"far={SINK}{settings}", numbers=options.messages + 10000)
        stage.delay(WAY_PORT, SINK, ms)
        {"postfix": postfix, "exim": exim}.get(name, sluice)(stage)
        learned = learn_gear(stage, sink, options) if announced.get("overlap") == 0 else 0
        before = sink.stats()["groups"]["far"]
        load = stage.begin_load(options.messages, first=learned, size=options.size, sessions=50)
        wait_for_connections(sink, before["messages"] + options.messages // 5)
        began, first = time.monotonic(), sink.total() - before["messages"]
        goal = int(options.messages * 0.98)
        got = stage.wait_for(lambda: sink.total() - before["messages"], goal, most_s=options.seconds)
        seconds = time.monotonic() - began
        after = sink.stats()["groups"]["far"]
        if load.poll() is None:
            load.kill()
        load.communicate()
    return {"per_second": (got - first) / seconds, "messages": got - first, "seconds": seconds,
            "connections_most": after["connections_most"], "cut": after["connections_cut"] - before["connections_cut"]}


def run(options, tools, work):
    names = options.only.split(",") if options.only else [*GEARS][1:] + ["postfix", "exim"]
    figures, parts = {}, []
    for ms in options.ms or [50, 150]:
        rows = figures[str(ms)] = {}
        for name in names:
            rows[name] = measure(name, ms, options, tools, work)
            say(f"  {ms} ms {name:8} {rows[name]['per_second']:8.1f}/s, {rows[name]['connections_most']} connections, "
                f"{rows[name]['cut']} cut off")
        parts.append(show(ms, rows, options))
    return {"figures": figures, "text": "\n\n".join(parts) + "\n", "good": all(map(is_good, figures.values()))}


def ratio(rows, name, base="gear 2"):
    return rows[name]["per_second"] / rows[base]["per_second"] if base in rows else 0


def is_good(rows):
    wanted = {"gear 3": 1.9, "gear 4": 8}
    return "gear 2" not in rows or all(ratio(rows, name) >= least for name, least in wanted.items() if name in rows)


def show(ms, rows, options):
    lines = [(name if name not in GEARS else f"sluice, {name}", f"{row['per_second']:.1f}", f"{ratio(rows, name):.2f}",
              f"{row['per_second'] * 2 * ms / 1000 / CONNECTIONS:.2f}", row["messages"], f"{row['seconds']:.1f}",
              row["connections_most"], row["cut"]) for name, row in rows.items()]
    head = ("server", "messages/s", "× gear 2", "messages/round trip/connection", "messages", "s", "most connections", "cut off")
    return f"## {ms} ms each way, {options.size:,} octets, {CONNECTIONS} connections\n\n{table(head, lines)}"
