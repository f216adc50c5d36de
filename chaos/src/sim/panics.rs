//! Whose panic it was that ended a simulation.
//!
//! All hosts run on one thread; a runtime that a task panics in takes the whole simulation with
//! it, and says no more than that. A panic that somebody catches takes nothing with it, and is no
//! less one. Invariants: each panic of this thread is seen at the moment at which it comes; those
//! of other threads are told as ever.

use std::{cell::RefCell, panic, sync::Once};

use tokio::runtime::{Handle, Id};

/// A panic on a simulated thread.
#[derive(Clone, Debug)]
pub(super) struct Panic {
    /// The runtime that the task was in.
    pub(super) runtime: Option<Id>,
    /// Where, and in which words.
    pub(super) told: String,
}

thread_local! {
    static FIRST: RefCell<Option<Panic>> = const { RefCell::new(None) };
}

/// From now on panics on this thread are kept.
pub(super) fn tell_apart() {
    static ONCE: Once = Once::new();
    FIRST.with_borrow_mut(|first| *first = None);
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |fallen| {
            if super::shim::is_active() {
                let runtime = Handle::try_current().ok().map(|handle| handle.id());
                let told = fallen.to_string();
                FIRST.with_borrow_mut(|first| {
                    first.get_or_insert(Panic { runtime, told });
                });
            }
            before(fallen);
        }));
    });
}

/// The first panic on this thread.
pub(super) fn first() -> Option<Panic> {
    FIRST.with_borrow(Clone::clone)
}
