//! Fails: proves that the rig finds what fails.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| scupper_fuzz::CANARY.fuzz(data));

#[cfg(not(fuzzing))]
fn main() -> Result<(), String> {
    scupper_fuzz::CANARY.main(std::env::args_os().skip(1))
}
