//! What is going to happen in a world: plain data, and nothing here acts.

use std::{rc::Rc, time::Duration};

use raft::{Message, Position, ReadId, WriteId};

use super::{carriers::Carried, machine::Machine, network::Cut, node::Seat, plan::CallerEvent};
use crate::invariant::Server;

/// What will happen.
#[derive(Debug)]
pub(super) enum Event {
    Deliver(Parcel),
    Synced { seat: Seat, incarnation: u64, last: WriteId },
    Installed { seat: Seat, incarnation: u64, install: u64, from: Seat, position: Position },
    Compacted { seat: Seat, incarnation: u64, snapshot: Rc<Machine> },
    Carry,
    Carried { seat: Seat, incarnation: u64, carried: Rc<Carried> },
    Connected { seat: Seat, peer: Seat },
    Client(usize),
    Eager(usize),
    Read { seat: Seat, incarnation: u64, id: ReadId },
    Operator,
    Fault,
    Struck { seat: Seat, incarnation: u64 },
    Pause { seat: Seat, incarnation: u64, lasts: Duration },
    Restart { seat: Seat },
    Heal(Cut),
    Caller(CallerEvent),
}

/// A message on its way. Servers go by number here, since there are many parcels.
#[derive(Clone, Debug)]
pub(super) struct Parcel {
    pub(super) from: Seat,
    pub(super) sender: Server,
    pub(super) seat: Seat,
    pub(super) to: Server,
    pub(super) message: Message,
}
