"""Three plain detectors, as people write them, on the stdio fakes of ci/recall.

Each watches one life from outside: handshake, one call to warm up, a first look, twelve calls, a second
look, the end of stdin. They get what they are usually given: the process that was started, by its pid.
"""

import contextlib
import json
import os
import select
import shutil
import subprocess
import tempfile
import time

CALLS = 12
# How long an answer is waited for, and then the exit, in seconds.
ANSWER = 3
EXIT = 3
# How long pipes may stay open once the process has exited, as a well-known test runner has it.
PIPES = 0.2
NAMES = {"count": "count of descriptors and children", "pipes": "end of the pipes within 200 ms", "lsof": "lsof line diff"}


def both(program, subject, scratch):
    """What each detector says of a fake and of its repaired twin: true, false, or why it could not look."""
    options = [f"{key}={value}" for key, value in subject.get("options", {}).items()]
    fake = [str(program), "fake", subject["fake"]]
    return look([*fake, *options], scratch), look([*fake, "--fixed", *options], scratch)


def look(command, scratch):
    with tempfile.TemporaryDirectory(dir=scratch) as own:
        environment = {**os.environ, "TMPDIR": own}
        life = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
            process_group=0,
        )
        try:
            return watch(life)
        finally:
            end(life, own)


def watch(life):
    info = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "plain", "version": "1"}}
    ask(life, 1, "initialize", info)
    tell(life, {"jsonrpc": "2.0", "method": "notifications/initialized"})
    call(life, 2)
    before = counts(life.pid), lines(life.pid)
    for number in range(CALLS):
        call(life, 3 + number)
    after = counts(life.pid), lines(life.pid)
    with contextlib.suppress(OSError):
        life.stdin.close()
    # Whoever has not exited hangs, which nobody overlooks.
    exited = wait(life)
    seen = {"count": not exited or before[0] != after[0]}
    seen["pipes"] = not exited or not is_at_its_end(life.stdout)
    seen["lsof"] = None if before[1] is None else not exited or before[1] != after[1]
    return seen


def ask(life, number, method, params):
    tell(life, {"jsonrpc": "2.0", "id": number, "method": method, "params": params})
    deadline = time.monotonic() + ANSWER
    heard = b""
    while b"\n" not in heard and time.monotonic() < deadline:
        ready, _, _ = select.select([life.stdout], [], [], max(0, deadline - time.monotonic()))
        part = os.read(life.stdout.fileno(), 65536) if ready else b""
        if not part:
            return
        heard += part


def call(life, number):
    ask(life, number, "tools/call", {"name": "echo", "arguments": {"text": "hello"}})


def tell(life, message):
    with contextlib.suppress(OSError):
        life.stdin.write(json.dumps(message).encode() + b"\n")
        life.stdin.flush()


def wait(life):
    try:
        life.wait(EXIT)
    except subprocess.TimeoutExpired:
        return False
    return True


def is_at_its_end(stdout):
    deadline = time.monotonic() + PIPES
    while time.monotonic() < deadline:
        ready, _, _ = select.select([stdout], [], [], max(0, deadline - time.monotonic()))
        if ready and not os.read(stdout.fileno(), 65536):
            return True
    return False


def counts(pid):
    """Descriptors and children of a process."""
    with contextlib.suppress(OSError):
        children = open(f"/proc/{pid}/task/{pid}/children").read().split()
        return len(os.listdir(f"/proc/{pid}/fd")), len(children)
    return None


def lines(pid):
    """What lsof lists of a process; none where there is no lsof."""
    if not shutil.which("lsof"):
        return None
    listed = subprocess.run(["lsof", "-n", "-P", "-w", "-p", str(pid)], capture_output=True, text=True, timeout=60)
    return sorted(listed.stdout.splitlines())


def end(life, own):
    """Ends what is left: it has our TMPDIR in its environment."""
    for entry in os.listdir("/proc"):
        with contextlib.suppress(OSError, ValueError):
            pid = int(entry)
            if f"TMPDIR={own}".encode() in open(f"/proc/{pid}/environ", "rb").read().split(b"\0"):
                os.kill(pid, 9)
    life.wait()
    life.stdout.close()


def verdicts(rivals, name):
    caught = [leaky[name] for leaky, _ in rivals.values() if leaky[name] is not None]
    alarms = [twin[name] for _, twin in rivals.values() if twin[name] is not None]
    return caught, alarms


def summary(rivals):
    out = ["| plain detector, on the stdio fakes | caught | false alarms |", "|---|---|---|"]
    for name, words in NAMES.items():
        caught, alarms = verdicts(rivals, name)
        told = f"{sum(caught)} of {len(caught)} | {sum(alarms)} of {len(alarms)}" if caught else "not there | |"
        out.append(f"| {words} | {told} |")
    return out


def table(rivals):
    out = ["| name | " + " | ".join(NAMES.values()) + " |", "|---" * (len(NAMES) + 1) + "|"]
    mark = {True: "caught", False: "missed", None: "no lsof"}
    for fake, (leaky, twin) in rivals.items():
        cells = [mark[leaky[name]] + (", twin blamed" if twin[name] else "") for name in NAMES]
        out.append(f"| {fake} | " + " | ".join(cells) + " |")
    return out
