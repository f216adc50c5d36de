//! Waiting until a store is closed, but not for ever.
//!
//! A disk that hangs must not keep the other tasks of its worker from running, nor a member from
//! saying that it has stopped. Invariant: returns `true` only if the store can be opened again.

use std::{future::poll_fn, time::Duration};

use super::Storage;
use crate::Clock;

/// Closes the store; `false` if its disk has not let go of it in time.
pub(crate) async fn close(mut storage: Box<dyn Storage>, clock: &dyn Clock) -> bool {
    let bound = clock.sleep_until(clock.now().plus(CLOSE_BOUND));
    tokio::select! {
        biased;
        () = poll_fn(|context| storage.poll_closed(context)) => true,
        () = bound => {
            tracing::error!("the disk hangs: the store stays in use until its writer has ended");
            false
        }
    }
}

/// Far above a sync of a disk that is merely slow.
const CLOSE_BOUND: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use std::{
        future::{self, Future},
        pin::{Pin, pin},
        sync::Arc,
        task::{Context, Poll, Waker},
        thread,
    };

    use raft::{HardState, Term, Time, Write, WriteId};

    use super::*;
    use crate::{
        SystemClock,
        storage::{
            Shelf,
            crash::{SEGMENT_BYTES, open_image},
            disk::Opened,
            model::Model,
            samples::{owner, position},
            snapshot::tests as snapshots,
        },
    };

    /// A clock by which every deadline is here at once.
    #[derive(Debug)]
    struct Impatient;

    impl Clock for Impatient {
        fn now(&self) -> Time {
            Time::default()
        }

        fn wall(&self) -> Duration {
            Duration::ZERO
        }

        fn sleep_until(&self, _deadline: Time) -> Pin<Box<dyn Future<Output = ()> + Send>> {
            Box::pin(future::ready(()))
        }
    }

    const VOTE: HardState = HardState { term: Term(1), vote: None };

    /// A store with a write under way whose disk hangs.
    fn hanging() -> (Model, Box<dyn Storage>) {
        let model = Model::default();
        let opened = Opened::open(Box::new(model.clone()), owner(7), SEGMENT_BYTES);
        let mut storage = Box::new(opened.expect("nothing is there"));
        model.hold_up(true);
        storage.submit(WriteId(1), Write::HardState(VOTE));
        (model, storage)
    }

    #[tokio::test]
    async fn a_store_is_closed_only_once_its_disk_has_let_go_of_it() {
        let (model, storage) = hanging();
        let clock = SystemClock::new();
        let mut closing = pin!(close(storage, &clock));
        let seen = poll_fn(|context| Poll::Ready(closing.as_mut().poll(context))).await;
        assert!(seen.is_pending(), "its last write is not durable yet");
        model.hold_up(false);
        assert!(closing.await);
        let contents = open_image(&model.image()).expect("whole");
        assert_eq!(contents.hard_state, VOTE, "what was queued is written");
    }

    #[tokio::test]
    async fn a_disk_that_hangs_holds_up_nobody_for_longer_than_the_bound() {
        let (model, storage) = hanging();
        assert!(!close(storage, &Impatient).await);
        // Still under way, in a thread that nobody waits for.
        model.hold_up(false);
    }

    #[test]
    fn a_directory_that_hangs_holds_up_nobody_who_closes_the_shelf() {
        let model = Model::default();
        let shelf = Shelf::new(Arc::new(model.clone()), None);
        let mut written = snapshots::written(&shelf, position(3, 9), b"body");
        model.hold_up(true);
        let (steps, putter) = (model.steps(), shelf.clone());
        let putting = thread::spawn(move || putter.put(&mut written));
        while model.steps() == steps {
            thread::yield_now();
        }
        shelf.close();
        assert!(!putting.is_finished(), "it waits for the directory");
        model.hold_up(false);
        putting.join().expect("it does not panic").expect("the model works");
    }

    fn is_closed(shelf: &Shelf) -> bool {
        shelf.poll_closed(&Context::from_waker(Waker::noop())).is_ready()
    }

    #[test]
    fn a_file_that_is_made_opened_or_removed_without_end_holds_up_nobody_but_the_closing() {
        let visits: [fn(&Shelf); 3] = [
            |shelf| drop(shelf.draft().expect("it came before the closing")),
            |shelf| drop(shelf.open().expect("it came before the closing")),
            |shelf| shelf.discard("nothing"),
        ];
        for visit in visits {
            let model = Model::default();
            let shelf = Shelf::new(Arc::new(model.clone()), None);
            let mut written = snapshots::written(&shelf, position(3, 9), b"body");
            shelf.put(&mut written).expect("the model works");
            shelf.show(Some(written.id()));
            model.hold_up_names(true);
            let visitor = shelf.clone();
            let visiting = thread::spawn(move || visit(&visitor));
            while !model.hangs_at("") {
                thread::yield_now();
            }
            assert!(shelf.current().is_some(), "others look at the place meanwhile");
            assert!(!is_closed(&shelf), "the directory is in use");
            assert!(!visiting.is_finished(), "it waits for the disk");
            model.hold_up_names(false);
            visiting.join().expect("it does not panic");
            assert!(is_closed(&shelf));
            assert!(shelf.draft().is_err(), "nobody comes in any more");
        }
    }

    /// Who closes a store is woken when the last visit ends, not by the bound.
    #[tokio::test]
    async fn a_store_is_closed_once_nobody_is_at_work_on_its_shelf() {
        let model = Model::default();
        let opened = Opened::open(Box::new(model.clone()), owner(7), SEGMENT_BYTES);
        let storage = Box::new(opened.expect("nothing is there"));
        let shelf = storage.shelf().expect("disks keep snapshots");
        model.hold_up_names(true);
        let drafting = thread::spawn(move || drop(shelf.draft()));
        while !model.hangs_at("draft") {
            thread::yield_now();
        }
        let clock = SystemClock::new();
        let began = clock.now();
        let mut closing = pin!(close(storage, &clock));
        let seen = poll_fn(|context| Poll::Ready(closing.as_mut().poll(context))).await;
        assert!(seen.is_pending(), "a draft is about to be begun");
        model.hold_up_names(false);
        assert!(closing.await);
        assert!(clock.now().since(began) < CLOSE_BOUND);
        drafting.join().expect("it does not panic");
    }

    #[test]
    fn a_store_that_is_dropped_without_being_closed_is_closed_all_the_same() {
        let (model, storage) = hanging();
        model.hold_up(false);
        drop(storage);
        let contents = open_image(&model.image()).expect("whole");
        assert_eq!(contents.hard_state, VOTE);
    }
}
