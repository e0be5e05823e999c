"""The examples of README.md, taken out of it so that they can be run as they stand."""
import re

from .gateway import ROOT


def section(title, text=None):
    """What stands under the heading of that title, up to the next heading of its level or above."""
    text = text if text is not None else (ROOT / "README.md").read_text(encoding="utf-8")
    found, fence = [], None
    level = 0
    for line in text.splitlines():
        mark = re.match(r"(```+|~~~+)", line)
        if mark:
            fence = None if fence and line.startswith(fence) else fence or mark.group(1)
        heading = None if fence or mark else re.match(r"(#+) +(.*?) *#*$", line)
        if heading and level and len(heading.group(1)) <= level:
            break
        if level:
            found.append(line)
        elif heading and heading.group(2) == title:
            level = len(heading.group(1))
    assert level, f'README.md has no heading "{title}"'
    return "\n".join(found) + "\n"


def blocks(text, language=None):
    """The fenced blocks of a text, of one language ("" for none given) or all: (language, content)."""
    found = re.findall(r"^(`{3,}|~{3,}) *([^\n`]*)\n(.*?)^\1[ \t]*$", text, re.MULTILINE | re.DOTALL)
    return [(info.split()[0] if info.split() else "", content) for _, info, content in found
            if language is None or (info.split() or [""])[0] == language]


def configuration(title):
    """The one block under a heading that is a configuration: it has a listener."""
    found = [content for _, content in blocks(section(title)) if re.search(r"^listener\b", content, re.MULTILINE)]
    assert len(found) == 1, f'expected one configuration under "{title}" in README.md, got {len(found)}'
    return found[0]
