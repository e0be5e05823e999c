"""Every key, default, word, counter and event of the tables stands in the man pages.

    manual.py ROOT
"""
import pathlib
import re
import sys


def without_markup(text):
    text = text.replace(r"\(dq", '"').replace(r"\&", "")
    return "\n".join(re.sub(r"\b(?:Ic|Ta|Ql|Fl|Ar|Pa)\s", " ", line) for line in text.splitlines())


def main():
    root = pathlib.Path(sys.argv[1])
    base = root / "gateway" / "base"
    config_page = (root / "deploy/man/sluice.conf.5").read_text(encoding="utf-8")
    daemon_page = (root / "deploy/man/sluice.8").read_text(encoding="utf-8")
    deployed = (root / "deploy/sluice.conf").read_text(encoding="utf-8")
    missing = []

    keys = re.findall(r'^KEY\((\w+), (\w+), (\w+), \w+, [\w.]+, (NULL|"[^"]*")', (base / "config_keys.def").read_text(), re.M)
    assert len(keys) > 30, "the table of keys was not understood"
    for section, name, _, default in keys:
        begin = config_page.find(".Ss Outside") if section == "ROOT" else config_page.find(f".Ss {section.lower()}")
        part = re.split(r"^\.S[sh] ", config_page[begin + 1 :], maxsplit=1, flags=re.M)[0]
        entry = re.search(rf"^\.It Ic {name}\b.*?(?=^\.It |^\.El)", part, re.M | re.S)
        if begin < 0 or entry is None:
            missing.append(f"sluice.conf(5): {section} {name}")
            continue
        for word in default.strip('"').split() if default != "NULL" else []:
            if word not in without_markup(entry.group()):
                missing.append(f"sluice.conf(5): default {word} of {name}")
        if not re.search(rf"\b{name}\s*=", deployed):
            missing.append(f"sluice.conf: {name}")

    words = re.findall(r'^    \{KIND_\w+, "([\w.-]+)",', (base / "config_word.c").read_text(), re.M)
    assert len(words) > 30, "the table of words was not understood"
    missing += [f"sluice.conf(5): the word {word}" for word in words if not re.search(rf"(?<![\w.-]){word}(?![\w-])", config_page)]

    for table, macro in (("counters.def", "COUNTER"), ("log_events.def", "LOG_EVENT")):
        rows = re.findall(rf'^{macro}\((?:\w+, )?"?([\w-]+)"?, "', (base / table).read_text(), re.M)
        assert len(rows) > 15, f"{table} was not understood"
        missing += [f"sluice(8): {name}" for name in rows if not re.search(rf"^\.It {name} Ta", daemon_page, re.M)]

    for line in missing:
        print("not documented:", line)
    print(f"{len(keys)} keys and {len(words)} words looked up")
    return 1 if missing else 0


sys.exit(main())
