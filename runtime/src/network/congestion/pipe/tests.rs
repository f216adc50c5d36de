//! Lines that narrow, grow and are shared, and what senders for whom nothing else is a limit make
//! of them.

use super::*;

/// A line with room for whatever waits.
struct Line {
    now: Time,
    bytes_per_s: u64,
    round_trip: Duration,
    free: Time,
    /// When each arrives at its sender again, whose it is, and when it was sent.
    under_way: VecDeque<(Time, usize, Time)>,
    senders: Vec<Sender>,
}

/// Always has more to send, unless it is quiet.
struct Sender {
    pipe: Pipe,
    is_quiet: bool,
    packets: u64,
    delivered: u64,
}

impl Line {
    fn new(bytes_per_s: u64, round_trip: Duration) -> Self {
        let (under_way, senders) = (VecDeque::new(), vec![Sender::new()]);
        let (now, free) = (Time(ms(1)), Time::default());
        Self { now, bytes_per_s, round_trip, free, under_way, senders }
    }

    /// The longest that a packet took meanwhile.
    fn run(&mut self, time: Duration) -> Duration {
        let (end, mut longest) = (self.now.plus(time), Duration::ZERO);
        for sender in 0..self.senders.len() {
            if self.senders[sender].packets == 0 {
                self.send(sender, u64::MAX);
            }
        }
        while self.under_way.front().is_some_and(|(at, ..)| *at <= end) {
            longest = longest.max(self.arrive());
        }
        self.now = end;
        longest
    }

    /// The next packet arrives, and took so long.
    fn arrive(&mut self) -> Duration {
        let Some((at, sender, sent)) = self.under_way.pop_front() else { return Duration::ZERO };
        self.now = self.now.max(at);
        self.senders[sender].acknowledge(self.now, sent);
        // Paced: two for each that arrives.
        self.send(sender, 2);
        self.now.since(sent)
    }

    fn send(&mut self, sender: usize, packets_max: u64) {
        let Self { now, senders, .. } = self;
        let Sender { pipe, is_quiet, packets, .. } = &mut senders[sender];
        let allowed = match pipe.rate() {
            0 => FIRST_BYTES / PACKET,
            _ => pipe.bytes() / PACKET,
        };
        let room = if *is_quiet { 0 } else { allowed.saturating_sub(*packets) };
        for _ in 0..room.min(packets_max) {
            let takes = Duration::from_nanos(PACKET * 1_000_000_000 / self.bytes_per_s);
            self.free = self.free.max(*now).plus(takes);
            self.under_way.push_back((self.free.plus(self.round_trip), sender, *now));
            pipe.sent(*now);
            *packets += 1;
        }
        if room <= packets_max && !*is_quiet {
            pipe.filled();
        }
    }

    /// All that is under way comes back, and nothing is sent for as long.
    fn rest(&mut self, time: Duration) {
        let end = self.now.plus(time);
        self.senders.iter_mut().for_each(|sender| sender.is_quiet = true);
        while !self.under_way.is_empty() {
            self.arrive();
        }
        self.now = self.now.max(end);
        self.senders.iter_mut().for_each(|sender| sender.is_quiet = false);
    }

    fn pipe(&self) -> &Pipe {
        &self.senders[0].pipe
    }

    fn delivered(&self) -> u64 {
        self.senders.iter().map(|sender| sender.delivered).sum()
    }
}

impl Sender {
    fn new() -> Self {
        Self { pipe: Pipe::new(), is_quiet: false, packets: 0, delivered: 0 }
    }

    fn acknowledge(&mut self, now: Time, sent: Time) {
        self.delivered += PACKET;
        self.packets -= 1;
        self.pipe.acknowledged(now, sent, PACKET);
        assert!(self.pipe.shortest.round_trip < Duration::MAX, "something has arrived");
        if self.packets == 0 {
            self.pipe.drained(now);
        }
    }
}

#[test]
fn a_narrow_line_is_used_and_little_stands_in_it() {
    for (bytes_per_s, round_trip) in [(1_000_000, 40), (12_500_000, 20), (125_000_000, 1)] {
        let mut line = Line::new(bytes_per_s, ms(round_trip));
        let longest = line.run(ms(1_000));
        assert!(longest <= ms(round_trip) * 2 + ms(7), "{bytes_per_s}/s: at first {longest:?}");
        let before = line.delivered();
        let longest = line.run(ms(20_000));
        assert!(longest <= ms(round_trip) * 3 / 2 + ms(7), "{bytes_per_s}/s: {longest:?}");
        let share = (line.delivered() - before) as f64 / (bytes_per_s * 20) as f64;
        assert!(share > 0.97, "{bytes_per_s}/s: only {share:.3} of it is used");
    }
}

#[test]
fn a_very_narrow_line_holds_no_more_than_a_tenth_of_a_second() {
    let mut line = Line::new(125_000, ms(20));
    line.run(ms(3_000));
    let longest = line.run(ms(10_000));
    assert!(longest <= ms(20 + 118), "{longest:?}");
}

#[test]
fn a_wide_line_is_found_within_as_many_rounds_as_a_slow_start_takes() {
    let mut line = Line::new(125_000_000, ms(100));
    // 12.5 MB are ten packets ten times doubled.
    line.run(ms(1_300));
    assert!(line.pipe().rate() > 90_000_000, "{}", line.pipe().rate());
}

#[test]
fn a_line_that_grows_or_narrows_or_lengthens_is_found_out() {
    let mut line = Line::new(1_000_000, ms(20));
    line.run(ms(5_500));
    line.bytes_per_s = 10_000_000;
    line.run(ms(500));
    assert!(line.pipe().rate() > 9_000_000, "grown: {}", line.pipe().rate());
    line.bytes_per_s = 1_000_000;
    line.run(ms(6_000));
    assert!(line.pipe().rate() < 1_200_000, "narrowed: {}", line.pipe().rate());
    line.round_trip = ms(100);
    line.run(ms(15_000));
    let round_trip = line.pipe().shortest.round_trip;
    assert!(round_trip >= ms(100) && round_trip < ms(103), "lengthened: {round_trip:?}");
    let before = line.delivered();
    line.run(ms(10_000));
    let used = line.delivered() - before;
    assert!(used > 9_500_000, "lengthened: {used} of 10,000,000");
}

#[test]
fn connections_that_share_a_line_do_not_take_each_others_queues_for_its_length() {
    let mut line = Line::new(12_500_000, ms(20));
    for _ in 0..4 {
        line.run(ms(1_300));
        line.senders.push(Sender::new());
    }
    line.run(ms(10_000));
    let longest = line.run(ms(20_000));
    assert!(longest < ms(60), "{longest:?}");
    let believed = line.senders.iter().map(|sender| sender.pipe.shortest.round_trip).max();
    assert!(believed < Some(ms(23)), "{believed:?}");
}

#[test]
fn who_was_quiet_sends_at_once_what_the_line_is_known_to_take() {
    let mut line = Line::new(12_500_000, ms(20));
    line.run(ms(2_000));
    let rate = line.pipe().rate();
    for _ in 0..5 {
        line.rest(ms(6_000));
        // Two round trips carry what 20 ms of the line are, and half as much again.
        let before = line.delivered();
        line.run(ms(45));
        let delivered = line.delivered() - before;
        assert!(delivered > 250_000, "{delivered}");
    }
    assert_eq!(line.pipe().rate(), rate);
}

#[test]
fn rounds_with_little_to_send_lower_no_rate() {
    let mut line = Line::new(10_000_000, ms(20));
    line.run(ms(2_000));
    let rate = line.pipe().rate();
    line.rest(ms(0));
    for _ in 0..1_000 {
        line.now = line.now.plus(ms(50));
        line.send(0, 1);
        line.senders[0].is_quiet = true;
        line.arrive();
        line.senders[0].is_quiet = false;
    }
    assert_eq!(line.pipe().rate(), rate);
}

#[test]
fn answers_that_come_all_at_once_make_no_rate() {
    let mut line = Line::new(12_500_000, ms(20));
    line.run(ms(2_000));
    // The peer stands still for a second, then answers all.
    let stood = line.now.plus(ms(1_000));
    line.under_way.iter_mut().for_each(|(at, ..)| *at = (*at).max(stood));
    line.run(ms(1_500));
    assert!(line.pipe().rate() < 13_500_000, "{}", line.pipe().rate());
}

#[test]
fn a_starved_host_never_has_more_under_way_than_a_short_path_takes() {
    let mut line = Line::new(1_000_000_000, Duration::from_micros(50));
    line.run(ms(20));
    // From now on its peer wakes every five milliseconds.
    for _ in 0..2_000 {
        let wakes = line.now.plus(ms(5));
        line.under_way.iter_mut().for_each(|(at, ..)| *at = wakes);
        while line.under_way.front().is_some_and(|(at, ..)| *at <= wakes) {
            line.arrive();
        }
        assert!(line.pipe().bytes() <= FAST_BYTES_MIN, "{}", line.pipe().bytes());
    }
    assert!(line.pipe().bytes() >= PROBE_BYTES_MIN);
}

#[test]
fn before_anything_is_known_as_much_as_on_the_shortest_path_is_allowed() {
    assert_eq!(Pipe::new().bytes(), FAST_BYTES_MIN);
}

#[test]
fn an_answer_older_than_its_packet_makes_no_round_trip() {
    let mut pipe = Pipe::new();
    pipe.sent(Time(ms(11)));
    pipe.acknowledged(Time(ms(10)), Time(ms(11)), PACKET);
    assert_eq!((pipe.shortest.round_trip, pipe.rate()), (Duration::MAX, 0));
}

#[test]
fn time_in_which_nothing_was_under_way_lowers_no_rate() {
    let mut pipe = Pipe::new();
    for (at, packets) in [(ms(1), 2), (ms(10_000), 40)] {
        let (sent, back) = (Time(at), Time(at + ms(20)));
        pipe.sent(sent);
        (0..packets).for_each(|_| pipe.acknowledged(back, sent, PACKET));
        pipe.drained(back);
        assert_eq!(pipe.rate(), packets * PACKET * 50);
    }
}

#[test]
fn what_is_remembered_of_packets_is_bounded() {
    let mut pipe = Pipe::new();
    (0..1_000).for_each(|_| pipe.sent(Time(ms(1))));
    assert_eq!(pipe.under_way.len(), 1);
    (0..20_000).for_each(|at| pipe.sent(Time(ms(at))));
    assert_eq!(pipe.under_way.len(), UNDER_WAY_MAX);
}

#[test]
fn a_message_after_a_pause_is_not_sent_inside_a_probe() {
    let mut line = Line::new(12_500_000, ms(20));
    line.run(ms(2_000));
    for pause in [1_200, 1_500, 2_500, 3_500, 4_500, 6_000, 11_000] {
        line.rest(ms(pause));
        // Never again quite as short.
        line.round_trip += Duration::from_micros(1);
        line.run(ms(30));
        assert!(line.pipe().probe.is_none(), "after {pause} ms");
    }
}

#[test]
fn what_is_sent_into_an_empty_line_shows_how_long_it_has_become() {
    let mut line = Line::new(12_500_000, ms(20));
    line.run(ms(2_000));
    // Once in a while a host is late: not yet a longer line.
    line.rest(ms(500));
    line.round_trip = ms(60);
    line.run(ms(61));
    assert!(line.pipe().shortest.round_trip < ms(21));
    line.rest(ms(6_000));
    line.run(ms(61));
    assert!(line.pipe().shortest.round_trip >= ms(60));
}

#[test]
fn a_line_that_drains_ends_a_probe() {
    let mut line = Line::new(12_500_000, ms(20));
    line.run(ms(4_000));
    line.round_trip += Duration::from_micros(1);
    line.run(ms(1_050));
    assert!(line.pipe().probe.is_some());
    line.rest(ms(0));
    assert!(line.pipe().probe.is_none());
}

#[test]
fn what_was_believed_bounds_for_as_many_beliefs_as_are_remembered() {
    let mut pipe = Pipe::new();
    pipe.rates[0] = u64::MAX / 1_000;
    pipe.believe(Time::default(), ms(1));
    for _ in 0..BELIEVED {
        pipe.believe(Time::default(), ms(5));
        assert_eq!(pipe.bytes(), fast_bytes(ms(1)));
    }
    pipe.believe(Time::default(), ms(5));
    assert_eq!(pipe.bytes(), fast_bytes(ms(5)));
}

#[test]
fn a_line_that_has_grown_is_used_as_fast_as_a_new_one() {
    let mut line = Line::new(1_000_000, ms(100));
    line.run(ms(4_500));
    line.bytes_per_s = 100_000_000;
    line.run(ms(1_000));
    assert!(line.pipe().rate() > 40_000_000, "{}", line.pipe().rate());
}

#[test]
fn a_short_line_that_becomes_long_is_used_in_the_end() {
    let mut line = Line::new(125_000_000, Duration::from_micros(50));
    line.run(ms(1_000));
    line.round_trip = ms(50);
    line.run(ms(140_000));
    let before = line.delivered();
    line.run(ms(1_000));
    assert!(line.delivered() - before > 100_000_000, "{}", line.delivered() - before);
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

const PACKET: u64 = 1_250;
