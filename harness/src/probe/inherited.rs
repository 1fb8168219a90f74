//! What a child inherited and was not to: an end of a pipe that its parent keeps for itself, or a
//! socket of the parent's. Either was made without CLOEXEC, or handed on by mistake.
//!
//! A pipe between two processes is held by both, and a child may have copies of its own end: wrong is
//! only the end that its parent holds too. Descriptors 0, 1 and 2 are what was given on purpose.

use std::fs;
use std::io::ErrorKind;

use rustix::fs::OFlags;

use crate::ledger::snapshot::{FdKind, Identity, ProcessId};

/// Descriptors of `child` that are those of its parent, which are `own` with whether each is the write
/// end of a pipe. A child that has ended holds none.
///
/// # Errors
/// In words, that the child's descriptors cannot be read.
pub fn inherited<'o>(
    child: ProcessId,
    own: impl Iterator<Item = (&'o Identity, bool)>,
) -> Result<Vec<Identity>, String> {
    let own: Vec<(&Identity, bool)> = own.collect();
    let listing = match fs::read_dir(format!("/proc/{}/fd", child.pid)) {
        Ok(listing) => listing,
        Err(error) if is_over(child, error.kind()) => return Ok(Vec::new()),
        Err(error) => return Err(format!("the descriptors of pid {}: {error}", child.pid)),
    };
    let mut found = Vec::new();
    for entry in listing.flatten() {
        let number = entry.file_name().to_str().and_then(|number| number.parse::<i32>().ok());
        let Some(number) = number.filter(|number| *number > 2) else { continue };
        // A descriptor that is closed meanwhile is none.
        let Ok(link) = fs::read_link(entry.path()) else { continue };
        let link = link.to_string_lossy();
        for (identity, write_end) in &own {
            let Identity::Fd { kind, target, device, inode, extra, .. } = identity else {
                continue;
            };
            let same = *target == link
                && match kind {
                    FdKind::Socket => true,
                    FdKind::Pipe => is_writable(child.pid, number) == Some(*write_end),
                    _ => false,
                };
            if same {
                found.push(Identity::Fd {
                    owner: child,
                    number,
                    kind: *kind,
                    target: target.clone(),
                    device: *device,
                    inode: *inode,
                    extra: extra.clone(),
                });
                break;
            }
        }
    }
    Ok(found)
}

/// A process that has ended gives no look at its descriptors, whoever asks.
fn is_over(child: ProcessId, error: ErrorKind) -> bool {
    if error == ErrorKind::NotFound {
        return true;
    }
    let Ok(stat) = fs::read_to_string(format!("/proc/{}/stat", child.pid)) else { return true };
    let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
    matches!(state, Some('Z' | 'X'))
}

fn is_writable(pid: i32, number: i32) -> Option<bool> {
    let info = fs::read_to_string(format!("/proc/{pid}/fdinfo/{number}")).ok()?;
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:"))?;
    let flags = OFlags::from_bits_retain(u32::from_str_radix(flags.trim(), 8).ok()?);
    Some(flags.intersects(OFlags::WRONLY | OFlags::RDWR))
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;
    use std::os::unix::process::CommandExt;
    use std::process::{Child, Command, Stdio};
    use std::time::{Duration, Instant};

    use rustix::pipe::{PipeFlags, pipe_with};

    use super::*;
    use crate::ledger::snapshot::{Facts, Kind};
    use crate::probe::{Root, Scanner, Sight};

    /// A shell whose descriptor 5 is a copy of what it has as descriptor 2.
    fn child(stderr: Stdio) -> Child {
        Command::new("sh")
            .args(["-c", "exec 5>&2 2>/dev/null; read line"])
            .stdin(Stdio::piped())
            .stderr(stderr)
            .process_group(0)
            .spawn()
            .expect("a shell")
    }

    /// What it holds of this descriptor of ours once it has that copy. Others may be whoever's who
    /// started the test.
    fn look(child: &Child, of: &impl AsRawFd) -> Vec<Identity> {
        let of = of.as_raw_fd();
        let pid = child.id().cast_signed();
        let deadline = Instant::now() + Duration::from_secs(60);
        while fs::read_link(format!("/proc/{pid}/fd/5")).is_err() {
            assert!(Instant::now() < deadline, "the shell does not come up");
            std::thread::yield_now();
        }
        let sight = Sight {
            root: Root::Itself,
            ours: Default::default(),
            temp_dir: None,
            kinds: [Kind::Fd].into(),
        };
        let snapshot = Scanner::new().snapshot(&sight, Duration::from_millis(1));
        let me = std::process::id().cast_signed();
        let own = snapshot.things.iter().filter_map(|(identity, facts)| match facts {
            Facts::Fd { write_end } => match identity {
                Identity::Fd { owner, number, .. } if owner.pid == me && *number == of => {
                    Some((identity, *write_end))
                }
                _ => None,
            },
            _ => None,
        });
        inherited(ProcessId { pid, start_time: 0 }, own).expect("a child can be read")
    }

    fn end(mut child: Child) {
        drop(child.stdin.take());
        child.wait().expect("a shell that ends with its stdin");
    }

    #[test]
    fn an_end_that_the_parent_keeps_is_found() {
        let (_read, write) = pipe_with(PipeFlags::CLOEXEC).expect("a pipe");
        let given = write.try_clone().expect("a copy");
        let child = child(given.into());
        let found = look(&child, &write);
        assert!(
            matches!(found[..], [Identity::Fd { number: 5, kind: FdKind::Pipe, .. }]),
            "{found:?}"
        );
        end(child);
    }

    #[test]
    fn a_copy_of_its_own_end_is_a_childs_right() {
        let mut child = child(Stdio::piped());
        let stderr = child.stderr.take().expect("its pipe");
        assert_eq!(look(&child, &stderr), []);
        drop(stderr);
        end(child);
    }
}
