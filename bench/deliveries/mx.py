"""MX: many domains, few providers, and a limit of its own for each.

100,000 messages go to 20,000 domains whose MX are 200 hosts of twenty providers, named by NSD through unbound. The sink counts
at each provider what no sender may exceed, over any second, minute and hour and not by the clock's; unbound counts the questions.
"""

import itertools
import time

from deliveries.names import Names
from deliveries.relays import Postfix, Sluice
from deliveries.stage import Stage, say, table

PROVIDERS, HOSTS_EACH = 20, 10
SLACK_MS = 50
# What a site may, by provider. The sink has to see no more.
LIMITS = {
    0: {"connections": 3},
    1: {"connections": 10, "connections_per_host": 1},
    2: {"connections_per_second": 2, "messages_per_connection": 50},
    3: {"messages_per_second": 100},
    4: {"messages_per_minute": 4000},
    5: {"messages_per_connection": 10},
    6: {"connections": 8, "connections_per_host": 2, "messages_per_second": 150, "messages_per_connection": 25},
    7: {"recipients_per_connection": 30},
    8: {"messages_per_hour": 7200},
    9: {"recipients_per_message": 8},
}
FREE = [provider for provider in range(PROVIDERS) if provider not in LIMITS]
# Domains of a provider that would need an hour for its part; the others' are free providers' domains.
FEW_DOMAINS = {8: 56}
CROWDED = 9  # a domain that gets messages with many recipients, too; of the provider of the same number
CROWDS, CROWD = 25, 20
# Hosts that take their time, so that connections are what is short.
SLOW_MS = {0: 20, 1: 50, 6: 50}
DEFAULT_LIMITS = {"connections": 20, "messages_per_connection": 100}
# What the sink calls it.
SEEN = {"connections": "connections_most", "connections_per_host": "host_connections_most",
        "connections_per_second": "connects_1s_most", "messages_per_second": "messages_1s_most",
        "messages_per_minute": "messages_60s_most", "messages_per_hour": "messages_3600s_most",
        "messages_per_connection": "connection_messages_most", "recipients_per_connection": "connection_recipients_most",
        "recipients_per_message": "message_recipients_most"}
# A message that was sent in time may be seen late, and so fall into one second with later ones.
SEEN_WITH_SLACK = {"connections_per_second": "connects_short_most", "messages_per_second": "messages_short_most"}
SPANS_S = {"messages_per_minute": 60, "messages_per_hour": 3600}
EARLY = 0.02  # of a span: so far ahead of an even pace mail may be
ZONE = "example"


def add_arguments(parser):
    parser.add_argument("--messages", type=int, default=100000, help="default 100000")
    parser.add_argument("--domains", type=int, default=20000, help="default 20000")
    parser.add_argument("--size", type=int, default=4096, help="of a message, octets (default 4096)")
    parser.add_argument("--only", default="sluice,postfix", help="comma-separated (default sluice,postfix)")
    parser.add_argument("--peer-messages", type=int, default=20000, help="for Postfix, which takes longer (default 20000)")
    parser.add_argument("--no-limits", action="store_true", help="no limit but the default")


def provider_of(domain):
    provider, number = domain % PROVIDERS, domain // PROVIDERS
    return provider if number < FEW_DOMAINS.get(provider, number + 1) else FREE[number % len(FREE)]


def records(domains):
    lines = []
    for provider in range(PROVIDERS):
        lines += [f"mx{host}.p{provider} A 10.1.{provider}.{host + 1}" for host in range(HOSTS_EACH)]
    for domain in range(domains):
        provider = provider_of(domain)
        lines += [f"d{domain} MX 10 mx{host}.p{provider}" for host in range(HOSTS_EACH)]
    return lines


def limits_of(provider, options):
    return DEFAULT_LIMITS if options.no_limits else {**DEFAULT_LIMITS, **LIMITS.get(provider, {})}


def sluice(stage, options):
    sites = []
    for provider in range(PROVIDERS):
        limits = " ".join(f"{name} = {value}" for name, value in limits_of(provider, options).items())
        sites.append(f'site "p{provider}.{ZONE}" {{ {limits} }}')
    return stage.start(Sluice, 'route "*" { to = "mx" }', "\n".join(sites) + '\ndns { servers = {"127.0.0.1"} }')


def postfix(stage, _options):
    return stage.start(Postfix, None, """
default_destination_concurrency_limit = 20
initial_destination_concurrency = 20
smtp_connection_cache_on_demand = yes
qmgr_message_active_limit = 40000
""")


SERVERS = {"sluice": sluice, "postfix": postfix}
PATIENCE = {"stall_s": 70, "most_s": 1500, "every_s": 0.05}


def measure(name, messages, options, tools, work):
    with Stage(tools, work, options.keep) as stage:
        names = Names(stage, ZONE, records(options.domains))
        groups = [f"p{provider}=10.1.{provider}.1-10.1.{provider}.{HOSTS_EACH}"
                  f",delay_ms={0 if options.no_limits else SLOW_MS.get(provider, 0)}" for provider in range(PROVIDERS)]
        recipients = messages + CROWDS * CROWD
        sink = stage.sink(*groups, numbers=recipients, slack_ms=SLACK_MS, punctual=True)
        SERVERS[name](stage, options)
        asked = names.questions()
        cpu_us, began = stage.group("server").cpu_us(), time.monotonic()
        loads = [stage.begin_load(messages, domain=f"d#.{ZONE}", domains=options.domains, size=options.size, sessions=50),
                 stage.begin_load(CROWDS, domain=f"d{CROWDED}.{ZONE}", first=messages, recipients=CROWD, size=options.size, sessions=1)]
        free = [provider for provider in range(PROVIDERS) if options.no_limits or provider in FREE]
        share = free_messages(messages, options.domains, free)
        stage.wait_for(lambda: sink.total(groups=[f"p{provider}" for provider in free]), share, **PATIENCE)
        free_seconds = time.monotonic() - began
        stage.wait_for(lambda: sink.stats()["numbers"]["distinct"], recipients, **PATIENCE)
        seconds = time.monotonic() - began
        for load in loads:
            stage.end_load(load)
        time.sleep(0.5)
        cpu_us = (stage.group("server").cpu_us() - cpu_us) / (messages + CROWDS)
        now = names.questions()
        return {"messages": messages, "seconds": seconds, "free_seconds": free_seconds, "free": share, "cpu_us": cpu_us,
                "questions": {kind: now[kind] - asked.get(kind, 0) for kind in now}, "sink": sink.stats()}


def free_messages(messages, domains, free):
    """How many of those that go round the domains are for these providers."""
    round_trip = [provider_of(domain) in free for domain in range(domains)]
    return sum(itertools.islice(itertools.cycle(round_trip), messages))


def allowed(name, value, seconds):
    """What a limit allows in a run that may be shorter than its span."""
    span = SPANS_S.get(name, 0)
    return min(value, int(value * (seconds + SLACK_MS / 1000 + EARLY * span) / span) + 1) if span else value


def checks(result, options):
    """(site, limit, its value, allowed in this run, seen, seen with slack, seconds) for each limit of each site."""
    rows = []
    for provider in range(PROVIDERS):
        group = result["sink"]["groups"][f"p{provider}"]
        seconds = group["messages_span_s"]
        rows += [(f"p{provider}.{ZONE}", name, value, allowed(name, value, seconds), group[SEEN[name]],
                  group[SEEN_WITH_SLACK.get(name, SEEN[name])], seconds) for name, value in limits_of(provider, options).items()]
    return rows


def per_name(result, options):
    """Questions for each distinct name and type: MX of the domains asked for, addresses of the hosts."""
    asked = result["questions"]
    domains = min(options.domains, result["messages"])
    kinds = {"MX": domains, "A": PROVIDERS * HOSTS_EACH, "AAAA": PROVIDERS * HOSTS_EACH}
    distinct = sum(count for kind, count in kinds.items() if asked.get(kind))
    return sum(asked.get(kind, 0) for kind in kinds) / distinct, {kind: asked.get(kind, 0) / count for kind, count in kinds.items()}


def run(options, tools, work):
    results, good = {}, True
    for name in options.only.split(","):
        messages = options.peer_messages if name == "postfix" else options.messages
        result = results[name] = measure(name, messages, options, tools, work)
        result["per_name"], result["per_kind"] = per_name(result, options)
        good &= result["sink"]["numbers"]["distinct"] == result["sink"]["numbers"]["expected"]
        say(f"  {name:8} {result['free'] / result['free_seconds']:8,.0f}/s to sites without limits of their own, "
            f"{result['cpu_us']:,.1f} µs CPU/message, {result['per_name']:.3f} questions a name")
    text = show_rates(results)
    if "sluice" in results:
        rows = checks(results["sluice"], options)
        good &= all(row[5] <= row[3] for row in rows) and results["sluice"]["per_name"] <= 1.1
        text += "\n" + show_limits(rows, results["sluice"])
    return {"figures": results, "text": text, "good": good}


def show_rates(results):
    rows = []
    for name, result in results.items():
        numbers = result["sink"]["numbers"]
        rows.append((name, f"{result['messages']:,}", f"{result['seconds']:.1f}", f"{result['free'] / result['free_seconds']:,.0f}",
                     f"{result['cpu_us']:,.1f}", f"{result['questions']['']:,}", f"{result['per_name']:.3f}",
                     numbers["expected"] - numbers["distinct"], numbers["repeated"]))
    return table(("server", "messages", "s for all", "messages/s to sites without own limits", "CPU µs/message", "DNS questions",
                  "for each name and type", "lost", "twice"), rows) + "\n"


def show_limits(rows, result):
    lines = [(site, name, f"{value:,}", f"{may:,}" + (f" in {seconds:.1f} s" if may < value else ""), f"{seen:,}", verdict(may, seen, slack))
             for site, name, value, may, seen, slack, seconds in rows if DEFAULT_LIMITS.get(name) != value]
    common = [row for row in rows if DEFAULT_LIMITS.get(row[1]) == row[2]]
    held = sum(row[5] <= row[3] for row in common)
    return (f"{table(('site', 'limit', 'allowed', 'in this run', 'most seen', ''), lines)}\n\nThe default limits, {DEFAULT_LIMITS}: "
            f"{held} of {len(common)} held. Rates are counted over any second, minute or hour that begins with a message or a connection. "
            f"Where a site's mail took less than the span, \"in this run\" is the span's part, and {EARLY:.0%} of it that may come early. "
            f"The sink's longest turn took {result['sink']['turn_us_most'] / 1000:.1f} ms.\n")


def verdict(may, seen, slack):
    if seen <= may:
        return "held"
    return f"held over any {1000 - SLACK_MS} ms" if slack <= may else "EXCEEDED"
