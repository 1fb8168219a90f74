//! Feeds generated lifecycles.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| scupper_fuzz::LIFECYCLE.fuzz(data));

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_mutator!(|data: &mut [u8], size: usize, most: usize, seed: u32| {
    scupper_fuzz::change_steps(data, size, most, seed, libfuzzer_sys::fuzzer_mutate)
});

#[cfg(not(fuzzing))]
fn main() -> Result<(), String> {
    scupper_fuzz::LIFECYCLE.main(std::env::args_os().skip(1))
}
