"""Medians over the rounds, the table, and the files that are kept."""

import datetime
import json
import os
import pathlib
import platform
import statistics
import subprocess

from harness.group import MODE


def _median(runs, *path):
    values = []
    for run in runs:
        for key in path:
            run = run.get(key) if run is not None else None
        if run is not None:
            values.append(run)
    return statistics.median(values) if values else None


def _number(value, digits=0):
    return "–" if value is None else f"{value:,.{digits}f}"


COLUMNS = (
    ("relayed/s", lambda runs: _number(_median(runs, "relayed_per_second"))),
    ("CPU µs/message", lambda runs: _number(_median(runs, "server_cpu_us"), 1)),
    ("× floor", None),
    ("accept p50 µs", lambda runs: _number(_median(runs, "accept", "p50_us"))),
    ("accept p99 µs", lambda runs: _number(_median(runs, "accept", "p99_us"))),
    ("log writes/message", lambda runs: _number(_median(runs, "log_writes"), 2)),
    ("log bytes/message", lambda runs: _number(_median(runs, "log_bytes"))),
    ("device writes/message", lambda runs: _number(_median(runs, "device_writes"), 2)),
    ("device bytes/message", lambda runs: _number(_median(runs, "device_bytes"))),
    ("peak memory MB", lambda runs: _number((_median(runs, "memory_bytes") or 0) / 1e6, 1)),
    ("source CPU µs", lambda runs: _number(_median(runs, "source_cpu_us"))),
    ("sink CPU µs", lambda runs: _number(_median(runs, "sink_cpu_us"))),
    ("elsewhere CPU %", lambda runs: _number(_median(runs, "other_cpu_percent"))),
    ("disk p50 µs", lambda runs: _number(_median(runs, "disk_probe", "p50_us"))),
    ("disk p99 µs", lambda runs: _number(_median(runs, "disk_probe", "p99_us"))),
    ("messages", lambda runs: _number(_median(runs, "messages"))),
)


def table(cell):
    """One Markdown table: a row for each server of one profile."""
    floor_us = _median(cell["runs"].get("floor", []), "server_cpu_us")
    lines = ["| server | " + " | ".join(name for name, _ in COLUMNS) + " |", "|---" + "|---:" * len(COLUMNS) + "|"]
    for name, runs in cell["runs"].items():
        if not runs:
            lines.append(f"| {name} | failed" + " | –" * (len(COLUMNS) - 1) + " |")
            continue
        cpu_us = _median(runs, "server_cpu_us")
        ratio = _number(cpu_us / floor_us, 1) if floor_us else "–"
        cells = [ratio if figure is None else figure(runs) for _, figure in COLUMNS]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _output(*command):
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    return result.stdout.strip() if result.returncode == 0 else ""


def _cpu_model():
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def machine(work, source):
    """Where these figures come from."""
    commit = _output("git", "-C", str(source), "rev-parse", "--short=12", "HEAD") or "none"
    dirty = "-modified" if _output("git", "-C", str(source), "status", "--porcelain") else ""
    memory_kb = int(pathlib.Path("/proc/meminfo").read_text().split()[1])
    return {
        "cpu": _cpu_model(), "cpus": len(os.sched_getaffinity(0)), "memory_gb": round(memory_kb / 1e6, 1),
        "kernel": platform.release(), "file_system": _output("df", "--output=fstype", str(work)).split()[-1],
        "commit": commit + dirty, "cpu_time_from": MODE,
        "started": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
    }


def markdown(record):
    place = record["machine"]
    lines = [
        f"# Comparison of {place['started'][:10]}, commit {place['commit']}", "",
        f"{place['cpus']} × {place['cpu']}, {place['memory_gb']} GB, kernel {place['kernel']}, data on "
        f"{place['file_system']}; CPU time from {place['cpu_time_from']}; medians of {record['rounds']} rounds.",
    ]
    idle = record["disk_idle"]
    lines += ["", f"The idle disk took {idle['p50_us']:,.0f} µs (p99 {idle['p99_us']:,.0f}) for a durable 4 KiB block.", ""]
    for cell in record["cells"]:
        lines += [f"## {cell['title']}", "", table(cell), ""]
        lines += [f"- {name}, round {number}: {why}" for name, number, why in cell["failures"]]
        lines += [""] if cell["failures"] else []
    lines += ["Log writes and bytes are a server's own counters, where it keeps some. Device writes and bytes are the whole "
              "disk's: the file system's journal, and whoever else wrote meanwhile, are in them.", ""]
    return "\n".join(lines)


def save(record, folder, text=None, kind=""):
    """Writes the JSON and the Markdown (`text`, else that of a comparison); returns the path of the latter."""
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    place = record["machine"]
    stem = folder / f"{place['started'][:10]}-{place['kernel']}-{place['commit']}{kind}"
    number = 1
    path = pathlib.Path(f"{stem}.json")
    while path.exists():
        number += 1
        path = pathlib.Path(f"{stem}-{number}.json")
    path.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    path.with_name(path.name[:-len(".json")] + ".md").write_text(text or markdown(record))
    return path.with_name(path.name[:-len(".json")] + ".md")
