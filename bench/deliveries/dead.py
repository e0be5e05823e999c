"""Dead: one of ten providers takes connections and never says a word, or is not there at all.

The same mail for ten providers is sent with all of them well and with the last one dead, in turns: at a given rate, and as fast
as it goes. What counts is how soon the other nine have all of theirs. The dead one's mail has to be kept, so segments of the log
do not come free again, and new ones are made; the last columns show it.
"""

import re
import statistics
import time

from deliveries.relays import Sluice
from deliveries.stage import Stage, say, table

PROVIDERS = 10
WAYS = ("well", "silent", "gone")
WARM_UP = 1000
LOSS_MOST = 0.05
COUNTERS = ("log_writes", "log_write_bytes", "messages_moved", "reads_from_disk", "log_pages_evicted", "log_segments", "enter_calls",
            "sends", "outbound_connections")


def add_arguments(parser):
    parser.add_argument("--rate", type=int, default=3000, help="messages a second to all providers together (default 3000)")
    parser.add_argument("--messages", type=int, default=40000, help="at full speed, to all (default 40000)")
    parser.add_argument("--seconds", type=int, default=6, help="how long the given rate is kept (default 6)")
    parser.add_argument("--size", type=int, default=10240, help="of a message, octets (default 10240)")
    parser.add_argument("--rounds", type=int, default=3, help="medians are shown (default 3)")


def address(provider):
    return f"10.1.{provider}.1:2526"


def routes():
    return "\n".join(f'route "d{provider}.example" {{ to = "smtp://{address(provider)}" }}' for provider in range(PROVIDERS))


def sink_groups(way):
    groups = [f"p{provider}={address(provider)}" for provider in range(PROVIDERS)]
    if way == "silent":
        groups[-1] += ",mode=dead"
    return groups[:-1] if way == "gone" else groups


def faults(pid):
    """How often the process touched memory that it did not have yet."""
    with open(f"/proc/{pid}/stat", encoding="ascii") as stat:
        return int(stat.read().rpartition(")")[2].split()[7])


def delays(stage):
    """How long delivered messages took, ms, from the gateway's log."""
    return sorted(int(delay) for delay in re.findall(r" deliver .*@d[0-8]\.example>.* delay_ms=(\d+)", stage.server.log.read_text()))


def measure(way, messages, rate, options, tools, work):
    others = [f"p{provider}" for provider in range(PROVIDERS - 1)]
    theirs = sum(1 for message in range(messages) if message % PROVIDERS < PROVIDERS - 1)
    with Stage(tools, work, options.keep) as stage:
        sink = stage.sink(*sink_groups(way))
        stage.start(Sluice, routes(), 'site "default" { connections = 10 }')
        stage.load(WARM_UP, domain="d0.example")
        stage.wait_for(sink.total, WARM_UP)
        pid, group = stage.server.process.pid, stage.group("server")
        stats, cpu_us, faulted, began = stage.server.stats(), group.cpu_us(), faults(pid), time.monotonic()
        load = stage.begin_load(messages, domain="d#.example", domains=PROVIDERS, size=options.size, sessions=50, rate=rate)
        stage.wait_for(lambda: sink.total(groups=others) - WARM_UP, theirs)
        seconds = time.monotonic() - began
        stage.end_load(load)
        after, took = stage.server.stats(), delays(stage)
        return {"per_second": theirs / seconds, "cpu_us": (group.cpu_us() - cpu_us) / theirs,
                "delay_p50_ms": took[len(took) // 2], "delay_p99_ms": took[len(took) * 99 // 100],
                "faults": (faults(pid) - faulted) / theirs, "memory": group.memory_bytes(),
                **{name: after[name] - stats[name] for name in COUNTERS}}


def run(options, tools, work):
    speeds = {f"{options.rate:,} messages/s": (options.rate * options.seconds, options.rate), "full speed": (options.messages, 0)}
    figures, parts, good = {}, [], True
    for speed, (messages, rate) in speeds.items():
        rounds = figures[speed] = {way: [] for way in WAYS}
        for number in range(options.rounds):
            for way in WAYS if number % 2 == 0 else WAYS[::-1]:
                rounds[way].append(measure(way, messages, rate, options, tools, work))
            say(f"  {speed}, round {number + 1}: " + ", ".join(f"{way} {rounds[way][-1]['per_second']:,.0f}/s" for way in WAYS))
        good &= all(loss(rounds, way) > -LOSS_MOST for way in WAYS)
        parts.append(f"## {speed}: {messages:,} messages of {options.size:,} octets, {options.rounds} rounds\n\n{show(rounds)}")
    return {"figures": figures, "text": "\n\n".join(parts) + "\n", "good": good}


def median(rounds, way, name):
    return statistics.median(one[name] for one in rounds[way])


def loss(rounds, way):
    return median(rounds, way, "per_second") / median(rounds, "well", "per_second") - 1


def show(rounds):
    rows = []
    for way in WAYS:
        least, most = (extreme(one["per_second"] for one in rounds[way]) for extreme in (min, max))
        rows.append((way, f"{median(rounds, way, 'per_second'):,.0f}", f"{100 * loss(rounds, way):+.1f} %", f"{least:,.0f} to {most:,.0f}",
                     f"{median(rounds, way, 'cpu_us'):.1f}", f"{median(rounds, way, 'delay_p50_ms'):.0f}",
                     f"{median(rounds, way, 'delay_p99_ms'):.0f}", f"{median(rounds, way, 'log_segments'):+.0f}",
                     f"{median(rounds, way, 'messages_moved'):,.0f}", f"{median(rounds, way, 'memory') / 1e6:.0f}",
                     f"{median(rounds, way, 'faults'):.2f}"))
    return table(("the tenth provider is", "messages/s to the other nine", "against well", "in the rounds", "CPU µs/message", "delay p50 ms",
                  "p99 ms", "log segments", "moved", "memory MB", "page faults/message"), rows)
