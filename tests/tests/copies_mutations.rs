//! Each rule of copies, switched off: the simulator has to notice. By itself, since the switch is
//! for the whole process:
//!
//! `cargo test -p farrier-tests --features mutations --test copies_mutations -- --nocapture`
//!
//! `FARRIER_SIM_RUNS` chooses how many lives are lived without each rule.

use farrier_core::copies::mutations::{Rule, switch_off};
use farrier_core::copies::{Policy, Runtime};
use farrier_tests::sim::{Action, Plan, Step, outcome};

/// Two copies lose blocks of one flush, and one of them has no room to get them back.
fn lost_pairs() -> impl Iterator<Item = Plan> {
    (1..=2).map(|seed| Plan {
        seed,
        sizes: vec![96 << 20, 40 << 20, 96 << 20],
        victim: None,
        work: 12,
        cache: 1 << 20,
        is_crowded: true,
        policy: Policy { runtime: Runtime::Any, ..Policy::default() },
        steps: vec![Step::new(Action::Rest, seed), Step::new(Action::LosePair, seed)],
    })
}

/// Lives that went wrong, a panic among them, and what the first came to.
fn wrong(seeds: u64) -> (u64, String) {
    let (mut count, mut first) = (0, String::new());
    for plan in lost_pairs().chain((1..=seeds).map(Plan::of)) {
        let Some(error) = outcome(&plan) else { continue };
        count += 1;
        if first.is_empty() {
            first = format!("{:.200}, seed {}", error, plan.seed);
        }
    }
    (count, first)
}

#[test]
fn every_rule_is_noticed() {
    let runs = std::env::var("FARRIER_SIM_RUNS").map_or(60, |text| text.parse().unwrap());
    assert_eq!(wrong(runs), (0, String::new()), "with all rules");
    std::panic::set_hook(Box::new(|_| {}));
    let mut unnoticed = Vec::new();
    for rule in Rule::ALL {
        switch_off(Some(rule));
        let (count, first) = wrong(runs);
        println!("without {rule:?}: {count} of {runs} lives went wrong; {first}");
        if count == 0 {
            unnoticed.push(rule);
        }
    }
    switch_off(None);
    let _ = std::panic::take_hook();
    assert!(unnoticed.is_empty(), "nobody notices without {unnoticed:?}");
}
