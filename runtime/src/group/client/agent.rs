//! The task behind a client: one link at a time, and what is asked and heard over it.
//!
//! Invariant: what was asked is sent again over each new link until it is answered, as far as the
//! link's queue has room; what is beyond that is given up as busy.

use std::{sync::Arc, time::Duration};

use raft::{PeerId, Time};
use tokio::{
    sync::{mpsc, watch},
    task::AbortHandle,
};

use crate::{
    Clock, Link, Network, Peer,
    group::{
        ConsensusConfig, GroupId, GroupKey,
        client::{
            dials::{Dials, pause},
            scout::{self, Found, Scout},
            unanswered::{Ask, Unanswered},
        },
        metric::{CLIENT_SWITCHES, Refused, refused},
        wire::{ClientFrame, Outcome, Reason},
    },
    network::LinkReceiver,
};

/// The task's state.
pub(super) struct Agent {
    network: Network,
    clock: Arc<dyn Clock>,
    group: (GroupId, GroupKey),
    consensus: ConsensusConfig,
    members: Vec<Peer>,
    /// Whom we are linked to, or have dialed last.
    place: usize,
    node: watch::Sender<Option<PeerId>>,
    connection: Option<Connection>,
    /// While our node lives and knows of no leader.
    scout: Option<Scout>,
    /// While there is no connection.
    dials: Dials<Link>,
    unanswered: Unanswered,
}

struct Connection {
    frames: mpsc::Sender<ClientFrame>,
    receiver: LinkReceiver,
    writer: AbortHandle,
    /// Whether the node has said anything.
    greeted: bool,
    heard: Time,
    /// When a call was sent while no other waited for its answer.
    asked: Time,
    spoke: Time,
    leader: Option<PeerId>,
}

enum Turn {
    Frame(Option<bytes::Bytes>),
    Ask(Option<Ask>),
    Dialed(usize, Box<Result<Link, String>>),
    Scouted(Box<Result<Found, String>>),
    Time,
}

impl Agent {
    pub(super) fn new(
        network: Network,
        group: (GroupId, GroupKey),
        consensus: ConsensusConfig,
        members: Vec<Peer>,
        place: usize,
        node: watch::Sender<Option<PeerId>>,
    ) -> Self {
        let clock = Arc::clone(network.clock());
        let dials = Dials::new(members.len(), place);
        Self {
            network,
            clock,
            group,
            consensus,
            members,
            place,
            node,
            connection: None,
            scout: None,
            dials,
            unanswered: Unanswered::default(),
        }
    }

    /// Tries each member once, beginning with the first; says what each answered if none will.
    pub(super) async fn connect(&mut self) -> Result<(), String> {
        let clock = Arc::clone(&self.clock);
        let (mut untried, mut refusals) = (self.members.len(), Vec::new());
        while refusals.len() < self.members.len() {
            if untried > 0 && self.redial() {
                untried -= 1;
            }
            let due = self.dials.due().filter(|_| untried > 0).unwrap_or(NEVER);
            let (place, dialed) = tokio::select! {
                biased;
                ended = self.dials.ended() => ended,
                () = clock.sleep_until(due) => continue,
            };
            match dialed {
                Ok(link) => {
                    self.connected(place, link);
                    return Ok(());
                }
                Err(error) => refusals.push(error),
            }
            // Nobody is tried twice, so nobody needs to be spared.
            self.dials.hurry(clock.now());
        }
        Err(format!("no member took this client in: {}", refusals.join("; ")))
    }

    /// Works until the last clone of the client is dropped.
    pub(super) async fn run(mut self, mut asks: mpsc::Receiver<Ask>) {
        loop {
            self.redial();
            self.look_around();
            let due = self.due();
            let turn = {
                let Self { connection, scout, dials, clock, .. } = &mut self;
                let receiver = connection.as_mut().map(|connection| &mut connection.receiver);
                // Biased: what was received is heard before anyone is judged silent.
                tokio::select! {
                    biased;
                    Some(frame) = receive(receiver) => Turn::Frame(frame),
                    (place, dialed) = dials.ended() => Turn::Dialed(place, Box::new(dialed)),
                    scouted = scouted(scout.as_mut()) => Turn::Scouted(Box::new(scouted)),
                    ask = asks.recv() => Turn::Ask(ask),
                    () = clock.sleep_until(due) => Turn::Time,
                }
            };
            match turn {
                Turn::Frame(Some(bytes)) => self.frame(&bytes),
                Turn::Frame(None) => self.lost(),
                Turn::Dialed(place, dialed) => match *dialed {
                    Ok(link) => self.connected(place, link),
                    Err(error) => self.not_connected(&error),
                },
                Turn::Scouted(scouted) => self.scouted(*scouted),
                Turn::Ask(Some(ask)) => self.ask(ask),
                Turn::Ask(None) => return,
                Turn::Time => {}
            }
            // Under load something else is always ready before the timer.
            if self.clock.now() >= self.due() {
                self.time();
            }
        }
    }

    fn ask(&mut self, ask: Ask) {
        let id = self.unanswered.add(ask);
        if self.unanswered.len() > self.consensus.requests_max as usize {
            refused(Refused::Agent);
            return self.unanswered.give_up(id, Reason::Busy, self.via());
        }
        self.send(id);
    }

    /// Sends a call if there is a link; else it is sent when there is one.
    fn send(&mut self, id: u64) {
        let (now, via) = (self.clock.now(), self.via());
        let alone = self.unanswered.len() == 1;
        let Some(connection) = &mut self.connection else { return };
        let Some((call, deadline)) = self.unanswered.call(id) else { return };
        let patience_ms = u32::try_from(deadline.since(now).as_millis()).unwrap_or(u32::MAX);
        let frame = ClientFrame::Call { id, call: call.clone(), patience_ms };
        match connection.frames.try_send(frame) {
            Ok(()) => {
                self.unanswered.sent(id);
                connection.spoke = now;
                if alone {
                    connection.asked = now;
                }
            }
            // The node does not read as fast as we ask.
            Err(mpsc::error::TrySendError::Full(_)) => {
                refused(Refused::Link);
                self.unanswered.give_up(id, Reason::Busy, via);
            }
            Err(mpsc::error::TrySendError::Closed(_)) => self.lost(),
        }
    }

    /// Who answers, as far as the asker is told.
    fn via(&self) -> PeerId {
        self.members[self.place].id
    }

    fn frame(&mut self, bytes: &[u8]) {
        let Some(connection) = &mut self.connection else { return };
        connection.heard = self.clock.now();
        connection.greeted = true;
        self.dials.served();
        match postcard::from_bytes(bytes) {
            Ok(ClientFrame::Answer { id, outcome }) => self.answer(id, outcome),
            Ok(ClientFrame::Ping { leader }) => {
                connection.leader = leader;
                self.knows(leader);
            }
            Ok(ClientFrame::Call { .. }) | Err(_) => self.lost(),
        }
    }

    fn answer(&mut self, id: u64, outcome: Outcome) {
        let via = self.via();
        match outcome {
            // The node goes; another one can still do it.
            Outcome::Refused(Reason::Stopped) | Outcome::Unknown(Reason::Stopped) => {
                if self.unanswered.call(id).is_some() {
                    self.lost();
                }
            }
            Outcome::Refused(reason) => self.unanswered.refused(id, reason, via),
            outcome => self.unanswered.finish(id, outcome, via),
        }
    }

    /// Our node knows this leader, or none: then others are asked until it does.
    fn knows(&mut self, leader: Option<PeerId>) {
        if leader.is_some() || self.members.len() == 1 {
            self.scout = None;
        } else if self.scout.is_none() {
            let pause = scout::first_pause(&self.consensus, self.network.draw());
            self.scout = Some(Scout::new(self.next(self.place), self.clock.now().plus(pause)));
        }
    }

    /// Sends the scout to the next node, if it is time.
    fn look_around(&mut self) {
        let now = self.clock.now();
        let Some(scout) = self.scout.as_mut().filter(|scout| scout.due() <= now) else { return };
        let peer = self.members[scout.place()].clone();
        let dialing = dial(self.network.clone(), peer, self.group.clone(), self.consensus.clone());
        let patience = self.consensus.handshake_timeout;
        scout.ask(dialing, Arc::clone(&self.clock), patience);
    }

    /// The scout is back. Only a node that knows another leader than our own is any better: ours
    /// knows that it does not lead.
    fn scouted(&mut self, scouted: Result<Found, String>) {
        let Some(place) = self.scout.as_ref().map(Scout::place) else { return };
        match scouted {
            Ok(Found { link, leader }) if leader != self.members[self.place].id => {
                metrics::counter!(CLIENT_SWITCHES).increment(1);
                self.part();
                self.dials.linked(place);
                self.connected(place, link);
                if let Some(connection) = &mut self.connection {
                    (connection.greeted, connection.leader) = (true, Some(leader));
                }
                return;
            }
            Ok(_) => tracing::debug!("the node that was asked takes ours for the leader"),
            Err(error) => tracing::debug!(%error, "no leader there"),
        }
        let next = match self.next(place) {
            ours if ours == self.place => self.next(ours),
            next => next,
        };
        let (others, draw) = (self.members.len() - 1, self.network.draw());
        let (now, consensus) = (self.clock.now(), &self.consensus);
        if let Some(scout) = &mut self.scout {
            // Each of the others gets its turn before the pause grows.
            let round = scout.go_on(next) / u32::try_from(others).unwrap_or(1).max(1);
            scout.wait_until(now.plus(pause(consensus, round, draw)));
        }
    }

    fn next(&self, place: usize) -> usize {
        (place + 1) % self.members.len()
    }

    fn connected(&mut self, place: usize, link: Link) {
        self.place = place;
        let (mut sender, receiver) = link.split();
        let (frames, mut outgoing) = mpsc::channel::<ClientFrame>(FRAMES_MAX);
        let writer = tokio::spawn(async move {
            while let Some(frame) = outgoing.recv().await {
                let Ok(bytes) = postcard::to_stdvec(&frame) else { return };
                if sender.send(&bytes).await.is_err() {
                    return;
                }
            }
        });
        let now = self.clock.now();
        let writer = writer.abort_handle();
        self.connection = Some(Connection {
            frames,
            receiver,
            writer,
            greeted: false,
            heard: now,
            asked: now,
            spoke: now,
            leader: None,
        });
        self.node.send_replace(Some(self.members[place].id));
        self.unanswered.ids().into_iter().for_each(|id| self.send(id));
    }

    /// Lets the link go. What was sent on it and is not answered may have taken effect.
    fn part(&mut self) -> Option<Connection> {
        self.scout = None;
        let connection = self.connection.take()?;
        connection.writer.abort();
        self.dials.parted(self.place);
        self.unanswered.lost();
        self.node.send_replace(None);
        Some(connection)
    }

    /// The link is gone or its node silent: take another node, the leader if one was named.
    fn lost(&mut self) {
        let Some(connection) = self.part() else { return };
        let leader = self.members.iter().position(|peer| Some(peer.id) == connection.leader);
        if let Some(leader) = leader.filter(|leader| *leader != self.place) {
            self.dials.prefer(leader);
        }
        // A node that lets us in and says nothing is no better than one that does not let us in.
        match connection.greeted {
            true => self.dials.hurry(self.clock.now()),
            false => self.back_off(),
        }
    }

    fn not_connected(&mut self, error: &str) {
        tracing::debug!(%error, "no link");
        self.back_off();
    }

    fn back_off(&mut self) {
        let (now, draw) = (self.clock.now(), self.network.draw());
        self.dials.back_off(now, &self.consensus, draw);
    }

    /// Dials the next member, if there is no link and it is time; says whether it has.
    fn redial(&mut self) -> bool {
        let now = self.clock.now();
        let turn = self.dials.turn(now).filter(|_| self.connection.is_none());
        let Some(place) = turn else { return false };
        let (network, peer) = (self.network.clone(), self.members[place].clone());
        let dialing = dial(network, peer, self.group.clone(), self.consensus.clone());
        self.place = place;
        self.dials.begin(place, now, &self.consensus, self.network.draw(), dialing);
        true
    }

    fn due(&self) -> Time {
        let deadline = self.unanswered.due();
        let link = match &self.connection {
            Some(connection) => Some(self.silent_at(connection).min(self.ping_at(connection))),
            None => self.dials.due(),
        };
        let scout = self.scout.as_ref().map(Scout::due);
        [deadline, link, scout].into_iter().flatten().min().unwrap_or(NEVER)
    }

    /// How long its silence is borne: whoever waits for an answer, or for a first word, must
    /// soon know that none will come.
    fn borne(&self, connection: &Connection) -> Duration {
        let (waiting, idle) = (self.consensus.client_silence_max, self.consensus.silence_max());
        match self.unanswered.len() == 0 && connection.greeted {
            true => idle.max(waiting),
            false => waiting,
        }
    }

    fn silent_at(&self, connection: &Connection) -> Time {
        let waits_since = match self.unanswered.len() {
            0 => connection.heard,
            _ => connection.heard.max(connection.asked),
        };
        waits_since.plus(self.borne(connection))
    }

    fn ping_at(&self, connection: &Connection) -> Time {
        connection.spoke.plus(self.consensus.ping_interval())
    }

    /// A look at the clock that comes late means that we were stopped or starved: what the node
    /// said meanwhile may still wait to be read, so it is given two intervals more.
    fn forgive(&mut self, now: Time) {
        let interval = self.consensus.heartbeat_interval;
        let Some(connection) = &self.connection else { return };
        let (borne, silent_at) = (self.borne(connection), self.silent_at(connection));
        if now.since(silent_at) >= interval
            && let Some(connection) = &mut self.connection
        {
            connection.heard = Time(now.plus(2 * interval).0.saturating_sub(borne));
        }
    }

    fn time(&mut self) {
        let now = self.clock.now();
        self.unanswered.expire(now, self.via());
        self.forgive(now);
        let Some(connection) = &self.connection else { return };
        let ping = now >= self.ping_at(connection);
        if now >= self.silent_at(connection) {
            metrics::counter!(CLIENT_SWITCHES).increment(1);
            return self.lost();
        }
        if ping && let Some(connection) = &mut self.connection {
            connection.spoke = now;
            // A full queue is a sign of life that will be sent anyway.
            drop(connection.frames.try_send(ClientFrame::Ping { leader: None }));
        }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if let Some(connection) = &self.connection {
            connection.writer.abort();
        }
    }
}

/// The next frame, `Some(None)` when the link is gone; never resolves without a link.
async fn receive(receiver: Option<&mut LinkReceiver>) -> Option<Option<bytes::Bytes>> {
    match receiver {
        Some(receiver) => Some(receiver.recv().await),
        None => std::future::pending().await,
    }
}

/// What the scout brings; never resolves without one.
async fn scouted(scout: Option<&mut Scout>) -> Result<Found, String> {
    match scout {
        Some(scout) => scout.back().await,
        None => std::future::pending().await,
    }
}

async fn dial(
    network: Network,
    peer: Peer,
    (group, key): (GroupId, GroupKey),
    consensus: ConsensusConfig,
) -> Result<Link, String> {
    let link = network.dial_client(&peer, group, &key, consensus.handshake_timeout).await;
    // It names the peer.
    let mut link = link.map_err(|error| error.to_string())?;
    link.set_frame_bytes_max(consensus.frame_bytes_max());
    Ok(link)
}

const FRAMES_MAX: usize = 4_096;
const NEVER: Time = Time(Duration::MAX);
