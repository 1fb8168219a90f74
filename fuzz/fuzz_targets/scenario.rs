//! Feeds the scenario parser.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| scupper_fuzz::SCENARIO.fuzz(data));

#[cfg(not(fuzzing))]
fn main() -> Result<(), String> {
    scupper_fuzz::SCENARIO.main(std::env::args_os().skip(1))
}
