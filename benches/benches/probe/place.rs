//! Where the looks are taken: in a pid namespace of our own, as in a cell.

use std::io::{self, Read};
use std::process::{Command, Stdio};

use harness::cell::isolate;

/// Set in the process that is started again.
const INSIDE: &str = "SCUPPER_BENCH_INSIDE";
/// Exit code of one that could not have a /proc of its own.
const NO_NAMESPACE: u8 = 77;

/// Where this process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// The first process of a pid namespace.
    Namespace,
    /// Among all processes of the host: each look has to find its own among them.
    Host,
    /// Outside, and the one inside has ended with this code.
    Ended(u8),
}

impl Place {
    /// Starts this program again in a namespace and waits for it; or says where it is already.
    pub(crate) fn enter() -> Place {
        if std::env::var_os(INSIDE).is_some() {
            return begin().unwrap_or_else(|error| {
                eprintln!("probe: a /proc of our own: {error}");
                Place::Ended(NO_NAMESPACE)
            });
        }
        let code = match inside() {
            Ok(code) => code,
            Err(error) => {
                eprintln!("probe: a pid namespace of our own: {error}");
                NO_NAMESPACE
            }
        };
        if code == NO_NAMESPACE {
            eprintln!("probe: looks among all processes of the host");
            return Place::Host;
        }
        Place::Ended(code)
    }
}

fn inside() -> io::Result<u8> {
    let mut again = Command::new(std::env::current_exe()?);
    again.args(std::env::args_os().skip(1)).env(INSIDE, "1").stdin(Stdio::piped());
    // The thread is of no use after this child.
    let starter = std::thread::spawn(move || {
        isolate::next_child_begins_pid_namespace()?;
        again.spawn()
    });
    let mut child = starter.join().map_err(|_| io::Error::other("the start panicked"))??;
    // wait() would end its stdin, by which it lives.
    let lifeline = child.stdin.take();
    let status = child.wait()?;
    drop(lifeline);
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
}

fn begin() -> io::Result<Place> {
    isolate::close_inherited_on_exec()?;
    isolate::mount_own_proc()?;
    // The first process of a namespace minds no Ctrl-C. It ends when its parent does.
    std::thread::spawn(|| {
        let _ = io::stdin().read(&mut [0]);
        std::process::exit(130);
    });
    Ok(Place::Namespace)
}
