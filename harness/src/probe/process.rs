//! Processes: who belongs to a case, and what is known of each (proc_pid_stat(5)).

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::CWD;
use rustix::io::Errno;

use super::read::{self, Buffers};
use super::{ProbeError, Root};
use crate::ledger::snapshot::{Kind, ProcessFacts, ProcessId, Unreadable};

/// The variable that names the connection a process was started for.
pub const COOKIE: &str = "SCUPPER_CONNECTION";

const STAT_LIMIT: usize = 4096;
const COMMAND_LIMIT: usize = 4096;
const COMMAND_ARGUMENTS: usize = 64;
const ENVIRONMENT_LIMIT: usize = 256 * 1024;
/// PF_KTHREAD of linux/sched.h.
const KERNEL_THREAD: u32 = 0x0020_0000;
/// PF_EXITING of linux/sched.h.
const EXITING: u32 = 0x0000_0004;
/// How often a process whose parent vanished in mid-scan is asked for its new one.
const REPARENT_ROUNDS: usize = 4;

/// A line of /proc/PID/stat, as far as it is of use here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stat {
    pub(super) pid: i32,
    pub(super) name: String,
    pub(super) state: char,
    pub(super) parent: i32,
    pub(super) group: i32,
    pub(super) session: i32,
    pub(super) flags: u32,
    pub(super) threads: u32,
    pub(super) start_time: u64,
}

impl Stat {
    pub(super) fn id(&self) -> ProcessId {
        ProcessId { pid: self.pid, start_time: self.start_time }
    }

    /// Dead and unreaped. A leader that ended before its threads shows Z as well, and is not.
    pub(super) fn is_zombie(&self) -> bool {
        self.state == 'Z' && self.threads <= 1
    }

    /// The leader ended, its threads live on: what the process holds is seen through them only.
    pub(super) fn has_lost_leader(&self) -> bool {
        self.state == 'Z' && self.threads > 1
    }

    pub(super) fn is_kernel_thread(&self) -> bool {
        self.flags & KERNEL_THREAD != 0
    }

    fn is_exiting(&self) -> bool {
        self.flags & EXITING != 0
    }

    fn is_dead(&self) -> bool {
        matches!(self.state, 'X' | 'x')
    }
}

/// Parses a stat line. The name stands in parentheses and may hold parentheses and spaces itself,
/// so it ends at the last one.
pub(super) fn parse_stat(line: &[u8]) -> Option<Stat> {
    let open = line.iter().position(|&byte| byte == b'(')?;
    let close = line.iter().rposition(|&byte| byte == b')')?;
    let pid = std::str::from_utf8(line.get(..open)?).ok()?.trim().parse().ok()?;
    let name = String::from_utf8_lossy(line.get(open + 1..close)?).into_owned();
    let rest = std::str::from_utf8(line.get(close + 1..)?).ok()?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    // Field 3 of the manual page is fields[0].
    let field = |number: usize| fields.get(number - 3).copied();
    Some(Stat {
        pid,
        name,
        state: field(3)?.chars().next()?,
        parent: field(4)?.parse().ok()?,
        group: field(5)?.parse().ok()?,
        session: field(6)?.parse().ok()?,
        flags: field(9)?.parse().ok()?,
        threads: field(20)?.parse().ok()?,
        start_time: field(22)?.parse().ok()?,
    })
}

/// The processes of a case, with those that exist and may not be looked at.
pub(super) struct Selected {
    pub(super) rows: Vec<Stat>,
    pub(super) unreadable: Vec<Unreadable>,
    /// This process, as /proc numbers it; 0 where /proc does not show it.
    pub(super) own_pid: i32,
}

/// One pass over the stat of every process, then the walk from the root down.
pub(super) fn select(
    root: Root,
    ours: &BTreeSet<i32>,
    hidden: bool,
    buffers: &mut Buffers,
) -> Result<Selected, ProbeError> {
    let own_pid = own_pid(buffers);
    let mut table = Table::read(buffers)?;
    let (mut chosen, unreadable) = match root {
        Root::Namespace => (table.users(), table.refused_in_namespace(hidden)),
        Root::Descendants(root) => {
            let chosen = table.below(root, buffers).ok_or_else(|| table.no_root(root, hidden))?;
            let unreadable = table.refused_below(root, &chosen, hidden, buffers);
            (chosen, unreadable)
        }
        Root::Itself => {
            let own = own_pid.map_err(|errno| ProbeError::read("/proc/self", errno))?;
            let mut chosen = table.below(own, buffers).ok_or_else(|| table.no_root(own, hidden))?;
            let unreadable = table.refused_below(own, &chosen, hidden, buffers);
            chosen.insert(own);
            (chosen, unreadable)
        }
    };
    chosen.retain(|pid| !ours.contains(pid));
    let rows = chosen.iter().filter_map(|pid| table.rows.remove(pid)).collect();
    Ok(Selected { rows, unreadable, own_pid: own_pid.unwrap_or(0) })
}

/// What is known of a process; none if it is gone.
pub(super) fn facts(stat: &Stat, buffers: &mut Buffers) -> Option<ProcessFacts> {
    let dir = read::process_dir(stat.pid).ok()?;
    facts_in(&dir, stat, buffers)
}

/// What is known of a process whose directory is held; none if it is another's or gone.
pub(super) fn facts_in(dir: &OwnedFd, stat: &Stat, buffers: &mut Buffers) -> Option<ProcessFacts> {
    let mut facts = ProcessFacts {
        parent: stat.parent,
        group: stat.group,
        session: stat.session,
        state: stat.state,
        name: stat.name.clone(),
        command: Vec::new(),
        cookie: None,
    };
    if stat.is_zombie() {
        return Some(facts);
    }
    let mut through = String::new();
    if stat.has_lost_leader() {
        let thread = living_thread(dir, stat.pid, buffers)?;
        facts.state = thread.state;
        through = format!("task/{}/", thread.pid);
    }
    if let Ok(text) = buffers.read(dir, format!("{through}cmdline"), COMMAND_LIMIT) {
        facts.command = parse_command(text);
    }
    if let Ok(text) = buffers.read(dir, format!("{through}environ"), ENVIRONMENT_LIMIT) {
        facts.cookie = parse_cookie(text);
    }
    // The directory was opened by number: the process may have been another's by then.
    let now = parse_stat(buffers.read_at_once(dir, c"stat", STAT_LIMIT).ok()?)?;
    if now.start_time != stat.start_time {
        return None;
    }
    Some(facts)
}

/// The process is a zombie or gone, or on its way there: it has given up its memory already, and then
/// its files belong to root and refuse every other user.
pub(super) fn has_ended(dir: &OwnedFd, buffers: &mut Buffers) -> bool {
    match buffers.read_at_once(dir, c"stat", STAT_LIMIT) {
        Ok(line) => parse_stat(line).is_some_and(|stat| {
            stat.is_zombie() || stat.is_dead() || (stat.is_exiting() && all_exit(dir, buffers))
        }),
        Err(errno) => read::is_gone(errno),
    }
}

/// Every thread is on its way out.
fn all_exit(dir: &OwnedFd, buffers: &mut Buffers) -> bool {
    let tids = read::open_dir(dir, c"task").and_then(|tasks| Ok((buffers.numbers(&tasks)?, tasks)));
    let Ok((tids, tasks)) = tids else { return false };
    tids.into_iter().all(|tid| match stat_at(&tasks, &format!("{tid}/stat"), buffers) {
        Ok(stat) => stat.is_some_and(|stat| stat.is_exiting()),
        Err(errno) => read::is_gone(errno),
    })
}

/// Some thread of a process that has not ended.
pub(super) fn living_thread(dir: &OwnedFd, pid: i32, buffers: &mut Buffers) -> Option<Stat> {
    let tasks = read::open_dir(dir, c"task").ok()?;
    let tids = buffers.numbers(&tasks).ok()?;
    tids.into_iter().filter(|&tid| tid != pid).find_map(|tid| {
        let line = buffers.read_at_once(&tasks, format!("{tid}/stat"), STAT_LIMIT).ok()?;
        parse_stat(line).filter(|stat| !matches!(stat.state, 'Z' | 'X' | 'x'))
    })
}

/// The stat of a process or thread below a held directory.
pub(super) fn stat_at(
    dir: impl AsFd,
    name: &str,
    buffers: &mut Buffers,
) -> Result<Option<Stat>, Errno> {
    Ok(parse_stat(buffers.read_at_once(dir, name, STAT_LIMIT)?))
}

/// The stat of a process by number.
pub(super) fn stat_of(pid: i32, buffers: &mut Buffers) -> Result<Option<Stat>, Errno> {
    stat_at(CWD, &format!("/proc/{pid}/stat"), buffers)
}

/// The command line of a process by number, on one line and shortened, or its name.
pub(super) fn command_of(pid: i32, buffers: &mut Buffers) -> String {
    const LONGEST: usize = 120;
    let command = match buffers.read(CWD, format!("/proc/{pid}/cmdline"), COMMAND_LIMIT) {
        Ok(text) => parse_command(text).join(" "),
        Err(_) => String::new(),
    };
    if command.is_empty() {
        return match stat_of(pid, buffers) {
            Ok(Some(stat)) => stat.name,
            _ => "?".to_owned(),
        };
    }
    if command.chars().count() <= LONGEST {
        return command;
    }
    command.chars().take(LONGEST).chain(['…']).collect()
}

/// Pids of every process that /proc lists.
pub(super) fn all_pids(buffers: &mut Buffers) -> Result<Vec<i32>, Errno> {
    buffers.numbers(read::open_dir(CWD, c"/proc")?)
}

fn own_pid(buffers: &mut Buffers) -> Result<i32, Errno> {
    // Not getpid(): /proc may be that of another pid namespace.
    let link = buffers.read_link(CWD, c"/proc/self")?;
    std::str::from_utf8(link).ok().and_then(|link| link.parse().ok()).ok_or(Errno::NOENT)
}

/// Every process of /proc in one pass.
struct Table {
    rows: BTreeMap<i32, Stat>,
    refused: BTreeMap<i32, Errno>,
}

impl Table {
    fn read(buffers: &mut Buffers) -> Result<Table, ProbeError> {
        let pids = all_pids(buffers).map_err(|errno| ProbeError::read("/proc", errno))?;
        let mut table = Table { rows: BTreeMap::new(), refused: BTreeMap::new() };
        for pid in pids {
            table.update(pid, buffers);
        }
        Ok(table)
    }

    fn update(&mut self, pid: i32, buffers: &mut Buffers) {
        self.rows.remove(&pid);
        match stat_of(pid, buffers) {
            Ok(Some(stat)) if !stat.is_dead() => {
                self.rows.insert(pid, stat);
            }
            Err(errno) if read::is_refused(errno) => {
                self.refused.insert(pid, errno);
            }
            _ => {}
        }
    }

    /// All that are no kernel threads.
    fn users(&self) -> BTreeSet<i32> {
        let users = self.rows.values().filter(|stat| !stat.is_kernel_thread());
        users.map(|stat| stat.pid).collect()
    }

    /// All below a process, itself not; none if it is gone.
    ///
    /// A process whose parent was seen and then vanished has a new parent by now, the subreaper
    /// perhaps: it is asked again, or it would be lost from the tree for one scan.
    fn below(&mut self, root: i32, buffers: &mut Buffers) -> Option<BTreeSet<i32>> {
        for _ in 0..REPARENT_ROUNDS {
            let orphans: Vec<i32> = self.orphans().collect();
            if orphans.is_empty() {
                break;
            }
            for pid in orphans {
                self.update(pid, buffers);
            }
        }
        self.rows.contains_key(&root).then(|| below(root, &self.rows))
    }

    fn no_root(&self, root: i32, hidden: bool) -> ProbeError {
        let cause = match self.refused.get(&root) {
            Some(&errno) => cause(errno),
            None if hidden => "gone, or hidden by the hidepid option of /proc".to_owned(),
            None => return ProbeError::RootGone(root),
        };
        ProbeError::Hidden(refusal(format!("descendants of pid {root}"), &cause), 0)
    }

    fn orphans(&self) -> impl Iterator<Item = i32> {
        self.rows
            .values()
            .filter(|stat| {
                stat.parent != 0
                    && !self.rows.contains_key(&stat.parent)
                    && !self.refused.contains_key(&stat.parent)
            })
            .map(|stat| stat.pid)
    }

    fn refused_in_namespace(&self, hidden: bool) -> Vec<Unreadable> {
        let mut unreadable: Vec<Unreadable> = self
            .refused
            .iter()
            .map(|(&pid, &errno)| refusal(format!("process {pid}"), &cause(errno)))
            .collect();
        if hidden {
            let what = "processes of other users".to_owned();
            unreadable.push(refusal(what, "/proc is mounted with hidepid"));
        }
        unreadable
    }

    /// Children of the case's processes that /proc does not let us look at. Their parents list
    /// them all the same (proc_tid_children(5)).
    fn refused_below(
        &self,
        root: i32,
        chosen: &BTreeSet<i32>,
        hidden: bool,
        buffers: &mut Buffers,
    ) -> Vec<Unreadable> {
        if !hidden && self.refused.is_empty() {
            return Vec::new();
        }
        let mut unreadable = Vec::new();
        for &parent in std::iter::once(&root).chain(chosen) {
            let children = match children_of(parent, buffers) {
                Ok(children) => children,
                Err(errno) if read::is_gone(errno) => continue,
                Err(errno) => {
                    unreadable.push(refusal(format!("children of pid {parent}"), &cause(errno)));
                    continue;
                }
            };
            for pid in children.difference(chosen).copied() {
                // First not there by its number, and after that still there by its parent: hidden,
                // and neither just born nor just gone.
                let missing = stat_of(pid, buffers).is_err();
                if missing && children_of(parent, buffers).is_ok_and(|now| now.contains(&pid)) {
                    let what = format!("process {pid}, a child of pid {parent}");
                    unreadable.push(refusal(what, "hidden by the hidepid option of /proc"));
                }
            }
        }
        unreadable
    }
}

fn children_of(pid: i32, buffers: &mut Buffers) -> Result<BTreeSet<i32>, Errno> {
    let tasks = read::open_dir(CWD, format!("/proc/{pid}/task"))?;
    let mut children = BTreeSet::new();
    for tid in buffers.numbers(&tasks)? {
        let text = buffers.read(&tasks, format!("{tid}/children"), ENVIRONMENT_LIMIT)?;
        let text = String::from_utf8_lossy(text);
        children.extend(text.split_ascii_whitespace().filter_map(|pid| pid.parse::<i32>().ok()));
    }
    Ok(children)
}

fn refusal(what: String, cause: &str) -> Unreadable {
    Unreadable { what, kind: Kind::Process, cause: cause.to_owned() }
}

fn cause(errno: Errno) -> String {
    std::io::Error::from(errno).to_string()
}

/// All below a process in a table of parents.
fn below(root: i32, rows: &BTreeMap<i32, Stat>) -> BTreeSet<i32> {
    let mut children: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
    for stat in rows.values() {
        children.entry(stat.parent).or_default().push(stat.pid);
    }
    let mut found = BTreeSet::new();
    let mut open = vec![root];
    while let Some(parent) = open.pop() {
        for &child in children.get(&parent).into_iter().flatten() {
            // A torn table may hold a circle.
            if child != root && found.insert(child) {
                open.push(child);
            }
        }
    }
    found
}

fn parse_command(text: &[u8]) -> Vec<String> {
    let mut text = text.strip_suffix(b"\0").unwrap_or(text);
    if text.is_empty() {
        return Vec::new();
    }
    // A program that writes its own title over its arguments, such as npm, leaves zeros behind it.
    let title = text.iter().position(|&byte| byte == 0).unwrap_or(text.len());
    if text[title..].iter().all(|&byte| byte == 0) {
        text = text[..title].trim_ascii_end();
    }
    text.split(|&byte| byte == 0)
        .take(COMMAND_ARGUMENTS)
        .map(|argument| String::from_utf8_lossy(argument).into_owned())
        .collect()
}

fn parse_cookie(environment: &[u8]) -> Option<String> {
    environment.split(|&byte| byte == 0).find_map(|variable| {
        let value = variable.strip_prefix(COOKIE.as_bytes())?.strip_prefix(b"=")?;
        Some(String::from_utf8_lossy(value).into_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_title_over_the_arguments_ends_where_it_ends() {
        assert_eq!(parse_command(b"npm exec server  \0\0\0\0"), ["npm exec server"]);
        assert_eq!(parse_command(b"sh\0-c\0true; \0"), ["sh", "-c", "true; "]);
        assert_eq!(parse_command(b"env\0\0x\0"), ["env", "", "x"]);
    }

    fn line(pid: i32, name: &str, state: char, parent: i32, threads: u32) -> String {
        format!(
            "{pid} ({name}) {state} {parent} {pid} {pid} 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 \
             {threads} 0 9876 1 2 3\n"
        )
    }

    fn stat(pid: i32, parent: i32) -> Stat {
        parse_stat(line(pid, "x", 'S', parent, 1).as_bytes()).expect("a stat line")
    }

    #[test]
    fn a_name_may_hold_parentheses_and_spaces() {
        let stat = parse_stat(line(12, "a) R 1 (b", 'S', 7, 1).as_bytes()).expect("a stat line");
        assert_eq!((stat.pid, stat.name.as_str(), stat.state), (12, "a) R 1 (b", 'S'));
        assert_eq!((stat.parent, stat.threads, stat.start_time), (7, 1, 9876));
    }

    #[test]
    fn a_name_need_not_be_text() {
        let mut bytes = b"12 (\xff) S".to_vec();
        bytes.extend(line(12, "", 'S', 7, 1).split_once(") S").expect("state").1.bytes());
        assert_eq!(parse_stat(&bytes).expect("a stat line").name, "\u{fffd}");
    }

    #[test]
    fn a_cut_line_is_no_process() {
        let whole = line(12, "sleep", 'S', 7, 1);
        let start_time = whole.find("9876").expect("start time");
        for end in 0..start_time {
            assert_eq!(parse_stat(&whole.as_bytes()[..end]), None, "{}", &whole[..end]);
        }
    }

    #[test]
    fn a_leader_that_ended_before_its_threads_is_no_zombie() {
        let dead = parse_stat(line(1, "x", 'Z', 7, 1).as_bytes()).expect("a stat line");
        let leaderless = parse_stat(line(1, "x", 'Z', 7, 3).as_bytes()).expect("a stat line");
        assert!(dead.is_zombie() && !dead.has_lost_leader());
        assert!(!leaderless.is_zombie() && leaderless.has_lost_leader());
    }

    #[test]
    fn the_walk_finds_grandchildren_and_ends_in_a_circle() {
        let rows = [stat(2, 1), stat(3, 2), stat(4, 3), stat(5, 9), stat(9, 5), stat(6, 1)];
        let rows: BTreeMap<i32, Stat> = rows.into_iter().map(|stat| (stat.pid, stat)).collect();
        assert_eq!(below(2, &rows), BTreeSet::from([3, 4]));
        assert_eq!(below(9, &rows), BTreeSet::from([5]));
        assert_eq!(below(4, &rows), BTreeSet::new());
    }

    #[test]
    fn a_command_line_is_split_and_bounded() {
        assert_eq!(parse_command(b"sh\0-c\0\0x\0"), ["sh", "-c", "", "x"]);
        assert_eq!(parse_command(b""), [""; 0]);
        assert_eq!(parse_command(&b"x\0".repeat(500)).len(), COMMAND_ARGUMENTS);
    }

    #[test]
    fn the_cookie_is_a_whole_variable() {
        assert_eq!(parse_cookie(b"A=1\0SCUPPER_CONNECTION=c2\0B=3\0").as_deref(), Some("c2"));
        assert_eq!(parse_cookie(b"XSCUPPER_CONNECTION=c2\0SCUPPER_CONNECTIONS=c3\0"), None);
    }
}
