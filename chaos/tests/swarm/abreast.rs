//! Many seeds side by side, with an outcome that does not depend on how many at once.
//!
//! Whichever thread is first: what counts is the failure with the lowest number.

use std::{
    ops::AddAssign,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

/// Does the task for each number below `count` on so many threads, and adds up what they yield;
/// or yields the first failure by number, once all numbers below it are done.
pub(crate) fn abreast<T, E>(
    jobs: usize,
    count: u64,
    task: impl Fn(u64) -> Result<T, E> + Sync,
) -> Result<T, (u64, E)>
where
    T: Default + AddAssign + Send,
    E: Send,
{
    let next = AtomicU64::new(0);
    // No number from here on needs doing.
    let end = AtomicU64::new(count);
    let sum = Mutex::new(T::default());
    let first = Mutex::new(None);
    let work = || {
        let mut own = T::default();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= end.load(Ordering::Relaxed) {
                break;
            }
            match task(number) {
                Ok(more) => own += more,
                Err(error) => {
                    end.fetch_min(number, Ordering::Relaxed);
                    let mut first = first.lock().unwrap_or_else(PoisonError::into_inner);
                    if first.as_ref().is_none_or(|(known, _)| number < *known) {
                        *first = Some((number, error));
                    }
                }
            }
        }
        *sum.lock().unwrap_or_else(PoisonError::into_inner) += own;
    };
    thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(work);
        }
    });
    match first.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(failure) => Err(failure),
        None => Ok(sum.into_inner().unwrap_or_else(PoisonError::into_inner)),
    }
}
