//! What a node does with a store that is gone, damaged, cut or another's: it refuses it by name.
//!
//! Under load, and with a store that was in use when its node was killed. The rule of all these
//! stories: whatever becomes of one store, nothing that was acknowledged is lost.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use chaos::{
    cluster::{Cluster, ClusterError},
    fault::{CrashPoint, NodeNumber},
    history::LogLine,
    process::ProcessCluster,
    register,
};
use runtime::Index;
use tokio::{sync::watch, task::JoinHandle};

use crate::lab::{all, block_on, cluster, eventually, folder, world};

pub(crate) const NODES: u64 = 3;
pub(crate) const VICTIM: NodeNumber = NodeNumber(2);
const OTHER: NodeNumber = NodeNumber(3);

/// Three nodes, a client that writes all the time, and a victim that is hit meanwhile.
pub(crate) struct Hit {
    pub(crate) cluster: ProcessCluster,
    folder: tempfile::TempDir,
    /// The acknowledged writes: term and value by index.
    acknowledged: Arc<Mutex<BTreeMap<u64, (u64, u64)>>>,
    stopping: watch::Sender<bool>,
    writing: JoinHandle<()>,
}

impl Hit {
    /// With the victim killed.
    async fn begin() -> Self {
        let hit = Self::at_work().await;
        hit.cluster.kill(&[VICTIM], CrashPoint::Any).await.expect("it is proven to be gone");
        hit
    }

    /// With all of them up.
    pub(crate) async fn at_work() -> Self {
        let folder = folder();
        let cluster = cluster(&world(folder.path()), NODES).await;
        let client = cluster.client(1, &all(NODES)).await.expect("it connects");
        let acknowledged: Arc<Mutex<BTreeMap<u64, (u64, u64)>>> = Arc::default();
        let (stopping, stop) = watch::channel(false);
        let kept = Arc::clone(&acknowledged);
        let writing = tokio::spawn(async move {
            for value in 1.. {
                if *stop.borrow() {
                    return;
                }
                let command = register::Command::Write { key: value % 8, value };
                if let Ok(executed) = client.execute(command).await {
                    let (term, index) = (executed.position.term.0, executed.position.index.0);
                    kept.lock().expect("nobody panics with it").insert(index, (term, value));
                }
            }
        });
        let hit = Self { cluster, folder, acknowledged, stopping, writing };
        hit.more_writes().await;
        hit
    }

    /// Where the node's store is.
    pub(crate) fn store(&self, node: NodeNumber) -> PathBuf {
        self.folder.path().join("stores/1").join(node.to_string())
    }

    fn segment(&self) -> PathBuf {
        self.store(VICTIM).join("0000000000000000.log")
    }

    fn last_acknowledged(&self) -> u64 {
        let acknowledged = self.acknowledged.lock().expect("nobody panics with it");
        acknowledged.last_key_value().map_or(0, |(index, _)| *index)
    }

    pub(crate) async fn more_writes(&self) {
        let before = self.last_acknowledged();
        eventually("writes are acknowledged", Duration::from_secs(20), || async {
            self.last_acknowledged() > before + 100
        })
        .await;
    }

    /// Tries to restart the victim, which must fail for these reasons.
    async fn refused(&self, says: &[&str]) {
        let error = self.cluster.restart(VICTIM).await.expect_err("it must not start");
        assert!(matches!(error, ClusterError::Start { node: VICTIM, .. }), "{error}");
        let said = error.to_string();
        assert!(says.iter().all(|part| said.contains(part)), "{says:?}: {said}");
    }

    /// The victim has caught up with what is acknowledged by now.
    pub(crate) async fn caught_up(&self) {
        let last = Index(self.last_acknowledged());
        self.cluster.reached(VICTIM, last).await.expect("it catches up");
    }

    /// Restarts the victim and compares every node's log with what was acknowledged.
    async fn end(self) {
        self.cluster.restart(VICTIM).await.expect("its store is whole again");
        self.judge().await;
    }

    /// Compares every node's log with what was acknowledged.
    pub(crate) async fn judge(self) {
        self.more_writes().await;
        self.stopping.send_replace(true);
        let last = Index(self.last_acknowledged());
        self.writing.await.expect("it does not panic");
        for node in all(NODES) {
            self.cluster.reached(node, last).await.expect("it catches up");
            let held = whole_log(&self.cluster, node).await;
            for (index, acknowledged) in &*self.acknowledged.lock().expect("the writer is over") {
                if *index <= last.0 {
                    assert_eq!(held.get(index), Some(acknowledged), "node {node} lost {index}");
                }
            }
        }
        self.cluster.stop().await.expect("all end");
    }
}

/// The committed writes in a node's log: term and value by index.
async fn whole_log(cluster: &ProcessCluster, node: NodeNumber) -> BTreeMap<u64, (u64, u64)> {
    let mut held = BTreeMap::new();
    let mut from = Index(1);
    loop {
        let lines: Vec<LogLine> = cluster.log(node, from).await.expect("its log");
        let Some(last) = lines.last() else { return held };
        from = Index(last.index + 1);
        let values = lines.iter().filter_map(|line| Some((line, line.value?)));
        held.extend(values.map(|(line, value)| (line.index, (line.term, value))));
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a temporary folder has a plain name")
}

pub(crate) fn a_vanished_store() {
    block_on(async {
        let hit = Hit::begin().await;
        let (store, aside) = (hit.store(VICTIM), hit.folder.path().join("aside"));
        fs::rename(&store, &aside).expect("it was closed by force");
        hit.refused(&[text(&store), "is missing"]).await;
        assert!(!store.exists(), "it was not made anew");

        fs::create_dir(&store).expect("the place is free");
        hit.refused(&[text(&store), "is an empty directory"]).await;
        fs::remove_dir(&store).expect("nothing was written into it");

        fs::rename(&aside, &store).expect("it is moved back");
        hit.end().await;
    });
}

pub(crate) fn a_cut_or_foreign_store() {
    block_on(async {
        let hit = Hit::begin().await;
        let segment = hit.segment();
        let file = File::options().write(true).open(&segment).expect("it is there");
        let length = file.metadata().expect("a file").len();
        for cut in [0, length / 2, length - 1] {
            let whole = fs::read(&segment).expect("it is there");
            file.set_len(cut).expect("cut");
            hit.refused(&[text(&segment), " bytes where "]).await;
            file.write_all_at(&whole, 0).expect("written back");
        }

        let (store, aside) = (hit.store(VICTIM), hit.folder.path().join("aside"));
        fs::rename(&store, &aside).expect("it was closed by force");
        fs::create_dir(&store).expect("the place is free");
        for file in fs::read_dir(hit.store(OTHER)).expect("it is there") {
            let file = file.expect("a file");
            fs::copy(file.path(), store.join(file.file_name())).expect("copied");
        }
        hit.refused(&[text(&store.join("store")), "belongs to peer"]).await;
        fs::remove_dir_all(&store).expect("removed");
        fs::rename(&aside, &store).expect("it is moved back");
        hit.end().await;
    });
}

pub(crate) fn a_flipped_byte() {
    block_on(async {
        let hit = Hit::begin().await;
        let segment = hit.segment();
        let file = File::options().read(true).write(true).open(&segment).expect("it is there");
        // What later writes prove durable is refused wherever it is damaged.
        let written = written_bytes(&segment);
        assert!(written > 4_000, "only {written} bytes were written");
        for eighth in [0, 1, 3, 4, 6, 7] {
            let place = (written * eighth / 8).max(64);
            flip(&file, place);
            let damaged = fs::read(&segment).expect("it is there");
            hit.refused(&[text(&segment), "is corrupt at byte"]).await;
            assert!(fs::read(&segment).expect("it is there") == damaged, "a refusal changes it");
            flip(&file, place);
        }
        // Of the last group nothing may be proven: then it is cut, and comes from the others.
        for back in [1, 40, 100] {
            let place = written_bytes(&segment) - back;
            flip(&file, place);
            match hit.cluster.restart(VICTIM).await {
                Ok(_) => {
                    hit.caught_up().await;
                    hit.cluster
                        .kill(&[VICTIM], CrashPoint::Any)
                        .await
                        .expect("it is proven to be gone");
                }
                Err(error) => {
                    assert!(error.to_string().contains("is corrupt at byte"), "{error}");
                    flip(&file, place);
                }
            }
        }
        hit.end().await;
    });
}

/// Where in the segment the last byte is that was written.
fn written_bytes(segment: &Path) -> u64 {
    let bytes = fs::read(segment).expect("it is there");
    let last = bytes.iter().rposition(|byte| *byte != 0).expect("a segment has a head");
    last as u64 + 1
}

fn flip(file: &File, place: u64) {
    let mut byte = [0];
    file.read_exact_at(&mut byte, place).expect("within the file");
    file.write_all_at(&[byte[0] ^ 0x20], place).expect("within the file");
}
