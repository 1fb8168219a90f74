//! Feeds cursors over a store that fails.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| scupper_fuzz::CURSOR.fuzz(data));

#[cfg(not(fuzzing))]
fn main() -> Result<(), String> {
    scupper_fuzz::CURSOR.main(std::env::args_os().skip(1))
}
