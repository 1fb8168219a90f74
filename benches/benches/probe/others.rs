//! Programs that people look with: lsof, and psutil through a small runner of Python's. Each is left out,
//! with a word, where it is not installed.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Instant;

use benches::figures::{Book, Figure};

const RUNNER: &str = "../ci/bench.d/psutil_walk.py";
const VENV: &str = "../ci/.installed/venv/bin/python";

/// `lsof -p PID`, from its start to its end, as nobody can have it for less.
pub(crate) fn lsof(book: &mut Book, n: usize, pid: i32, rounds: usize, floor_us: f64) {
    let mut samples = Vec::new();
    for _ in 0..rounds {
        let mut lsof = Command::new("lsof");
        lsof.args(["-n", "-P", "-w", "-p", &pid.to_string()]);
        let began = Instant::now();
        let Ok(output) = lsof.stdin(Stdio::null()).stderr(Stdio::null()).output() else {
            eprintln!("probe: lsof is not installed, and left out");
            return;
        };
        samples.push(began.elapsed().as_secs_f64() * 1e6);
        let lines = output.stdout.iter().filter(|&&byte| byte == b'\n').count();
        assert!(lines > n, "lsof told {lines} lines of {n} descriptors");
    }
    tell(book, "lsof", n, &samples, floor_us);
}

/// psutil's descriptors of a process: their number, the regular files and the sockets. Measured in the
/// interpreter, without its start.
pub(crate) fn psutil(book: &mut Book, n: usize, pid: i32, rounds: usize, floor_us: f64) {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let asked = std::env::var_os("SCUPPER_BENCH_PYTHON").map(PathBuf::from);
    let python = asked.into_iter().chain([here.join(VENV), PathBuf::from("python3")]);
    let (pid, rounds) = (pid.to_string(), rounds.to_string());
    let told = python.into_iter().find_map(|python| {
        let output = Command::new(python)
            .arg(here.join(RUNNER))
            .args([&pid, &rounds])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .output();
        output.ok().filter(|output| output.status.success())
    });
    let Some(Output { stdout, .. }) = told else {
        eprintln!("probe: no Python here has psutil, and it is left out");
        return;
    };
    let samples: Vec<f64> =
        String::from_utf8_lossy(&stdout).lines().filter_map(|line| line.parse().ok()).collect();
    tell(book, "psutil", n, &samples, floor_us);
}

/// Here the ratio is to the floor's median: a round of the floor is too short to stand beside one of these.
fn tell(book: &mut Book, subject: &str, n: usize, samples: &[f64], floor_us: f64) {
    let figure = |figure, samples| Figure { subject, server: "fds", n, figure, samples };
    let time = book.add(figure("us", samples));
    let ratios: Vec<f64> = samples.iter().map(|own| own / floor_us).collect();
    let ratio = book.add(figure("ratio_to_floor", &ratios));
    println!("fds   {n:>6} {subject:<9} {:>11.1} us  {:>6.2} x floor", time.median, ratio.median);
}
