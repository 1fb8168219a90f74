"""A scupper whose core has the mistakes that SCUPPER_SABOTAGE switches on."""

import os
import pathlib
import subprocess


def build(root):
    """Builds it below target/recall of the checkout `root`, or in CARGO_TARGET_DIR, and says where it is."""
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", root / "target/recall")).absolute()
    command = ["cargo", "build", "--quiet", "-p", "harness", "--features", "sabotage"]
    subprocess.run(command, cwd=root, env={**os.environ, "CARGO_TARGET_DIR": str(target)}, check=True)
    return target / "debug/scupper"
