//! Each fault by its statistics over a fixed seed: one datagram each millisecond.

use super::*;
use crate::seed::Seed;

const SENT: u64 = 10_000;
const BYTES: usize = 1_000;

fn link(faults: LinkFaults) -> Link {
    validate(&faults).expect("a link can do it");
    let mut link = Link::new(Stream::named(Seed(7), "link"));
    link.set(faults);
    link
}

fn share(fraction: f64) -> Share {
    Share::new(fraction).expect("a share")
}

fn ms(ms: u64) -> Time {
    Time(Duration::from_millis(ms))
}

/// What becomes of one datagram each millisecond.
fn fates(link: &mut Link) -> Vec<(Time, Fate)> {
    (0..SENT).map(|at| (ms(at), link.fate(ms(at), BYTES))).collect()
}

/// How late each copy is, in the order of sending.
fn lateness(link: &mut Link) -> Vec<Duration> {
    let fates = fates(link);
    let late = |(sent, fate): (Time, Fate)| fate.arrivals().map(move |copy| copy.at.since(sent));
    fates.into_iter().flat_map(late).collect()
}

/// A share of so many draws lies this near to its expectation in all but one of 10^8 seeds.
#[track_caller]
fn about(count: u64, of: u64, fraction: f64) {
    let expected = of as f64 * fraction;
    let deviation = (expected * (1.0 - fraction)).sqrt();
    let off = (count as f64 - expected).abs();
    assert!(off < 6.0 * deviation, "{count} of {of} for a share of {fraction}");
}

#[test]
fn without_faults_everything_arrives_at_once() {
    let mut link = link(LinkFaults::default());
    assert!(
        fates(&mut link)
            .into_iter()
            .all(|(sent, fate)| { fate == Fate::Arrives(Arrival { at: sent, flip: None }, None) })
    );
    let expected = LinkCounts { offered: SENT, arrivals: SENT, ..LinkCounts::default() };
    assert_eq!(link.counts(), expected);
}

#[test]
fn a_block_lets_nothing_pass_until_it_is_lifted() {
    let mut link = link(LinkFaults::blocked());
    let blocked = Fate::Gone(Cause::Blocked);
    assert!(fates(&mut link).into_iter().all(|(_, fate)| fate == blocked));
    let expected = LinkCounts { offered: SENT, blocked: SENT, ..LinkCounts::default() };
    assert_eq!(link.counts(), expected);
    link.set(LinkFaults::default());
    assert_eq!(link.fate(ms(SENT), BYTES).arrivals().count(), 1);
}

#[test]
fn what_is_held_is_kept_up_to_a_bound_and_until_nothing_severs_the_link() {
    let hold = || LinkFaults { hold: true, ..LinkFaults::default() };
    let mut link = link(hold());
    let fates = fates(&mut link);
    let kept = fates.iter().take_while(|(_, fate)| *fate == Fate::Held).count();
    assert_eq!(kept, 8_192);
    assert!(fates[kept..].iter().all(|(_, fate)| *fate == Fate::Gone(Cause::Overflowed)));
    let counts = link.counts();
    assert_eq!((counts.held, counts.arrivals, counts.overflowed), (8_192, 8_192, SENT - 8_192));
    link.set(LinkFaults::blocked());
    link.set(hold());
    assert_eq!(link.fate(ms(SENT), BYTES), Fate::Gone(Cause::Overflowed), "they are still kept");
    link.set(LinkFaults::default());
    link.set(hold());
    assert_eq!(link.fate(ms(SENT), BYTES), Fate::Held, "there is room again");
}

#[test]
fn loss_takes_its_share() {
    let mut link = link(LinkFaults { loss: share(0.1), ..LinkFaults::default() });
    let gone = fates(&mut link).iter().filter(|(_, fate)| *fate == Fate::Gone(Cause::Lost)).count();
    assert_eq!(link.counts().lost, gone as u64);
    assert_eq!(link.counts().arrivals, SENT - gone as u64);
    about(gone as u64, SENT, 0.1);
}

#[test]
fn a_delay_is_the_same_for_all() {
    let mut link = link(LinkFaults { delay_ms: 40, ..LinkFaults::default() });
    let delay = Duration::from_millis(40);
    assert!(lateness(&mut link).iter().all(|late| *late == delay));
    assert_eq!((link.counts().delayed, link.counts().arrivals), (SENT, SENT));
}

#[test]
fn jitter_spreads_over_its_range_and_keeps_the_order() {
    // One each millisecond: what is drawn up to 8 ms late would overtake often.
    let mut link = link(LinkFaults { delay_ms: 5, jitter_ms: 8, ..LinkFaults::default() });
    let arrivals: Vec<Time> =
        fates(&mut link).iter().flat_map(|(_, fate)| fate.arrivals()).map(|copy| copy.at).collect();
    assert!(arrivals.is_sorted());
    assert!(link.counts().jittered > SENT - 10, "only a draw of nothing is no jitter");
    let mut apart = self::link(LinkFaults { jitter_ms: 8, ..LinkFaults::default() });
    let late: Vec<_> = (0..SENT)
        .map(|number| ms(10 * number))
        .flat_map(|at| apart.fate(at, BYTES).arrivals().map(move |copy| copy.at.since(at)))
        .collect();
    let most = Duration::from_millis(8);
    assert!(late.iter().all(|late| *late <= most));
    let early = late.iter().filter(|late| **late < most / 4).count();
    about(early as u64, SENT, 0.25);
}

#[test]
fn what_is_held_back_is_overtaken() {
    let mut link =
        link(LinkFaults { reorder: share(0.02), reorder_ms: 4, ..LinkFaults::default() });
    let arrivals: Vec<Time> =
        fates(&mut link).iter().flat_map(|(_, fate)| fate.arrivals()).map(|copy| copy.at).collect();
    let late =
        |place: &usize| arrivals[place + 1..].iter().take(4).any(|at| *at < arrivals[*place]);
    let overtaken = (0..arrivals.len()).filter(late).count() as u64;
    assert_eq!(link.counts().reordered, overtaken);
    about(overtaken, SENT, 0.02);
}

#[test]
fn where_all_are_held_back_none_is_overtaken() {
    let mut link = link(LinkFaults { reorder: Share::ALL, ..LinkFaults::default() });
    fates(&mut link);
    assert_eq!(link.counts().reordered, 0);
}

#[test]
fn duplicates_come_twice() {
    let mut link = link(LinkFaults { duplicate: share(0.3), ..LinkFaults::default() });
    let twice =
        fates(&mut link).iter().filter(|(_, fate)| fate.arrivals().count() == 2).count() as u64;
    assert_eq!(link.counts().duplicated, twice);
    assert_eq!(link.counts().arrivals, SENT + twice);
    about(twice, SENT, 0.3);
}

#[test]
fn corruption_changes_one_bit() {
    let mut link = link(LinkFaults { corrupt: share(0.2), ..LinkFaults::default() });
    let mut places = [0; BYTES];
    for copy in fates(&mut link).iter().flat_map(|(_, fate)| fate.arrivals()) {
        let Some(flip) = copy.flip else { continue };
        let mut datagram = [0; BYTES];
        flip.apply(&mut datagram);
        let changed: u32 = datagram.iter().map(|byte| byte.count_ones()).sum();
        assert_eq!(changed, 1);
        let place = datagram.iter().position(|byte| *byte != 0).expect("one is changed");
        places[place] += 1;
    }
    let corrupted = places.iter().sum();
    assert_eq!(link.counts().corrupted, corrupted);
    about(corrupted, SENT, 0.2);
    about(places[..BYTES / 2].iter().sum(), corrupted, 0.5);
    let Fate::Arrives(empty, None) = link.fate(ms(SENT), 0) else { panic!("it arrives") };
    assert_eq!(empty.flip, None, "there is nothing to change");
}

#[test]
fn no_more_passes_than_the_bandwidth_lets() {
    // Half of what comes, and room for 100 datagrams.
    let mut link = link(LinkFaults {
        bandwidth_bytes_per_s: Some(500_000),
        queue_bytes_max: 100_000,
        ..LinkFaults::default()
    });
    let arrivals: Vec<Time> =
        fates(&mut link).iter().flat_map(|(_, fate)| fate.arrivals()).map(|copy| copy.at).collect();
    assert!(arrivals.windows(2).all(|pair| pair[1].since(pair[0]) >= Duration::from_millis(2)));
    let counts = link.counts();
    assert_eq!(counts.arrivals + counts.overflowed, SENT);
    assert_eq!(counts.arrivals, SENT / 2 + 99, "the line was never idle");
    assert_eq!(counts.throttled, counts.arrivals - 1, "the first found it free");
    let last_late = arrivals.last().expect("some arrive").since(ms(SENT));
    assert!(last_late <= Duration::from_millis(200), "the queue has a bound: {last_late:?}");
}

#[test]
fn what_is_under_way_has_a_bound() {
    let mut link = link(LinkFaults { delay_ms: 60_000, ..LinkFaults::default() });
    fates(&mut link);
    let counts = link.counts();
    assert_eq!((counts.arrivals, counts.overflowed), (8_192, SENT - 8_192));
    assert_eq!(link.under_way.len(), 8_192);
    assert_eq!(link.fate(ms(70_000), BYTES).arrivals().count(), 1, "there is room again");
    assert_eq!(link.under_way.len(), 1);
}

#[test]
fn a_changed_link_lets_nobody_wait_for_what_is_under_way() {
    let mut link = link(LinkFaults { delay_ms: 1_000, ..LinkFaults::default() });
    link.fate(ms(0), BYTES);
    link.set(LinkFaults { delay_ms: 1, ..LinkFaults::default() });
    let Fate::Arrives(first, None) = link.fate(ms(1), BYTES) else { panic!("it arrives") };
    assert_eq!(first.at, ms(2));
}

#[test]
fn equal_seeds_give_equal_fates() {
    let all = || LinkFaults {
        loss: share(0.1),
        delay_ms: 3,
        jitter_ms: 5,
        reorder: share(0.1),
        duplicate: share(0.1),
        corrupt: share(0.1),
        bandwidth_bytes_per_s: Some(1_000_000),
        ..LinkFaults::default()
    };
    assert_eq!(fates(&mut link(all())), fates(&mut link(all())));
    let mut other = Link::new(Stream::named(Seed(8), "link"));
    other.set(all());
    assert_ne!(fates(&mut link(all())), fates(&mut other));
}

#[test]
fn one_fault_more_changes_nothing_for_the_others() {
    let lost = |faults: LinkFaults| -> Vec<bool> {
        let fates = fates(&mut link(LinkFaults { loss: share(0.1), ..faults }));
        fates.iter().map(|(_, fate)| *fate == Fate::Gone(Cause::Lost)).collect()
    };
    let alone = lost(LinkFaults::default());
    let twice = LinkFaults { duplicate: share(0.5), ..LinkFaults::default() };
    assert_eq!(lost(twice), alone);
    let late = LinkFaults { jitter_ms: 5, corrupt: share(0.5), ..LinkFaults::default() };
    assert_eq!(lost(late), alone);
}
