//! Word of panics: whichever of a member's tasks falls, the member stops and says why.
//!
//! A member is several tasks, and without one of them it is half a member, which nobody would
//! notice. Knows nothing of what they do. Invariant: the first panic is the one that is told, for
//! others may follow from it.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
};

use futures_util::FutureExt;
use tokio::{sync::watch, task::JoinError};

/// Rung when a task of the member panics. A cheap handle.
#[derive(Clone, Default)]
pub(crate) struct Alarm(watch::Sender<Option<String>>);

impl Alarm {
    /// Changes once: when the alarm is rung.
    pub(crate) fn heard(&self) -> watch::Receiver<Option<String>> {
        self.0.subscribe()
    }

    /// Who panicked first, and in which words.
    pub(crate) fn told(&self) -> Option<String> {
        self.0.borrow().clone()
    }

    /// Does the work. `None` if it panics, which is then told to be `who`.
    ///
    /// All that the work owns is gone by then. Whoever would take the end of a channel for the
    /// reason must not see that first: such work borrows its end.
    pub(crate) async fn caught<T>(&self, who: &str, work: impl Future<Output = T>) -> Option<T> {
        let done = AssertUnwindSafe(work).catch_unwind().await;
        done.inspect_err(|panic| self.ring(who, &**panic)).ok()
    }

    /// The same for what is done at once.
    pub(crate) fn caught_now<T>(&self, who: &str, work: impl FnOnce() -> T) -> Option<T> {
        let done = catch_unwind(AssertUnwindSafe(work));
        done.inspect_err(|panic| self.ring(who, &**panic)).ok()
    }

    /// The same for a task that has ended. One that was aborted was meant to.
    pub(crate) fn joined(&self, who: &str, ended: Result<(), JoinError>) {
        if let Err(error) = ended
            && let Ok(panic) = error.try_into_panic()
        {
            self.ring(who, &*panic);
        }
    }

    fn ring(&self, who: &str, panic: &(dyn Any + Send)) {
        let told = format!("{who} panicked: {}", words(panic));
        tracing::error!("{told}");
        self.0.send_if_modified(|first| {
            let is_first = first.is_none();
            first.get_or_insert(told);
            is_first
        });
    }
}

/// What `panic!` and the asserts say.
fn words(panic: &(dyn Any + Send)) -> &str {
    let formatted = || panic.downcast_ref::<String>().map(String::as_str);
    let plain = panic.downcast_ref::<&'static str>().copied();
    plain.or_else(formatted).unwrap_or("not in words")
}

#[cfg(test)]
mod tests {
    use std::panic::panic_any;

    use super::*;

    #[tokio::test]
    async fn what_does_not_panic_rings_nothing() {
        let alarm = Alarm::default();
        assert_eq!(alarm.caught("work", async { 7 }).await, Some(7));
        assert_eq!(alarm.caught_now("work", || 7), Some(7));
        alarm.joined("a task", tokio::spawn(async {}).await);
        let aborted = tokio::spawn(std::future::pending::<()>());
        aborted.abort();
        alarm.joined("a task", aborted.await);
        assert_eq!(alarm.told(), None);
    }

    #[tokio::test]
    async fn the_first_panic_is_told_in_its_own_words_and_heard_once() {
        let alarm = Alarm::default();
        let mut heard = alarm.heard();
        let fallen: Result<(), _> = tokio::spawn(async { panic!("on {}", 3) }).await;
        alarm.joined("a task", fallen);
        heard.changed().await.expect("the alarm is there");
        let done = alarm.caught::<()>("work", async { panic!("so it does") }).await;
        assert_eq!(done, None);
        assert_eq!(alarm.told().as_deref(), Some("a task panicked: on 3"));
        assert!(!heard.has_changed().expect("the alarm is there"), "it is told once");
    }

    #[tokio::test]
    async fn work_of_any_kind_may_panic_with_anything() {
        let alarm = Alarm::default();
        assert_eq!(alarm.caught::<()>("work", async { panic!("plain") }).await, None);
        assert_eq!(alarm.told().as_deref(), Some("work panicked: plain"));
        let alarm = Alarm::default();
        assert_eq!(alarm.caught_now::<()>("an observer", || panic_any(7)), None);
        assert_eq!(alarm.told().as_deref(), Some("an observer panicked: not in words"));
    }
}
