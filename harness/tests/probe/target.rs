//! The parent's side of the child.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use harness::ledger::snapshot::{Kind, Snapshot};
use harness::probe::{Root, Scanner};

use super::{BUDGET, sight};

/// The child, below a shell of its own: what descends from the shell is the child and what it
/// leaks, and nothing of another test.
pub(super) struct Target {
    shell: Child,
    pub(super) pid: i32,
    /// Open for as long as the child shall live.
    pub(super) input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Target {
    pub(super) fn start() -> Target {
        let mut shell = Command::new("sh")
            .args(["-c", "\"$0\" role --exact --nocapture --test-threads=1; exit"])
            .arg(std::env::current_exe().expect("this binary"))
            .env("PROBE_TEST_ROLE", "leak")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this binary again");
        let input = shell.stdin.take();
        let output = BufReader::new(shell.stdout.take().expect("piped"));
        let mut target = Target { shell, pid: 0, input, output };
        target.pid = target.answer().parse().expect("a pid");
        target
    }

    pub(super) fn shell_pid(&self) -> i32 {
        self.shell.id().try_into().expect("a pid")
    }

    /// The child and all below it.
    pub(super) fn tree(&self) -> Root {
        Root::Descendants(self.shell_pid())
    }

    /// `on LEAK`, `off LEAK`, `look ourselves`.
    pub(super) fn tell(&mut self, command: &str) -> String {
        writeln!(self.input.as_mut().expect("open"), "{command}").expect("the child reads");
        self.answer()
    }

    fn answer(&mut self) -> String {
        loop {
            let mut line = String::new();
            assert!(self.output.read_line(&mut line).expect("readable") > 0, "the child ended");
            // libtest may have written half a line before.
            if let Some((_, said)) = line.trim_end().split_once('@') {
                return said.to_owned();
            }
        }
    }

    pub(super) fn snapshot(&self, scanner: &mut Scanner, kinds: &[Kind]) -> Snapshot {
        scanner.snapshot(&sight(self.tree(), kinds), BUDGET)
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        // End of input ends the child.
        self.input = None;
        let _ = self.shell.wait();
    }
}
