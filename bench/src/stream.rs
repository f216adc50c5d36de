//! The yardstick of catching up: one stream of one connection that moves as many bytes.
//!
//! Over the same transport, between two nodes of this process.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use runtime::{Link, Network};
use tokio::task::JoinHandle;

/// A stream, and who reads it.
pub(crate) struct Stream {
    networks: [Network; 2],
    link: Link,
    reader: JoinHandle<()>,
}

impl Stream {
    pub(crate) async fn open() -> Result<Self> {
        let networks = [bind().await?, bind().await?];
        let [from, to] = &networks;
        let peer = to.peer();
        let (accepted, mut link) =
            tokio::try_join!(async { to.accept(PROTOCOL).await.context("nobody came") }, async {
                from.dial(&peer, PROTOCOL).await.context("dialing who reads")
            },)?;
        link.set_frame_bytes_max(FRAME_BYTES);
        Ok(Self { networks, link, reader: tokio::spawn(read(accepted)) })
    }

    /// How long it takes until all of them have come, and the word of it is back.
    pub(crate) async fn moves(&mut self, bytes: u64) -> Result<Duration> {
        let (clock, frame) = (self.networks[0].clock(), vec![7; FRAME_BYTES]);
        let began = clock.now();
        let mut left = bytes;
        self.link.send(&bytes.to_le_bytes()).await.context("saying how many come")?;
        while left > 0 {
            let length = left.min(FRAME_BYTES as u64);
            self.link.send(&frame[..usize::try_from(length)?]).await.context("sending")?;
            left -= length;
        }
        let word = self.link.recv().await.context("who reads went away")?;
        ensure!(word[..] == bytes.to_le_bytes(), "other bytes came than were sent");
        Ok(clock.now().since(began))
    }

    pub(crate) async fn close(self) {
        drop(self.link);
        for network in self.networks {
            network.shutdown().await;
        }
        // Whatever it reads comes to an end with its network.
        drop(self.reader.await);
    }
}

async fn bind() -> Result<Network> {
    let builder = Network::builder("bench").bind(([127, 0, 0, 1], 0).into());
    Ok(builder.protocol(PROTOCOL).build().await?)
}

/// Reads as many bytes as are announced, says so, and reads on, until the link is gone.
async fn read(mut link: Link) {
    link.set_frame_bytes_max(FRAME_BYTES);
    while let Some(announced) = link.recv().await {
        let Ok(announced) = <[u8; 8]>::try_from(&announced[..]) else { return };
        let mut came = 0;
        while came < u64::from_le_bytes(announced) {
            let Some(frame) = link.recv().await else { return };
            came += frame.len() as u64;
        }
        if link.send(&came.to_le_bytes()).await.is_err() {
            return;
        }
    }
}

const PROTOCOL: &str = "bench-stream/1";
/// What a chunk weighs at most.
const FRAME_BYTES: usize = 512 << 10;
