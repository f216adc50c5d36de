//! What must be served after faults, and which elections need none: courses made up by hand.
//!
//! Three nodes, 100 operations per second, an election within 600 ms, service within 1,000 ms.

use chaos::checker::availability::Availability;
use chaos::checker::elections::Elections;
use chaos::checker::{Check, Checker, Verdict, all};
use chaos::history::{Course, Elected, Frozen, Operation, Outcome, Stalled, Struck};

use super::script::{self, frozen};

const MS: u64 = 1_000_000;

/// Node 1 was killed from 1,000 to 2,000 ms, under load from 0 to 6,000 ms.
fn course() -> Course {
    Course {
        load_ns: Some((0, 6_000 * MS)),
        rate_per_s: 100,
        burst: 1,
        election_ns_max: 600 * MS,
        service_ns_max: 1_000 * MS,
        faults: vec![killed(1, 1_000, Some(2_000))],
        is_complete: true,
        ..Course::default()
    }
}

fn killed(node: u64, from_ms: u64, returned_ms: Option<u64>) -> Struck {
    Struck {
        what: "kill".into(),
        node,
        down: vec![node],
        from_ns: from_ms * MS,
        returned_ns: returned_ms.map(|at| at * MS),
        counted_ns: returned_ms.map(|at| at * MS),
        rejoined_ns: returned_ms.map(|at| (at + 100) * MS),
        ..Struck::default()
    }
}

fn cut(node: u64, others: &[u64], from_ms: u64, returned_ms: u64) -> Struck {
    let both = others.iter().flat_map(|other| [(node, *other), (*other, node)]);
    let what = "isolate".into();
    Struck { what, down: vec![], cut: both.collect(), ..killed(node, from_ms, Some(returned_ms)) }
}

/// Reads, one due every 10 ms of the load. Those in the spans succeed, each 1 ms after it was sent;
/// the others are never answered.
fn asked(course: &Course, spans: &[(u64, u64)]) -> Vec<Operation> {
    let until_ms = course.load_ns.map_or(0, |(_, until_ns)| until_ns / MS);
    let is_served = |at: u64| spans.iter().any(|(from, to)| (*from..*to).contains(&at));
    let line = |at: u64| match is_served(at) {
        true => format!("read - {at}..{}", at + 1),
        false => format!("read unknown {at}.."),
    };
    let lines: Vec<String> = (0..until_ms).step_by(10).map(line).collect();
    script::operations(&lines.join("\n"))
}

fn run(course: Course, spans: &[(u64, u64)]) -> Frozen {
    let operations = asked(&course, spans);
    Frozen { nodes: vec![1, 2, 3], course: Some(course), ..frozen(operations) }
}

fn available(course: Course, spans: &[(u64, u64)]) -> Check {
    Availability.check(&run(course, spans))
}

#[track_caller]
fn says(check: &Check, verdict: Verdict, part: &str) {
    assert_eq!(check.verdict, verdict, "{}", check.detail);
    assert!(check.detail.contains(part), "`{part}` is not said: {}", check.detail);
}

#[test]
fn a_group_that_comes_back_in_time_and_stays_is_available() {
    let check = available(course(), &[(0, 1_000), (1_300, 2_000), (2_900, 6_000)]);
    says(&check, Verdict::Valid, "within 1000 ms of 1 healings the rate was back");
}

#[test]
fn a_group_that_comes_back_late_is_not() {
    let late = available(course(), &[(0, 1_000), (3_100, 6_000)]);
    says(&late, Verdict::Invalid, "healed at 2000 ms: successes were back");
    says(&late, Verdict::Invalid, "only 1101 ms after that, but 1000 ms are allowed");
    let never = available(course(), &[(0, 2_000)]);
    says(&never, Verdict::Invalid, "never after that");
}

#[test]
fn a_rate_that_came_back_must_be_kept() {
    let lost = available(course(), &[(0, 3_500)]);
    says(&lost, Verdict::Invalid, "from 3000 to 6000 ms 50 operations succeeded, but 300 were due");
    let less = available(course(), &[(0, 5_000)]);
    says(&less, Verdict::Unknown, "200 operations succeeded, but 300 were due");
}

#[test]
fn too_little_after_healing_is_no_pass() {
    let mut short = course();
    short.load_ns = Some((0, 3_400 * MS));
    says(&available(short, &[(0, 3_400)]), Verdict::Unknown, "too little to judge");
    let mut lost = course();
    lost.faults = vec![killed(1, 1_000, None)];
    says(&available(lost, &[(0, 6_000)]), Verdict::Unknown, "too little to judge");
    let mut unloaded = course();
    unloaded.load_ns = None;
    says(&available(unloaded, &[]), Verdict::Unknown, "there was no load");
}

#[test]
fn a_host_that_stood_still_casts_doubt() {
    let spans = [(0, 1_000), (3_100, 6_000)];
    let stalled = |from_ms, until_ms| {
        let stall = Stalled { node: 2, from_ns: from_ms * MS, until_ns: until_ms * MS };
        available(Course { stalls: vec![stall], ..course() }, &spans)
    };
    says(&stalled(2_500, 2_700), Verdict::Unknown, "the host stood still for 200 ms");
    assert_eq!(stalled(2_500, 2_550).verdict, Verdict::Invalid, "that is too short");
    // What had stood still before the return explains nothing after it.
    assert_eq!(stalled(1_000, 2_010).verdict, Verdict::Invalid);
}

#[test]
fn a_burst_at_the_edge_of_what_is_counted_is_nobodys_loss() {
    // From 3 s on 300 are due and 266 come: fewer than nine tenths.
    let spans = [(0, 1_000), (1_300, 2_000), (2_010, 5_660)];
    says(&available(course(), &spans), Verdict::Unknown, "266 operations succeeded, but 300");
    let bursts = Course { burst: 5, ..course() };
    assert_eq!(available(bursts, &spans).verdict, Verdict::Valid);
}

#[test]
fn the_part_with_a_majority_serves_within_the_bound() {
    let isolated =
        |others: &[u64]| Course { faults: vec![cut(1, others, 1_000, 3_000)], ..course() };
    let silent = [(0, 1_000), (2_100, 6_000)];
    let check = available(isolated(&[2, 3]), &silent);
    says(&check, Verdict::Invalid, "1000 ms after a change at 1000 ms, with isolate of node 1 on");
    let served = available(isolated(&[2, 3]), &[(0, 1_000), (1_900, 6_000)]);
    says(&served, Verdict::Valid, "somebody served in 1 stretches with a majority");
    // What had been sent before the fault says nothing of the time after it.
    let mut before = run(isolated(&[2, 3]), &silent);
    let mut operations = before.history.operations().to_vec();
    operations.push(Operation {
        id: 9_999,
        completed_ns: Some(1_500 * MS),
        ..operations[90].clone()
    });
    before.history = frozen(operations).history;
    assert_eq!(Availability.check(&before).verdict, Verdict::Invalid);
    // Nodes 2 and 3 still reach node 1, so each of them reaches a majority.
    let bridge = Course { faults: vec![cut(2, &[3], 1_000, 3_000)], ..course() };
    assert_eq!(available(bridge, &silent).verdict, Verdict::Invalid);
}

/// Under load from 0 to 8,000 ms, node 1 leads from the start, and later whoever is elected. An
/// election takes 300 ms, or some more where votes split.
fn led(kills: &[(u64, u64, u64)], elected: &[(u64, u64)]) -> Course {
    let elected = [(0, 1)].iter().chain(elected).zip(1..);
    let elected =
        elected.map(|((at_ms, node), term)| Elected { at_ns: at_ms * MS, node: *node, term });
    let killed = |(node, from, until): &(u64, u64, u64)| killed(*node, *from, Some(*until));
    Course {
        load_ns: Some((0, 8_000 * MS)),
        faults: kills.iter().map(killed).collect(),
        elections: elected.collect(),
        ..course()
    }
}

/// Clients are served but from each kill until that node is back.
fn around(kills: &[(u64, u64, u64)]) -> Vec<(u64, u64)> {
    let from = [0].into_iter().chain(kills.iter().map(|(.., until)| *until));
    from.zip(kills.iter().map(|(_, from, _)| *from).chain([8_000])).collect()
}

#[test]
fn a_group_that_is_served_only_once_its_leader_is_back_does_not_go_on_without_it() {
    let kills = [(1, 1_000, 1_500), (1, 2_000, 2_500), (1, 3_000, 3_500)];
    let again = [(1_510, 1), (2_510, 1), (3_510, 1)];
    let never = available(led(&kills, &again), &around(&kills));
    let told = "after 3 of 3 faults that took the leader away nobody was served before it was \
                back, though a majority stood together for as long as an election takes, such as \
                kill of node 1 at 1000 ms";
    says(&never, Verdict::Invalid, told);
    // The host kept another from running: nothing follows.
    let stall = |at_ms: u64| Stalled { node: 2, from_ns: at_ms * MS, until_ns: (at_ms + 30) * MS };
    let stalls = [1_100, 2_100, 3_100].map(stall).into();
    let stalled = available(Course { stalls, ..led(&kills, &again) }, &around(&kills));
    assert_eq!(stalled.verdict, Verdict::Valid, "{}", stalled.detail);
}

#[test]
fn a_group_that_elects_another_goes_on_without_its_leader() {
    let kills = [(1, 1_000, 1_500), (2, 2_000, 2_500), (3, 3_000, 3_500)];
    let elected = [(1_200, 2), (2_200, 3), (3_200, 1)];
    let spans = [(0, 1_000), (1_250, 2_000), (2_250, 3_000), (3_250, 8_000)];
    let all = available(led(&kills, &elected), &spans);
    says(&all, Verdict::Valid, "; without its leader the group went on 3 of 3 times");
    // Elected, but nobody was served by it.
    let spans = [(0, 1_000), (1_250, 2_000), (2_500, 3_000), (3_500, 8_000)];
    let once = available(led(&kills, &elected), &spans);
    says(&once, Verdict::Unknown, "after 2 of 3 faults that took the leader away");
    // Who does not lead takes no leader away.
    let follower = [(3, 1_000, 1_500), (3, 2_000, 2_500), (3, 3_000, 3_500)];
    let unserved = available(led(&follower, &[]), &around(&follower));
    assert!(!unserved.detail.contains("leader"), "{}", unserved.detail);
}

#[test]
fn one_election_may_split_its_votes_and_none_need_be_over_at_once() {
    let judged = |kills: &[(u64, u64, u64)]| available(led(kills, &[]), &around(kills));
    says(&judged(&[(1, 1_000, 1_400)]), Verdict::Valid, "the group went on 0 of 1 times");
    let long = judged(&[(1, 1_000, 1_500)]);
    says(&long, Verdict::Unknown, "after 1 of 1 faults that took the leader away");
    let short = [(1, 1_000, 1_200), (1, 2_000, 2_200), (1, 3_000, 3_200)];
    let told = "2 times that one was back before an election need be over";
    says(&judged(&short[..2]), Verdict::Valid, told);
    says(&judged(&short), Verdict::Unknown, "nothing shows that the group goes on without it");
}

/// One operation per second, five at once: whole bounds pass in which nothing is asked.
fn thin(course: Course, script: &str) -> Check {
    let course = Course { rate_per_s: 1, burst: 5, ..course };
    Availability.check(&Frozen {
        nodes: vec![1, 2, 3],
        course: Some(course),
        ..frozen(script::operations(script))
    })
}

#[test]
fn where_nothing_was_due_in_time_nobody_knows_whether_it_would_have_been_served() {
    let unknown = thin(course(), "read - 900..901\nread - 4990..4991");
    says(
        &unknown,
        Verdict::Unknown,
        "only 2991 ms after that, but 1000 ms are allowed; too little",
    );
    let served = thin(course(), "read - 2100..2110\nread - 4990..4991");
    assert_eq!(served.verdict, Verdict::Valid, "{}", served.detail);
    let isolated = Course { faults: vec![cut(1, &[2, 3], 1_000, 3_000)], ..course() };
    let unasked = thin(isolated, "read - 900..901\nread - 3100..3101");
    says(&unasked, Verdict::Unknown, "no operation had succeeded; but none was due");
}

#[test]
fn what_was_due_in_time_and_was_not_served_is_a_breach_however_little_it_is() {
    let failed = thin(course(), "read unknown 2100..\nread - 4990..4991");
    says(&failed, Verdict::Invalid, "only 2991 ms after that");
    let refused = thin(course(), "read fail 2900..2901\nread - 4990..4991");
    says(&refused, Verdict::Invalid, "only 2991 ms after that");
    says(&thin(course(), "read - 2100..3010"), Verdict::Invalid, "only 1010 ms after that");
    // Due just before the end of the bound and served just after it, it was not late by itself.
    says(&thin(course(), "read - 2950..3010"), Verdict::Unknown, "only 1010 ms after that");
    says(&thin(course(), "read - 2950..3600"), Verdict::Invalid, "only 1600 ms after that");
    // Later on everything is served; what is due just before the end need not be answered yet.
    says(&thin(course(), "read unknown 4000.."), Verdict::Invalid, "never after that");
    says(&thin(course(), "read unknown 5500.."), Verdict::Unknown, "never after that");
}

/// So many clients ask in turns, each every 10 ms times their number; whoever is out gets no answer
/// to what is due in that span. All else is served but from 1,000 to 1,300 ms.
fn each(course: Course, clients: u64, out: &[u64], span: (u64, u64)) -> Check {
    let run = run(course, &[(0, 1_000), (1_300, 6_000)]);
    let operations = run.history.operations().iter().cloned().zip((0..clients).cycle());
    let operations = operations.map(|(operation, client)| {
        let is_out =
            out.contains(&client) && (span.0..span.1).contains(&(operation.invoked_ns / MS));
        match is_out {
            true => {
                let (outcome, completed_ns) = (Outcome::Unknown, None);
                Operation { client, outcome, completed_ns, ..operation }
            }
            false => Operation { client, ..operation },
        }
    });
    let history = frozen(operations.collect()).history;
    Availability.check(&Frozen { history, ..run })
}

#[test]
fn each_client_is_served_after_healing_and_not_just_most_of_them() {
    let told = "from 3000 to 6000 ms 1 of 20 clients were not served once, such as 19, though 13 \
                of their operations were due";
    says(&each(course(), 20, &[19], (2_000, 6_000)), Verdict::Invalid, told);
    // Within the bound it may be out, and later on for a while.
    assert_eq!(each(course(), 20, &[19], (1_000, 3_000)).verdict, Verdict::Valid);
    assert_eq!(each(course(), 20, &[19], (4_000, 5_000)).verdict, Verdict::Valid);
}

#[test]
fn each_client_is_served_by_the_part_with_a_majority_if_it_reaches_that() {
    let cut = |pinned| Course { faults: vec![cut(1, &[2, 3], 1_000, 3_000)], pinned, ..course() };
    let served = |pinned, client| each(cut(pinned), 6, &[client], (1_000, 3_000));
    says(&served(false, 3), Verdict::Invalid, "from 2000 to 3000 ms 1 of 6 clients were not");
    // Of three nodes it stays with the first, which is cut off; another one with the second.
    assert_eq!(served(true, 3).verdict, Verdict::Valid);
    says(&served(true, 4), Verdict::Invalid, "1 of 6 clients were not served once, such as 4");
}

/// Nodes 1 and 2 of five are down from 1,000 ms on, and a handshake takes up to 500 ms.
fn two_are_down(until_ms: u64) -> Course {
    let faults = vec![killed(1, 1_000, Some(until_ms)), killed(2, 1_000, Some(until_ms))];
    Course { faults, handshake_ns_max: 500 * MS, load_ns: Some((0, 9_000 * MS)), ..course() }
}

#[test]
fn who_must_dial_several_that_are_down_is_owed_an_answer_later() {
    let served = |until_ms: u64, spans: &[(u64, u64)]| {
        let run = run(two_are_down(until_ms), spans);
        Availability.check(&Frozen { nodes: vec![1, 2, 3, 4, 5], ..run })
    };
    // The stretch ends before there was time for another handshake.
    let short = served(2_300, &[(0, 1_000), (2_400, 9_000)]);
    says(&short, Verdict::Unknown, "who dials those that are down, one after the other");
    let late = served(5_000, &[(0, 1_000), (2_300, 9_000)]);
    says(&late, Verdict::Unknown, "may take until 2500 ms");
    let never = served(5_000, &[(0, 1_000), (2_600, 9_000)]);
    says(&never, Verdict::Invalid, "with kill of node 1, kill of node 2 on");
    assert_eq!(served(5_000, &[(0, 1_000), (1_900, 9_000)]).verdict, Verdict::Valid);
}

#[test]
fn a_client_that_dials_several_that_are_down_is_not_left_out_meanwhile() {
    // One of six is not served while they are down.
    let out = |until_ms: u64| {
        let run = run(two_are_down(until_ms), &[(0, 1_000), (1_300, 9_000)]);
        let operations = run.history.operations().iter().cloned().zip((0..6).cycle());
        let operations = operations.map(|(operation, client)| {
            let asked_ms = operation.invoked_ns / MS;
            match client == 5 && (1_000..until_ms).contains(&asked_ms) {
                true => {
                    let (outcome, completed_ns) = (Outcome::Unknown, None);
                    Operation { client, outcome, completed_ns, ..operation }
                }
                false => Operation { client, ..operation },
            }
        });
        let history = frozen(operations.collect()).history;
        Availability.check(&Frozen { history, nodes: vec![1, 2, 3, 4, 5], ..run })
    };
    assert_eq!(out(2_600).verdict, Verdict::Valid);
    says(&out(3_000), Verdict::Invalid, "from 2500 to 3000 ms 1 of 6 clients were not served");
}

#[test]
fn clients_that_stay_with_a_node_show_only_what_it_could_serve() {
    let judged = |others: &[u64], node, clients: &[u64]| {
        let faults = vec![cut(node, others, 1_000, 3_000)];
        let run = run(Course { pinned: true, faults, ..course() }, &[(0, 1_000), (3_000, 6_000)]);
        let operations = run.history.operations().iter().cloned().zip(clients.iter().cycle());
        let operations =
            operations.map(|(operation, client)| Operation { client: *client, ..operation });
        let history = frozen(operations.collect()).history;
        Availability.check(&Frozen { history, ..run })
    };
    // Node 1 is cut off; client 0 is with it, client 1 with node 2, and client 3 with node 1 again.
    let alone = judged(&[2, 3], 1, &[0, 3]);
    says(&alone, Verdict::Unknown, "none was due by then of a client whose node reaches");
    says(&judged(&[2, 3], 1, &[0, 1]), Verdict::Invalid, "with isolate of node 1 on");
    // Node 1 reaches 2 and 3, which do not reach each other: either of them may lead.
    assert_eq!(judged(&[3], 2, &[1]).verdict, Verdict::Unknown);
    assert_eq!(judged(&[3], 2, &[0]).verdict, Verdict::Invalid);
    assert_eq!(judged(&[3], 2, &[1, 2]).verdict, Verdict::Invalid);
}

#[test]
fn nothing_is_owed_where_no_node_reaches_a_majority_or_links_are_bad() {
    let silent = [(0, 1_000), (3_100, 6_000)];
    let apart = [cut(1, &[2, 3], 1_000, 3_000), cut(2, &[3], 1_000, 3_000)];
    let apart = Course { faults: apart.into(), ..course() };
    assert_eq!(available(apart, &silent).verdict, Verdict::Valid);
    let half = [cut(1, &[2, 3], 1_000, 3_000), killed(2, 1_000, Some(3_000))];
    assert_eq!(
        available(Course { faults: half.into(), ..course() }, &silent).verdict,
        Verdict::Valid
    );
    let bad = Struck { hurts: true, cut: vec![], ..cut(1, &[2, 3], 1_000, 3_000) };
    assert_eq!(
        available(Course { faults: vec![bad], ..course() }, &silent).verdict,
        Verdict::Valid
    );
}

/// Each of five reaches a majority, and no three of them stand together: one may refuse another
/// for an entry that only it has, and be elected by nobody.
#[test]
fn who_is_no_member_yet_makes_no_majority() {
    // Node 1 has left and is back since 1,200 ms; node 3 is away from 1,500 to 4,000.
    let back = |counted_ms: Option<u64>| Course {
        faults: vec![
            Struck {
                what: "leave".into(),
                counted_ns: counted_ms.map(|at| at * MS),
                ..killed(1, 1_000, Some(1_200))
            },
            killed(3, 1_500, Some(4_000)),
        ],
        ..course()
    };
    let silent = [(0, 1_500), (4_200, 6_000)];
    let member = available(back(Some(1_300)), &silent);
    says(&member, Verdict::Invalid, "with kill of node 3 on");
    assert_eq!(available(back(Some(4_100)), &silent).verdict, Verdict::Valid);
    says(&available(back(None), &silent), Verdict::Unknown, "too little to judge");
}

#[test]
fn nothing_is_owed_in_a_ring() {
    let faults: Vec<Struck> = [(1, [3, 4]), (2, [4, 5]), (3, [5, 5])]
        .iter()
        .map(|(node, others)| cut(*node, others, 1_000, 3_000))
        .collect();
    let ring = Course { faults, ..course() };
    let spans = [(0, 1_000), (3_100, 6_000)];
    let ring = Frozen { nodes: vec![1, 2, 3, 4, 5], ..run(ring, &spans) };
    says(&Availability.check(&ring), Verdict::Valid, "the rate was back");
}

/// Node 1 leads from the start; at each of these moments the other node takes over.
fn elections(at: &[(u64, u64)], change: impl FnOnce(&mut Course)) -> Check {
    let mut course = course();
    let first = [(0, 1)];
    let moments = first.iter().chain(at).zip(1..);
    let elected =
        moments.map(|((at_ms, node), term)| Elected { at_ns: at_ms * MS, node: *node, term });
    course.elections = elected.collect();
    course.load_ns = Some((MS, 6_000 * MS));
    change(&mut course);
    Elections.check(&run(course, &[]))
}

#[test]
fn an_election_after_a_fault_or_a_return_is_explained() {
    says(&elections(&[], |_| {}), Verdict::Valid, "none under load");
    says(&elections(&[(1_500, 2)], |_| {}), Verdict::Valid, "1 under load, 1 after a fault");
    // However late: its leader was down.
    assert_eq!(elections(&[(1_900, 2)], |_| {}).verdict, Verdict::Valid);
    // Caught up at 2,100 ms.
    assert_eq!(elections(&[(1_500, 2), (2_690, 1)], |_| {}).verdict, Verdict::Valid);
}

#[test]
fn an_election_that_nothing_explains_is_named() {
    let check = elections(&[(1_500, 2), (2_710, 3)], |_| {});
    let named = "node 3 took over term 3 from node 2 at 2710 ms, but no fault";
    says(&check, Verdict::Invalid, named);
    let check = elections(&[(900, 2)], |_| {});
    says(&check, Verdict::Invalid, "term 2 from node 1 at 900 ms");
    // Node 2 leads and is not the one that is down.
    let check = elections(&[(1_100, 2), (1_800, 3)], |_| {});
    says(&check, Verdict::Invalid, "term 3 from node 2 at 1800 ms");
}

#[test]
fn only_a_stall_of_its_leader_explains_an_election() {
    let stalled = |node, until_ms| {
        let stall = Stalled { node, from_ns: 3_000 * MS, until_ns: until_ms * MS };
        elections(&[(4_000, 2)], |course| course.stalls.push(stall))
    };
    says(&stalled(1, 3_500), Verdict::Valid, "0 after a fault or a return from one, 1 after its");
    assert_eq!(stalled(1, 3_300).verdict, Verdict::Invalid, "that is long past");
    assert_eq!(stalled(3, 3_500).verdict, Verdict::Invalid, "node 3 led nobody");
}

#[test]
fn bad_links_explain_what_happens_while_they_are_bad() {
    let bad = |returned_ms| {
        let bad = Struck { hurts: true, cut: vec![], ..cut(2, &[3], 1_000, returned_ms) };
        elections(&[(4_000, 2)], |course| course.faults = vec![bad])
    };
    assert_eq!(bad(5_000).verdict, Verdict::Valid);
    assert_eq!(bad(3_000).verdict, Verdict::Invalid);
}

#[test]
fn nodes_that_disagree_on_who_is_there_may_change_their_leader() {
    let nodes = [1, 2, 3];
    let clean = cut(2, &[1, 3], 1_000, 5_000);
    let partial = cut(2, &[3], 1_000, 5_000);
    let one_way = Struck { cut: vec![(2, 1), (2, 3)], ..clean.clone() };
    assert!(clean.is_clean(&nodes) && killed(1, 0, None).is_clean(&nodes));
    assert!(!partial.is_clean(&nodes) && !one_way.is_clean(&nodes));
    let late = |fault| elections(&[(4_000, 3)], |course| course.faults = vec![fault]).verdict;
    assert_eq!(late(clean), Verdict::Invalid, "its leader was on the side of the majority");
    assert_eq!((late(partial), late(one_way)), (Verdict::Valid, Verdict::Valid));
}

#[test]
fn what_was_not_recorded_is_not_judged() {
    let dropped = elections(&[], |course| course.is_complete = false);
    says(&dropped, Verdict::Unknown, "more happened than was recorded");
    says(&elections(&[], |course| course.load_ns = None), Verdict::Unknown, "no load");
}

#[test]
fn a_run_is_asked_what_it_can_answer() {
    let names = |run: &Frozen| -> Vec<&str> {
        all(run).iter().map(|checker| checker.name()).skip(5).collect()
    };
    assert_eq!(names(&run(course(), &[])), ["availability", "elections"]);
    let steady = Course { faults: vec![], ..course() };
    assert_eq!(names(&run(steady, &[])), ["elections"]);
    assert!(names(&frozen(vec![])).is_empty());
}
