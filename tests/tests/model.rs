//! The core against a model: random operations, flushes, remounts, all from seeds.
//!
//! `FARRIER_MODEL_SEED` is the first seed, `FARRIER_MODEL_RUNS` how many, `FARRIER_MODEL_OPS` how
//! many operations each; with one run, `FARRIER_MODEL_SHOW` prints them.

use farrier_tests::ops::{Random, colliding_names};
use farrier_tests::session::{run_seed, run_seed_or_panic};

fn setting(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().expect("a number"))
}

#[test]
fn random_operations_do_what_the_model_says() {
    let first = setting("FARRIER_MODEL_SEED", 1);
    let runs = setting("FARRIER_MODEL_RUNS", 40);
    let (mut operations, mut full, mut refused, mut compared) = (0, 0, 0, 0);
    for seed in first..first + runs {
        let count = 20 + Random::new(seed).below(280);
        let count = setting("FARRIER_MODEL_OPS", count);
        if std::env::var_os("FARRIER_MODEL_SHOW").is_some() {
            run_seed(seed, count, true).unwrap();
        }
        let ran = run_seed_or_panic(seed, count);
        operations += ran.operations;
        full += ran.full;
        refused += ran.refused;
        compared += ran.compared;
    }
    println!(
        "{runs} seeds: {operations} operations, {refused} refused, {full} without space, \
         {compared} comparisons"
    );
    assert!(refused * 2 < operations, "most operations do something");
}

#[test]
fn names_can_be_made_to_collide() {
    let names = colliding_names(300);
    let mut different = names.clone();
    different.sort();
    different.dedup();
    assert_eq!(different.len(), names.len());
}
