//! Mount, walk, read and check over a mutated image whose check codes were put right.
#![no_main]

use std::sync::LazyLock;

use farrier_tests::fuzzing::Subject;
use farrier_tests::images::shipped;
use libfuzzer_sys::fuzz_target;

static SUBJECT: LazyLock<Subject> = LazyLock::new(|| Subject::load(&shipped("d-base1")[0]));

fuzz_target!(|data: &[u8]| {
    let _ = SUBJECT.walk_mutated(data);
});
