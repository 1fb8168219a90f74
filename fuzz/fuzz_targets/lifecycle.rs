//! Feeds connections from birth to end.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| scupper_fuzz::LIFECYCLE.fuzz(data));

#[cfg(not(fuzzing))]
fn main() -> Result<(), String> {
    scupper_fuzz::LIFECYCLE.main(std::env::args_os().skip(1))
}
