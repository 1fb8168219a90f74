//! What makes a finding the same one on another day, on another host, with other pids. Pure.

use serde::{Deserialize, Serialize};

use super::snapshot::{FdKind, Identity, Kind};
use super::verdict::{CaseReport, Culprit, Finding};

/// Longest target, in characters: where a longer command line was cut depends on its numbers.
const TARGET: usize = 60;
/// A run of hexadecimal digits that is as long as this names one thing of one run.
const HEX: usize = 8;
/// A word of letters and digits that is as long as this does, too.
const RANDOM: usize = 16;

/// What descriptors on files are called, and the longest name of one that is told beside.
const ON_FILES: &str = "descriptor on files";
const NAME: usize = 40;

/// Folders in which names are mostly random.
const TEMPORARY: &[&str] = &["/tmp", "/var/tmp", "/dev/shm"];

/// A finding without what is different in every run: pids, counts, ports, inodes, random names.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Fingerprint {
    /// The lifecycle in which it is found, with the server's name and a slash before it where a run
    /// is about several; of the byte sweep its direction and fault, not the byte.
    pub lifecycle: String,
    /// What kind of thing.
    pub kind: Kind,
    /// Whose duty its end was.
    pub culprit: Culprit,
    /// Which thing, with `#` for each number: `process # (node dist/index.js)`.
    pub target: String,
}

impl Fingerprint {
    /// That of a finding of this case.
    pub fn of(case: &CaseReport, finding: &Finding) -> Self {
        Self {
            lifecycle: lifecycle(case),
            kind: finding.kind,
            culprit: finding.culprit,
            target: target(finding),
        }
    }

    /// The whole of it as 16 hexadecimal digits, the same in every version: 64-bit FNV-1a.
    pub fn hash(&self) -> String {
        let Self { lifecycle, kind, culprit, target } = self;
        hash(&[lifecycle, kind.as_str(), culprit.as_str(), target])
    }
}

impl std::fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { lifecycle, kind, culprit, target } = self;
        write!(f, "{kind} of the {culprit} in {lifecycle}: {target}")
    }
}

/// Texts as 16 hexadecimal digits, the same in every version: 64-bit FNV-1a, with a byte that no text
/// has behind each.
pub fn hash(parts: &[&str]) -> String {
    let bytes = parts.iter().flat_map(|part| part.bytes().chain([0xff]));
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{hash:016x}")
}

/// The lifecycle of a case, with the server before it; without the number of a repeated case.
pub fn lifecycle(case: &CaseReport) -> String {
    let whole = match case.id.rsplit_once('#') {
        Some((id, number)) if number.parse::<u32>().is_ok() => id,
        _ => &case.id,
    };
    // What is generated has its code as its lifecycle, and an id that counts.
    let whole = if whole.ends_with(&case.lifecycle) { whole } else { &case.lifecycle };
    match (case.swept, whole.rsplit_once('/')) {
        (Some(_), Some((lane, _))) => lane.to_owned(),
        _ => whole.to_owned(),
    }
}

/// Which thing it is about.
fn target(finding: &Finding) -> String {
    if finding.kind == Kind::File {
        // Temporary files have random names, some of them in letters alone.
        return match finding.identities.first() {
            Some(Identity::File { path, .. }) => match extension(path) {
                Some(extension) => format!("temporary file .{extension}"),
                None => "temporary file".to_owned(),
            },
            _ => "temporary file".to_owned(),
        };
    }
    // How fast something grows is judged anew in each run.
    let what = [", one more", ", some more", "'s memory grows by"]
        .iter()
        .filter_map(|pace| finding.what.find(pace))
        .min()
        .map_or(finding.what.as_str(), |at| &finding.what[..at]);
    let what = match what.split_once(' ') {
        Some((count, rest)) if count.bytes().all(|byte| byte.is_ascii_digit()) => singular(rest),
        Some(("a" | "an", rest)) => rest.to_owned(),
        _ => what.to_owned(),
    };
    let stable = stable(&what.replace("…", ""));
    let stable = stable.chars().take(TARGET).collect::<String>().trim_end().to_owned();
    match file_name(finding).filter(|_| stable == ON_FILES) {
        Some(name) => format!("{stable} ({name})"),
        None => stable,
    }
}

/// The name of the one file that descriptors are on, where it is sure to be the same in the next run: all
/// of them have it, it has no digit, which may be chance, and the file is no temporary one. Without it,
/// descriptors on another file would be the same finding.
fn file_name(finding: &Finding) -> Option<&str> {
    let paths: Option<Vec<&str>> = finding.identities.iter().map(path_of_file).collect();
    let paths = paths.filter(|paths| !paths.iter().any(|path| is_temporary(path)))?;
    let mut names = paths.iter().filter_map(|path| path.rsplit('/').next());
    let first = names.next()?;
    let plain = |c: char| c.is_ascii_alphabetic() || "._-".contains(c);
    let is_plain = !first.is_empty() && first.len() <= NAME && first.chars().all(plain);
    (is_plain && names.all(|name| name == first)).then_some(first)
}

fn path_of_file(identity: &Identity) -> Option<&str> {
    match identity {
        Identity::Fd { kind: FdKind::File, target, .. } => Some(target),
        _ => None,
    }
}

/// Below a folder whose files have random names.
fn is_temporary(path: &str) -> bool {
    let below =
        |folder: &&str| path.strip_prefix(*folder).is_some_and(|rest| rest.starts_with('/'));
    let is_scratch = |folder: &str| {
        ["tmp", "temp", ".tmp", "scupper-"].iter().any(|start| folder.starts_with(start))
    };
    TEMPORARY.iter().any(below) || path.split('/').any(is_scratch)
}

/// Its first word for one thing: `pipes of …` is `pipe of …`.
fn singular(text: &str) -> String {
    let (noun, rest) = text.split_once(' ').map_or((text, None), |(noun, rest)| (noun, Some(rest)));
    let noun = noun.strip_suffix("(s)").unwrap_or(noun);
    let one = match noun {
        noun if noun.ends_with("ies") => format!("{}y", &noun[..noun.len() - 3]),
        noun if noun.ends_with("sses") => noun[..noun.len() - 2].to_owned(),
        noun if noun.ends_with('s') && !noun.ends_with("ss") => noun[..noun.len() - 1].to_owned(),
        noun => noun.to_owned(),
    };
    rest.map_or_else(|| one.clone(), |rest| format!("{one} {rest}"))
}

/// The ending of a file's name, where it is one that says something.
fn extension(path: &str) -> Option<&str> {
    let name = path.rsplit('/').next()?;
    let (stem, extension) = name.rsplit_once('.')?;
    let plain = extension.bytes().all(|byte| byte.is_ascii_lowercase());
    (!stem.is_empty() && plain && (1..=5).contains(&extension.len())).then_some(extension)
}

/// Without numbers and random words, and of absolute paths only the name: where something is installed
/// is another place on another host.
fn stable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        if first == '/' && (out.is_empty() || out.ends_with([' ', '(', '=', '\'', '"', ',', '['])) {
            let end = rest.find([' ', '\'', '"', ')', ',', ':', ']']).unwrap_or(rest.len());
            let (path, after) = rest.split_at(end);
            let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
            match TEMPORARY.contains(&folder) {
                true => out.push_str(&format!("{folder}/#")),
                false => out.push_str(&stable(name)),
            }
            rest = after;
            continue;
        }
        let is_word = |c: char| c.is_ascii_alphanumeric();
        if !is_word(first) {
            // A name of the subject's may hold anything; a file is to be read by people.
            out.push(if first.is_control() { ' ' } else { first });
            rest = &rest[first.len_utf8()..];
            continue;
        }
        // A UUID is one word.
        let end = if is_uuid(rest) { 36 } else { rest.find(|c| !is_word(c)).unwrap_or(rest.len()) };
        let (word, after) = rest.split_at(end);
        out.push_str(&stable_word(word));
        rest = after;
    }
    out
}

fn is_uuid(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() >= 36
        && bytes[..36].iter().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => *byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

fn stable_word(word: &str) -> String {
    let has_digit = word.bytes().any(|byte| byte.is_ascii_digit());
    let is_hex = word.len() >= HEX && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    if word.len() == 36 || (has_digit && (is_hex || word.len() >= RANDOM)) {
        return "#".to_owned();
    }
    let mut out = String::with_capacity(word.len());
    for c in word.chars() {
        match c {
            '0'..='9' if out.ends_with('#') => {}
            '0'..='9' => out.push('#'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::snapshot::ProcessId;
    use crate::ledger::verdict::{Swept, Verdict};
    use crate::lifecycle::sweep::{Lane, Side};
    use crate::report::samples;

    fn target_of(what: &str) -> String {
        target(&Finding { what: what.into(), ..samples::process_finding() })
    }

    #[test]
    fn nothing_of_one_run_is_in_a_target() {
        let table = [
            ("process 4711 (node dist/index.js)", "process # (node dist/index.js)"),
            ("19 pipes of process 4801 (node x.js)", "pipe of process # (node x.js)"),
            ("1 pipe of process 12 (node x.js)", "pipe of process # (node x.js)"),
            ("3 processes, one more with every cycle", "process"),
            ("12 descriptors on pipes, some more with every 20 cycles", "descriptor on pipes"),
            ("2 entries of a registry", "entry of a registry"),
            ("5 fd(s) of the core's host process", "fd of the core's host process"),
            ("the client's memory grows by 12.5 KiB a cycle", "the client"),
            ("a server, pid 7 (x --port 40123)", "server, pid # (x --port #)"),
            ("pid 7 (x /tmp/.tmpAbCdEf 0f3c9a1be2)", "pid # (x /tmp/# #)"),
            ("pid 7 (/usr/bin/node /home/me/x/dist/index.js)", "pid # (node index.js)"),
            ("pid 7 (x --dir=/home/me/x a/b ./c)", "pid # (x --dir=x a/b ./c)"),
            ("pid 7 (x http://127.0.0.1:40123/mcp)", "pid # (x http://#.#.#.#:#/mcp)"),
            ("pid 7 (a / b)", "pid # (a  b)"),
            ("pid 7 (a\u{1b}[31m)", "pid # (a [#m)"),
            ("pid 7 (x 8b2fa0c1-4c1e-4e0a-9d7a-0123456789ab)", "pid # (x #)"),
            ("pid 7 (x deadbeef decade)", "pid # (x deadbeef decade)"),
        ];
        for (what, expected) in table {
            assert_eq!(target_of(what), expected, "{what}");
        }
    }

    #[test]
    fn where_a_long_command_was_cut_says_nothing() {
        let words = "node ".repeat(20);
        assert_eq!(
            target_of(&format!("process 7 ({words}…)")),
            target_of(&format!("process 4711 ({words}node…)")),
        );
        assert!(target_of(&words).chars().count() <= TARGET);
    }

    #[test]
    fn files_are_told_by_their_endings() {
        let file = |path: &str| {
            let identity = Identity::File { path: path.into(), device: 1, inode: 2 };
            let finding = samples::process_finding();
            target(&Finding { kind: Kind::File, identities: vec![identity], ..finding })
        };
        assert_eq!(file("a/tmpqwertyui.json"), "temporary file .json");
        assert_eq!(file(".tmpAb12"), "temporary file");
        assert_eq!(file("a.d/x.17f3"), "temporary file");
    }

    #[test]
    fn descriptors_on_files_are_told_by_a_name_that_stays() {
        let on = |paths: &[&str]| {
            let identity = |(at, path): (usize, &&str)| Identity::Fd {
                owner: ProcessId { pid: 7, start_time: 1 },
                number: at as i32 + 3,
                kind: FdKind::File,
                target: (*path).into(),
                device: 1,
                inode: at as u64,
                extra: String::new(),
            };
            let identities = paths.iter().enumerate().map(identity).collect();
            let what = format!("{} descriptors on files, one more with every cycle", paths.len());
            target(&Finding { kind: Kind::Fd, what, identities, ..samples::process_finding() })
        };
        let named = "descriptor on files (events.log)";
        assert_eq!(on(&["/var/log/events.log", "/var/log/events.log"]), named);
        assert_eq!(on(&["/opt/x/events.log"]), named, "installed elsewhere");
        let wide = "descriptor on files";
        for paths in [
            &["/srv/a.log", "/srv/b.log"][..],
            &["/srv/a-17.log"],
            &["/srv/a.log (deleted)"],
            &["/tmp/abcdef"],
            &["/dev/shm/x"],
            &["/srv/scupper-qwerty/x"],
            &["/srv/tmpqwerty/x"],
            &["/"],
            &[],
        ] {
            assert_eq!(on(paths), wide, "{paths:?}");
        }
    }

    #[test]
    fn of_the_byte_sweep_the_lane_counts_and_not_the_byte() {
        let lane = Lane::all(Side::Server)[0];
        let of = |id: &str, lifecycle: &str, first: u64| {
            let mut case = samples::case(id, Verdict::Leak);
            case.lifecycle = lifecycle.into();
            let (last, lives) = (first + 1, 2);
            case.swept = Some(Swept { lane, first, last, lives, judged: 2, reached: true });
            super::lifecycle(&case)
        };
        assert_eq!(of("sweep/dies/7..=8", "sweep/dies/7..=8", 7), "sweep/dies");
        assert_eq!(of("files/sweep/dies/9", "sweep/dies/9", 9), "files/sweep/dies");
    }

    #[test]
    fn pids_counts_and_the_number_of_a_case_change_nothing_and_all_else_does() {
        let finding = samples::process_finding();
        let case = samples::case("stdio/half-close", Verdict::Leak);
        let one = Fingerprint::of(&case, &finding);
        let mut again = finding.clone();
        (again.what, again.count) = ("process 9 (node dist/index.js)".into(), 7);
        let mut second = case.clone();
        second.id = "stdio/half-close#2".into();
        assert_eq!(Fingerprint::of(&second, &again), one);
        assert_eq!(one.hash(), "2602a4fd4c54c38e");
        let mut named = case.clone();
        named.id = "files/stdio/half-close".into();
        assert_eq!(Fingerprint::of(&named, &finding).lifecycle, "files/stdio/half-close");
        let other = Finding { culprit: Culprit::Launcher, ..finding };
        assert_ne!(Fingerprint::of(&case, &other).hash(), one.hash());
    }
}
