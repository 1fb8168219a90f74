//! Which processes a server speaks with through their stdin and stdout, as a gateway does with the
//! servers behind it. Pure.

use std::collections::BTreeMap;

use super::snapshot::{Facts, FdKind, Identity, ProcessId, Snapshot};

/// Most that are remembered.
const MOST: usize = 1_000;
/// Most processes between a backend and its gateway.
const LINEAGE: usize = 16;

/// The backends that were ever seen, each with the process that speaks with it.
#[derive(Debug, Clone, Default)]
pub struct Backends(BTreeMap<ProcessId, ProcessId>);

impl Backends {
    /// Takes in what is there now. A process is a backend when its stdin and its stdout are two
    /// streams that an ancestor has made for it; a shell between them has the same two.
    pub(super) fn see(&mut self, now: &Snapshot, parents: &BTreeMap<ProcessId, ProcessId>) {
        let ends = Ends::of(now);
        for (process, streams) in &ends.streams {
            let [Some(stdin), Some(stdout)] = streams else { continue };
            if stdin == stdout || self.0.contains_key(process) || self.0.len() >= MOST {
                continue;
            }
            // Who has the same stdin only hands it on.
            let hands_on =
                |one: &ProcessId| ends.streams.get(one).is_some_and(|[its, _]| *its == streams[0]);
            let mut above = std::iter::successors(parents.get(process), |one| parents.get(one));
            let gateway = above.by_ref().take(LINEAGE).find(|one| !hands_on(one));
            let is_there = |one: &&ProcessId| now.things.contains_key(&Identity::Process(**one));
            if let Some(gateway) = gateway.filter(is_there)
                && ends.has(*gateway, *stdin, *stdout)
            {
                self.0.insert(*process, *gateway);
            }
        }
    }

    /// Who speaks with this process, where it is a backend.
    pub fn gateway_of(&self, id: ProcessId) -> Option<ProcessId> {
        self.0.get(&id).copied()
    }

    /// The backends, without the shells that only start them.
    pub fn all(&self, parent: impl Fn(ProcessId) -> Option<ProcessId>) -> Vec<ProcessId> {
        let is_between = |one: &ProcessId| {
            let gateway = self.0.get(one);
            self.0
                .iter()
                .any(|(other, theirs)| Some(theirs) == gateway && parent(*other) == Some(*one))
        };
        self.0.keys().copied().filter(|one| !is_between(one)).collect()
    }
}

/// A stream, as far as it can be told who has its other end: that of a pipe is of the same inode,
/// that of a socket is not.
type Stream = (FdKind, u64);

/// Who has which ends.
#[derive(Default)]
struct Ends {
    /// Stdin and stdout of each process that has other processes' pipes or sockets there.
    streams: BTreeMap<ProcessId, [Option<Stream>; 2]>,
    /// Ends of pipes beside these two, and whether it is the write end.
    others: Vec<(ProcessId, u64, bool)>,
}

impl Ends {
    fn of(now: &Snapshot) -> Self {
        let mut ends = Self::default();
        for (thing, facts) in &now.things {
            let Identity::Fd { owner, number, kind, inode, .. } = thing else { continue };
            match (kind, number, facts) {
                (FdKind::Pipe | FdKind::Socket, 0 | 1, _) => {
                    let streams = ends.streams.entry(*owner).or_default();
                    streams[usize::from(*number == 1)] = Some((*kind, *inode));
                }
                (FdKind::Pipe, _, Facts::Fd { write_end }) => {
                    ends.others.push((*owner, *inode, *write_end));
                }
                _ => {}
            }
        }
        ends
    }

    /// Whether a process can have made these two for another. Of sockets that is taken for granted:
    /// nobody else gives a process two of them.
    fn has(&self, one: ProcessId, stdin: Stream, stdout: Stream) -> bool {
        let end = |(kind, inode): Stream, writes: bool| {
            kind == FdKind::Socket || self.others.contains(&(one, inode, writes))
        };
        end(stdin, true) && end(stdout, false)
    }
}

#[cfg(test)]
mod tests {
    use super::super::diff::{
        Ledger,
        tests::{pipe, process, snapshot, step},
    };
    use super::*;

    fn id(pid: i32) -> ProcessId {
        ProcessId { pid, start_time: u64::from(pid.cast_unsigned()) }
    }

    fn write_end(owner: i32, number: i32, inode: u64) -> (Identity, Facts) {
        let (identity, _) = pipe(owner, number, inode);
        (identity, Facts::Fd { write_end: true })
    }

    fn socket(owner: i32, number: i32, inode: u64) -> (Identity, Facts) {
        let (identity, facts) = pipe(owner, number, inode);
        let Identity::Fd { owner, number, device, inode, extra, .. } = identity else {
            panic!("a descriptor")
        };
        let target = format!("socket:[{inode}]");
        let kind = FdKind::Socket;
        (Identity::Fd { owner, number, kind, target, device, inode, extra }, facts)
    }

    fn seen(things: Vec<(Identity, Facts)>) -> Ledger {
        let mut ledger = Ledger::default();
        ledger.record(&step("1", None), snapshot(things));
        ledger
    }

    fn backends(ledger: &Ledger) -> Vec<ProcessId> {
        ledger.backends().all(|id| ledger.parent(id))
    }

    /// Process 1 has its own streams from elsewhere, and a pipe to and from what it starts.
    fn gateway() -> Vec<(Identity, Facts)> {
        vec![
            process(1, 0),
            pipe(1, 0, 100),
            write_end(1, 1, 101),
            write_end(1, 5, 200),
            pipe(1, 6, 201),
        ]
    }

    #[test]
    fn a_child_with_two_pipes_of_its_parent_is_a_backend_also_behind_a_shell() {
        let streams = |pid| [pipe(pid, 0, 200), write_end(pid, 1, 201)];
        let direct = seen([gateway(), vec![process(2, 1)], streams(2).into()].concat());
        assert_eq!(backends(&direct), [id(2)]);
        assert_eq!(direct.backends().gateway_of(id(2)), Some(id(1)));
        let things =
            [gateway(), vec![process(2, 1), process(3, 2)], streams(2).into(), streams(3).into()];
        let behind = seen(things.concat());
        assert_eq!(backends(&behind), [id(3)]);
        assert_eq!(behind.backends().gateway_of(id(3)), Some(id(1)));
    }

    #[test]
    fn a_child_with_two_sockets_is_one_as_node_starts_it() {
        let child = vec![process(2, 1), socket(2, 0, 300), socket(2, 1, 301)];
        assert_eq!(backends(&seen([gateway(), child].concat())), [id(2)]);
    }

    #[test]
    fn a_server_behind_its_launcher_is_none_nor_is_a_helper_without_a_pipe() {
        let streams = |pid| vec![pipe(pid, 0, 100), write_end(pid, 1, 101)];
        let launched = [vec![process(1, 0)], streams(1), vec![process(2, 1)], streams(2)];
        assert_eq!(backends(&seen(launched.concat())), []);
        // Only its stdout goes back to who started it.
        let logger = vec![process(2, 1), pipe(2, 0, 100), write_end(2, 1, 201)];
        assert_eq!(backends(&seen([gateway(), logger].concat())), []);
        let helper = vec![process(2, 1)];
        assert_eq!(backends(&seen([gateway(), helper].concat())), []);
    }

    #[test]
    fn a_backend_is_remembered_when_its_gateway_is_gone() {
        let mut ledger =
            seen([gateway(), vec![process(2, 1), pipe(2, 0, 200), write_end(2, 1, 201)]].concat());
        ledger.record(&step("2", None), snapshot([process(2, 0)]));
        assert_eq!(ledger.backends().gateway_of(id(2)), Some(id(1)));
    }
}
