//! Memory of a process: proc_pid_statm(5), and smaps_rollup where it can be read.

use std::os::fd::OwnedFd;

use rustix::io::Errno;

use super::read::Buffers;
use crate::ledger::snapshot::{Memory, Runtime};

const LIMIT: usize = 4096;

/// Memory of a process. All but the resident set costs the kernel a walk over every page.
pub(super) fn read(process: &OwnedFd, buffers: &mut Buffers) -> Result<Memory, Errno> {
    let rss_kib = pages(process, buffers, RESIDENT)?;
    let rollup = buffers.read_at_once(process, c"smaps_rollup", LIMIT);
    let rollup = rollup.map(|text| String::from_utf8_lossy(text).into_owned()).unwrap_or_default();
    Ok(Memory { rss_kib, pss_kib: field(&rollup, "Pss"), private_kib: private(&rollup) })
}

/// Memory of one process, apart from any snapshot; none if it is gone.
pub fn of(pid: i32) -> Option<Memory> {
    read(&super::read::process_dir(pid).ok()?, &mut Buffers::default()).ok()
}

/// What a process runs on; nothing where it cannot be read.
pub fn runtime(pid: i32) -> Runtime {
    let Ok(process) = super::read::process_dir(pid) else { return Runtime::default() };
    let mut buffers = Buffers::default();
    let address_space_kib = pages(&process, &mut buffers, SIZE).unwrap_or(0);
    let program = buffers.read_link(&process, c"exe").map(program_of).unwrap_or_default();
    Runtime { program, address_space_kib }
}

/// Fields of statm.
const SIZE: usize = 0;
const RESIDENT: usize = 1;

/// A field of statm in KiB.
fn pages(process: &OwnedFd, buffers: &mut Buffers, at: usize) -> Result<u64, Errno> {
    let page_kib = u64::try_from(rustix::param::page_size() / 1024).unwrap_or(4);
    let statm = buffers.read_at_once(process, c"statm", LIMIT)?;
    let pages = parse_statm(&String::from_utf8_lossy(statm), at).ok_or(Errno::SRCH)?;
    Ok(pages * page_kib)
}

fn parse_statm(statm: &str, at: usize) -> Option<u64> {
    statm.split_ascii_whitespace().nth(at)?.parse().ok()
}

/// A line of smaps_rollup, in KiB.
fn field(rollup: &str, name: &str) -> Option<u64> {
    let line = rollup.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

/// Pages of files are left out: they come as code is run, and go when the host is short of memory. The
/// kernel counts what is marked as free (MADV_FREE) as anonymous until it takes it.
fn private(rollup: &str) -> Option<u64> {
    let anonymous = field(rollup, "Anonymous")?;
    let more = ["Swap", "Pss_Shmem"].iter().filter_map(|name| field(rollup, name)).sum::<u64>();
    Some((anonymous + more).saturating_sub(field(rollup, "LazyFree").unwrap_or(0)))
}

/// The file name of a program; the kernel marks one that was replaced since.
fn program_of(exe: &[u8]) -> String {
    let exe = String::from_utf8_lossy(exe);
    let exe = exe.strip_suffix(" (deleted)").unwrap_or(&exe);
    exe.rsplit('/').next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resident_is_the_second_figure() {
        assert_eq!(parse_statm("1447 812 700 5 0 150 0\n", RESIDENT), Some(812));
        assert_eq!(parse_statm("1447 812 700 5 0 150 0\n", SIZE), Some(1447));
        assert_eq!(parse_statm("", RESIDENT), None);
    }

    #[test]
    fn the_share_is_not_one_of_its_parts() {
        let rollup = "Rss:  900 kB\nPss:             123 kB\nPss_Dirty:  7 kB\n";
        assert_eq!(field(rollup, "Pss"), Some(123));
        assert_eq!(field("Pss_Dirty:  7 kB\n", "Pss"), None);
    }

    #[test]
    fn what_is_marked_as_free_is_not_kept() {
        let rollup = "Pss_Shmem:  30 kB\nAnonymous:  500 kB\nLazyFree:  200 kB\nSwap:  4 kB\n";
        assert_eq!(private(rollup), Some(334));
        assert_eq!(private("Anonymous:  500 kB\n"), Some(500), "older kernels say less");
        assert_eq!(private("Pss:  500 kB\n"), None);
    }

    #[test]
    fn a_program_has_the_name_of_its_file() {
        assert_eq!(program_of(b"/usr/bin/node"), "node");
        assert_eq!(program_of(b"/opt/py/bin/python3.11 (deleted)"), "python3.11");
    }

    #[test]
    fn we_ourselves_run_on_a_small_heap() {
        let own = i32::try_from(std::process::id()).unwrap();
        assert!(of(own).unwrap().private_kib.is_none_or(|kib| kib > 100));
        let runtime = runtime(own);
        assert!(!runtime.program.is_empty() && runtime.address_space_kib > 1_000, "{runtime:?}");
    }
}
