//! A body with its name, for libFuzzer, for the stable tests and for people with a file in hand.

use std::{
    any::Any,
    ffi::OsString,
    fs, panic,
    path::{Path, PathBuf},
    sync::{
        Mutex, Once, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

/// Every target but the canary, which fails.
pub const TARGETS: [Target; 5] =
    [crate::CURSOR, crate::LIFECYCLE, crate::SCENARIO, crate::SESSION, crate::WIRE];

/// How often a running fuzzer tells how deep its inputs get.
const TELLING: Duration = Duration::from_secs(5);

/// Ends the message of a panic that a body makes on purpose, to see it caught.
const ON_PURPOSE: &str = "as it was told to";

/// A panic was caught that nobody made on purpose.
static HAS_PANICKED: AtomicBool = AtomicBool::new(false);

/// How deep an input got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// It was turned down at the door.
    Rejected,
    /// It got where things happen.
    Active,
}

impl Reach {
    /// Active if this holds.
    pub(crate) fn active_if(holds: bool) -> Self {
        if holds { Self::Active } else { Self::Rejected }
    }
}

/// A fuzz target.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// The name of its binary, its seeds, its corpus.
    pub name: &'static str,
    /// What is done with an input. It panics on a finding.
    pub body: fn(&[u8]) -> Reach,
    /// What inputs do that are not turned down.
    pub active: &'static str,
    /// `ci/fuzz` fails when fewer inputs in a hundred get there: the fuzzer then knocks at a door that
    /// a change has closed.
    pub floor_percent: f64,
}

/// How many inputs there were and how many of them got deep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Share {
    /// All.
    pub inputs: u64,
    /// Those that were not turned down.
    pub active: u64,
}

impl Share {
    fn count(&mut self, reach: Reach) {
        self.inputs += 1;
        self.active += u64::from(reach == Reach::Active);
    }

    /// In a hundred; none of none is 0.
    pub fn percent(self) -> f64 {
        if self.inputs == 0 { 0.0 } else { self.active as f64 * 100.0 / self.inputs as f64 }
    }
}

impl Target {
    /// One input of libFuzzer. Now and then it says on stderr how deep inputs get.
    pub fn fuzz(&self, data: &[u8]) {
        static TOLD: Mutex<Option<(Share, Instant)>> = Mutex::new(None);
        let reach = self.run(data);
        let mut told = TOLD.lock().unwrap_or_else(PoisonError::into_inner);
        let (share, at) = told.get_or_insert_with(|| (Share::default(), Instant::now()));
        share.count(reach);
        if at.elapsed() >= TELLING {
            *at = Instant::now();
            eprintln!("{}", self.words(*share));
        }
    }

    /// Runs the body. A panic is a finding also where it is caught on its way, by a scope or by tokio.
    fn run(&self, data: &[u8]) -> Reach {
        watch_panics();
        let reach = (self.body)(data);
        assert!(!HAS_PANICKED.load(Relaxed), "a panic was caught that nobody made on purpose");
        reach
    }

    /// What `ci/fuzz` reads: `share: 12.3 % of 45 inputs …, floor 10 %`.
    pub fn words(&self, share: Share) -> String {
        format!(
            "share: {:.1} % of {} inputs of {} {}, floor {} %",
            share.percent(),
            share.inputs,
            self.name,
            self.active,
            self.floor_percent
        )
    }

    /// Runs the files, and the files in the folders; where a body panics, its file was named last.
    ///
    /// # Errors
    /// What cannot be read, by its path.
    pub fn replay(&self, paths: impl IntoIterator<Item = PathBuf>) -> Result<Share, String> {
        let mut share = Share::default();
        for path in paths {
            for file in files_in(&path)? {
                let data =
                    fs::read(&file).map_err(|error| format!("{}: {error}", file.display()))?;
                println!("{}", file.display());
                let reach = self.run(&data);
                println!("{}: {reach:?}", file.display());
                share.count(reach);
            }
        }
        Ok(share)
    }

    /// The main of a target that was built without a fuzzer: replays what the arguments name.
    pub fn main(&self, arguments: impl IntoIterator<Item = OsString>) -> Result<(), String> {
        let paths: Vec<PathBuf> = arguments.into_iter().map(PathBuf::from).collect();
        if paths.is_empty() {
            let name = self.name;
            return Err(format!(
                "built without a fuzzer, this replays inputs: name files or folders, such as \
                 fuzz/seeds/{name}; `cargo fuzz run {name}` fuzzes"
            ));
        }
        let share = self.replay(paths)?;
        println!("{}", self.words(share));
        Ok(())
    }
}

/// Keeps quiet about panics that are made on purpose. libFuzzer's own hook, which this one calls for
/// all others, ends the process.
fn watch_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |panicked| {
            if !is_on_purpose(panicked.payload()) {
                HAS_PANICKED.store(true, Relaxed);
                before(panicked);
            }
        }));
    });
}

fn is_on_purpose(payload: &(dyn Any + Send)) -> bool {
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    text.is_some_and(|text| text.ends_with(ON_PURPOSE))
}

fn files_in(path: &Path) -> Result<Vec<PathBuf>, String> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let unread = |error| format!("{}: {error}", path.display());
    let entries = fs::read_dir(path).map_err(unread)?;
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()
        .map_err(unread)?;
    files.sort();
    Ok(files)
}
