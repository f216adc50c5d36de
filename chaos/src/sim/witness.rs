//! Sees what nodes write, note and apply, and holds it against the invariants.
//!
//! Stands between a member and its store and around its machine: nothing of the runtime knows of
//! it. A node's view is looked at whenever its driver asks its store for news: by then all that
//! the core wanted done in its last steps is on its way. Invariant: a node that is gone is no
//! longer looked at, since nothing it does reaches anybody.

mod held;

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use runtime::{
    ApplyContext, Event, Index, NodeId, Payload, PeerId, Position, Snapshot, StateMachine, StoreId,
    Time,
    storage::{
        Contents, Founding, Owner, Rest, Shelf, Storage, StorageError, Store, Write, WriteId,
        Written,
    },
};

use super::{
    clock,
    socket::Wires,
    trap::{Trap, Underway},
};
use crate::{
    invariant::{Invariants, Opened, Server, Shadow, Violation},
    register::{Command, Read, Registers},
    seed::mix,
};

use held::Held;

/// The invariants of one cluster and what they have seen of it.
#[derive(Debug, Default)]
pub(super) struct Witness(Mutex<Seen>);

#[derive(Debug)]
struct Seen {
    invariants: Invariants,
    held: Held,
    shadows: Vec<Shadow>,
    servers: BTreeMap<NodeId, (Server, u64)>,
    views: u64,
    broken: Option<(Time, Violation)>,
}

/// One server under the eyes of the witness.
#[derive(Clone, Debug)]
pub(super) struct Sight {
    witness: Arc<Witness>,
    wires: Arc<Wires>,
    peer: PeerId,
    /// Known once the store is open.
    server: Arc<Mutex<Option<Server>>>,
}

/// A store whose writes are seen.
pub(super) struct SeenStore<S> {
    pub(super) store: S,
    pub(super) sight: Sight,
    pub(super) trap: Arc<Trap>,
}

/// A machine whose applying is seen.
pub(super) struct SeenMachine {
    registers: Registers,
    /// Their digest.
    holds: u64,
    sight: Sight,
}

struct SeenStorage {
    storage: Box<dyn Storage>,
    sight: Sight,
    trap: Arc<Trap>,
    underway: Underway,
}

impl Default for Seen {
    fn default() -> Self {
        Self {
            invariants: Invariants::of_shadows(),
            held: Held::default(),
            shadows: Vec::new(),
            servers: BTreeMap::new(),
            views: 0,
            broken: None,
        }
    }
}

impl Witness {
    /// What was broken first, and when.
    pub(super) fn broken(&self) -> Option<(Time, Violation)> {
        lock(&self.0).broken.clone()
    }

    /// How many views were looked at.
    pub(super) fn views(&self) -> u64 {
        lock(&self.0).views
    }
}

impl Seen {
    fn judge(&mut self, judged: Result<(), Violation>) {
        if let Err(violation) = judged {
            self.broken.get_or_insert((clock::now(), violation));
        }
    }

    fn look(&mut self, server: Server) {
        let Some(view) = self.shadows.get_mut(server.0).and_then(|s| s.news(clock::now())) else {
            return;
        };
        self.views += 1;
        let judged = self.invariants.stepped(&view);
        self.judge(judged);
    }

    /// A driver that ends with a step, as that of a member which learns that it is removed, asks
    /// its store no more; its machine applies all the same what that step has committed.
    fn look_once_more(&mut self, server: Server, applied: Index) {
        let noted = self.shadows[server.0].commit();
        if self.invariants.commit(server) < applied && applied <= noted {
            self.look(server);
        }
    }
}

impl Sight {
    /// Of a peer's server that will have these wires.
    pub(super) fn new(witness: Arc<Witness>, wires: Arc<Wires>, peer: PeerId) -> Self {
        Self { witness, wires, peer, server: Arc::default() }
    }

    /// A machine whose applying is seen.
    pub(super) fn machine(&self) -> SeenMachine {
        let registers = Registers::default();
        SeenMachine { holds: registers.digest(), registers, sight: self.clone() }
    }

    /// It noted something.
    pub(super) fn hear(&self, event: &Event) {
        if let Event::Raft(note) = event {
            self.with(|seen, server| seen.shadows[server.0].noted(note));
        }
    }

    fn opened(&self, node: NodeId, contents: &Contents) {
        let mut seen = lock(&self.witness.0);
        let seen = &mut *seen;
        let fresh = Server(seen.servers.len());
        let (server, incarnation) = seen.servers.entry(node).or_insert((fresh, 0));
        *incarnation += 1;
        let start = contents.snapshot.as_ref().map(|snapshot| snapshot.position);
        let start = start.unwrap_or_default();
        // A snapshot counts only once whoever took it had shown its state there.
        let state = seen.invariants.state_at(start.index).unwrap_or_default();
        let opened = Opened {
            founding: contents.founding.as_ref().map(|founding| founding.configuration.clone()),
            hard_state: contents.hard_state,
            snapshot: contents.snapshot.clone().map(|snapshot| (snapshot, state)),
            entries: contents.entries.clone(),
        };
        let (server, shadow) = (*server, Shadow::new(*server, node, *incarnation, opened));
        match seen.shadows.get_mut(server.0) {
            Some(before) => *before = shadow,
            None => seen.shadows.push(shadow),
        }
        // The machine begins anew, from the first entry on or from its snapshot. What that holds is
        // compared once it is taken over.
        let judged = seen.invariants.restored(server, node, start, state);
        seen.judge(judged);
        seen.held.opened(server, contents.snapshot.as_ref().map(|snapshot| snapshot.position));
        *lock(&self.server) = Some(server);
    }

    fn with(&self, act: impl FnOnce(&mut Seen, Server)) {
        let server = *lock(&self.server);
        if let Some(server) = server.filter(|_| !self.wires.is_cut()) {
            act(&mut lock(&self.witness.0), server);
        }
    }
}

impl<S: Store> Store for SeenStore<S> {
    fn open(self: Box<Self>, owner: Owner) -> Result<Box<dyn Storage>, StorageError> {
        let storage = Box::new(self.store).open(owner)?;
        let (sight, trap, underway) = (self.sight, self.trap, Underway::default());
        Ok(Box::new(SeenStorage { storage, sight, trap, underway }))
    }
}

impl Storage for SeenStorage {
    fn id(&self) -> StoreId {
        self.storage.id()
    }

    fn take_contents(&mut self) -> Contents {
        let contents = self.storage.take_contents();
        let node = NodeId { peer: self.sight.peer, store: self.storage.id() };
        self.sight.opened(node, &contents);
        contents
    }

    fn found(&mut self, founding: &Founding) -> Result<(), StorageError> {
        self.storage.found(founding)?;
        let configuration = founding.configuration.clone();
        self.sight.with(|seen, server| seen.shadows[server.0].founded(configuration));
        Ok(())
    }

    fn renew(&mut self, fresh: StoreId) -> Result<bool, StorageError> {
        let renewed = self.storage.renew(fresh)?;
        if renewed {
            let node = NodeId { peer: self.sight.peer, store: fresh };
            self.sight.opened(node, &Contents::default());
        }
        Ok(renewed)
    }

    fn submit(&mut self, id: WriteId, write: Write) {
        self.trap.before(&write);
        self.underway.begun(id, &write);
        self.sight.with(|seen, server| {
            // A change may be proposed as soon as the one before is committed, before its driver
            // asks the store again. Of that commit the next view would know only that it came.
            if brings_configuration(&write) {
                seen.look(server);
            }
            let judged = seen.shadows[server.0].submitted(id, &write);
            seen.judge(judged);
        });
        self.storage.submit(id, write);
    }

    fn poll_persisted(&mut self, context: &mut Context<'_>) -> Poll<Result<WriteId, StorageError>> {
        // All that the last steps wanted done has been begun by now.
        self.sight.with(Seen::look);
        let polled = self.storage.poll_persisted(context);
        if let Poll::Ready(Ok(id)) = &polled {
            let done = self.underway.done(*id);
            done.into_iter().for_each(|kind| self.trap.after(kind));
            self.sight.with(|seen, server| seen.shadows[server.0].persisted(*id));
        }
        polled
    }

    fn backlog_bytes(&self) -> usize {
        self.storage.backlog_bytes()
    }

    fn shelf(&self) -> Option<Shelf> {
        self.storage.shelf()
    }

    fn keep(&mut self, written: Written) {
        let index = written.id().position.index;
        self.sight.with(|seen, server| {
            for application in seen.shadows[server.0].reached(index) {
                let judged = seen.invariants.applied(&application);
                seen.judge(judged);
            }
        });
        self.storage.keep(written);
    }

    fn poll_kept(&mut self, context: &mut Context<'_>) -> Poll<Position> {
        self.storage.poll_kept(context)
    }

    fn install(&mut self, written: Written, rest: Rest) -> Result<(), StorageError> {
        let covers = written.head().covers.clone();
        self.storage.install(written, rest)?;
        self.sight.with(|seen, server| seen.installed(server, covers, rest));
        Ok(())
    }

    fn poll_closed(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.storage.poll_closed(context)
    }
}

impl StateMachine for SeenMachine {
    type Command = Command;
    type Output = Option<u64>;
    type Query = Read;
    type Answer = Option<u64>;

    const SIGNATURE: &'static str = Registers::SIGNATURE;

    fn apply(&mut self, command: Command, context: &ApplyContext) -> Option<u64> {
        let (words, key) = (words(&command), command.key());
        let before = self.registers.share(key);
        let output = self.registers.apply(command, context);
        let after = self.registers.share(key);
        self.holds = self.holds.wrapping_sub(before).wrapping_add(after);
        let (change, holds) = (change(words, output), self.holds);
        self.sight.with(|seen, server| seen.applied(server, context.position, (change, holds)));
        output
    }

    fn query(&self, query: Read) -> Option<u64> {
        self.registers.query(query)
    }

    fn snapshot(&self, writer: &mut dyn io::Write) -> io::Result<()> {
        self.registers.snapshot(writer)
    }

    fn restore(&mut self, reader: &mut dyn io::Read) -> io::Result<()> {
        self.registers.restore(reader)?;
        self.holds = self.registers.digest();
        let holds = self.holds;
        self.sight.with(|seen, server| seen.restored(server, holds));
        Ok(())
    }
}

impl Seen {
    fn installed(&mut self, server: Server, covers: Snapshot, rest: Rest) {
        let position = covers.position;
        let Some(node) = self.name(server) else { return };
        let state = self.invariants.state_at(position.index).unwrap_or_default();
        self.shadows[server.0].installed(covers, state, rest == Rest::Stays);
        let judged = self.invariants.restored(server, node, position, state);
        self.judge(judged);
        self.held.installed(server, position);
    }

    fn restored(&mut self, server: Server, holds: u64) {
        let Some(node) = self.name(server) else { return };
        let judged = self.held.restored(server, node, holds);
        self.judge(judged);
    }

    fn name(&self, server: Server) -> Option<NodeId> {
        let mut servers = self.servers.iter();
        servers.find(|(_, (known, _))| *known == server).map(|(node, _)| *node)
    }

    /// A command changed its machine so, which now holds that.
    fn applied(&mut self, server: Server, position: Position, (change, holds): (u64, u64)) {
        if let Some(node) = self.name(server) {
            let judged = self.held.applied(node, position.index, holds);
            self.judge(judged);
        }
        self.look_once_more(server, position.index);
        for application in self.shadows[server.0].applied(position, change) {
            let judged = self.invariants.applied(&application);
            self.judge(judged);
        }
    }
}

fn brings_configuration(write: &Write) -> bool {
    let Write::Entries { entries, .. } = write else { return false };
    entries.iter().any(|entry| matches!(entry.payload, Payload::Configuration(_)))
}

/// A command as numbers.
fn words(command: &Command) -> [u64; 5] {
    match command {
        Command::Write { key, value } => [1, *key, *value, 0, 0],
        Command::Cas { key, expected, value } => {
            [2, *key, *value, u64::from(expected.is_some()), expected.unwrap_or(0)]
        }
        Command::Fill { bytes } => {
            let folded = bytes.iter().map(|byte| u64::from(*byte)).fold(0, mix);
            [3, bytes.len() as u64, folded, 0, 0]
        }
    }
}

/// What a command did, as a number.
fn change(command: [u64; 5], output: Option<u64>) -> u64 {
    let outcome = [u64::from(output.is_some()), output.unwrap_or(0)];
    command.into_iter().chain(outcome).fold(0, mix)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
