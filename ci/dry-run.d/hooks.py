"""The pre-commit hook in a repository made for it, and the build of the fuzzer as its image would run it."""

import configparser
import json
import os
import pathlib
import shutil
import subprocess

import plain_yaml
from wrong import NotChecked, demand

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
EXAMPLES = ROOT / "ci/examples"
PRE_COMMIT = ROOT / "ci/.installed/lint/bin/pre-commit"
CARGO_FUZZ = ROOT / "ci/.installed/cargo-fuzz/bin/cargo-fuzz"
# Inputs that the fuzzer is to play, and seconds for it.
INPUTS, SECONDS = 2000, 120


def pre_commit(stage):
    if not PRE_COMMIT.exists():
        raise NotChecked("pre-commit is not installed; run ci/setup lint")
    folder = stage.scratch / "repository"
    folder.mkdir()
    environment = stage.environment({"PRE_COMMIT_HOME": stage.scratch / "pre-commit"})
    play = lambda *words: subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True)  # noqa: E731
    shutil.copy(EXAMPLES / "pre-commit-config.yaml", folder / ".pre-commit-config.yaml")
    demand(play("git", "init", "--quiet").returncode == 0, "git init")
    for fake, expected in (("plain", 0), ("ignores-eof", 1)):
        entry = {"command": str(stage.scupper), "args": ["fake", fake]}
        (folder / ".mcp.json").write_text(json.dumps({"mcpServers": {"one": entry}}))
        play("git", "add", ".")
        done = play(PRE_COMMIT, "run", "--hook-stage", "pre-push", "--all-files")
        demand(done.returncode == expected, f"{fake}: exit code {done.returncode}: {done.stdout}{done.stderr}")
    yield "the hook passes a clean server, and stops a leaky one"


def clusterfuzzlite(stage):
    folder = EXAMPLES / "clusterfuzzlite"
    [project] = plain_yaml.documents((folder / "project.yaml").read_text())
    demand(project == {"language": "rust"}, f"project.yaml: {project}")
    cargo_fuzz = CARGO_FUZZ if CARGO_FUZZ.exists() else shutil.which("cargo-fuzz")
    if not cargo_fuzz:
        raise NotChecked("cargo-fuzz is not installed; run ci/setup fuzz")
    # The image has the repository at $SRC/scupper, and starts build.sh from $SRC.
    source, out = stage.scratch / "src", stage.scratch / "out"
    source.mkdir()
    out.mkdir()
    (source / "scupper").symlink_to(ROOT)
    place = stage.scratch / "cargo"
    place.mkdir()
    (place / "cargo-fuzz").symlink_to(cargo_fuzz)
    given = os.environ | {"SRC": str(source), "OUT": str(out), "PATH": f"{place}:{os.environ['PATH']}"}
    done = subprocess.run([folder / "build.sh"], cwd=source, env=given, capture_output=True, text=True)
    demand(done.returncode == 0, f"build.sh: exit code {done.returncode}: {done.stderr[-2000:]}")
    fuzzer = out / "lifecycle"
    demand(fuzzer.exists() and (out / "lifecycle_seed_corpus.zip").stat().st_size > 0, "build.sh left no fuzzer in OUT")
    seeds = stage.scratch / "seeds"
    shutil.unpack_archive(out / "lifecycle_seed_corpus.zip", seeds)
    options = configparser.ConfigParser()
    options.read_string((out / "lifecycle.options").read_text())
    words = [f"-{key}={value}" for key, value in options["libfuzzer"].items()]
    words = [fuzzer, f"-runs={INPUTS}", f"-max_total_time={SECONDS}", *words, f"-artifact_prefix={out}/", seeds]
    # As the engine's image has it, of what decides here: SQLite has one name for two of its tables.
    given = os.environ | {"ASAN_OPTIONS": "detect_odr_violation=0:detect_leaks=1:allocator_may_return_null=1"}
    done = subprocess.run(words, env=given, capture_output=True, text=True)
    demand(done.returncode == 0, f"the fuzzer: exit code {done.returncode}: {done.stderr[-2000:]}")
    yield f"build.sh leaves a fuzzer and its seeds in OUT, and it plays {INPUTS} inputs"
    yield "not checked: the image, whose base is in no registry of packages"
