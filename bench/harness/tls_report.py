"""The tables of bench/tls."""

import statistics

from harness.tls import COUNTERS, OPENINGS

GOAL = 1.35
SMALL, LARGE = 30, 10240  # what bench/micro/tls.c measures
CIPHERS = {"TLS_AES_128_GCM_SHA256": "AES-128-GCM", "TLS_AES_256_GCM_SHA384": "AES-256-GCM",
           "TLS_CHACHA20_POLY1305_SHA256": "ChaCha20-Poly1305"}
RECORD_OVERHEAD = 22  # header, content type and tag: RFC 8446 section 5.2


def median(runs, key):
    return statistics.median(run[key] for run in runs)


def ratios(result):
    relays = result["relays"]
    return sorted(late["cpu_us"] / early["cpu_us"] for early, late in zip(relays["clear"], relays["implicit"]))


def _rows(*rows):
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def relay_table(result):
    clear, secured = result["relays"]["clear"], result["relays"]["implicit"]
    pairs = ratios(result)
    quarter = len(pairs) // 4
    names = (("CPU µs/message", "cpu_us", 1), ("relayed/s", "relayed_per_second", 0))
    lines = [("", "clear", "TLS 1.3"), ("---", "---:", "---:")]
    lines += [(name, f"{median(clear, key):,.{digits}f}", f"{median(secured, key):,.{digits}f}") for name, key, digits in names]
    lines += [(f"{name} /message", f"{median(clear, name):,.3f}", f"{median(secured, name):,.3f}") for name in COUNTERS]
    lines += [("records in, out /message", "–", f"{median(secured, 'records_sent'):.2f}, {median(secured, 'records_received'):.2f}")]
    verdict = "within" if statistics.median(pairs) <= GOAL else "ABOVE"
    return (f"{_rows(*lines)}\n\nTLS costs **{statistics.median(pairs):.3f}** times the clear text, {verdict} the goal of {GOAL} "
            f"(median of {len(pairs)} pairs; the middle half from {pairs[quarter]:.3f} to {pairs[-1 - quarter]:.3f}, "
            f"all from {pairs[0]:.3f} to {pairs[-1]:.3f}).")


def opening_table(result, key):
    openings = result["openings"]
    bare = openings["clear"]
    lines = [("connection: EHLO, QUIT", "CPU µs", "more than in the clear", "a second", "resumed %"),
             ("---", "---:", "---:", "---:", "---:")]
    for name, _, _ in OPENINGS:
        runs = openings[name]
        # In the round that it was measured in: the machine's pace changes.
        more = statistics.median(run["cpu_us"] - base["cpu_us"] for run, base in zip(runs, bare))
        lines.append((name if name == "clear" else f"{name}, {key}", f"{median(runs, 'cpu_us'):,.0f}", f"{more:,.0f}",
                      f"{median(runs, 'per_second'):,.0f}", f"{100 * median(runs, 'resumed'):.0f}"))
    return _rows(*lines)


def _cost_us(micro, name, records, size):
    """Of records with `size` octets of plain text among them: a part for each record, and one for each octet."""
    small, large = micro[f"{name} {SMALL}"], micro[f"{name} {LARGE}"]
    octet = (large - small) / (LARGE - SMALL)
    return (records * (small - SMALL * octet) + size * octet) / 1000


def parts_table(result):
    micro, secured = result["micro"], result["relays"]["implicit"]
    cipher = CIPHERS[secured[0]["cipher"]]
    extra = statistics.median(late["cpu_us"] - early["cpu_us"] for early, late in zip(result["relays"]["clear"], secured))
    lines, known = [("part", "records/message", "octets/message", "µs/message"), ("---", "---:", "---:", "---:")], 0
    # What the source sent, the gateway opens.
    for way, what, call, action in (("sent", "open", "SSL_read", "opening"), ("received", "seal", "SSL_write", "sealing")):
        records = median(secured, f"records_{way}")
        size = median(secured, f"record_bytes_{way}") - records * RECORD_OVERHEAD
        inside = _cost_us(micro, f"{cipher} {what}", records, size)
        around = _cost_us(micro, call, records, size) - inside
        counts = (f"{records:.2f}", f"{size:,.0f}")
        lines += [(f"{cipher}, {action}", *counts, f"{inside:.1f}"), (f"the library around it, {call}", *counts, f"{around:.1f}")]
        known += inside + around
    lines += [("all else: kernel, copies of the gateway, caches", "", "", f"{extra - known:.1f}"), ("**extra CPU**", "", "", f"**{extra:.1f}**")]
    return _rows(*lines)


def micro_table(result):
    lines = [("operation, octets", "ns"), ("---", "---:")]
    return _rows(*lines, *((name, f"{ns:,.0f}") for name, ns in result["micro"].items()))


def markdown(record):
    place, profile = record["machine"], record["profile"]
    lines = [f"# The cost of TLS, {place['started'][:10]}, commit {place['commit']}", "",
             f"{place['cpus']} × {place['cpu']}, {place['memory_gb']} GB, kernel {place['kernel']}, data on {place['file_system']}; CPU time "
             f"from schedstat; load average {record['load_average'][0]:.1f} before and {record['load_average'][1]:.1f} after."]
    for key, result in record["keys"].items():
        lines += ["", f"## {profile['size']:,} octets, {profile['sessions']} kept sessions, {profile['messages']:,} messages a round, {key}", "",
                  relay_table(result), "", "What the extra is made of:", "", parts_table(result), "", opening_table(result, key),
                  "", "The micro-benchmark, best of all slices:", "", micro_table(result)]
    return "\n".join(lines) + "\n"
