//! A member's life: how its group began, then the driver; and both once more if its lineage is
//! given up.
//!
//! Invariant: the founding is durable before there is a core, so that a member never takes part
//! in a lineage that it could forget.

use std::{collections::BTreeSet, sync::Arc};

use raft::{
    Config, Configuration, EntryRef, Index, NodeId, Payload, PeerId, Raft, Restored, Sessions,
    Snapshot, Time,
};
use tokio::sync::{mpsc, watch};

use crate::{
    group::{
        GroupError, GroupId,
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

impl Life {
    /// Lives until the member has stopped.
    pub(crate) async fn live(mut self) {
        loop {
            let core = match self.begin().await {
                Ok(core) => core,
                Err(reason) => return self.body.stop(reason, self.storage).await,
            };
            let Self { group, mut config, body, storage, applier, .. } = self;
            let (work, to_do) = mpsc::channel(WORK_MAX);
            let (applied_sender, applied) = watch::channel(applier.applied());
            let (report, reports) = mpsc::channel(REPORTS_MAX);
            let clock = Arc::clone(&body.clock);
            let applying = tokio::spawn(applier.run(to_do, applied_sender, report, clock));
            let driver = Driver::new(body, core, storage, Applying { work, applied, reports });
            #[cfg(feature = "planted-faults")]
            let driver = driver.planted(self.planted);
            let Some(Dissolved { mut body, storage, store }) = driver.run().await else { return };
            // Nothing was ever promised in that lineage, so the machine is as it was.
            let Ok(Some(applier)) = applying.await else {
                return body.stop("its machine was lost with its lineage".into(), storage).await;
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

const WORK_MAX: usize = 1_024;
/// One snapshot is written at a time, and one restored from.
const REPORTS_MAX: usize = 4;
