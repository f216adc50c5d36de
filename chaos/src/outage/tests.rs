//! What strikes cost, by events and answers made up by hand.
//!
//! 500 operations are due each second, one every 2 ms, and are answered 1 ms later.

use super::*;

const MS: u64 = 1_000_000;
const DEMAND: Demand = Demand { due_per_s: 500, burst: 1, served_per_s: 500 };

/// Every operation that is due in one of the spans, given in milliseconds, succeeds.
fn successes(spans: &[(u64, u64)]) -> Vec<Success> {
    let due = spans.iter().flat_map(|(from, to)| (*from..*to).step_by(2));
    let success = |(due_ms, client): (u64, u64)| Success {
        completed_ns: (due_ms + 1) * MS,
        due_ns: due_ms * MS,
        client,
    };
    due.zip((0..8).cycle()).map(success).collect()
}

/// What was due while nobody was served is given up.
fn measured(strike: &Strike, events: &[NodeEvent], spans: &[(u64, u64)]) -> Trial {
    let set = std::slice::from_ref(strike);
    measure(set, DEMAND, 100 * MS, events, &successes(spans)).expect("there is a strike")
}

fn event(at_ms: u64, node: u64, what: What) -> NodeEvent {
    NodeEvent { at_ns: at_ms * MS, node: NodeNumber(node), what }
}

fn campaign(at_ms: u64, node: u64, term: u64) -> NodeEvent {
    event(at_ms, node, What::Campaign { term, pre_vote: false })
}

fn leader(at_ms: u64, node: u64, term: u64) -> NodeEvent {
    event(at_ms, node, What::Became { role: Role::Leader, term })
}

fn committed(at_ms: u64, node: u64, term: u64) -> NodeEvent {
    event(at_ms, node, What::Committed { index: 9, term })
}

fn strike() -> Strike {
    Strike {
        trial: 1,
        step: 0,
        fault: Fault::Kill,
        nodes: vec![NodeNumber(1)],
        away: BTreeSet::from([NodeNumber(1)]),
        served: 4,
        led: true,
        deposed: true,
        at_ns: 1_000 * MS,
        in_force_ns: 1_000 * MS,
        term_before: 3,
        until_ns: 5_000 * MS,
        returned_ns: Some(2_500 * MS),
        rejoined_ns: Some(2_700 * MS),
    }
}

/// Another strike, on a follower.
fn other(node: u64, at_ms: u64, until_ms: u64) -> Strike {
    Strike {
        step: 1,
        nodes: vec![NodeNumber(node)],
        away: BTreeSet::from([NodeNumber(node)]),
        led: false,
        deposed: false,
        at_ns: at_ms * MS,
        until_ns: until_ms * MS,
        returned_ns: Some((at_ms + 1_000) * MS),
        rejoined_ns: Some((at_ms + 1_050) * MS),
        ..strike()
    }
}

fn all(strikes: &[Strike], spans: &[(u64, u64)]) -> Vec<Trial> {
    let measured = measure_all(strikes, |_| DEMAND, &[], &successes(spans), 1_000 * MS);
    measured.into_iter().map(|(_, trial)| trial).collect()
}

fn parts(trial: &Trial) -> [Option<f64>; 4] {
    [trial.detect_ms, trial.elect_ms, trial.commit_ms, trial.client_ms]
}

#[test]
fn an_outage_is_split_into_parts_that_add_up() {
    let events = [
        leader(10, 1, 3),
        campaign(1_180, 2, 4),
        leader(1_200, 2, 4),
        committed(1_205, 2, 4),
        committed(1_206, 3, 4),
        campaign(2_600, 1, 5),
    ];
    let trial = measured(&strike(), &events, &[(0, 1_000), (1_220, 5_000)]);
    assert_eq!(trial.outage_ms, Some(221.0));
    assert_eq!(trial.longest_gap_ms, Some(222.0));
    assert_eq!(trial.longest_client_gap_ms, Some(236.0), "each has its turn every 16 ms");
    assert_eq!(trial.rejoin_ms, Some(200.0));
    assert_eq!((trial.term_after, trial.leader_after), (Some(4), Some(NodeNumber(2))));
    assert_eq!(parts(&trial), [Some(180.0), Some(20.0), Some(5.0), Some(16.0)]);
}

#[test]
fn nobody_on_the_minoritys_side_detects_anything() {
    let events = [
        campaign(1_100, 2, 4),
        campaign(1_150, 1, 4),
        campaign(1_300, 3, 4),
        leader(1_310, 3, 4),
        committed(1_320, 3, 4),
    ];
    let away = BTreeSet::from([NodeNumber(1), NodeNumber(2)]);
    let nodes = away.iter().copied().collect();
    let strike = Strike { fault: Fault::Partition, nodes, away, served: 3, ..strike() };
    let trial = measured(&strike, &events, &[(0, 1_000), (1_330, 5_000)]);
    assert_eq!((trial.detect_ms, trial.elect_ms), (Some(300.0), Some(10.0)));
    assert_eq!((trial.node, trial.nodes.len()), (NodeNumber(1), 2));
}

#[test]
fn where_all_were_hit_the_first_to_campaign_has_returned() {
    let events =
        [campaign(1_100, 2, 4), campaign(2_700, 3, 4), leader(2_710, 3, 4), committed(2_715, 3, 4)];
    let nodes: Vec<_> = (1..=3).map(NodeNumber).collect();
    let away = nodes.iter().copied().collect();
    let strike = Strike { nodes, away, served: 0, ..strike() };
    let trial = measured(&strike, &events, &[(0, 1_000), (2_720, 5_000)]);
    assert_eq!((trial.outage_ms, trial.leader_after), (Some(1_721.0), Some(NodeNumber(3))));
    assert_eq!(parts(&trial), [Some(1_700.0), Some(10.0), Some(5.0), Some(6.0)]);
}

#[test]
fn the_leader_that_could_not_commit_did_not_end_the_outage() {
    let events = [
        campaign(1_100, 2, 4),
        leader(1_110, 2, 4),
        campaign(1_300, 3, 5),
        leader(1_310, 3, 5),
        committed(1_320, 3, 5),
    ];
    let trial = measured(&strike(), &events, &[(0, 1_000), (1_330, 5_000)]);
    assert_eq!(trial.leader_after, Some(NodeNumber(3)));
    assert_eq!(parts(&trial), [Some(100.0), Some(210.0), Some(10.0), Some(11.0)]);
}

#[test]
fn what_the_old_leader_committed_may_be_answered_before_the_new_one_commits() {
    let events = [campaign(1_100, 2, 4), leader(1_110, 2, 4), committed(1_140, 2, 4)];
    let trial = measured(&strike(), &events, &[(0, 1_000), (1_120, 5_000)]);
    assert_eq!(parts(&trial), [Some(100.0), Some(10.0), Some(11.0), Some(0.0)]);
}

#[test]
fn a_trickle_is_no_recovery() {
    let mut trickle = successes(&[(0, 1_000)]);
    let due = (1_000..2_000).step_by(5);
    trickle.extend(due.map(|due_ms| Success {
        completed_ns: (due_ms + 1) * MS,
        due_ns: due_ms * MS,
        client: 1,
    }));
    let over =
        |successes: &[Success]| recovery(successes, (1_000 * MS, 5_000 * MS), DEMAND, 100 * MS);
    assert_eq!(over(&trickle), None);
    trickle.extend(successes(&[(2_000, 3_000)]));
    // 85 % of 50 within 100 ms: the trickle before counts as far as it goes.
    let end = over(&trickle).expect("it recovers");
    assert!((1_970 * MS..=2_001 * MS).contains(&end), "{end}");
}

#[test]
fn what_never_recovers_has_no_outage_but_gaps() {
    let trial = measured(&strike(), &[], &[(0, 1_000)]);
    assert_eq!(trial.outage_ms, None);
    assert_eq!(trial.longest_gap_ms, Some(4_001.0));
    assert_eq!(trial.longest_client_gap_ms, Some(4_015.0));
    assert_eq!(trial.detect_ms, None);
}

#[test]
fn a_fault_that_moves_no_leader_has_no_parts() {
    let trial = measured(&strike(), &[], &[(0, 5_000)]);
    assert_eq!(trial.outage_ms, Some(1.0), "the first that was due after it was answered");
    assert_eq!((trial.detect_ms, trial.term_after), (None, None));
}

#[test]
fn clocks_that_disagree_a_little_keep_the_sum() {
    let events = [campaign(1_200, 2, 4), leader(1_250, 2, 4), committed(1_249, 2, 4)];
    let trial = measured(&strike(), &events, &[(0, 1_000), (1_260, 5_000)]);
    let sum: f64 = parts(&trial).into_iter().map(|part| part.expect("all are known")).sum();
    assert_eq!(Some(sum), trial.outage_ms);
}

#[test]
fn faults_that_strike_before_it_is_over_cost_one_outage_from_the_first_on() {
    // The leader is killed, and a follower at the same moment, or while nobody leads.
    for second_ms in [1_000, 1_060, 1_210] {
        let first = Strike { until_ns: second_ms * MS, ..strike() };
        let strikes = [first, other(4, second_ms, 5_000)];
        let trials = all(&strikes, &[(0, 1_000), (1_224, 5_000)]);
        let [trial] = &trials[..] else { panic!("{second_ms}: {trials:?}") };
        assert_eq!((trial.fault_at_ns, trial.outage_ms), (1_000 * MS, Some(225.0)));
        assert_eq!((trial.fault, &trial.also[..]), (Fault::Kill, &[Fault::Kill][..]));
        assert_eq!((trial.node, &trial.nodes[1..]), (NodeNumber(1), &[NodeNumber(4)][..]));
        assert_eq!(trial.rejoin_ms, Some(200.0), "the longest of both");
    }
}

#[test]
fn of_faults_that_cost_one_outage_the_one_that_hit_the_leader_stands_first() {
    let pause = Strike { fault: Fault::Pause, until_ns: 1_050 * MS, ..other(4, 1_000, 0) };
    let kill = Strike { at_ns: 1_050 * MS, ..strike() };
    let events = [
        // Who is hit later may notice first.
        campaign(1_040, 1, 4),
        campaign(1_100, 4, 5),
        campaign(1_200, 2, 5),
        leader(1_210, 2, 5),
        committed(1_215, 2, 5),
    ];
    let answers = successes(&[(0, 1_000), (1_220, 5_000)]);
    let trial = measure(&[pause, kill], DEMAND, 100 * MS, &events, &answers);
    let trial = trial.expect("there are two");
    assert_eq!((trial.fault, &trial.also[..]), (Fault::Kill, &[Fault::Pause][..]));
    assert_eq!((trial.fault_at_ns, trial.node), (1_000 * MS, NodeNumber(1)));
    assert_eq!(parts(&trial), [Some(40.0), Some(170.0), Some(5.0), Some(6.0)]);
}

#[test]
fn a_fault_that_strikes_once_clients_are_served_again_costs_an_outage_of_its_own() {
    let first = Strike { until_ns: 1_800 * MS, ..strike() };
    let strikes = [first, other(4, 1_800, 5_000)];
    let trials = all(&strikes, &[(0, 1_000), (1_300, 1_800), (1_950, 5_000)]);
    let outages: Vec<_> = trials.iter().map(|trial| trial.outage_ms).collect();
    assert_eq!(outages, [Some(301.0), Some(151.0)]);
    assert!(trials.iter().all(|trial| trial.also.is_empty()));
}

#[test]
fn strikes_after_which_nobody_is_served_again_are_all_told() {
    let first = Strike { until_ns: 1_800 * MS, ..strike() };
    let strikes = [first, other(4, 1_800, 5_000)];
    let trials = all(&strikes, &[(0, 1_000)]);
    let [trial] = &trials[..] else { panic!("{trials:?}") };
    assert_eq!((trial.outage_ms, trial.also.len()), (None, 1));
    assert_eq!(all(&[], &[(0, 1_000)]), []);
}

#[test]
fn what_clients_ask_depends_on_all_strikes_that_are_on() {
    let asked = std::cell::RefCell::new(Vec::new());
    let demand = |on: &[Strike]| {
        asked.borrow_mut().push(on.iter().map(|strike| strike.at_ns / MS).collect::<Vec<_>>());
        DEMAND
    };
    let strikes = [
        Strike { until_ns: 1_800 * MS, ..strike() },
        other(4, 1_800, 3_000),
        // The first is over by now.
        other(5, 3_000, 3_050),
        other(4, 3_050, 5_000),
    ];
    let answers = successes(&[(0, 1_000), (1_300, 1_800), (1_950, 3_000), (3_200, 5_000)]);
    let sets = measure_all(&strikes, demand, &[], &answers, 1_000 * MS);
    assert_eq!(sets.iter().map(|(set, _)| set.len()).collect::<Vec<_>>(), [1, 1, 2]);
    let expected = [vec![1_000], vec![1_000, 1_800], vec![3_000], vec![3_000, 3_050]];
    assert_eq!(asked.into_inner(), expected);
}

#[test]
fn a_strike_that_is_over_when_the_next_one_comes_takes_nobody_away_any_more() {
    let asked = std::cell::RefCell::new(Vec::new());
    let demand = |on: &[Strike]| {
        asked.borrow_mut().push(on.iter().map(|strike| strike.at_ns / MS).collect::<Vec<_>>());
        DEMAND
    };
    let first =
        Strike { until_ns: 1_200 * MS, returned_ns: Some(1_100 * MS), ..other(3, 1_000, 0) };
    let strikes = [first, other(4, 1_200, 5_000)];
    let answers = successes(&[(0, 1_000), (1_300, 5_000)]);
    let sets = measure_all(&strikes, demand, &[], &answers, 1_000 * MS);
    assert_eq!(sets.len(), 1, "nobody is served in between");
    assert_eq!(asked.into_inner(), [vec![1_000], vec![1_200]]);
}

#[test]
fn of_several_all_must_have_rejoined() {
    let rejoin_ms = |second: Strike| {
        let first = Strike { until_ns: 1_060 * MS, ..strike() };
        let trials = all(&[first, second], &[(0, 1_000), (1_224, 5_000)]);
        let [trial] = &trials[..] else { panic!("{trials:?}") };
        trial.rejoin_ms
    };
    assert_eq!(rejoin_ms(other(4, 1_060, 5_000)), Some(200.0));
    assert_eq!(rejoin_ms(Strike { rejoined_ns: None, ..other(4, 1_060, 5_000) }), None);
    // Who was killed again before it had caught up has once it does after that.
    let unseen = Strike { until_ns: 1_060 * MS, rejoined_ns: None, ..strike() };
    let trials = all(&[unseen, other(1, 1_060, 5_000)], &[(0, 1_000), (1_224, 5_000)]);
    assert_eq!(trials[0].rejoin_ms, Some(50.0));
}

#[test]
fn a_fault_within_a_second_of_another_is_measured_by_the_calm_before_both() {
    let first = Strike { until_ns: 2_000 * MS, ..strike() };
    let strikes = [first, other(4, 2_000, 5_000)];
    let due = (0..5_000).step_by(2).zip((0..8).cycle());
    let success = |(due_ms, client): (u64, u64)| {
        let completed_ms = match due_ms {
            1_000..1_900 => 1_900,
            2_000..3_200 if client % 2 == 0 => 3_200,
            _ => due_ms + 1,
        };
        Success { completed_ns: completed_ms * MS, due_ns: due_ms * MS, client }
    };
    let mut answers: Vec<Success> = due.map(success).collect();
    answers.sort_unstable();
    let measured = measure_all(&strikes, |_| DEMAND, &[], &answers, 1_000 * MS);
    let outages: Vec<_> = measured.iter().map(|(_, trial)| trial.outage_ms).collect();
    assert_eq!(outages, [Some(900.0), Some(1_200.0)]);
}
