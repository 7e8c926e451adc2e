//! From a life that goes wrong to a shorter one that goes wrong in the same way.

use super::plan::Plan;
use super::run_plan;

/// Takes steps out of `plan`, which goes wrong with `error`, for as long as it still does, at most
/// `tries` times.
#[must_use]
pub fn shrink(plan: &Plan, error: &str, tries: usize) -> Plan {
    let kind = kind(error);
    let mut plan = plan.clone();
    let mut left = tries;
    let mut len = plan.steps.len().div_ceil(2).max(1);
    loop {
        let mut at = 0;
        let mut is_shorter = false;
        while at < plan.steps.len() && left > 0 {
            let mut steps = plan.steps.clone();
            steps.drain(at..(at + len).min(steps.len()));
            let shorter = plan.with_steps(steps);
            left -= 1;
            if outcome(&shorter).is_some_and(|other| self::kind(&other) == kind) {
                plan = shorter;
                is_shorter = true;
            } else {
                at += len;
            }
        }
        if left == 0 || (len == 1 && !is_shorter) {
            return plan;
        }
        if !is_shorter {
            len = (len / 2).max(1);
        }
    }
}

/// What goes wrong, if anything.
#[must_use]
pub fn outcome(plan: &Plan) -> Option<String> {
    match std::panic::catch_unwind(|| run_plan(plan, false)) {
        Ok(Ok(_)) => None,
        Ok(Err(error)) => Some(error),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).into()));
            Some(format!("a panic: {}", text.unwrap_or_default()))
        }
    }
}

/// What an error is about, without numbers.
fn kind(error: &str) -> String {
    let (invariant, rest) = error.split_once(':').unwrap_or((error, ""));
    let text = if invariant.len() < 4 { invariant.into() } else { format!("{invariant}{rest}") };
    let letters = text.chars().filter(|one| !one.is_ascii_digit() || text.len() < 4);
    letters.take(24).collect()
}
