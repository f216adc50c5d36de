//! A relay on loopback. mosaik's networks call themselves up once they are connected to one;
//! nothing of what is measured goes through it.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context, Result};
use iroh_relay::{
    RelayConfig as Known, RelayMap,
    server::{AccessConfig, Limits, RelayConfig, Server, ServerConfig},
};
use mosaik::iroh::RelayMode;

/// Serves for as long as it is kept.
pub(crate) struct Relay {
    _server: Server,
    known: Known,
}

impl Relay {
    pub(crate) async fn start() -> Result<Self> {
        let relay = RelayConfig::<(), ()> {
            http_bind_addr: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            tls: None,
            limits: Limits::default(),
            key_cache_capacity: None,
            access: AccessConfig::Everyone,
        };
        let config = ServerConfig { relay: Some(relay), ..ServerConfig::default() };
        let server = Server::spawn(config).await.context("starting a relay on loopback")?;
        let address = server.http_addr().context("the relay has no address")?;
        let url = format!("http://{address}").parse().context("the relay's address")?;
        Ok(Self { _server: server, known: Known { url, quic: None } })
    }

    /// How a network comes to use it, and no other.
    pub(crate) fn mode(&self) -> RelayMode {
        RelayMode::Custom(RelayMap::from(self.known.clone()))
    }
}
