"""The steps of ci/action.yml, run as a runner runs them, with a release that is served on 127.0.0.1."""

import functools
import hashlib
import http.server
import io
import json
import pathlib
import platform
import re
import tarfile
import threading

import engines
import plain_yaml
from wrong import Wrong, demand

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
VERSION = "v0.1.0"
# What a shell would do, if it were given these to read.
TRAPS = ("$(touch trapped)", "`touch trapped`", "; touch trapped", '"; touch trapped; "')


class Server(http.server.ThreadingHTTPServer):
    """Serves a folder, on a free port."""

    def __init__(self, folder):
        class Quiet(http.server.SimpleHTTPRequestHandler):
            def log_message(self, *words):
                """Says nothing."""

        super().__init__(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))

    def __enter__(self):
        self.thread = threading.Thread(target=self.serve_forever)
        self.thread.start()
        return f"http://127.0.0.1:{self.server_port}"

    def __exit__(self, *_):
        self.shutdown()
        self.thread.join()
        self.server_close()


def release(stage, folder):
    """An archive as release.yml packs it, and its checksum. Its program starts the one that was built."""
    target = {"x86_64": "x86_64", "aarch64": "aarch64"}[platform.machine()] + "-unknown-linux-musl"
    place = folder / "OWNER/scupper/releases/download" / VERSION
    place.mkdir(parents=True)
    archive = place / f"scupper-{VERSION}-{target}.tar.gz"
    program = stage.program().encode()
    with tarfile.open(archive, "w:gz") as tar:
        entry = tarfile.TarInfo("scupper")
        entry.size, entry.mode = len(program), 0o755
        tar.addfile(entry, io.BytesIO(program))
    checksum = hashlib.sha256(archive.read_bytes()).hexdigest()
    (place / f"{archive.name}.sha256").write_text(f"{checksum}  {archive.name}\n")
    return archive, checksum


class Action:
    """The action, as one job after the other uses it."""

    def __init__(self, stage, url):
        [self.action] = plain_yaml.documents((ROOT / "ci/action.yml").read_text())
        self.stage, self.url, self.number = stage, url, 0

    def use(self, own="OWNER/scupper", place="/home/runner/work/_actions/OWNER/scupper/v0.1.0/ci", **inputs):
        """What the runner says of the action's own repository and place, and the inputs. The exit code, what was said, the outputs of the step `judge`, and the folder of the job."""
        known = self.action["inputs"]
        given = {f"inputs.{name}": one["default"] for name, one in known.items()}
        given |= {f"inputs.{name.replace('_', '-')}": value for name, value in inputs.items()}
        self.number += 1
        folder = self.stage.scratch / f"job-{self.number}"
        (folder / "temp").mkdir(parents=True)
        files = {name: folder / name.lower() for name in ("GITHUB_PATH", "GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")}
        for file in files.values():
            file.touch()
        values = given | {
            "github.server_url": self.url,
            "github.action_repository": own,
            "github.action_path": place,
            "runner.temp": str(folder / "temp"),
        }
        runner = {"RUNNER_TEMP": folder / "temp", "GITHUB_ACTIONS": "true", "CI": "true"} | files
        code, said = 0, ""
        for step in self.action["runs"]["steps"]:
            if "run" not in step or code != 0 or not wanted(step.get("if", ""), values):
                continue
            demand("${{" not in step["run"], f"{step['name']}: an expression in a shell's script")
            script = folder / "step.sh"
            script.write_text(step["run"])
            environment = {name: engines.expand(text, values) for name, text in step.get("env", {}).items()}
            words = ["bash", "--noprofile", "--norc", "-eo", "pipefail", script]
            code, more = engines.run(words, self.stage.environment(runner | environment), folder)
            said += more
        outputs = dict(line.split("=", 1) for line in files["GITHUB_OUTPUT"].read_text().splitlines())
        return code, said, outputs, folder


def wanted(condition, values):
    """The one condition that the action's scripts have."""
    if not condition:
        return True
    found = re.fullmatch(r"inputs\.mode != 'install'", condition)
    if not found:
        raise Wrong(f"`if: {condition}` is not known to this dry run")
    return values["inputs.mode"] != "install"


def check(stage):
    folder = stage.scratch / "served"
    archive, checksum = release(stage, folder)
    with Server(folder) as url:
        action = Action(stage, url)
        code, said, _, job = action.use(mode="install")
        on_path = (job / "github_path").read_text().strip()
        demand(code == 0 and pathlib.Path(on_path, "scupper").exists(), f"install: exit code {code}: {said}")
        for given in ({"own": ""}, {"own": "", "place": "/elsewhere/ci", "repository": "OWNER/scupper"}):
            code, said, _, _ = action.use(mode="install", **given)
            demand(code == 0, f"{given}: exit code {code}: {said}")
        code, said, _, _ = action.use(mode="install", own="", place="/elsewhere/ci")
        demand(code == 2 and "no OWNER/NAME" in said, f"no repository: exit code {code}: {said}")
        yield "a release is installed, and its checksum verified"
        yield from judges(action, stage)
        code, said, _, job = action.use(mode="install", version="v1; touch trapped")
        demand(code == 2 and "neither a release" in said, f"a version that is none: exit code {code}: {said}")
        code, said, _, _ = action.use(mode="install", sha256="0" * 64)
        demand(code == 4 and "does not have the checksum" in said, f"another checksum: exit code {code}: {said}")
        code, said, _, _ = action.use(mode="install", sha256=checksum)
        demand(code == 0, f"its own checksum, given: exit code {code}: {said}")
        with open(archive, "ab") as file:
            file.write(b"more")
        code, said, _, job = action.use(mode="install")
        demand(code == 4 and not (job / "temp/scupper-bin/scupper").exists(), f"changed: exit code {code}: {said}")
        code, said, _, _ = action.use(mode="install", version="v9.9.9")
        demand(code not in (0, 4), f"a release that is not there: exit code {code}: {said}")
        yield "an archive with another checksum, and a release that is not there, install nothing"


def judges(action, stage):
    code, said, outputs, job = action.use(command="scupper fake plain", options="--only\nclean-close\n")
    demand(code == 0 and outputs["exit-code"] == "0" and outputs["leaks"] == "0", f"clean: {code} {outputs}: {said}")
    report = json.loads(pathlib.Path(outputs["report"]).read_text())
    demand(len(report["cases"]) == 1, f"{len(report['cases'])} cases, where one was asked for")
    demand((job / "github_step_summary").stat().st_size > 0, "there is no summary")
    yield "a clean server is green, with a report and a summary"
    options = "--only\nclean-close\n--leak-timeout\n1s"
    code, said, outputs, _ = action.use(command="scupper fake ignores-eof", options=options)
    demand(code == 1 and outputs["exit-code"] == "1" and outputs["leaks"] == "1", f"leaky: {code} {outputs}: {said}")
    demand("::error" in said, f"no annotation: {said}")
    yield "a leaky server is red, with outputs and an annotation"
    command = "scupper\nfake-client\nplain\n--\n{command}\n{args}"
    options = "--only\nclient/clean-close"
    code, said, outputs, _ = action.use(mode="client", command=command, options=options)
    demand(code == 0, f"a client: exit code {code}: {said}")
    yield "a client is judged, its command given a word to a line"
    code, said, _, _ = action.use(command="sh\n-c\nexec scupper fake plain", options="--only\nclean-close")
    demand(code == 0, f"a word with blanks: exit code {code}: {said}")
    for trap in TRAPS:
        for command in (f"scupper {trap}", f"scupper\nfake\n{trap}"):
            code, said, _, job = action.use(command=command, options="--only\nclean-close")
            demand(code != 0 and not list(job.rglob("trapped")), f"{command!r} came to be a command: {said}")
        for name in ("mode", "version", "options", "sha256", "repository"):
            code, said, _, job = action.use(**({"command": "scupper fake plain"} | {name: trap}))
            demand(code != 0 and not list(job.rglob("trapped")), f"{name}: {trap} came to be a command: {said}")
    yield "words with blanks stay words, and no input comes to be a command of the shell"
