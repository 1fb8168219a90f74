"""What the figures were measured on, in words that name no machine and no path."""

import os
import pathlib
import platform
import re
import shutil
import subprocess


def load():
    return " ".join(f"{one:.2f}" for one in os.getloadavg())


def lines(root):
    """Host and versions, a line each."""
    memory = first(r"MemTotal:\s+(\d+)", "/proc/meminfo")
    processor = first(r"model name\s*:\s*(.+)", "/proc/cpuinfo") or platform.machine()
    gib = f"{int(memory) / 2**20:.1f} GiB" if memory else "memory unknown"
    yield f"Host: {processor}, {os.cpu_count()} cores, {gib}, Linux {platform.release().split('-')[0]}"
    revision = said(["git", "-C", str(root), "rev-parse", "--short", "HEAD"]) or "unknown"
    # Pages and pictures are what this writes itself.
    asked = ["status", "--porcelain", "--untracked-files=no", "--", ".", ":(exclude)benches/runs"]
    changed = bool(said(["git", "-C", str(root), *asked]))
    yield f"Scupper: {revision}{', with changes' if changed else ''}"
    programs = [["rustc", "--version"], ["python3", "--version"], ["node", "--version"], ["valgrind", "--version"]]
    found = [said(words) for words in programs]
    found = [f"{words[0]} {one}" if one[:1] == "v" and one[1:2].isdigit() else one for one, words in zip(found, programs)]
    lsof = shutil.which("lsof") and re.search(r"revision: (\S+)", said(["lsof", "-v"], errors=True))
    found.append(f"lsof {lsof[1]}" if lsof else "lsof absent")
    yield "Tools: " + "; ".join(
        one if one else f"{words[0]} absent" for one, words in zip(found, [*programs, ["lsof"]])
    )
    pinned = root / "ci/.installed/versions.txt"
    if pinned.exists():
        yield "SDKs (ci/setup): " + "; ".join(pinned.read_text().split("\n")).strip("; ")
    else:
        yield "SDKs: not installed (ci/setup), and left out"


def first(pattern, path):
    found = re.search(pattern, pathlib.Path(path).read_text())
    return found and found[1]


def said(words, errors=False):
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return (done.stderr + done.stdout).strip() if errors else done.stdout.strip()
