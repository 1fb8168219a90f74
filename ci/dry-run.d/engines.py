"""Engines as far as shards need them: a matrix of GitHub, a parallel job of GitLab, an Indexed Job of
Kubernetes. Each is given what its example says, and does what its documentation says."""

import contextlib
import json
import os
import pathlib
import re
import shlex
import shutil
import signal
import subprocess
import time
from typing import NamedTuple

import plain_yaml
from wrong import Wrong, demand

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
EXAMPLES = ROOT / "ci/examples"
# Seconds for one shard.
LIMIT = 600
# How often a shard is started anew because it had ended before it could be killed.
ATTEMPTS = 5


class Stage(NamedTuple):
    """What every engine is given: the program, a folder of its own, how many seeds, and the server."""

    scupper: pathlib.Path
    scratch: pathlib.Path
    seeds: int
    server: str
    # Not only what is quick.
    is_whole: bool = True

    def environment(self, more):
        """That of a runner which has scupper on its PATH, and nothing else of ours."""
        place = self.scratch / "bin"
        if not place.exists():
            place.mkdir()
            (place / "scupper").write_text(self.program())
            (place / "scupper").chmod(0o755)
        kept = {name: os.environ[name] for name in ("HOME", "LANG", "TMPDIR") if name in os.environ}
        path = f"{place}:{self.scupper.parent}:{os.environ['PATH']}"
        return kept | {"PATH": path} | {name: str(value) for name, value in more.items()}

    def program(self):
        """What `scupper` is on that PATH; a build from before `--html` is not given it."""
        start = f'exec {shlex.quote(str(self.scupper))} "$@"'
        help_text = subprocess.run([self.scupper, "merge", "--help"], capture_output=True, text=True, check=True).stdout
        if "--html" in help_text:
            return f"#!/bin/sh\n{start}\n"
        drop = """n=$#
while [ "$n" -gt 0 ]; do
  word=$1; shift; n=$((n - 1))
  case $word in
    --) set -- "$@" "$word"; while [ "$n" -gt 0 ]; do word=$1; shift; set -- "$@" "$word"; n=$((n - 1)); done ;;
    --html) shift; n=$((n - 1)) ;;
    *) set -- "$@" "$word" ;;
  esac
done"""
        return f"#!/bin/sh\n{drop}\n{start}\n"

    def overridden(self, environment):
        """An example's variables, with fewer seeds and our server."""
        return environment | {"SEEDS": f"0..{self.seeds}", "SERVER": self.server}

    def unsplit(self):
        """The same campaign in one piece."""
        path = self.scratch / "whole.json"
        server = ["--", *self.server.split()] if self.server else []
        words = ["scupper", "campaign", "--no-progress", "--seeds", f"0..{self.seeds}", "--json", path, *server]
        done = subprocess.run(words, env=self.environment({}), cwd=self.scratch, capture_output=True, text=True)
        demand(done.returncode == 0, f"the campaign in one piece: exit code {done.returncode}: {done.stdout}{done.stderr}")
        return json.loads(path.read_text())


def read(name):
    return plain_yaml.documents((EXAMPLES / name).read_text())


def run(words, environment, folder, killed_when=None):
    """The exit code as an engine sees it, and what was said. If a path is given, everything that was started
    is killed as soon as it is there: then the code is that of SIGKILL, 137."""
    for attempt in range(ATTEMPTS if killed_when else 1):
        with open(folder / ".log", "w+") as log:
            child = subprocess.Popen(
                words, env=environment, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
            was_killed = killed_when is not None and kill_when(child, killed_when)
            code = child.wait(LIMIT)
            log.seek(0)
            said = log.read()
        if was_killed:
            demand(code == -signal.SIGKILL, f"killed, and yet its exit code is {code}")
            return 128 + signal.SIGKILL, said
        if killed_when is None:
            return (code if code >= 0 else 128 - code), said
        killed_when.unlink(missing_ok=True)
    raise Wrong(f"in {ATTEMPTS} attempts it ended before it could be killed; give it more --seeds")


def kill_when(child, path):
    """Kills the whole group in the middle of its work; false if that has ended by itself."""
    until = time.monotonic() + LIMIT
    while time.monotonic() < until and child.poll() is None:
        # A run empties its report as it begins, and fills it as it ends.
        if path.exists() and path.stat().st_size == 0:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            return True
        time.sleep(0.002)
    return False


def same(merged, whole):
    """The merged report is that of the campaign in one piece, times and the split aside."""
    merged, whole = timeless(merged), timeless(whole)
    for report in (merged, whole):
        report.pop("begun", None)
        for key in ("shards", "played"):
            report["campaign"].pop(key)
    unlike = [key for key in whole if merged.get(key) != whole[key]]
    demand(merged == whole, f"merged is not what it is in one piece: {', '.join(unlike)} differ")


def timeless(value):
    """Without what was measured by a clock."""
    if isinstance(value, dict):
        return {key: timeless(one) for key, one in value.items() if not key.endswith("_ms")}
    return [timeless(one) for one in value] if isinstance(value, list) else value


def merged(path, code, said):
    demand(code == 0, f"the merge: exit code {code}: {said}")
    for other in path.parent.glob("campaign*.*"):
        demand(other.stat().st_size > 0, f"{other.name} is empty")
    return json.loads(path.read_text())


def lost(code, said, path, shard):
    demand(code == 3, f"with shard {shard} lost the merge's exit code is {code}, and not 3: {said}")
    report = json.loads(path.read_text())
    demand(shard not in report["campaign"]["played"] and report["exit_code"] == 3, "a lost shard is not told")


# GitHub


def expand(text, values):
    """`${{ name }}` and `${{ name || name }}`, for the names that a runner would know here."""

    def value(found):
        names = found.group(1).split(" || ")
        unknown = [name for name in names if name not in values]
        if unknown:
            raise Wrong(f"${{{{ {unknown[0]} }}}} is not known to this dry run")
        return next((str(values[name]) for name in names if values[name] != ""), "")

    return re.sub(r"\$\{\{\s*([^}]*?)\s*\}\}", value, text)


class Runner:
    """One job on a runner: steps of our own are run, the two actions for artifacts are played."""

    def __init__(self, stage, workflow, name, artifacts, values):
        self.stage, self.job, self.artifacts, self.values = stage, workflow["jobs"][name], artifacts, values
        self.folder = stage.scratch / f"github-{name}-{values.get('matrix.shard', 0)}-{time.monotonic_ns()}"
        self.folder.mkdir()
        self.environment = stage.overridden(workflow["env"])

    def play(self, kill=False):
        """The exit code of the job, and what was said. A runner that dies keeps nothing."""
        code, said = 0, ""
        for step in self.job["steps"]:
            if "run" in step and code == 0:
                given = {name: expand(text, self.values) for name, text in step.get("env", {}).items()}
                script = self.folder / ".step.sh"
                demand("${{" not in step["run"], f"{step.get('name')}: an expression in a shell's script")
                script.write_text(step["run"])
                # What `shell: bash` comes to.
                words = ["bash", "--noprofile", "--norc", "-eo", "pipefail", script]
                demand(step.get("shell") == "bash", f"{step.get('name')}: no shell is named")
                report = self.folder / f"shard-{self.values.get('matrix.shard')}.json" if kill else None
                github = {"GITHUB_ACTIONS": "true", "CI": "true", "GITHUB_STEP_SUMMARY": self.folder / ".summary.md"}
                environment = self.stage.environment(self.environment | given | github)
                code, said = run(words, environment, self.folder, report)
                if kill:
                    return code, said
            elif "uses" in step:
                self.use(step, code)
        return code, said

    def use(self, step, code):
        action = step["uses"].split("@")[0]
        given = {name: expand(text, self.values) for name, text in step.get("with", {}).items()}
        if action == "actions/upload-artifact":
            demand(code == 0 or "if" in step, "reports of red shards are not kept")
            place = self.artifacts / given["name"]
            place.mkdir(parents=True, exist_ok=given.get("overwrite") == "true")
            found = list(self.folder.glob(given["path"]))
            demand(found or given.get("if-no-files-found") != "error", f"nothing to keep at {given['path']}")
            for file in found:
                shutil.copy(file, place)
        elif action == "actions/download-artifact":
            place = self.folder / given["path"]
            place.mkdir()
            for artifact in self.artifacts.glob(given["pattern"]):
                for file in artifact.iterdir():
                    demand(not (place / file.name).exists(), f"two artifacts have {file.name}")
                    shutil.copy(file, place)
        elif action not in ("actions/checkout", "OWNER/scupper/ci"):
            raise Wrong(f"{action} is not known to this dry run")


def github(stage):
    [workflow] = read("github-campaign.yml")
    shards = workflow["jobs"]["shard"]["strategy"]["matrix"]["shard"]
    demand(shards == [str(number + 1) for number in range(len(shards))], f"shards count from 1: {shards}")
    demand(workflow["env"]["SHARDS"] == str(len(shards)), "SHARDS is not the number of shards in the matrix")
    demand(workflow["jobs"]["shard"]["strategy"]["fail-fast"] == "false", "one red shard would cancel the others")
    artifacts = stage.scratch / "artifacts"
    victim = shards[1]
    for shard in shards:
        code, said = Runner(stage, workflow, "shard", artifacts, {"matrix.shard": shard}).play(shard == victim)
        demand(code == (137 if shard == victim else 0), f"shard {shard}: exit code {code}: {said}")

    def merge():
        job = Runner(stage, workflow, "merge", artifacts, {})
        code, said = job.play()
        return job.folder / "campaign.json", code, said

    path, code, said = merge()
    lost(code, said, path, int(victim))
    yield f"{len(shards)} shards, shard {victim} killed: the merge's exit code is 3"
    code, said = Runner(stage, workflow, "shard", artifacts, {"matrix.shard": victim}).play()
    demand(code == 0, f"shard {victim}, again: exit code {code}: {said}")
    path, code, said = merge()
    same(merged(path, code, said), stage.unsplit())
    yield f"shard {victim} run again: merged equals the campaign in one piece, {stage.seeds} seeds"


# GitLab


def gitlab(stage):
    [pipeline] = read("gitlab-ci.yml")
    job, last = pipeline["shard"], pipeline["merge"]
    total = int(job["parallel"])
    demand(last["needs"] == ["shard"] and last["when"] == "always", "the merge does not follow red shards")
    kept = stage.scratch / "kept"
    kept.mkdir()

    def play(job, more, killed_when=None):
        """Scripts are one shell, which stops at the first failure; artifacts go to the jobs that need them."""
        folder = stage.scratch / f"gitlab-{time.monotonic_ns()}"
        folder.mkdir()
        for file in kept.iterdir() if job is last else []:
            shutil.copy(file, folder)
        environment = stage.environment(stage.overridden(pipeline["variables"]) | {"CI": "true", "GITLAB_CI": "true"} | more)
        words = ["bash", "-eo", "pipefail", "-c", "\n".join(job["script"])]
        code, said = run(words, environment, folder, folder / killed_when if killed_when else None)
        if code != 137:
            for pattern in job["artifacts"]["paths"]:
                for file in folder.glob(pattern):
                    shutil.copy(file, kept if job is not last else stage.scratch)
        return folder, code, said

    victim = total
    for index in range(1, total + 1):
        more = {"CI_NODE_INDEX": index, "CI_NODE_TOTAL": total}
        _, code, said = play(job, more, f"shard-{index}.json" if index == victim else None)
        demand(code == (137 if index == victim else 0), f"job {index}: exit code {code}: {said}")
    folder, code, said = play(last, {})
    lost(code, said, folder / "campaign.json", victim)
    yield f"{total} jobs, job {victim} killed: the merge's exit code is 3"
    retried = job["retry"]["when"] + job["retry"]["exit_codes"]
    demand({"runner_system_failure", "3", "4"} <= set(retried) and "1" not in retried, f"what is retried: {retried}")
    _, code, said = play(job, {"CI_NODE_INDEX": victim, "CI_NODE_TOTAL": total})
    demand(code == 0, f"job {victim}, again: exit code {code}: {said}")
    folder, code, said = play(last, {})
    same(merged(folder / "campaign.json", code, said), stage.unsplit())
    for name in last["artifacts"]["reports"].values():
        demand((folder / name).stat().st_size > 0, f"{name} is not there")
    yield f"job {victim} retried: merged equals the campaign in one piece, {stage.seeds} seeds"


# Kubernetes


def substituted(text, environment):
    """What the kubelet makes of `$(NAME)` and `$$` in a command; what it does not know stays."""

    def value(found):
        if found.group(0) == "$$":
            return "$"
        return environment.get(found.group(1), found.group(0))

    return re.sub(r"\$\$|\$\(([^)]*)\)", value, text)


class Pod:
    """The one container of a job's template, its volumes in a folder."""

    def __init__(self, stage, job, volumes):
        [self.container] = job["spec"]["template"]["spec"]["containers"]
        self.stage, self.volumes = stage, volumes
        environment = {one["name"]: one["value"] for one in self.container["env"]}
        [mount] = self.container["volumeMounts"]
        here = {name: str(volumes) for name, value in environment.items() if value == mount["mountPath"]}
        self.environment = environment | here

    def play(self, more, killed_when=None):
        environment = self.stage.overridden(self.environment) | more
        words = [substituted(word, environment) for word in self.container["command"] + self.container["args"]]
        folder = self.stage.scratch / f"pod-{time.monotonic_ns()}"
        folder.mkdir()
        return run(words, self.stage.environment(environment), folder, killed_when)


def verdict(rules, code):
    """What the rules of failure make of an exit code: an action, or none, and then the limit counts."""
    for rule in rules:
        exits = rule.get("onExitCodes")
        if exits and (str(code) in exits["values"]) == (exits["operator"] == "In"):
            return rule["action"]
    return "Count"


def kubernetes(stage):
    _, job = read("kubernetes-campaign.yaml")
    [merge] = read("kubernetes-merge.yaml")
    spec = job["spec"]
    completions, rules = int(spec["completions"]), spec["podFailurePolicy"]["rules"]
    [container] = spec["template"]["spec"]["containers"]
    shards = next(one["value"] for one in container["env"] if one["name"] == "SHARDS")
    demand(shards == str(completions), f"SHARDS is {shards}, and completions {completions}")
    named = [rule["onExitCodes"]["containerName"] for rule in rules if "onExitCodes" in rule]
    demand(named == [container["name"]], f"the rules are about {named}")
    expected = {1: "FailIndex", 2: "FailIndex", 3: "Count", 4: "Count", 137: "Count"}
    found = {code: verdict(rules, code) for code in expected}
    demand(found == expected, f"the rules of failure: {found}")
    yield "exit code 1 fails its index, 3, 4 and a kill are tried again"

    # So many pods would be one seed each.
    indexes = min(completions, 6)
    volumes = stage.scratch / "reports"
    volumes.mkdir()
    pod, last = Pod(stage, job, volumes), Pod(stage, merge, volumes)
    pod.environment["SHARDS"] = str(indexes)
    victim, failed = 2, {}
    for index in range(indexes):
        is_victim = index == victim
        report = volumes / f"shard-{index + 1}.json" if is_victim else None
        code, said = pod.play({"JOB_COMPLETION_INDEX": str(index)}, report)
        demand(code == (137 if is_victim else 0), f"index {index}: exit code {code}: {said}")
        if is_victim:
            failed[index] = 1
    code, said = last.play({})
    lost(code, said, volumes / "campaign.json", victim + 1)
    yield f"{indexes} indexes, index {victim} killed: the merge's exit code is 3"
    for index, failures in failed.items():
        demand(failures <= int(spec["backoffLimitPerIndex"]), f"index {index} is not tried again")
        code, said = pod.play({"JOB_COMPLETION_INDEX": str(index)})
        demand(code == 0, f"index {index}, again: exit code {code}: {said}")
    code, said = last.play({})
    same(merged(volumes / "campaign.json", code, said), stage.unsplit())
    yield f"index {victim} retried: merged equals the campaign in one piece, {stage.seeds} seeds"
    if not stage.server and stage.is_whole:
        yield nothing_judged_is_tried_again(pod, stage, rules)


def nothing_judged_is_tried_again(pod, stage, rules):
    """A server that does not start is no leak: the shard ends with 3, and its index has not failed yet."""
    pod.stage = stage._replace(server="scupper fake exits-before-initialize")
    code, said = pod.play({"JOB_COMPLETION_INDEX": "0", "SHARDS": "1"})
    demand(code == 3 and verdict(rules, code) == "Count", f"a server that does not start: exit code {code}: {said}")
    return "a shard whose server does not start ends with 3, and is tried again"
