"""The parts of ci/gate: what each runs, and what of it is red beside the exit code."""

import collections
import functools
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
from typing import NamedTuple

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
NPM = ROOT / "ci/.installed/npm/node_modules/.bin"
PYTHON = ROOT / "ci/.installed/venv/bin"
# Some scenarios look into a Redis; without one they judge less, and say so.
REDIS = ROOT / "ci/.installed/redis/redis-server"

# Seconds that one run may take before it is taken for hung.
LIMIT = 600
# So many cases are named in the last line.
NAMED = 3
# In the environment of everything that a part starts.
MARK = "SCUPPER_GATE_PART"
# Seeds of generated lifecycles; in memory, and with real servers.
IN_MEMORY, REAL = "0..2000", "0..24"
# A first look at a server on a busy host.
PATIENCE = ["--start-timeout", "120s"]
# Of servers: a whole life, ends of all sorts, and what grows. Every lifecycle is in the tests of harness.
STDIO = "clean-close,eof-before-initialize,eof-call-in-flight,client-killed,stdin-held,sigterm-busy,sigint-idle,ten-at-once,churn"
HTTP = "http/clean-close,http/reconnect,http/client-killed,http/request-abandoned,http/sigterm-open-streams"
# Scupper as a client: its own servers are those that it judges.
SELF = "client/clean-close,client/sigterm-busy,client/sigint-busy,client/sigkill-busy,client/ignores-eof-and-term,client/helper-in-session"


class Result(NamedTuple):
    """What a part came to: its reports, and all that is against it."""

    name: str
    reports: list[pathlib.Path]
    against: list[str]
    cases: int
    took_s: float


class Part(NamedTuple):
    """One part. `play` is given the program, the folder and the runner of commands, and names its reports."""

    name: str
    about: str
    needs: list[pathlib.Path]
    play: collections.abc.Callable
    # It has many cases at once, and is run alone.
    is_wide: bool = False

    def run(self, scupper, folder):
        begun = time.monotonic()
        missing = [path for path in self.needs if not path.exists()]
        if missing:
            where = missing[0].relative_to(ROOT)
            return Result(self.name, [], [f"a real server is missing, {where}; run ci/setup"], 0, 0.0)
        audit = Audit(self.name)
        reports = self.play(scupper, folder, audit)
        against = audit.left()
        cases = 0
        for path in reports:
            wrong, count = look(path)
            against += wrong
            cases += count
        # The codes last: what a report says is what one wants to know.
        return Result(self.name, reports, against + audit.codes, cases, time.monotonic() - begun)


class Audit:
    """Runs scupper in a TMPDIR of its own, and sees what is left of it."""

    def __init__(self, name):
        self.mark = f"{MARK}={name}-{os.getpid()}"
        self.folder = tempfile.TemporaryDirectory(prefix="scupper-gate-")
        self.codes = []

    def environment(self):
        name, value = self.mark.split("=", 1)
        return os.environ | {
            name: value,
            "TMPDIR": self.folder.name,
            "PATH": f"{REDIS.parent}:{os.environ['PATH']}",
            "UV_CACHE_DIR": str(ROOT / "ci/.installed/uv-cache"),
            "UV_OFFLINE": "1",
        }

    def start(self, words, log):
        with open(log, "w") as file:
            return subprocess.Popen(
                [str(word) for word in words],
                cwd=ROOT,
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
            )

    def wait(self, child, log, expected=0):
        try:
            code = child.wait(LIMIT)
        except subprocess.TimeoutExpired:
            code = f"none within {LIMIT} s, and then {end(child)}"
        if code != expected:
            self.codes.append(f"exit code {code}, see {log.name}")
        return code

    def play(self, words, log, expected=0):
        return self.wait(self.start(words, log), log, expected)

    def left(self):
        """Processes and files that outlive the run. They were to be gone when it ended."""
        processes = [f"scupper left pid {pid}, {words}" for pid, words in marked(self.mark)]
        files = sorted(os.listdir(self.folder.name))
        self.folder.cleanup()
        return processes + ([f"scupper left in its TMPDIR: {' '.join(files)}"] if files else [])


def end(child):
    """Asks it to end, and sees to it."""
    child.terminate()
    try:
        return child.wait(60)
    except subprocess.TimeoutExpired:
        child.kill()
        return child.wait()


def marked(mark):
    """Living processes that have this in their environment."""
    for entry in pathlib.Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            has_it = mark.encode() in (entry / "environ").read_bytes().split(b"\0")
            words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        except OSError:
            continue
        if has_it and words:
            yield int(entry.name), words


def look(path):
    """What in a report is against a part, and how many cases it has."""
    try:
        report = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        return [f"no report: {error}"], 0
    against = [f"{one['id']} was not judged: {one['cause']}" for one in report["not_judged"]]
    wrong = [case for case in report["cases"] if is_wrong(case)]
    if wrong:
        more = ", …" if len(wrong) > NAMED else ""
        against.append(f"{len(wrong)} of {len(report['cases'])} cases: {', '.join(map(in_short, wrong[:NAMED]))}{more}")
    canary = report.get("canary")
    if canary and (canary.get("missed") or canary.get("false_alarms") or canary.get("failure")):
        against.append("the canary failed")
    campaign = report.get("campaign")
    if not campaign and not report["cases"]:
        against.append("nothing was judged")
    return against, campaign["lifecycles"] if campaign else len(report["cases"])


def is_wrong(case):
    """Not what its scenario expects; of what expects nothing: not clean."""
    return not case["met"] if case.get("expected") else case["verdict"] != "clean"


def in_short(case):
    found = sorted({f"{one['kind']} of {one['culprit']}" for one in case["findings"] if one["class"] == "leak"})
    return f"{case['id']} {case['verdict']}" + (f" ({', '.join(found)})" if found else "")


@functools.cache
def help_of(scupper, command):
    return subprocess.run([scupper, command, "--help"], capture_output=True, text=True, check=True).stdout


def known(scupper, command, options):
    """Pairs of an option and its value, without those that a scupper from elsewhere does not have."""
    pairs = zip(options[::2], options[1::2])
    return [word for pair in pairs if f"{pair[0]} " in help_of(scupper, command) for word in pair]


def scenarios_in(place):
    def play(scupper, folder, audit):
        path = folder / "scenarios.json"
        audit.play([scupper, "run", "--no-progress", "--json", path, place], folder / "scenarios.log")
        return [path]

    return Part("scenarios", "every scripted scenario, against what it expects", [REDIS], play, True)


def generated(scupper, folder, audit):
    """In memory, in two shards at once, which are put together."""
    started = []
    for shard in ("1", "2"):
        path, log = folder / f"generated-shard-{shard}.json", folder / f"generated-shard-{shard}.log"
        words = [scupper, "campaign", "--no-progress", "--seeds", IN_MEMORY, "--shard", f"{shard}/2", "--json", path]
        started.append((audit.start(words, log), path, log))
    for child, _, log in started:
        audit.wait(child, log)
    merged = folder / "generated.json"
    shards = [path for _, path, _ in started]
    audit.play([scupper, "merge", "--json", merged, *shards], folder / "generated.log")
    return [merged]


def generated_real(scupper, folder, audit):
    path = folder / "generated-real.json"
    words = [scupper, "campaign", "--real", "--no-progress", "--seeds", REAL, "--json", path, "--found", folder / "found"]
    audit.play(words, folder / "generated-real.log")
    return [path]


def server(name, command, options=(), environment=()):
    def play(scupper, folder, audit):
        path = folder / f"{name}.json"
        words = [scupper, "server", "--strict", "--cycles", "6", "--no-progress", *PATIENCE, *options, "--json", path]
        # Whatever a server keeps is kept where it is looked for.
        given = ["env", *(one.format(tmp=folder) for one in environment)] if environment else []
        audit.play([*words, "--", *given, *command], folder / f"{name}.log")
        return [path]

    needs = [word for word in command if isinstance(word, pathlib.Path) and ROOT in word.parents]
    return Part(name, f"a real server, {'HTTP' if '--http' in options else 'stdio'}", needs, play)


def real_servers():
    only = ["--only", STDIO]
    http = ["--http", "http://127.0.0.1:{port}/mcp", "--only", HTTP]
    python, subjects = PYTHON / "python", ROOT / "ci/subjects"
    everything = NPM / "mcp-server-everything"
    return [
        server("everything", [everything, "stdio"], only),
        server("filesystem", [NPM / "mcp-server-filesystem", ROOT / "ci/subjects"], only),
        server("memory", [NPM / "mcp-server-memory"], only, ["MEMORY_FILE_PATH={tmp}/memory.jsonl"]),
        server("time", [PYTHON / "mcp-server-time", "--local-timezone", "UTC"], only),
        server("python-sdk", [python, subjects / "server.py"], only),
        server("everything-http", ["env", "PORT={port}", everything, "streamableHttp"], http),
        server("python-sdk-http", [python, subjects / "http_server.py", "{port}"], http),
    ]


def self_audit(scupper, folder, audit):
    """Scupper is a client: of the servers that it judges. At every end of its own none may stay."""
    path = folder / "self-audit.json"
    # It gives up on a server long before the one that judges it gives up on it.
    itself = [scupper, "server", "--no-progress", "--leak-timeout", "1s", "--only", "stdio/clean-close"]
    itself += ["--", "{command}", "{args}"]
    words = [scupper, "client", "--no-progress", *PATIENCE, "--only", SELF, "--json", path, "--", *itself]
    audit.play(words, folder / "self-audit.log")
    return [path]


def all_parts(place="scenarios"):
    """The longest first, so that none is waited for alone at the end; `place` is where scenarios are."""
    return [
        scenarios_in(place),
        *real_servers(),
        Part("generated", f"seeds {IN_MEMORY} on the core in memory, in two shards", [], generated),
        Part("generated-real", f"seeds {REAL} on the core with real servers", [], generated_real),
        Part("self-audit", "scupper as a client of the servers that it judges", [], self_audit),
    ]
