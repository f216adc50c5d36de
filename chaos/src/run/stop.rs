//! A wish from outside that the run come to its end.
//!
//! Invariant: once stopped, stopped for ever; a [`Stop`] whose [`Stopper`] is gone never stops.

use std::future::Future;

use tokio::sync::watch;

/// Learns of the wish. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Stop {
    stopped: watch::Receiver<bool>,
}

/// Makes the wish.
#[derive(Clone, Debug)]
pub struct Stopper {
    stopped: watch::Sender<bool>,
}

impl Stop {
    /// A wish not made yet, and the means to make it.
    pub fn new() -> (Stopper, Self) {
        let (sender, stopped) = watch::channel(false);
        (Stopper { stopped: sender }, Self { stopped })
    }

    /// Whether it was made.
    pub fn is_stopped(&self) -> bool {
        *self.stopped.borrow()
    }

    /// Resolves once it is made.
    pub async fn stopped(&self) {
        let mut stopped = self.stopped.clone();
        if stopped.wait_for(|stopped| *stopped).await.is_err() {
            // Nobody is left who could make it.
            std::future::pending::<()>().await;
        }
    }

    /// What the future yields, or nothing if the wish is made first.
    pub async fn or<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            () = self.stopped() => None,
            value = future => Some(value),
        }
    }
}

impl Stopper {
    /// Makes the wish.
    pub fn stop(&self) {
        self.stopped.send_replace(true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_wish_reaches_all_who_wait_and_all_who_come_later() {
        let (stopper, stop) = Stop::new();
        assert!(!stop.is_stopped());
        assert_eq!(stop.or(async { 7 }).await, Some(7));
        let waiting = tokio::spawn({
            let stop = stop.clone();
            async move { stop.or(std::future::pending::<()>()).await }
        });
        stopper.stop();
        assert_eq!(waiting.await.expect("it ends"), None);
        assert_eq!(stop.or(async { 7 }).await, None);
    }

    #[tokio::test]
    async fn nobody_left_to_make_the_wish_is_no_wish() {
        let (stopper, stop) = Stop::new();
        drop(stopper);
        assert_eq!(stop.or(tokio::task::yield_now()).await, Some(()));
        assert!(!stop.is_stopped());
    }
}
