//! A process full of strangers: each has an identity and a socket of its own, and dials a node
//! that does not know it.
//!
//! They dial by turns, in one of four ways: for a protocol that nobody speaks; and then, once
//! connected, to say nothing, to say garbage, or to go away at once. Invariant: how many dials
//! there are, and for how long, is fixed before the first; the process ends with its input, also
//! in the middle of a stretch.

use std::{collections::BTreeMap, io::Write, net::Ipv4Addr, process, thread, time::Duration};

use anyhow::{Context, Result, ensure};
use iroh::{
    Endpoint, EndpointAddr, PublicKey, RelayMode, TransportAddr,
    endpoint::{ConnectionError, PortmapperConfig, presets},
};
use runtime::{Clock, Peer, SystemClock};
use serde::{Deserialize, Serialize};
use tokio::{sync::mpsc, task::JoinSet};

/// What the strangers shall do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Orders {
    /// Whom to dial.
    pub(crate) target: Peer,
    /// How many strangers there are.
    pub(crate) strangers: u32,
    /// From how many addresses of loopback they come.
    pub(crate) addresses: u32,
    /// Dials each second, of all together.
    pub(crate) rate_per_s: u32,
}

/// One stretch of dials: in milliseconds.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Stretch {
    pub(crate) duration_ms: u64,
}

/// What became of dials, by what ended them.
pub(crate) type Fates = BTreeMap<String, u64>;

/// The body of the process: reads its orders, says when all strangers are there, then answers
/// each stretch with what became of its dials.
pub(crate) fn main() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut lines = lines();
        let orders: Orders = serde_json::from_str(&lines.recv().await.context("the orders")?)?;
        let mut strangers = Vec::new();
        for number in 0..orders.strangers {
            strangers.push(endpoint(number % orders.addresses).await?);
        }
        say(&strangers.len())?;
        let mut turn = 0;
        while let Some(line) = lines.recv().await {
            let stretch = serde_json::from_str(&line).context("a stretch")?;
            say(&dial(&strangers, &orders, stretch, &mut turn).await?)?;
        }
        Ok(())
    })
}

async fn dial(
    strangers: &[Endpoint],
    orders: &Orders,
    stretch: Stretch,
    turn: &mut usize,
) -> Result<Fates> {
    let clock = SystemClock::new();
    let dials = u64::from(orders.rate_per_s) * stretch.duration_ms / 1_000;
    let (mut under_way, mut fates) = (JoinSet::new(), Fates::new());
    for number in 0..dials {
        let due = Duration::from_micros(1_000_000 * number / u64::from(orders.rate_per_s));
        clock.sleep_until(runtime::Time(due)).await;
        let stranger = strangers[*turn % strangers.len()].clone();
        under_way.spawn(knock(stranger, orders.target.clone(), *turn));
        *turn += 1;
        while let Some(fate) = under_way.try_join_next() {
            *fates.entry(fate?).or_default() += 1;
        }
    }
    while let Some(fate) = under_way.join_next().await {
        *fates.entry(fate?).or_default() += 1;
    }
    Ok(fates)
}

/// Dials once, and says what came of it.
async fn knock(stranger: Endpoint, target: Peer, turn: usize) -> String {
    let id = PublicKey::from_bytes(&target.id.0).expect("a node's id is a public key");
    let addresses = target.addresses.iter().copied().map(TransportAddr::Ip);
    let address = EndpointAddr::from_parts(id, addresses);
    let way = turn % 4;
    let alpn: &[u8] = if way == 0 { b"unheard/1" } else { b"tessera/bond/4" };
    let dialed = tokio::time::timeout(PATIENCE, stranger.connect(address, alpn)).await;
    let connection = match dialed {
        Ok(Ok(connection)) => connection,
        Ok(Err(_)) => return "not_connected".into(),
        Err(_) => return "no_answer".into(),
    };
    match way {
        1 => {}
        2 => {
            if let Ok((mut sender, _)) = connection.open_bi().await {
                // It may be closed already: then the reason says so.
                drop(sender.write_all(&[0x5a; 256]).await);
                return ended(&connection).await;
            }
        }
        _ => return "left".into(),
    }
    ended(&connection).await
}

async fn ended(connection: &iroh::endpoint::Connection) -> String {
    match tokio::time::timeout(PATIENCE, connection.closed()).await {
        Ok(ConnectionError::ApplicationClosed(close)) => format!("closed_{}", close.error_code),
        Ok(_) => "broken".into(),
        Err(_) => "not_closed".into(),
    }
}

async fn endpoint(address: u32) -> Result<Endpoint> {
    // 127.1.0.0 and on: 2^16 addresses that are loopback's and nobody's.
    let offset = u16::try_from(address).context("at most 65 536 addresses")?;
    let [high, low] = offset.to_be_bytes();
    let ip = Ipv4Addr::new(127, 1, high, low);
    let endpoint = Endpoint::builder(presets::Minimal)
        .relay_mode(RelayMode::Disabled)
        .portmapper_config(PortmapperConfig::Disabled)
        .clear_address_lookup()
        .clear_ip_transports()
        .bind_addr((ip, 0))?
        .bind()
        .await?;
    ensure!(!endpoint.bound_sockets().is_empty(), "a stranger without a socket");
    Ok(endpoint)
}

/// What it is told, line by line. Input is read aside: this thread carries the strangers.
fn lines() -> mpsc::Receiver<String> {
    let (told, lines) = mpsc::channel(LINES_MAX);
    thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            if told.blocking_send(line).is_err() {
                return;
            }
        }
        // Whoever told it things is gone, and nobody waits for what becomes of the dials.
        process::exit(0);
    });
    lines
}

fn say(words: &impl Serialize) -> Result<()> {
    let mut output = std::io::stdout().lock();
    writeln!(output, "{}", serde_json::to_string(words)?)?;
    Ok(output.flush()?)
}

/// It is told one thing at a time.
const LINES_MAX: usize = 4;
/// Longer than a node has patience with anyone.
const PATIENCE: Duration = Duration::from_secs(10);
