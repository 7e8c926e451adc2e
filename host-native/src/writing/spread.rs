//! Work on many items with several threads.

use std::time::{Duration, Instant};

/// Work that takes less than this is not worth another thread.
const ALONE: Duration = Duration::from_micros(150);

/// Applies `work` to every item, with up to `threads` threads; the results keep their order.
///
/// Threads are started where the work turns out to be long: starting one costs some twenty
/// microseconds, which a batch of file blocks takes a hundred times over.
pub(super) fn spread<T: Send, R: Send>(
    mut items: Vec<T>,
    threads: usize,
    work: impl Fn(T) -> R + Sync,
) -> Vec<R> {
    let mut results = Vec::with_capacity(items.len());
    let begin = Instant::now();
    items.reverse();
    while let Some(item) = items.pop() {
        results.push(work(item));
        if threads > 1 && items.len() > 1 && begin.elapsed() > ALONE {
            break;
        }
    }
    items.reverse();
    if items.is_empty() {
        return results;
    }
    let share = items.len().div_ceil(threads);
    let mut shares = Vec::with_capacity(threads);
    while items.len() > share {
        shares.push(items.split_off(items.len() - share));
    }
    let work = &work;
    std::thread::scope(|scope| {
        let others: Vec<_> = shares
            .into_iter()
            .map(|share| scope.spawn(move || share.into_iter().map(work).collect::<Vec<R>>()))
            .collect();
        results.extend(items.into_iter().map(work));
        // split off from the end: the last one comes first
        for other in others.into_iter().rev() {
            match other.join() {
                Ok(part) => results.extend(part),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
    });
    results
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_keep_their_order() {
        for (count, threads) in [(0, 2), (1, 3), (5, 4), (64, 3), (7, 1)] {
            let slow = |item: u32| {
                std::thread::sleep(Duration::from_micros(200));
                item * 2
            };
            let wanted: Vec<u32> = (0..count).map(|item| item * 2).collect();
            assert_eq!(spread((0..count).collect(), threads, slow), wanted, "{count} {threads}");
        }
    }
}
