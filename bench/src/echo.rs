//! The yardstick and the machine: an echo over a plain link, and a state machine that echoes.
//!
//! Both move the same bytes, so that what is left over is the cost of consensus.

use std::io;

use anyhow::{Context, Result};
use bytes::Bytes;
use runtime::{ApplyContext, Link, Network, Peer, StateMachine};
use tokio::task::JoinHandle;

/// The protocol of the plain echo.
pub(crate) const PROTOCOL: &str = "bench-echo/1";

/// Returns whatever it is given.
#[derive(Default)]
pub(crate) struct Echo {
    applied: u64,
}

impl StateMachine for Echo {
    type Command = Bytes;
    type Output = Bytes;
    type Query = ();
    type Answer = u64;
    const SIGNATURE: &'static str = "bench echo 3";

    fn apply(&mut self, command: Bytes, _: &ApplyContext) -> Bytes {
        self.applied += command.len() as u64;
        command
    }

    fn query(&self, (): ()) -> u64 {
        self.applied
    }

    fn snapshot(&self, writer: &mut dyn io::Write) -> io::Result<()> {
        writer.write_all(&self.applied.to_le_bytes())
    }

    fn restore(&mut self, reader: &mut dyn io::Read) -> io::Result<()> {
        let mut applied = [0; 8];
        reader.read_exact(&mut applied)?;
        self.applied = u64::from_le_bytes(applied);
        Ok(())
    }
}

/// Echoes for whoever dials, until the network is shut down.
pub(crate) fn serve(network: Network) -> JoinHandle<()> {
    tokio::spawn(async move {
        while let Some(mut link) = network.accept(PROTOCOL).await {
            tokio::spawn(async move {
                while let Some(frame) = link.recv().await {
                    if link.send(&frame).await.is_err() {
                        return;
                    }
                }
            });
        }
    })
}

/// A link to the echo of another node.
pub(crate) async fn dial(network: &Network, peer: &Peer) -> Result<Link> {
    network.dial(peer, PROTOCOL).await.context("dialing the echo")
}

/// There and back.
pub(crate) async fn once(link: &mut Link, bytes: &[u8]) -> Result<()> {
    link.send(bytes).await.context("sending an echo")?;
    let back = link.recv().await.context("the echo's link closed")?;
    anyhow::ensure!(back.len() == bytes.len(), "the echo came back changed");
    Ok(())
}
