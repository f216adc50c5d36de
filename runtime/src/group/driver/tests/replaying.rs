//! The end of fetching, which is told behind what it follows from.

use raft::Appended;

use super::*;
use crate::metric::{BOND_DROPPED, recorder::Record};

#[tokio::test]
async fn the_end_of_fetching_is_told_behind_acknowledgements_that_wait_for_the_disk() {
    let record = Record::default();
    let _recording = metrics::set_default_local_recorder(&record);
    let mut scene = Scene::set().await;
    // Nobody is bonded: what is sent is dropped, and counted.
    let sent = || record.counter(BOND_DROPPED, &[("reason", "no_bond")]);
    let (leader, term, before) = (NodeId::small(2), scene.driver.core.term(), sent());
    scene.driver.tell_end(leader, term);
    assert_eq!(sent() - before, 1, "nothing waits");

    scene.store.state().stalls = true;
    scene.append();
    scene.settle();
    let reply = Message::AppendReply { term, outcome: Appended::Matched(Index(1)) };
    assert_eq!(scene.driver.barrier.pass(leader, reply), None, "it promises");
    scene.driver.tell_end(leader, term);
    assert_eq!(sent() - before, 1, "the disk stalls");
    scene.store.state().stalls = false;
    scene.settle();
    assert_eq!(sent() - before, 3, "the acknowledgement, and then the end");
    scene.append();
    scene.settle();
    assert_eq!(sent() - before, 3, "it is told once");
}
