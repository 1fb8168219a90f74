//! Which process is the server and which are launchers.
//!
//! `npx`, `sh -c` and `uv` hand their three streams on to the process that really answers. All of
//! them hold our pipes, but only one writes: the server is the deepest process that has our stdout
//! and has written at least as much as we have read.

use crate::ledger::blame::Roles;
use crate::ledger::diff::Ledger;
use crate::ledger::snapshot::{FdKind, Identity, ProcessId, Snapshot};

/// Tells roles from who wrote the answer. `pipes` are the inodes of the server's three streams,
/// `read` the bytes that came through stdout.
pub fn by_answer(root: ProcessId, ledger: &Ledger, pipes: [u64; 3], read: u64) -> Roles {
    let mut chain = chain(root, ledger, pipes[1]);
    while let Some(last) = chain.pop() {
        if chain.is_empty() || written(last).is_none_or(|bytes| bytes >= read) {
            let pipeline = pipeline(last, &chain, ledger, pipes[0]);
            return Roles { root: Some(root), server: Some(last), launchers: chain, pipeline };
        }
    }
    Roles { root: Some(root), server: Some(root), ..Roles::default() }
}

/// Tells roles by position, for a life that ended before an answer: so many launchers were seen in
/// the first look.
pub fn by_depth(root: ProcessId, ledger: &Ledger, pipes: [u64; 3], launchers: usize) -> Roles {
    let mut chain = chain(root, ledger, pipes[1]);
    chain.truncate(launchers + 1);
    let server = if chain.len() == launchers + 1 { chain.pop() } else { None };
    let pipeline =
        server.map(|server| pipeline(server, &chain, ledger, pipes[0])).unwrap_or_default();
    Roles { root: Some(root), server, launchers: chain, pipeline }
}

/// The stages of `a | b`, where the process that has our stdout has another stdin than ours, which
/// a sibling of its reads. A shell starts them from left to right.
fn pipeline(
    server: ProcessId,
    launchers: &[ProcessId],
    ledger: &Ledger,
    stdin: u64,
) -> Vec<ProcessId> {
    let Some(shell) = launchers.last() else { return Vec::new() };
    let reads = |id: ProcessId| stdin_pipe(ledger, id);
    let mut stages: Vec<ProcessId> = ledger
        .last()
        .processes()
        .map(|(id, _)| id)
        .filter(|id| ledger.parent(*id) == Some(*shell) && reads(*id).is_some())
        .collect();
    let is_one = reads(server).is_some_and(|pipe| pipe != stdin)
        && stages.iter().any(|stage| reads(*stage) == Some(stdin));
    if !is_one {
        return Vec::new();
    }
    stages.sort_by_key(|id| (reads(*id) != Some(stdin), id.start_time, id.pid));
    stages
}

/// The inode of the pipe that a process has as its stdin.
pub fn stdin_pipe(ledger: &Ledger, id: ProcessId) -> Option<u64> {
    ledger.last().things.keys().find_map(|thing| match thing {
        Identity::Fd { owner, number: 0, kind: FdKind::Pipe, inode, .. } if *owner == id => {
            Some(*inode)
        }
        _ => None,
    })
}

/// From the root down, each the only child that has our stdout.
fn chain(root: ProcessId, ledger: &Ledger, stdout: u64) -> Vec<ProcessId> {
    let holders = holders(ledger.last(), stdout);
    let mut chain = vec![root];
    let mut at = root;
    loop {
        let mut next = holders
            .iter()
            .copied()
            .filter(|holder| !chain.contains(holder) && ledger.parent(*holder) == Some(at));
        match (next.next(), next.next()) {
            (Some(one), None) => {
                chain.push(one);
                at = one;
            }
            _ => return chain,
        }
    }
}

fn holders(snapshot: &Snapshot, pipe: u64) -> Vec<ProcessId> {
    let mut holders: Vec<ProcessId> = snapshot
        .things
        .keys()
        .filter_map(|identity| match identity {
            Identity::Fd { owner, inode, target, .. }
                if *inode == pipe && target.starts_with("pipe:") =>
            {
                Some(*owner)
            }
            _ => None,
        })
        .collect();
    holders.dedup();
    holders
}

/// Bytes that a process has passed to write(2) and its kin so far (proc_pid_io(5), wchar).
/// None where it cannot be read, or where the pid is another process' by now.
fn written(id: ProcessId) -> Option<u64> {
    let process = procfs::process::Process::new(id.pid).ok()?;
    let bytes = process.io().ok()?.wchar;
    // Asked last: the answer above was of whoever has the pid now.
    (process.stat().ok()?.starttime == id.start_time).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::diff::tests::{pipe, process, snapshot, step};

    fn id(pid: i32) -> ProcessId {
        ProcessId { pid, start_time: u64::from(pid.cast_unsigned()) }
    }

    #[test]
    fn launchers_are_the_chain_above_the_depth_that_the_first_look_saw() {
        // Pids that no host gives out, so that the test reads no stranger's /proc.
        let (root, shell, server) = (900_000_001, 900_000_002, 900_000_003);
        let mut ledger = Ledger::default();
        ledger.record(
            &step("1", None),
            snapshot([
                process(root, 0),
                process(shell, root),
                process(server, shell),
                pipe(root, 1, 7),
                pipe(shell, 1, 7),
                pipe(server, 1, 7),
            ]),
        );
        let roles = by_depth(id(root), &ledger, [6, 7, 8], 2);
        assert_eq!(roles.server, Some(id(server)));
        assert_eq!(roles.launchers, [id(root), id(shell)]);
        // Killed while it still started: the server is not there yet, and nobody is taken for it.
        assert_eq!(by_depth(id(root), &ledger, [6, 7, 8], 3).server, None);
    }

    #[test]
    fn a_pipeline_is_known_by_who_reads_and_who_writes() {
        let (shell, head, tail) = (900_000_001, 900_000_002, 900_000_003);
        let seen = |tail_reads, head_reads| {
            let mut ledger = Ledger::default();
            ledger.record(
                &step("1", None),
                snapshot([
                    process(shell, 0),
                    process(head, shell),
                    process(tail, shell),
                    pipe(shell, 0, 6),
                    pipe(shell, 1, 7),
                    pipe(head, 0, head_reads),
                    pipe(head, 1, 9),
                    pipe(tail, 0, tail_reads),
                    pipe(tail, 1, 7),
                ]),
            );
            by_depth(id(shell), &ledger, [6, 7, 8], 1)
        };
        let roles = seen(9, 6);
        assert_eq!((roles.server, roles.pipeline), (Some(id(tail)), vec![id(head), id(tail)]));
        // A server beside a helper of the shell's, which both read our stdin, is none.
        assert!(seen(6, 6).pipeline.is_empty());
        assert!(seen(6, 9).pipeline.is_empty());
    }

    #[test]
    fn what_another_process_of_the_same_pid_has_written_counts_for_nothing() {
        let me = crate::cell::contain::identify(crate::cell::contain::own_pid());
        let me = me.expect("this process is there");
        assert!(written(me).is_some());
        assert_eq!(written(ProcessId { start_time: me.start_time + 1, ..me }), None);
    }

    #[test]
    fn a_lone_process_is_the_server() {
        let mut ledger = Ledger::default();
        ledger
            .record(&step("1", None), snapshot([process(900_000_001, 0), pipe(900_000_001, 1, 7)]));
        let roles = by_answer(id(900_000_001), &ledger, [6, 7, 8], 100);
        assert_eq!(roles.server, Some(id(900_000_001)));
        assert!(roles.launchers.is_empty());
    }
}
