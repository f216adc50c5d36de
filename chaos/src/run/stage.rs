//! What every run begins and ends with: the recorder, and clusters whose nodes it hears.
//!
//! Knows no phase. Invariant: the recorder outlives every cluster, and when it fails its own
//! words come first: its end is what all others complain of.

use std::ops::AsyncFnOnce;

use runtime::Time;
use tokio::sync::mpsc;

use crate::{
    cluster::{Cluster, NodeEvent, World},
    groups::parts,
    plan::Plan,
    run::{Lab, Listener, RunError, Stop, lab::settings, recorder::Recorder},
    seed::Seed,
};

/// Where a plan is carried out.
pub(crate) struct Stage<'a, W> {
    pub(crate) plan: &'a Plan,
    pub(crate) seed: Seed,
    pub(crate) recorder: Recorder,
    pub(crate) stop: Stop,
    pub(crate) world: &'a W,
    origin: Time,
    events: mpsc::Sender<NodeEvent>,
}

impl<W: World> Stage<'_, W> {
    /// Starts the `number`th cluster, from 1, and stops it whatever comes of what is done with it.
    pub(crate) async fn with_lab<T>(
        &self,
        number: u64,
        act: impl AsyncFnOnce(&Lab<W::Cluster>) -> Result<T, RunError>,
    ) -> Result<T, RunError> {
        self.with_lab_of((self.plan, self.seed), number, |lab| lab, act).await
    }

    /// The same with a plan and a seed of its own, as the lab that `make` makes of it.
    pub(crate) async fn with_lab_of<T>(
        &self,
        (plan, seed): (&Plan, Seed),
        number: u64,
        make: impl FnOnce(Lab<W::Cluster>) -> Lab<W::Cluster>,
        act: impl AsyncFnOnce(&Lab<W::Cluster>) -> Result<T, RunError>,
    ) -> Result<T, RunError> {
        let settings = settings(plan, self.seed, number);
        let cluster = self.world.start(settings, self.events.clone()).await?;
        let wishes = (plan.clone(), seed);
        let lab = Lab::new(cluster, self.recorder.clone(), wishes, self.origin, self.stop.clone());
        let lab = make(lab);
        let acted = act(&lab).await;
        lab.cluster.stop().await?;
        acted
    }
}

/// Records all of a run, from now on.
pub(crate) async fn recorded<W: World, T>(
    world: &W,
    (plan, seed): (&Plan, Seed),
    listener: Box<dyn Listener>,
    stop: Stop,
    run: impl AsyncFnOnce(&Stage<'_, W>) -> Result<T, RunError>,
) -> Result<T, RunError> {
    let origin = world.now();
    let (events, noted) = mpsc::channel(EVENTS_MAX);
    let (recorder, task) = Recorder::start(listener, (origin, parts(plan)), noted);
    let stage = Stage { plan, seed, recorder, stop, world, origin, events };
    let ran = run(&stage).await;
    drop(stage);
    match task.await {
        Ok(Ok(())) => ran,
        Ok(Err(error)) => Err(error),
        Err(error) => Err(RunError::Lab(format!("the recorder ended: {error}"))),
    }
}

const EVENTS_MAX: usize = 65_536;
