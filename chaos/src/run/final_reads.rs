//! What a healed group still holds: one strong read of every register that was written, and what
//! each machine says of all of its own.
//!
//! Where snapshots have taken the place of logs nothing else tells of what went into them. The
//! reads stand in the history, and linearizability judges them like any others. Invariant: bounded
//! in number and in time, and what was left out is said.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use runtime::{Client, Consistency, Time};
use tokio::task::JoinSet;

use crate::{
    checker::{Check, Verdict},
    cluster::Cluster,
    fault::NodeNumber,
    groups::together,
    history::{Function, OBSERVERS_FROM, Outcome},
    register::{DIGEST, Read, Registers},
    run::{Lab, RunError, Stop, besides::Labs, lab::check, recorder::Recorder},
    workload::{Intent, Invoker, Numbers},
};

impl<C: Cluster> Labs<'_, C> {
    /// The same of each group.
    pub(super) async fn look_finally(&self) -> Result<Vec<Check>, RunError> {
        let mut found = [(READS, Vec::new()), (MACHINES, Vec::new())];
        for lab in self.each() {
            for ((_, of_groups), check) in found.iter_mut().zip(lab.look_finally().await?) {
                of_groups.extend(check.map(|check| (lab.share.number, check)));
            }
        }
        let found = found.into_iter().filter(|(_, of_groups)| !of_groups.is_empty());
        Ok(found.map(|(name, of_groups)| together(name, of_groups)).collect())
    }
}

impl<C: Cluster> Lab<C> {
    /// Once all have caught up: reads what was written, and compares what machines hold. Whoever
    /// stops the run wants to know no more than is known already.
    pub(super) async fn look_finally(&self) -> Result<[Option<Check>; 2], RunError> {
        let found = [self.read_finally().await?, self.compare_machines().await];
        let is_stopped = self.stop.is_stopped();
        Ok(found.map(|check| {
            Some(check).filter(|check| check.verdict != Verdict::Unknown || !is_stopped)
        }))
    }

    async fn read_finally(&self) -> Result<Check, RunError> {
        let mut keys = self.invoker.written();
        let written = keys.len();
        // The first were written first: of those the logs tell least.
        keys.truncate(KEYS_MAX);
        let wanted = keys.len();
        let nodes: Vec<NodeNumber> = self.nodes().collect();
        let name = self.share.among_all(OBSERVERS_FROM);
        let client = match self.cluster.client(name, &nodes).await {
            Ok(client) => client,
            Err(error) => return Ok(check(READS, Verdict::Unknown, error.to_string())),
        };
        let (keys, next) = (Arc::new(keys), Arc::new(AtomicUsize::new(0)));
        let deadline = self.cluster.now().plus(READS_BOUND);
        let mut readers = JoinSet::new();
        for number in 0..READERS {
            let reader = Reader {
                name: OBSERVERS_FROM + number,
                cluster: Arc::clone(&self.cluster),
                invoker: Arc::clone(&self.invoker),
                recorder: self.recorder.clone(),
                numbers: self.numbers.clone(),
                stop: self.stop.clone(),
                client: client.clone(),
                deadline,
                keys: Arc::clone(&keys),
                next: Arc::clone(&next),
            };
            readers.spawn(reader.read_all());
        }
        let mut read = 0;
        while let Some(ended) = readers.join_next().await {
            read += ended.map_err(|error| RunError::Lab(format!("who reads: {error}")))??;
        }
        Ok(all_read(written, wanted, read))
    }

    /// Machines that have applied the same hold the same. What was given up under load may yet
    /// take effect, so they are asked again where one was further than another.
    async fn compare_machines(&self) -> Check {
        let mut clients = Vec::new();
        for node in self.nodes() {
            let name = self.share.among_all(OBSERVERS_FROM + READERS + node.0);
            match self.cluster.client(name, &[node]).await {
                Ok(client) => clients.push((node, client)),
                Err(error) => return check(MACHINES, Verdict::Unknown, error.to_string()),
            }
        }
        let deadline = self.cluster.now().plus(ALIKE_BOUND);
        loop {
            let said = ask_all(&clients).await;
            if let Ok(held) = &said
                && let Some(check) = alike(held)
            {
                return check;
            }
            let now = self.cluster.now();
            if now >= deadline || self.stop.is_stopped() {
                let why = said.err().unwrap_or_else(|| "they never stood at one index".to_owned());
                let within = ALIKE_BOUND.as_secs();
                let detail = format!("nobody knows whether machines are alike within {within} s");
                return check(MACHINES, Verdict::Unknown, format!("{detail}: {why}"));
            }
            self.cluster.advance(now.plus(PAUSE)).await;
        }
    }
}

/// One of those that read one register after the other.
struct Reader<C> {
    name: u64,
    cluster: Arc<C>,
    invoker: Arc<Invoker<C>>,
    recorder: Recorder,
    numbers: Numbers,
    stop: Stop,
    client: Client<Registers>,
    deadline: Time,
    keys: Arc<Vec<u64>>,
    /// The place of the next that nobody has taken yet.
    next: Arc<AtomicUsize>,
}

impl<C: Cluster> Reader<C> {
    /// How many were read.
    async fn read_all(self) -> Result<usize, RunError> {
        let mut read = 0;
        while let Some(key) = self.keys.get(self.next.fetch_add(1, Ordering::Relaxed)) {
            read += usize::from(self.read(*key).await?);
        }
        Ok(read)
    }

    /// Reads a register, again where an attempt came to nothing.
    async fn read(&self, key: u64) -> Result<bool, RunError> {
        while self.cluster.now() < self.deadline && !self.stop.is_stopped() {
            let intent = Intent {
                client: self.name,
                id: self.numbers.next(),
                f: Function::Read,
                key,
                value: None,
                expected: None,
            };
            let due_ns = self.invoker.now_ns();
            let operation = self.invoker.invoke(&self.client, &intent, due_ns).await;
            let outcome = operation.outcome;
            self.recorder.operation(self.invoker.told(operation)).await?;
            if outcome == Outcome::Ok {
                return Ok(true);
            }
            self.cluster.advance(self.cluster.now().plus(PAUSE)).await;
        }
        Ok(false)
    }
}

/// What a machine said.
struct Held {
    node: NodeNumber,
    /// The last entry that it had applied.
    applied: u64,
    digest: u64,
}

async fn ask_all(clients: &[(NodeNumber, Client<Registers>)]) -> Result<Vec<Held>, String> {
    let mut held = Vec::new();
    for (node, client) in clients {
        let queried = client.query(Read { key: DIGEST }, Consistency::Weak).await;
        let queried = queried.map_err(|error| format!("node {node}: {error}"))?;
        let digest = queried.answer.unwrap_or_default();
        held.push(Held { node: *node, applied: queried.applied.0, digest });
    }
    Ok(held)
}

/// Whether they hold the same; nothing where they differ, and each may have been further than
/// another.
fn alike(held: &[Held]) -> Option<Check> {
    let first = held.first()?;
    if held.iter().all(|other| other.digest == first.digest) {
        let (nodes, applied) = (held.len(), held.iter().map(|one| one.applied).max().unwrap_or(0));
        let detail = format!("the machines of all {nodes} nodes hold the same, at index {applied}");
        return Some(check(MACHINES, Verdict::Valid, detail));
    }
    let pairs = held.iter().flat_map(|one| held.iter().map(move |other| (one, other)));
    let mut differ =
        pairs.filter(|(one, other)| one.applied == other.applied && one.digest != other.digest);
    let (one, other) = differ.next()?;
    let detail = format!(
        "nodes {} and {} have both applied index {}, but their registers do not hold the same",
        one.node, other.node, one.applied
    );
    Some(check(MACHINES, Verdict::Invalid, detail))
}

/// What to say of the reads, of which so many were wanted.
fn all_read(written: usize, wanted: usize, read: usize) -> Check {
    let bound_s = READS_BOUND.as_secs();
    let (verdict, detail) = match (written, wanted - read) {
        (0, _) => (Verdict::Unknown, "no register was written".to_owned()),
        (_, 1..) => {
            let detail =
                format!("{read} of {written} registers were read once more in {bound_s} s");
            (Verdict::Unknown, detail)
        }
        (_, 0) if wanted < written => {
            let detail = format!(
                "the first {read} of {written} registers were read once more; the others were too \
                 many"
            );
            (Verdict::Valid, detail)
        }
        (_, 0) => {
            let detail =
                format!("each of {written} registers that were written was read once more");
            (Verdict::Valid, detail)
        }
    };
    check(READS, verdict, detail)
}

const READS: &str = "final reads";
const MACHINES: &str = "machines";
/// How many registers are read. A plan has to ask for it to have more.
const KEYS_MAX: usize = 20_000;
/// So many are read at a time.
const READERS: u64 = 32;
const READS_BOUND: Duration = Duration::from_secs(30);
const ALIKE_BOUND: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use super::*;

    fn held(said: &[(u64, u64)]) -> Vec<Held> {
        let held = (1..).map(NodeNumber).zip(said);
        held.map(|(node, (applied, digest))| Held { node, applied: *applied, digest: *digest })
            .collect()
    }

    #[test]
    fn machines_that_have_applied_the_same_and_hold_something_else_break_a_guarantee() {
        let verdict = |said: &[(u64, u64)]| alike(&held(said)).map(|check| check.verdict);
        assert_eq!(verdict(&[(7, 1), (7, 1), (7, 1)]), Some(Verdict::Valid));
        assert_eq!(verdict(&[(7, 1), (8, 1)]), Some(Verdict::Valid), "what came last changed none");
        assert_eq!(verdict(&[(7, 1), (8, 2)]), None, "one may only be further");
        let broken = alike(&held(&[(7, 1), (9, 3), (7, 2)])).expect("two of them stand together");
        assert_eq!(broken.verdict, Verdict::Invalid);
        assert!(broken.detail.starts_with("nodes 1 and 3 have both applied"), "{}", broken.detail);
    }

    #[test]
    fn what_was_not_read_is_said_and_what_could_not_be_is_no_pass() {
        let told = |written, wanted, read| {
            let check = all_read(written, wanted, read);
            (check.verdict, check.detail)
        };
        let (verdict, detail) = told(9, 9, 9);
        assert_eq!(verdict, Verdict::Valid, "{detail}");
        let (verdict, detail) = told(9, 5, 5);
        assert!(verdict == Verdict::Valid && detail.starts_with("the first 5 of 9"), "{detail}");
        let (verdict, detail) = told(9, 9, 8);
        assert!(verdict == Verdict::Unknown && detail.starts_with("8 of 9"), "{detail}");
        assert_eq!(told(0, 0, 0).0, Verdict::Unknown);
    }
}
