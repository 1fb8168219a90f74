//! Feeds the parsers of pipes and sockets.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| scupper_fuzz::WIRE.fuzz(data));

#[cfg(not(fuzzing))]
fn main() -> Result<(), String> {
    scupper_fuzz::WIRE.main(std::env::args_os().skip(1))
}
