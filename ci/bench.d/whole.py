"""Whole runs of scupper: wall, CPU, peak memory, and where the time of the cases went."""

import json
import os
import pathlib
import subprocess
import tempfile
import time

import figures

# Longest time for one run.
LONGEST_S = 20 * 60
LOOK_S = 0.02


def measure(root, target, quick):
    """Every run of the table; what fails is told and left out."""
    scupper = target / "release/scupper"
    rows, good = [], True
    for name, words in runs(scupper, quick):
        with tempfile.TemporaryDirectory(prefix="bench-") as scratch:
            run = Run(name, [scupper, *words], root, pathlib.Path(scratch))
        if run.problem:
            print(f"ci/bench: {name}: {run.problem}")
            good = False
            continue
        print(f"{name}: {run.wall_s:.1f} s, {run.cases} cases, {run.own_mib:.0f} MiB")
        rows += run.rows()
    figures.write(target, "whole", rows)
    return good


def runs(scupper, quick):
    reference = [scupper, "fake", "reference"]
    http = "http://127.0.0.1:{port}/mcp"
    few = ["--only", "stdio/clean-close,stdio/sigterm-idle,stdio/churn"] if quick else []
    yield "scenarios", ["run", "scenarios/stdio/core" if quick else "scenarios"]
    yield "stdio battery, reference", ["server", *few, "--", *reference]
    # `--http` alone: a few of its lifecycles are not worth a run of their own.
    if not quick:
        yield "HTTP battery, reference", ["server", "--http", http, "--", *reference, "--http", "{port}"]
    yield "byte sweep, plain", ["server", "--torture", "--shallow", "4" if quick else "40", "--", scupper, "fake", "plain"]
    yield "campaign in memory", ["campaign", "--seeds", "0..500" if quick else "0..10000"]


class Run:
    """One run: scupper from its start to its end."""

    def __init__(self, name, words, root, scratch):
        self.name, self.problem = name, None
        report = scratch / "report.json"
        scupper, mode, *rest = words
        words = [scupper, mode, "--json", report, "--no-progress", *rest]
        with (scratch / "output").open("w+") as output:
            self.play([str(word) for word in words], root, output)
            output.seek(0)
            said = output.read()
        if self.problem:
            return
        if self.code not in (0, 1) or not report.exists():
            self.problem = f"exit code {self.code}: {said[-600:].strip()}"
            return
        self.report = json.loads(report.read_text())
        swept = [case["swept"]["lives"] for case in self.report["cases"] if case.get("swept")]
        played = (self.report.get("campaign") or {}).get("lifecycles")
        self.cases = played or sum(swept) or len(self.report["cases"])

    def play(self, words, root, output):
        began = time.monotonic()
        child = subprocess.Popen(words, cwd=root, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        self.own_mib = 0.0
        while True:
            self.own_mib = max(self.own_mib, peak_mib(child.pid))
            pid, status, used = os.wait4(child.pid, os.WNOHANG)
            if pid:
                break
            if time.monotonic() - began > LONGEST_S:
                self.problem = f"was ended after {LONGEST_S} s"
                child.kill()
                _, status, used = os.wait4(child.pid, 0)
                break
            time.sleep(LOOK_S)
        self.wall_s = time.monotonic() - began
        self.code = child.returncode = os.waitstatus_to_exitcode(status)
        self.user_s, self.system_s = used.ru_utime, used.ru_stime
        # Of the largest process of the run, scupper itself included.
        self.largest_mib = used.ru_maxrss / 1024

    def rows(self):
        cases = self.report["cases"]
        # The last look of a case comes after its last step. Repeated steps are there once, summed.
        steps = sum(step["took_ms"] for case in cases for step in case["steps"]) / 1e3
        told = {
            "wall_s": self.wall_s,
            "user_s": self.user_s,
            "system_s": self.system_s,
            "own_peak_mib": self.own_mib,
            "largest_process_mib": self.largest_mib,
            "cases": self.cases,
            "cases_per_second": self.cases / self.wall_s,
        }
        if steps:
            told["steps_s"] = steps
            drained = [case["figures"].get("drained_after_due_ms", 0) for case in cases]
            told["drained_s"] = sum(drained) / 1e3
        return [("scupper", self.name, 1, figure, [float(value)]) for figure, value in told.items()]


def peak_mib(pid):
    """The most that a process had so far; 0 when it is gone."""
    try:
        for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    except OSError:
        pass
    return 0.0
