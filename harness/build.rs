//! Debug builds of `scupper` are linked at a fixed address.
//!
//! The tests start the program tens of thousands of times, as runner, cell, client and server, and a debug
//! build has 190,000 places that the loader would have to fill in each time: a third of its start. Release
//! builds are as position-independent as those of any other program.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let is = |name: &str, value: &str| std::env::var(name).is_ok_and(|found| found == value);
    let takes_it = is("CARGO_CFG_TARGET_OS", "linux") && is("CARGO_CFG_TARGET_ENV", "gnu");
    if takes_it && is("PROFILE", "debug") {
        println!("cargo::rustc-link-arg-bin=scupper=-no-pie");
    }
}
