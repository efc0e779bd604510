#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| provault_repository::fuzzing::index(data));
