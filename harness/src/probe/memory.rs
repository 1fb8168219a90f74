//! Memory of a process: proc_pid_statm(5), and smaps_rollup where it can be read.

use std::os::fd::OwnedFd;

use rustix::io::Errno;

use super::read::Buffers;
use crate::ledger::snapshot::Memory;

const LIMIT: usize = 4096;

/// Memory of a process. The proportional share costs the kernel a walk over every page.
pub(super) fn read(process: &OwnedFd, buffers: &mut Buffers) -> Result<Memory, Errno> {
    let page_kib = u64::try_from(rustix::param::page_size() / 1024).unwrap_or(4);
    let statm = buffers.read(process, c"statm", LIMIT)?;
    let pages = parse_resident(&String::from_utf8_lossy(statm)).ok_or(Errno::SRCH)?;
    let pss_kib = match buffers.read(process, c"smaps_rollup", LIMIT) {
        Ok(text) => parse_pss(&String::from_utf8_lossy(text)),
        Err(_) => None,
    };
    Ok(Memory { rss_kib: pages * page_kib, pss_kib })
}

/// Memory of one process, apart from any snapshot; none if it is gone.
pub fn of(pid: i32) -> Option<Memory> {
    let process = super::read::open_dir(rustix::fs::CWD, format!("/proc/{pid}")).ok()?;
    read(&process, &mut Buffers::default()).ok()
}

fn parse_resident(statm: &str) -> Option<u64> {
    statm.split_ascii_whitespace().nth(1)?.parse().ok()
}

fn parse_pss(rollup: &str) -> Option<u64> {
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resident_is_the_second_figure() {
        assert_eq!(parse_resident("1447 812 700 5 0 150 0\n"), Some(812));
        assert_eq!(parse_resident(""), None);
    }

    #[test]
    fn the_share_is_not_one_of_its_parts() {
        let rollup = "Rss:  900 kB\nPss:             123 kB\nPss_Dirty:  7 kB\n";
        assert_eq!(parse_pss(rollup), Some(123));
        assert_eq!(parse_pss("Pss_Dirty:  7 kB\n"), None);
    }
}
