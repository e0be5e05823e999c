"""Fan-out: one large message to many recipients at many places.

The same message goes to one recipient and then to a thousand in two hundred domains at twenty hosts, and then a message without
content. Shown is what each cost in the durable log, by the gateway's own counters, and in memory, by its group's.
"""

import time

from deliveries.relays import Sluice
from deliveries.stage import Stage, table

HOSTS = 20
COUNTERS = ("log_writes", "log_write_bytes", "reads_from_disk", "log_pages_evicted", "messages_delivered", "recipients_delivered",
            "bytes_sent")


def add_arguments(parser):
    parser.add_argument("--recipients", type=int, default=1000, help="default 1000")
    parser.add_argument("--domains", type=int, default=200, help="default 200")
    parser.add_argument("--size", type=int, default=102400, help="of the message, octets (default 102400)")


def routes(domains):
    return "\n".join(f'route "d{domain}.example" {{ to = "smtp://10.1.0.{domain % HOSTS + 1}:2526" }}' for domain in range(domains))


WARM_UP = 64  # messages of a mebibyte: as many pages, of which each worker keeps some


def counters(stage):
    time.sleep(0.5)  # outcomes ride the next write
    stats = stage.server.stats()
    stats["memory"] = stage.group("server").memory_bytes()
    return stats


def send(stage, sink, first, recipients, domains, size):
    """One message; what it cost."""
    before, taken, got = counters(stage), sink.total(), sink.total("recipients")
    began, memory = time.monotonic(), [0]
    load = stage.begin_load(1, first=first, recipients=recipients, domains=domains, domain="d#.example", size=size, sessions=1)
    while sink.total("recipients") - got < recipients and time.monotonic() - began < 30:
        memory.append(stage.group("server").memory_bytes() - before["memory"])
        time.sleep(0.001)
    seconds = time.monotonic() - began
    stage.end_load(load)
    after = counters(stage)
    difference = {name: after[name] - before[name] for name in COUNTERS}
    return {**difference, "seconds": seconds, "memory_more": max(memory), "transactions": sink.total() - taken}


def run(options, tools, work):
    with Stage(tools, work, options.keep) as stage:
        sink = stage.sink(f"all=10.1.0.1-10.1.0.{HOSTS}:2526,delay_ms=20", numbers=100000)
        stage.start(Sluice, routes(options.domains))
        # Connections, lanes, sites and the log's pages are there before anything is counted.
        stage.load(WARM_UP, first=90000, domain="d0.example", size=1 << 20, sessions=8)
        stage.wait_for(sink.total, WARM_UP)
        send(stage, sink, 0, options.recipients, options.domains, options.size)
        columns = {"to 1": send(stage, sink, 50000, 1, options.domains, options.size),
                   f"to {options.recipients:,}": send(stage, sink, 60000, options.recipients, options.domains, options.size),
                   f"to {options.recipients:,}, without content": send(stage, sink, 70000, options.recipients, options.domains, 20)}
        numbers = sink.stats()["numbers"]
    return judge(columns, numbers, options)


def judge(columns, numbers, options):
    single, many, bare = columns.values()
    names = ("log_writes", "log_write_bytes", "reads_from_disk", "log_pages_evicted", "transactions", "recipients_delivered", "bytes_sent",
             "memory_more", "seconds")
    rows = [(name.replace("_", " "), *(f"{cost[name]:,.3f}" if name == "seconds" else f"{cost[name]:,}" for cost in columns.values()))
            for name in names]
    content = many["log_write_bytes"] - bare["log_write_bytes"]
    memory = many["memory_more"] - bare["memory_more"]
    good = content < 1.2 * options.size and memory < many["transactions"] * options.size / 4 and many["reads_from_disk"] == 0 and numbers["repeated"] == 0
    text = (f"One message of {options.size:,} octets; each next hop waits 20 ms before it answers, so that all are at it at the same "
            f"time.\n\n{table(('', *columns), rows)}\n\nThe content took {content:,} octets of the log and {memory:,} of further "
            f"memory, and went out {many['transactions']} times, {many['transactions'] * options.size:,} octets. Each recipient took "
            f"{(many['log_write_bytes'] - single['log_write_bytes']) / options.recipients:.0f} octets of the log. At the sink: "
            f"{numbers['repeated']} recipients twice.\n")
    return {"figures": {"costs": columns, "numbers": numbers}, "text": text, "good": good}
