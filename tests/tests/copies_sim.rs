//! Lives of groups of copies with everything that can happen to disks; see [`farrier_tests::sim`].
//!
//! `FARRIER_SIM_SEED` and `FARRIER_SIM_RUNS` choose other seeds, `FARRIER_SIM_FRESH` the first of those
//! that are new each time, `FARRIER_SIM_SHOW=1` tells the steps, and `FARRIER_SIM_STEPS` leaves out all but
//! some of them. A life that goes wrong is told with
//! the steps that are enough for it, unless `FARRIER_SIM_SHRINK=0`.

use farrier_core::copies::{OnMissing, Policy, Runtime};
use farrier_tests::sim::{Action, Plan, Ran, Silent, Step, outcome, run_plan, shrink};

fn setting(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().expect("a number"))
}

/// Runs that shortening a life may take.
const TRIES: u64 = 300;

/// Lives of `count` seeds; the message of a panic names the seed.
fn lives(first: u64, count: u64) -> Ran {
    let show = setting("FARRIER_SIM_SHOW", 0) != 0;
    let mut all = Ran::default();
    let mut wrong = Vec::new();
    for seed in first..first + count {
        let plan = chosen_steps(Plan::of(seed));
        let ran = std::panic::catch_unwind(|| run_plan(&plan, show));
        match ran {
            Ok(Ok(ran)) => all.add(&ran),
            Ok(Err(error)) => wrong.push((plan, error)),
            Err(_) => wrong.push((plan, "a panic".into())),
        }
        if wrong.last().is_some_and(|(plan, _)| plan.seed == seed) {
            // a long run is looked at before it ends
            println!("seed {seed} went wrong");
        }
    }
    let texts: Vec<String> = wrong.iter().map(|(plan, error)| told(plan, error)).collect();
    assert!(
        wrong.is_empty(),
        "{} of {count} lives went wrong:\n{}",
        wrong.len(),
        texts.join("\n\n")
    );
    all
}

/// The steps of a life that `FARRIER_SIM_STEPS` names, by their numbers from 0; all of them, if it is
/// not there.
fn chosen_steps(plan: Plan) -> Plan {
    let Ok(chosen) = std::env::var("FARRIER_SIM_STEPS") else { return plan };
    let numbers = chosen.split(',').filter(|number| !number.is_empty());
    let steps = numbers.map(|number| plan.steps[number.parse::<usize>().expect("a number")]);
    plan.with_steps(steps.collect())
}

/// What went wrong, and what is enough for it to.
fn told(plan: &Plan, error: &str) -> String {
    let tries = setting("FARRIER_SIM_SHRINK", TRIES);
    let short = if tries == 0 {
        plan.clone()
    } else {
        shrink(plan, error, usize::try_from(tries).unwrap_or(0))
    };
    let error = outcome(&short).unwrap_or_else(|| error.into());
    let whole = Plan::of(plan.seed);
    let at = |step| whole.steps.iter().position(|one| one == step).map(|at| at.to_string());
    let steps: Vec<String> = short.steps.iter().filter_map(at).collect();
    let again = format!("FARRIER_SIM_SEED={} FARRIER_SIM_STEPS={}", plan.seed, steps.join(","));
    format!("seed {}: {error}\n{short:?}\nagain: {again} FARRIER_SIM_RUNS=1", plan.seed)
}

#[test]
fn seeds() {
    let ran = lives(setting("FARRIER_SIM_SEED", 1), setting("FARRIER_SIM_RUNS", 60));
    println!("{ran:?}");
}

/// New ones each time.
#[test]
fn fresh_seeds() {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let first = now.map_or(1, |now| now.as_secs()) << 10;
    let first = setting("FARRIER_SIM_FRESH", first);
    println!("from {first} on");
    lives(first, setting("FARRIER_SIM_FRESH_RUNS", 25));
}

/// A life by itself, of disks of `sizes` MiB, in which nothing is full and nobody lies; see [`Plan`].
fn life(seed: u64, sizes: &[u64], runtime: Runtime, steps: &[(Action, u64)]) -> Plan {
    Plan {
        seed,
        sizes: sizes.iter().map(|size| size << 20).collect(),
        victim: None,
        work: 30,
        cache: 1 << 20,
        is_crowded: false,
        policy: Policy { runtime, ..Policy::default() },
        steps: steps.iter().map(|(action, seed)| Step::new(*action, *seed)).collect(),
    }
}

/// A disk that lost its blocks and kept its headers was attached while mounted, and believed what it had
/// had (I3).
#[test]
fn a_copy_that_lost_its_root_is_filled_in_anew_when_it_is_attached() {
    let steps = [
        (Action::Resync, 43533994655895795),
        (Action::Lose, 60556608876202987),
        (Action::GiveBack, 16627331426209026),
        (Action::Members, 21648924325525700),
        (Action::Resync, 57024926460679663),
    ];
    let plan =
        Plan { work: 12, cache: 64 << 10, ..life(500_130, &[3000, 96], Runtime::Any, &steps) };
    assert_eq!(outcome(&plan), None);
}

/// The holder's barrier failed, and the group halted. Its header was in its cache: mounted again, it
/// showed an epoch that did not last, and whoever asked for that to last was told that it did (I11).
#[test]
fn what_a_failed_barrier_left_in_a_cache_is_made_to_last() {
    let steps = [
        (Action::Pull, 63603730083918642),
        (Action::Remount, 19647554873731511),
        (Action::Pull, 40412170942649569),
        (Action::Heal, 2269647624545590),
        (Action::Remount, 34356810876186533),
    ];
    let plan = Plan { work: 4, ..life(200_827, &[64, 3000, 64, 64], Runtime::Holder(2), &steps) };
    assert_eq!(outcome(&plan), None);
}

/// A copy came in sync with a commit that the only other one failed to take: it was gone on with, and
/// the other one, which knew of nothing, might have been as well (I13).
#[test]
fn a_copy_that_has_just_joined_does_not_go_on_without_those_of_before() {
    let steps = [
        (Action::Pull, 47051960616025179),
        (Action::Members, 70715588191045995),
        (Action::Promote, 54069271331955904),
        (Action::Remount, 7247030277404317),
        (Action::GiveBack, 8254021694680859),
        (Action::Resync, 54534552903000621),
        (Action::Lose, 50031552704199570),
        (Action::Cut, 59334743848518497),
        (Action::Pull, 42656557392453908),
        (Action::BeginScan, 37859004091379117),
    ];
    let plan = Plan { cache: 64 << 10, ..life(700_752, &[1100, 64], Runtime::Any, &steps) };
    assert_eq!(outcome(&plan), None);
}

/// A copy that was being brought up to date was put back to what it was before that, and believed what
/// it had got since (I3).
#[test]
fn a_copy_that_was_put_back_while_it_was_filled_in_is_filled_in_again() {
    let steps = [
        (Action::PullPair, 62761141552614722),
        (Action::PutBack, 60333002906898440),
        (Action::Lose, 16547289131045306),
        (Action::PutBack, 7076977142175805),
    ];
    let plan = Plan {
        policy: Policy {
            runtime: Runtime::Any,
            on_missing: OnMissing::Refuse,
            ..Policy::default()
        },
        ..life(3_005_158, &[96, 64, 64], Runtime::Any, &steps)
    };
    assert_eq!(outcome(&plan), None);
}

/// A member that a crash caught between two headers of one epoch kept the others from going on without
/// a disk that failed then (I16).
#[test]
fn whoever_lags_within_an_epoch_does_not_halt_the_others() {
    let steps = [
        (Action::PutBack, 54712166722921486),
        (Action::Remount, 39700684632493836),
        (Action::Remount, 10145736002196601),
        (Action::Pull, 60749686072080939),
        (Action::Members, 65648013374475958),
        (Action::Resync, 20854399433880499),
        (Action::GiveBack, 37174403732616969),
        (Action::LosePair, 25923670222753159),
        (Action::Cut, 66054681145897867),
        (Action::PutBack, 63425303638032701),
        (Action::Resync, 43245064532638675),
    ];
    let plan = Plan {
        work: 12,
        victim: Some((0, Silent { flips: 20, lost: 100, astray: 0, reads: 100, lies: false })),
        ..life(3_004_977, &[64, 64, 64], Runtime::Any, &steps)
    };
    assert_eq!(outcome(&plan), None);
}

/// A member whose root was lost came in sync with the commit in which another one failed, of which it
/// has the record: two of three did not go on, though the third could never have by itself (I16).
#[test]
fn whoever_is_filled_in_anew_counts_for_a_majority() {
    let steps = [
        (Action::Lose, 23506486692799332),
        (Action::Pull, 18062576974558346),
        (Action::Resync, 12396356782016604),
    ];
    let plan = Plan {
        work: 4,
        cache: 64 << 10,
        ..life(6_053_281, &[96, 96, 1100], Runtime::Majority, &steps)
    };
    assert_eq!(outcome(&plan), None);
}

/// A copy got the slot of one that was taken away in the same mount. What the former had was given back
/// with a block of that time, though the new one had something else there (I9).
#[test]
fn what_a_former_copy_had_is_not_given_back_on_the_next_one() {
    let steps = [
        (Action::Bulk, 60217969246938705),
        (Action::Members, 13648100843786245),
        (Action::Bulk, 65881190083495557),
        (Action::LosePair, 40425853003112792),
    ];
    let plan = Plan {
        work: 12,
        is_crowded: true,
        ..life(30_031_966, &[96, 40, 64, 1100], Runtime::Any, &steps)
    };
    assert_eq!(outcome(&plan), None);
}
