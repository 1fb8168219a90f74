"""Executions of the `lifecycle` fuzz target a second, where cargo-fuzz is installed."""

import configparser
import os
import re
import shutil
import subprocess
import tempfile

import figures

SECONDS = 30


def measure(root, target, quick):
    path = f"{root / 'ci/.installed/cargo-fuzz/bin'}{os.pathsep}{os.environ.get('PATH', '')}"
    if not shutil.which("cargo-fuzz", path=path):
        print("ci/bench: cargo-fuzz is not installed (ci/setup fuzz), and fuzzing is left out")
        return True
    if quick:
        print("ci/bench: fuzzing is left out of a quick run: its build takes minutes")
        return True
    rows = []
    for subject, sanitizer in (("with-asan", "address"), ("without", "none")):
        rate = executions(root, sanitizer, {**os.environ, "PATH": path})
        if rate is None:
            return False
        print(f"fuzz lifecycle, {subject}: {rate} executions a second")
        rows.append((subject, "lifecycle", 1, "per_second", [rate]))
    figures.write(target, "fuzz", rows)
    return True


def executions(root, sanitizer, environment):
    """By libFuzzer's own count."""
    with tempfile.TemporaryDirectory(prefix="bench-") as corpus:
        words = ["cargo", "fuzz", "run", "-s", sanitizer, "lifecycle", corpus, "fuzz/seeds/lifecycle", "--"]
        words += [f"-max_total_time={SECONDS}", "-print_final_stats=1", *options(root)]
        try:
            done = subprocess.run(
                words, cwd=root, env=environment, capture_output=True, text=True, timeout=1800, check=False
            )
        except subprocess.TimeoutExpired:
            print(f"ci/bench: cargo fuzz -s {sanitizer} was ended after half an hour")
            return None
    found = re.search(r"stat::average_exec_per_sec:\s+(\d+)", done.stderr)
    if not found:
        print(f"ci/bench: cargo fuzz -s {sanitizer} told no figures:\n{done.stderr[-2000:]}")
        return None
    return float(found[1])


def options(root):
    """Those that ci/fuzz gives the target."""
    told = configparser.ConfigParser()
    told.read_string((root / "fuzz/lifecycle.options").read_text())
    return [f"-{key}={value}" for key, value in told["libfuzzer"].items()]
