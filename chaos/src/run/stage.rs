//! What every run begins and ends with: the recorder, and clusters whose nodes it hears.
//!
//! Knows no phase. Invariants: the recorder outlives every cluster, and when it fails its own
//! words come first: its end is what all others complain of. What was seen of a cluster stands,
//! however that ends.

use std::{ops::AsyncFnOnce, sync::OnceLock};

use runtime::Time;
use tokio::sync::mpsc;

use crate::{
    checker::Verdict,
    cluster::{Cluster, ClusterError, NodeEvent, World},
    groups::parts,
    plan::Plan,
    run::{Lab, Listener, Outcome, RunError, Stop, lab::settings, recorder::Recorder},
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
    unended: Unended,
}

/// The first cluster that did not end when it was told to, and why.
#[derive(Default)]
struct Unended(OnceLock<String>);

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
        self.unended.note(number, lab.cluster.stop().await);
        acted
    }
}

impl Unended {
    fn note(&self, number: u64, stopped: Result<(), ClusterError>) {
        if let Err(error) = stopped {
            tracing::warn!(number, %error, "a cluster did not end");
            self.0.get_or_init(|| format!("cluster {number} did not end: {error}"));
        }
    }

    /// The laboratory has failed then, and nothing it saw is forgotten.
    fn enter(&self, mut outcome: Outcome) -> Outcome {
        let Some(reason) = self.0.get() else { return outcome };
        outcome.failure = Some(match outcome.failure.take() {
            Some(earlier) => format!("{earlier}; {reason}"),
            None => reason.clone(),
        });
        if outcome.verdict() == Verdict::Valid {
            outcome.verdict = Some(Verdict::Unknown);
        }
        outcome
    }
}

/// Records all of a run, from now on.
pub(crate) async fn recorded<W: World>(
    world: &W,
    (plan, seed): (&Plan, Seed),
    listener: Box<dyn Listener>,
    stop: Stop,
    run: impl AsyncFnOnce(&Stage<'_, W>) -> Result<Outcome, RunError>,
) -> Result<Outcome, RunError> {
    let origin = world.now();
    let (events, noted) = mpsc::channel(EVENTS_MAX);
    let (recorder, task) = Recorder::start(listener, (origin, parts(plan)), noted);
    let unended = Unended::default();
    let stage = Stage { plan, seed, recorder, stop, world, origin, events, unended };
    let ran = run(&stage).await.map(|outcome| stage.unended.enter(outcome));
    drop(stage);
    match task.await {
        Ok(Ok(())) => ran,
        Ok(Err(error)) => Err(error),
        Err(error) => Err(RunError::Lab(format!("the recorder ended: {error}"))),
    }
}

const EVENTS_MAX: usize = 65_536;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_seen_of_a_cluster_stands_however_it_ends() {
        let ended = |stopped, verdict, failure: Option<&str>| {
            let unended = Unended::default();
            unended.note(3, stopped);
            unended.note(4, Err(ClusterError::World("later".into())));
            let failure = failure.map(str::to_owned);
            unended.enter(Outcome { verdict: Some(verdict), failure, ..Outcome::default() })
        };
        let stuck = || Err(ClusterError::World("node 2 still runs".into()));
        let sound = ended(stuck(), Verdict::Valid, None);
        assert_eq!((sound.verdict(), sound.exit_code()), (Verdict::Unknown, 3));
        let why = "cluster 3 did not end: node 2 still runs";
        assert_eq!(sound.failure.as_deref(), Some(why));
        assert_eq!(ended(stuck(), Verdict::Invalid, None).exit_code(), 1, "broken is broken");
        let failed = ended(stuck(), Verdict::Unknown, Some("no leader"));
        assert_eq!(failed.failure.as_deref(), Some(&*format!("no leader; {why}")));
        let later = ended(Ok(()), Verdict::Valid, None).failure.expect("one did not end");
        assert!(later.starts_with("cluster 4 "), "{later}");
        let whole = Outcome { verdict: Some(Verdict::Valid), ..Outcome::default() };
        assert_eq!(Unended::default().enter(whole).exit_code(), 0);
    }
}
