//! Each rule of copies, switched off: the simulator has to notice. By itself, since the switch is
//! for the whole process:
//!
//! `cargo test -p farrier-tests --features mutations --test copies_mutations -- --nocapture`
//!
//! [`Rule::Zeroing`] is counted and not asked for: its lack shows only where a copy has no room for
//! what two copies lost together, which no seed has met yet.
//!
//! `FARRIER_SIM_RUNS` chooses how many lives are lived without each rule.

use farrier_core::copies::mutations::{Rule, switch_off};
use farrier_tests::sim::run;

/// Lives of so many seeds that went wrong, a panic among them, and what the first came to.
fn wrong(seeds: u64) -> (u64, String) {
    let (mut count, mut first) = (0, String::new());
    for seed in 1..=seeds {
        let error = match std::panic::catch_unwind(|| run(seed, false)) {
            Ok(Ok(_)) => continue,
            Ok(Err(error)) => error,
            Err(_) => format!("seed {seed}: a panic"),
        };
        count += 1;
        if first.is_empty() {
            first = error.chars().take(400).collect();
        }
    }
    (count, first)
}

#[test]
fn every_rule_is_noticed() {
    let runs = std::env::var("FARRIER_SIM_RUNS").map_or(60, |text| text.parse().unwrap());
    assert_eq!(wrong(runs).0, 0, "with all rules");
    std::panic::set_hook(Box::new(|_| {}));
    let mut unnoticed = Vec::new();
    for rule in Rule::ALL {
        switch_off(Some(rule));
        let (count, first) = wrong(runs);
        println!("without {rule:?}: {count} of {runs} lives went wrong; {first}");
        if count == 0 && rule != Rule::Zeroing {
            unnoticed.push(rule);
        }
    }
    switch_off(None);
    let _ = std::panic::take_hook();
    assert!(unnoticed.is_empty(), "nobody notices without {unnoticed:?}");
}
