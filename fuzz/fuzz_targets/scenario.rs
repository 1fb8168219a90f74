//! Feeds the scenario parser.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| scupper_fuzz::scenario(data));
