"""The subjects of ci/field-report: what ci/setup installs, and with it what ci/servers installs.

None needs a network, a browser, a database or credentials to start; a call that needs one is answered
with an error, and that path must not leak either.
"""

import json
import os
import pathlib
import subprocess
from typing import NamedTuple

CI = pathlib.Path(__file__).resolve().parent.parent
NPM = CI / ".installed/npm/node_modules/.bin"
VENV = CI / ".installed/venv/bin"
RUST = CI / ".installed/rust/bin"
MORE_NPM = CI / ".installed-servers/npm/node_modules/.bin"
MORE_SDK1 = CI / ".installed-servers/python-sdk1/bin"
MORE_SDK2 = CI / ".installed-servers/python-sdk2/bin"
MORE_CARGO = CI / ".installed-servers/cargo/bin"

BATTERIES = {
    "stdio": "Servers over stdio",
    "http": "Servers over HTTP",
    "client": "Clients over stdio",
    "client-http": "Clients over HTTP",
}
# A client is idle only if it stays, and then it has no rounds; so each is judged in both ways.
IDLE = ["sigterm-idle", "sigint-idle", "sigkill-idle", "stdin-ends-idle"]


class Subject(NamedTuple):
    """One third-party program. The battery is a word of BATTERIES."""

    battery: str
    language: str
    about: str
    # Of these, each a command line, the cases are put together: the second is only asked for what the
    # first does not show. Each stands behind the options of scupper that are its own.
    ways: list[tuple[list, list]]
    environment: dict[str, str] = {}
    # A command that runs beside it; {port} is a free port, here and in the command line.
    beside: list = []

    def programs(self) -> list[pathlib.Path]:
        """What has to be installed."""
        words = [word for _, command in self.ways for word in command] + self.beside
        return [word for word in words if isinstance(word, pathlib.Path) and CI in word.parents]


def stdio(language, about, command, calls={}, environment={}, beside=[]):
    return Subject("stdio", language, about, [(asked(calls), command)], environment, beside)


def http(language, about, path, command, calls={}):
    options = ["--http", "http://127.0.0.1:{port}" + path, *asked(calls)]
    return Subject("http", language, about, [(options, command)])


def client(language, about, command, battery="client", peer=("{command}", "{args}")):
    rounds, stays = [*command, "--rounds", "{rounds}", *peer], [*command, "--stay", *peer]
    idle = ",".join(f"{battery}/{moment}" for moment in IDLE)
    return Subject(battery, language, about, [([], rounds), (["--only", idle], stays)])


def client_http(language, about, command):
    return client(language, about, command, "client-http", ["{url}"])


def asked(calls):
    return [word for tool, values in calls.items() for word in ("--call", f"{tool}={json.dumps(values)}")]


LONG_CALL = {"trigger-long-running-operation": {"duration": 1, "steps": 2}}
EVERYTHING = [NPM / "mcp-server-everything"]
PORT = ["env", "PORT={port}"]
GATEWAY = [NPM / "supergateway", "--logLevel", "none"]
# The gateway gives its command to a shell.
BEHIND = [*GATEWAY, "--stdio", f"'{EVERYTHING[0]}' stdio", "--port", "{port}"]
PYTHON_HTTP = [VENV / "python", CI / "subjects/http_server.py", "{port}"]
PYTHON_CLIENT = [VENV / "python", CI / "subjects/client.py"]
NODE_CLIENT = ["node", CI / "subjects/client.mjs"]
RUST_CLIENT = [RUST / "rmcp-client"]


def of_setup(scratch, scupper):
    """What ci/setup installs, by name, and our own reference server, which is rmcp's."""
    memory = {"create_entities": {"entities": [{"name": "a", "entityType": "b", "observations": []}]}, "read_graph": {}}
    files = {"list_directory": {"path": str(scratch / "project")}}
    return {
        "everything": stdio("JavaScript", "reference", [*EVERYTHING, "stdio"], LONG_CALL),
        "filesystem": stdio("JavaScript", "files", [NPM / "mcp-server-filesystem", scratch / "project"], files),
        "memory": stdio(
            "JavaScript",
            "knowledge graph in a file",
            [NPM / "mcp-server-memory"],
            memory,
            {"MEMORY_FILE_PATH": str(scratch / "memory.jsonl")},
        ),
        "time": stdio("Python", "clock", [VENV / "mcp-server-time", "--local-timezone", "UTC"], clock()),
        "python-sdk": stdio("Python", "SDK alone", [VENV / "python", CI / "subjects/server.py"]),
        "rmcp": stdio("Rust", "SDK alone", [scupper, "fake", "reference"]),
        "gateway-to-http": stdio(
            "JavaScript",
            "gateway before python-sdk",
            [*GATEWAY, "--streamableHttp", "http://127.0.0.1:{port}/mcp"],
            beside=PYTHON_HTTP,
        ),
        "everything-http": http("JavaScript", "reference", "/mcp", [*PORT, *EVERYTHING, "streamableHttp"], LONG_CALL),
        "everything-sse": http("JavaScript", "reference, HTTP+SSE", "/sse", [*PORT, *EVERYTHING, "sse"], LONG_CALL),
        "python-sdk-http": http("Python", "SDK alone", "/mcp", PYTHON_HTTP),
        "rmcp-http": http("Rust", "SDK alone", "/mcp", [scupper, "fake", "reference", "--http", "{port}"]),
        "gateway-stateful": http(
            "JavaScript",
            "gateway, everything behind it",
            "/mcp",
            [*BEHIND, "--outputTransport", "streamableHttp", "--stateful"],
            LONG_CALL,
        ),
        "gateway-stateless": http(
            "JavaScript",
            "gateway, everything behind it",
            "/mcp",
            [*BEHIND, "--outputTransport", "streamableHttp"],
            LONG_CALL,
        ),
        "gateway-sse": http(
            "JavaScript", "gateway, everything behind it, HTTP+SSE", "/sse", BEHIND, LONG_CALL
        ),
        "python-client": client("Python", "SDK 2", PYTHON_CLIENT),
        "typescript-client": client("JavaScript", "SDK 1", NODE_CLIENT),
        "rmcp-client": client("Rust", "SDK", RUST_CLIENT),
        "python-client-http": client_http("Python", "SDK 2", PYTHON_CLIENT),
        "typescript-client-http": client_http("JavaScript", "SDK 1", NODE_CLIENT),
        "typescript-client-no-delete": client_http(
            "JavaScript", "SDK 1, close() alone", [*NODE_CLIENT, "--no-delete"]
        ),
        "rmcp-client-http": client_http("Rust", "SDK", RUST_CLIENT),
    }


def of_servers(scratch):
    """What ci/servers installs and ci/setup does not, by name."""
    project = scratch / "project"
    no_browser = ["--headless", "--executable-path", "/nonexistent/browser"]
    no_database = "postgresql://nobody:nothing@127.0.0.1:1/none"
    git = {tool: {"repo_path": str(project)} for tool in ("git_status", "git_log")}
    return {
        "postgres": stdio(
            "JavaScript",
            "database, none there",
            [MORE_NPM / "mcp-server-postgres", no_database],
            {"query": {"sql": "SELECT 1"}},
        ),
        "playwright": stdio(
            "JavaScript",
            "browser, none there",
            [MORE_NPM / "playwright-mcp", *no_browser],
            {"browser_navigate": {"url": "about:blank"}},
        ),
        "chrome-devtools": stdio(
            "JavaScript",
            "browser, none there",
            [MORE_NPM / "chrome-devtools-mcp", *no_browser, "--no-usage-statistics"],
            {"list_pages": {}},
        ),
        "git": stdio("Python", "starts git", [MORE_SDK2 / "mcp-server-git", "--repository", project], git),
        "duckdb": stdio(
            "Python",
            "database in memory",
            [MORE_SDK2 / "mcp-server-motherduck", "--db-path", ":memory:", "--read-write"],
            {"execute_query": {"sql": "SELECT 1"}},
        ),
        "sqlite": stdio(
            "Python",
            "database in a file",
            [MORE_SDK1 / "mcp-server-sqlite", "--db-path", scratch / "data.sqlite"],
            {"read_query": {"query": "SELECT 1"}, "list_tables": {}},
        ),
        "rust-filesystem": stdio(
            "Rust",
            "files",
            [MORE_CARGO / "rust-mcp-filesystem", project],
            {"list_directory": {"path": str(project)}, "list_allowed_directories": {}},
        ),
        "shell": stdio(
            "Rust",
            "starts commands",
            [MORE_CARGO / "shell-mcp", "--root", project],
            {"shell_exec": {"command": "sleep 1"}},
        ),
        "cargo": stdio(
            "Rust",
            "starts cargo",
            [MORE_CARGO / "cargo-mcp", "serve"],
            {"set_working_directory": {"path": str(project)}, "cargo_check": {}},
        ),
    }


def clock():
    there = {"source_timezone": "UTC", "time": "12:00", "target_timezone": "Asia/Tokyo"}
    return {"get_current_time": {"timezone": "UTC"}, "convert_time": there}


def prepare(scratch):
    """A home of its own, and a small project that is a repository and a crate."""
    home, project = scratch / "home", scratch / "project"
    home.mkdir()
    (project / "src").mkdir(parents=True)
    (project / "src/main.rs").write_text("fn main() {}\n")
    (project / "Cargo.toml").write_text('[package]\nname = "project"\nversion = "0.0.0"\n\n[workspace]\n')
    (project / ".shell-mcp.toml").write_text('allow = ["sleep *"]\n')
    identity = ["-c", "user.name=field-report", "-c", "user.email=field-report@localhost"]
    for words in (["init", "--quiet"], ["add", "."], [*identity, "commit", "--quiet", "--message", "first"]):
        subprocess.run(["git", "-C", project, *words], check=True, env=environment(scratch))


def environment(scratch):
    """Ours, with a fresh home. Where a toolchain lives below the old one, it is named. What asks the
    registry for a newer version is refused at once, so that no verdict depends on a network."""
    old = pathlib.Path.home()
    dropped = ("XDG_", "GIT_", "CARGO_TARGET_DIR", "RUSTFLAGS")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
    kept.setdefault("CARGO_HOME", str(old / ".cargo"))
    kept.setdefault("RUSTUP_HOME", str(old / ".rustup"))
    return kept | {"HOME": str(scratch / "home"), "npm_config_registry": "http://127.0.0.1:1/"}
