//! A member's life: how its group began, then the driver; and both once more if its lineage is
//! given up.
//!
//! Invariants: the founding is durable before there is a core, so that a member never takes part
//! in a lineage that it could forget; and however a life ends, the status says that it has.

use std::{collections::BTreeSet, panic::resume_unwind, sync::Arc};

use raft::{
    Config, Configuration, EntryRef, Index, NodeId, Payload, PeerId, Raft, Restored, Sessions,
    Snapshot, Time,
};
use tokio::sync::{mpsc, watch};

use crate::{
    group::{
        GroupError, GroupId, Status,
        alarm::Alarm,
        applier::{Applier, Applying},
        body::Body,
        driver::{Dissolved, Driver},
        founding,
        status::Event,
    },
    storage::{Contents, Founding, Storage},
};

/// Everything that a member lives on.
pub(crate) struct Life {
    pub(crate) group: GroupId,
    /// Who founds the group, if it is not founded; `None` if this member founds nothing.
    pub(crate) founders: Option<BTreeSet<PeerId>>,
    pub(crate) config: Config,
    pub(crate) body: Body,
    pub(crate) storage: Box<dyn Storage>,
    pub(crate) contents: Contents,
    pub(crate) applier: Applier,
    #[cfg(feature = "planted-faults")]
    pub(crate) planted: Option<raft::Planted>,
}

/// Sees to it that a member that is gone is known to be, also if nobody came to say so: where its
/// task fell while it stopped, and where the program's runtime ended before it.
pub(crate) struct LastWord {
    status: watch::Sender<Status>,
    alarm: Alarm,
}

impl LastWord {
    pub(crate) fn of(body: &Body) -> Self {
        Self { status: body.status.clone(), alarm: body.alarm.clone() }
    }
}

impl Drop for LastWord {
    fn drop(&mut self) {
        let reason = self.alarm.told().unwrap_or_else(|| "its task was ended".into());
        self.status.send_if_modified(|status| {
            let is_news = status.stopped.is_none();
            if is_news {
                status.stop(reason);
            }
            is_news
        });
    }
}

impl Life {
    /// Lives until the member has stopped.
    ///
    /// A panic of any of its tasks stops it, in good order as far as that goes. It is no secret
    /// for all that: at the end this task panics with it, for a runtime that looks out for such.
    pub(crate) async fn live(self, last_word: LastWord) {
        let (alarm, bonds) = (self.body.alarm.clone(), self.body.bonds.clone());
        if alarm.caught(ITSELF, self.lead()).await.is_none() {
            // It fell while it stopped. What it held is dropped by now, its store with it.
            bonds.shutdown().await;
        }
        drop(last_word);
        if let Some(told) = alarm.told() {
            resume_unwind(Box::new(told));
        }
    }

    async fn lead(mut self) {
        let alarm = self.body.alarm.clone();
        loop {
            let core = match alarm.caught(ITSELF, self.begin()).await {
                Some(Ok(core)) => core,
                Some(Err(reason)) => return self.body.stop(reason, self.storage, None).await,
                None => return self.body.fall(self.storage, None).await,
            };
            let Self { group, mut config, body, storage, applier, .. } = self;
            let (work, to_do) = mpsc::channel(WORK_MAX);
            let (applied_sender, applied) = watch::channel(applier.applied());
            let (report, reports) = mpsc::channel(REPORTS_MAX);
            let clock = Arc::clone(&body.clock);
            let task = applier.run(to_do, applied_sender, report, clock, alarm.clone());
            let applying = Applying { work, applied, reports, task: tokio::spawn(task) };
            let driver = Driver::new(body, core, storage, applying);
            #[cfg(feature = "planted-faults")]
            let driver = driver.planted(self.planted);
            let Some(dissolved) = driver.run().await else { return };
            let Dissolved { mut body, storage, store, applier } = dissolved;
            // Nothing was ever promised in that lineage, so the machine is as it was.
            let Ok(Some(applier)) = applier.await else {
                let reason = "its machine was lost with its lineage".into();
                return body.stop(reason, storage, None).await;
            };
            body.dissolved(store);
            config.id.store = store;
            let contents = Contents::default();
            // It had its chance to found: from now on it only joins.
            self = Self {
                group,
                founders: None,
                config,
                body,
                storage,
                contents,
                applier,
                #[cfg(feature = "planted-faults")]
                planted: self.planted,
            };
        }
    }

    /// Learns how the group began, and puts the core together.
    async fn begin(&mut self) -> Result<Raft, String> {
        let founding = match &self.contents.founding {
            Some(founding) => founding.clone(),
            None => {
                let founders = self.founders.as_ref();
                let founding = founding::meet(&mut self.body, self.group, founders).await?;
                let deaf = self.body.bonds.turn_deaf();
                self.storage.found(&founding).map_err(|error| error.to_string())?;
                drop(deaf);
                self.body.note(&Event::Founded(founding.lineage));
                founding
            }
        };
        let dissolves = holds_nothing(self.config.id, &founding, &self.contents);
        self.body.founded(&founding, dissolves);
        let now = self.body.clock.now();
        let contents = std::mem::take(&mut self.contents);
        let sessions = contents.snapshot.is_some().then(|| self.applier.sessions());
        core(self.config.clone(), &founding, contents, sessions, now)
            .map_err(|error| error.to_string())
    }
}

/// The core that goes on where the store left off, with the session table of its snapshot.
///
/// # Errors
/// What the store holds contradicts itself.
pub(crate) fn core(
    config: Config,
    founding: &Founding,
    contents: Contents,
    sessions: Option<Sessions<Index>>,
    now: Time,
) -> Result<Raft, GroupError> {
    // The log of every member goes on from the same configuration, whoever wrote it down.
    let founded =
        || Snapshot { configuration: founding.configuration.clone(), ..Snapshot::default() };
    let restored = Restored {
        hard_state: contents.hard_state,
        snapshot: contents.snapshot.unwrap_or_else(founded),
        sessions,
        entries: contents.entries,
    };
    Raft::new(config, restored, now).map_err(|error| GroupError::Inconsistent(error.0))
}

/// Whether a lineage so far is a founder alone with itself, of which nothing was asked and whom
/// nobody has joined: then nobody else knows of it for certain, and it may be given up.
pub(crate) fn holds_nothing(node: NodeId, founding: &Founding, contents: &Contents) -> bool {
    let is_empty = contents.snapshot.is_none()
        && contents.entries.iter().all(|entry| says_nothing(entry.view()));
    is_empty && founding.configuration == Configuration::of([node])
}

/// Whether an entry is the mere opening of a term. A session is not: its id is an index, and
/// would be another client's session in another log.
pub(crate) fn says_nothing(entry: EntryRef<'_>) -> bool {
    matches!(entry.payload, Payload::Noop)
}

/// Who panicked, where it was the member's own task.
pub(crate) const ITSELF: &str = "its own task";
const WORK_MAX: usize = 1_024;
/// One snapshot is written at a time, and one restored from.
const REPORTS_MAX: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    fn last_word() -> (LastWord, watch::Receiver<Status>) {
        let (status, seen) = watch::channel(Status::new(NodeId::small(1)));
        (LastWord { status, alarm: Alarm::default() }, seen)
    }

    #[test]
    fn a_member_whose_task_is_ended_from_outside_has_stopped() {
        let (word, seen) = last_word();
        drop(word);
        assert_eq!(seen.borrow().stopped.as_deref(), Some("its task was ended"));
    }

    #[test]
    fn a_member_that_fell_while_it_stopped_says_so() {
        let (word, seen) = last_word();
        word.status.send_modify(|status| status.role = raft::Role::Leader);
        word.alarm.caught_now::<()>(ITSELF, || panic!("its disk is a brick"));
        drop(word);
        let reason = "its own task panicked: its disk is a brick";
        assert_eq!(seen.borrow().stopped.as_deref(), Some(reason));
        assert!(!seen.borrow().is_leader());
    }

    #[test]
    fn a_member_that_stopped_in_good_order_has_said_why_itself() {
        let (word, seen) = last_word();
        word.status.send_modify(|status| status.stop("it was time".into()));
        drop(word);
        assert_eq!(seen.borrow().stopped.as_deref(), Some("it was time"));
    }
}
