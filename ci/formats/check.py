#!/usr/bin/env python3
"""Reads reports with what others made: JSON by its schema, JUnit by the schema of Jenkins and by junitparser,
SARIF by the public schema and by Microsoft's validator, GitLab's code quality by the table of its documentation.

  check.py DIR…      in each: report.json, report.xml, report.sarif and gitlab.json, of one run

ci/setup formats installs what it takes; the test is harness/tests/program/formats.rs. Prints a line for each folder, and
one for each thing that is wrong; 0 if nothing is, 1 otherwise.
"""

import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree

import jsonschema
import junitparser
import xmlschema

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
INSTALLED = ROOT / "ci/.installed/formats"
SCHEMAS = ROOT / "harness/schema"
# Seconds that the validator of SARIF may take.
LIMIT = 120
# What nextest adds to the files that Jenkins describes, and what reads them ignores or knows.
ADDED = {("testsuites", "timestamp"), ("testcase", "timestamp"), ("skipped", "message")}
# https://docs.gitlab.com/ci/testing/code_quality/#code-quality-report-format
GITLAB = {
    "type": "array",
    "items": {
        "type": "object",
        "required": ["description", "check_name", "fingerprint", "location", "severity"],
        "properties": {
            "description": {"type": "string", "minLength": 1},
            "check_name": {"type": "string", "pattern": "^[a-z][a-z.-]*$"},
            "fingerprint": {"type": "string", "pattern": "^[0-9a-f]{16,64}$"},
            "severity": {"enum": ["info", "minor", "major", "critical", "blocker"]},
            "location": {
                "type": "object",
                "required": ["path", "lines"],
                "properties": {
                    # Relative to the repository; `./` in front is refused.
                    "path": {"type": "string", "pattern": "^[^./]|^[.][^./]"},
                    "lines": {"type": "object", "required": ["begin"], "properties": {"begin": {"type": "integer"}}},
                },
            },
        },
    },
}


def main():
    if not sys.argv[1:]:
        print(__doc__, file=sys.stderr)
        return 2
    wrong = []
    for folder in map(pathlib.Path, sys.argv[1:]):
        found = [f"{folder.name}: {words}" for words in check(folder)]
        wrong += found
        print(f"{folder.name}: {len(found)} wrong")
    for words in wrong:
        print(words)
    return 1 if wrong else 0


def check(folder):
    """What is wrong with the files of one run."""
    report = json.loads((folder / "report.json").read_text())
    schema = json.loads((SCHEMAS / "report-1.schema.json").read_text())
    yield from (f"report.json: {words}" for words in by_schema(schema, report))
    yield from (f"report.xml: {words}" for words in junit(folder / "report.xml", report))
    yield from (f"report.sarif: {words}" for words in sarif(folder / "report.sarif"))
    issues = json.loads((folder / "gitlab.json").read_text())
    yield from (f"gitlab.json: {words}" for words in by_schema(GITLAB, issues))
    prints = [issue.get("fingerprint") for issue in issues]
    if len(set(prints)) < len(prints):
        yield "gitlab.json: two issues with one fingerprint"


def by_schema(schema, value):
    validator = jsonschema.validators.validator_for(schema)
    validator.check_schema(schema)
    for error in validator(schema).iter_errors(value):
        yield f"{error.json_path}: {error.message[:300]}"


def junit(path, report):
    root = xml.etree.ElementTree.parse(path).getroot()
    for element in root.iter():
        for name in [name for name in element.attrib if (element.tag, name) in ADDED]:
            del element.attrib[name]
    with tempfile.NamedTemporaryFile(suffix=".xml") as plain:
        xml.etree.ElementTree.ElementTree(root).write(plain)
        plain.flush()
        schema = xmlschema.XMLSchema(INSTALLED / "jenkins-junit.xsd")
        for error in schema.iter_errors(plain.name):
            yield f"{error.path}: {error.reason}"
    # A consumer: what it counts is what the report says.
    read = junitparser.JUnitXml.fromfile(str(path))
    tests = [test for suite in read for test in suite]
    sums = {"tests": len(tests), "failures": 0, "errors": 0}
    for test in tests:
        for result in test.result:
            sums["failures"] += isinstance(result, junitparser.Failure)
            sums["errors"] += isinstance(result, junitparser.Error)
    for name, counted in sums.items():
        if getattr(read, name) != counted:
            yield f"{name} is {getattr(read, name)}, and junitparser counts {counted}"
    named = {test.name for test in tests}
    yield from (f"{case['id']} is no test" for case in report["cases"] if case["id"] not in named)
    if report["exit_code"] == 0 and sums["failures"] + sums["errors"] > 0:
        yield "something failed, and the run is green"
    if report["exit_code"] != 0 and sums["failures"] + sums["errors"] == 0:
        yield "nothing failed, and the run is red"


def sarif(path):
    # The validator passes over what it cannot read, so the schema goes first.
    schema = json.loads((SCHEMAS / "others/sarif-2.1.0.schema.json").read_text())
    yield from by_schema(schema, json.loads(path.read_text()))
    with tempfile.TemporaryDirectory() as scratch:
        # It takes ICU for languages that it does not speak here.
        environment = os.environ | {"DOTNET_SYSTEM_GLOBALIZATION_INVARIANT": "1", "HOME": scratch}
        told = subprocess.run(
            [INSTALLED / "sarif/Sarif.Multitool", "validate", path, "--output", f"{scratch}/told.sarif"],
            env=environment, capture_output=True, text=True, timeout=LIMIT,
        )
    said = told.stdout + told.stderr
    yield from re.findall(r"error [A-Z]+[0-9]+: .*", said)
    if told.returncode != 0 or "1 files scanned" not in said:
        yield f"the validator ended with {told.returncode}: {said[-500:]}"


if __name__ == "__main__":
    sys.exit(main())
