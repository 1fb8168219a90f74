//! What an ordinary user may not see costs certainty and never truth: a leak is a leak or unknown, a
//! clean twin is clean or unknown.
//!
//! Run by root, the user is one that nobody has; run by anybody else, it is that one, and what only
//! root can set up is left out and said.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::process::Command;

use crate::fakes::UNWEIGHED;
use crate::support::{Ended, Run, SCUPPER, at_once};

/// A uid that no host gives out by itself.
const NOBODYS: u32 = 54_321;

/// Runs at once. They mostly wait.
const AT_ONCE: usize = 4;
/// Short, and still with all that the table of fakes below takes to show. In so few cycles memory is not judged.
#[rustfmt::skip]
const SHORT: &[&str] = &[
    "--jobs", "12", "--cycles", "5",
    "--only", "clean-close", "--only", "sigterm-idle", "--only", "churn",
];

/// Fakes that leak in one of these lifecycles.
const LEAKY: &[&[&str]] = &[
    &["ignores-eof"],
    &["ignores-eof-and-term"],
    &["helper-setsid"],
    &["helper-same-group"],
    &["child-per-call"],
    &["zombie"],
    &["fd-per-call"],
    &["fd-swap"],
    &["thread-per-call"],
    &["tempfile-per-call"],
    &["wrapper"],
];
/// Those that are also played where little can be seen.
const DIM: &[&[&str]] = &[&["ignores-eof"], &["helper-setsid"], &["fd-per-call"], &["wrapper"]];

/// How much the user can see.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Sight {
    /// Everything that is its own.
    Own,
    /// The same, in the weaker tier whatever the host allows.
    Weaker,
    /// The subject is a setuid program of root.
    Setuid,
    /// /proc hides the processes of others.
    Hidden,
    /// Both.
    SetuidHidden,
}

impl Sight {
    fn is_setuid(self) -> bool {
        matches!(self, Self::Setuid | Self::SetuidHidden)
    }

    fn is_hidden(self) -> bool {
        matches!(self, Self::Hidden | Self::SetuidHidden)
    }
}

/// The user, and the program where it may run it.
struct User {
    /// None where it is the one who runs the test.
    id: Option<u32>,
    place: tempfile::TempDir,
}

impl User {
    fn new() -> Self {
        let id = rustix::process::geteuid().is_root().then_some(NOBODYS);
        let place = tempfile::Builder::new().prefix("scupper-user-").tempdir().expect("a folder");
        let user = Self { id, place };
        for (name, mode) in [("scupper", 0o755), ("setuid", 0o4755)] {
            let path = user.program(name);
            fs::copy(SCUPPER, &path).expect("a copy of the program");
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("its mode");
        }
        fs::set_permissions(user.place.path(), fs::Permissions::from_mode(0o755)).expect("a mode");
        if let Some(id) = id {
            chown(user.place.path(), Some(id), Some(id)).expect("a folder of the user");
        }
        user
    }

    fn program(&self, name: &str) -> String {
        self.place.path().join(name).to_str().expect("a UTF-8 path").to_owned()
    }

    /// Whether the host lets us set this up.
    fn can(&self, sight: Sight) -> Result<(), &'static str> {
        let of_root = self.id.is_some();
        if (sight.is_setuid() || sight.is_hidden()) && !of_root {
            return Err("only root can set it up");
        }
        if sight.is_setuid() && no_setuid(self.place.path()) {
            return Err("the temporary folder is mounted nosuid");
        }
        if sight.is_hidden() {
            let hidden = self.hiding("cat /proc/1/stat");
            let tried = Command::new(&hidden[0]).args(&hidden[1..]).output();
            if tried.is_ok_and(|tried| tried.status.success()) {
                return Err("a /proc with hidepid shows everything all the same");
            }
            let works = self.hiding("cat /proc/self/stat");
            let tried = Command::new(&works[0]).args(&works[1..]).output();
            if !tried.is_ok_and(|tried| tried.status.success()) {
                return Err("no /proc with hidepid can be mounted (unshare, mount, setpriv)");
            }
        }
        Ok(())
    }

    /// A command of the user's that sees a /proc which hides others.
    fn hiding(&self, command: &str) -> Vec<String> {
        let id = self.id.unwrap_or_default();
        let script = format!(
            "mount -t proc -o hidepid=2 proc /proc && \
             exec setpriv --reuid {id} --regid {id} --clear-groups {command}"
        );
        let words = ["unshare", "--mount", "--propagation", "private", "sh", "-c", &script, "sh"];
        words.map(str::to_owned).to_vec()
    }

    /// Runs the program as the user.
    fn run(&self, words: &[&str], sight: Sight) -> Ended {
        let program = match sight.is_hidden() {
            true => self.hiding(&format!("{} \"$@\"", self.program("scupper"))),
            false => vec![self.program("scupper")],
        };
        let program: Vec<&str> = program.iter().map(String::as_str).collect();
        let weaker = [("SCUPPER_CONTAIN", "subreaper")];
        let environment = if sight == Sight::Weaker { &weaker[..] } else { &[] };
        Run::start_as(self.id, &program, words, environment).end()
    }

    /// Judges a fake or its twin.
    fn judge(&self, fake: &[&str], fixed: bool, sight: Sight) -> Ended {
        let subject = self.program(if sight.is_setuid() { "setuid" } else { "scupper" });
        // A clean twin is waited for as long as by default.
        let patience: &[&str] = if fixed { &[] } else { &["--leak-timeout", "1s"] };
        let twin: &[&str] = if fixed { &["--fixed"] } else { &[] };
        let start = ["server", "--json", "{home}/report.json"];
        let command = [&["--", &subject, "fake"], fake, twin].concat();
        self.run(&[&start[..], SHORT, &UNWEIGHED, patience, &command].concat(), sight)
    }
}

/// Whether setuid has no effect there.
fn no_setuid(path: &Path) -> bool {
    rustix::fs::statvfs(path)
        .map_or(true, |mount| mount.f_flag.contains(rustix::fs::StatVfsMountFlags::NOSUID))
}

/// Plays fakes and twins; what is seen must come to these exit codes.
fn play(fakes: &[&[&str]], sight: Sight, leaky: &[i32], clean: &[i32]) {
    let user = User::new();
    if let Err(why) = user.can(sight) {
        println!("skipped: {sight:?}: {why}");
        return;
    }
    let rounds: Vec<(&[&str], bool)> =
        fakes.iter().flat_map(|fake| [(*fake, false), (*fake, true)]).collect();
    let wrong = at_once(AT_ONCE, &rounds, |(fake, fixed)| {
        let ended = user.judge(fake, *fixed, sight);
        let must = if *fixed { clean } else { leaky };
        let twin = if *fixed { " --fixed" } else { "" };
        println!("{sight:?}: {}{twin}: exit {}", fake.join(" "), ended.code);
        let (left, files) = ended.left();
        let fits = must.contains(&ended.code) && left.is_empty() && files.is_empty();
        (!fits).then(|| {
            let said = format!("{}{}", ended.stdout, ended.stderr);
            format!("{fake:?}{twin}: exit {}, left {left:?} {files:?}\n{said}", ended.code)
        })
    });
    let wrong: Vec<String> = wrong.into_iter().flatten().collect();
    assert!(wrong.is_empty(), "{sight:?}: {} deviations:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn verdicts_are_right_for_what_is_the_users_own() {
    play(LEAKY, Sight::Own, &[1], &[0]);
}

#[test]
fn verdicts_are_right_in_the_weaker_tier() {
    play(DIM, Sight::Weaker, &[1], &[0]);
}

/// Its processes can be seen, and what they hold cannot.
#[test]
fn a_setuid_server_is_never_clean_and_never_accused_wrongly() {
    play(DIM, Sight::Setuid, &[1, 3], &[3]);
}

/// What hides is others' only.
#[test]
fn verdicts_are_right_where_proc_hides_others() {
    play(DIM, Sight::Hidden, &[1], &[0]);
}

/// Its processes cannot even be seen.
#[test]
fn a_setuid_server_that_is_hidden_is_never_clean_and_never_accused_wrongly() {
    play(DIM, Sight::SetuidHidden, &[1, 3], &[3]);
}

#[test]
fn doctor_says_what_an_ordinary_user_loses() {
    let user = User::new();
    for sight in [Sight::Own, Sight::Hidden] {
        if let Err(why) = user.can(sight) {
            println!("skipped: {sight:?}: {why}");
            continue;
        }
        let ended = user.run(&["doctor"], sight);
        assert_eq!((ended.code, ended.stderr.as_str()), (0, ""), "{}", ended.stdout);
        let row = |name: &str| {
            let mut rows = ended.stdout.lines().filter(|line| line.starts_with(name));
            rows.next().unwrap_or_else(|| panic!("no row {name}:\n{}", ended.stdout)).to_owned()
        };
        if user.id.is_some() {
            assert!(row("containment").contains("partly: subreaper"), "{}", ended.stdout);
            assert!(row("containment").contains("CAP_SYS_ADMIN"), "{}", ended.stdout);
            assert!(row("other users").contains("no: no CAP_SYS_PTRACE"), "{}", ended.stdout);
            assert!(ended.stdout.contains("never clean"), "{}", ended.stdout);
            let whole = if sight.is_hidden() { "no: mounted with hidepid=" } else { "yes: " };
            assert!(row("whole /proc").contains(whole), "{}", ended.stdout);
        }
        // The tier that is told is the one that cases have.
        let judged = user.judge(&["plain"], false, sight);
        let told = row("containment").contains("pid namespace; nothing outlives");
        let tiers: Vec<String> =
            judged.report().cases.iter().map(|case| case.tier.to_string()).collect();
        assert!(!tiers.is_empty());
        assert!(tiers.iter().all(|tier| (tier == "pid namespace") == told), "{tiers:?}");
    }
}
