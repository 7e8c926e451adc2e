//! Any bytes through every decoder of the media format.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| farrier_tests::fuzzing::decoders(data));
