//! The little language of the stories in `testdata`.
//!
//! One command after another, on lines or between bars; `#` begins a comment. Every word that is
//! not understood is an error that names file and line, and so is an expectation that fails.
//!
//! ```text
//! nodes 3 [KNOB ...]    start voters 1 to 3; knobs: inflight-1 uncommitted-2 tiny-messages lease
//! join N                start a server that knows nobody
//! campaign N | beat N   fire N's timer at its deadline, let everything follow
//! wait MS               let time pass; timers fire
//! open N | propose N TEXT [seq=S] [floor=F] [session=I] | read N | transfer N TO
//! learner N X | promote N X | remove N X        changes, proposed to N
//! fetch N FROM A B [by=L]   N is given the entries in (A, B] of FROM's log, for which its leader,
//!                       or L, vouches
//! fetching N X MS       N is told that X fetches for itself so long
//! cut A B | isolate N | lose N KIND | heal | connect A B
//! crash N | start N | pause N | resume N | snapshot N
//! stall N [after W]     N's disk finishes W more writes, then none | sync N
//! expect N KEY=VALUE .. role term leader commit applied start last log voters learners machine
//!                       halted, and the word `down`
//! answer N WORDS        the oldest answer of N that was not looked at
//! silent N              N has given no further answer
//! noted N WORDS         N made a note that begins so since the last look
//! heard N COUNT KIND    so many messages of this kind reached N since the last look
//! ```

use std::time::Duration;

use raft::{
    Change, Config, Index, Input, LeaseLimits, NodeId, Position, Proposal, RequestId, SessionId,
};

use super::cluster::{Cluster, command};

/// Runs a story. Returns its trace, or what went wrong and where.
pub(crate) fn run(name: &str, text: &str) -> Result<String, String> {
    let mut cluster = Cluster::new(&[]);
    let mut sequence = 0;
    for (number, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default();
        for words in line.split('|') {
            let words: Vec<&str> = words.split_whitespace().collect();
            let Some((verb, rest)) = words.split_first() else { continue };
            cluster.trace.push(format!("> {}", words.join(" ")));
            perform(&mut cluster, &mut sequence, verb, rest).map_err(|problem| {
                let trace = cluster.trace.join("\n");
                format!("{trace}\n\n{name}.txt:{}: {}: {problem}", number + 1, words.join(" "))
            })?;
        }
    }
    Ok(cluster.trace.join("\n"))
}

fn perform(
    cluster: &mut Cluster,
    sequence: &mut u64,
    verb: &str,
    words: &[&str],
) -> Result<(), String> {
    match (verb, words) {
        ("nodes", [count, knobs @ ..]) => *cluster = found(count, knobs)?,
        ("join", [node]) => cluster.join(number(node)?),
        ("wait", [ms]) => cluster.wait(Duration::from_millis(number(ms)?)),
        ("heal", []) => cluster.heal(),
        ("cut", [one, other]) => cluster.cut(number(one)?, number(other)?),
        ("lose", [node, kind]) => lose(cluster, number(node)?, kind)?,
        ("isolate", [node]) => cluster.isolate(known(cluster, node)?),
        ("crash", [node]) => cluster.crash(known(cluster, node)?),
        ("start", [node]) => cluster.start(known(cluster, node)?),
        ("stall", [node]) => cluster.stall(known(cluster, node)?, 0),
        ("stall", [node, "after", writes]) => cluster.stall(known(cluster, node)?, number(writes)?),
        ("sync", [node]) => cluster.sync(known(cluster, node)?),
        ("pause", [node]) => cluster.pause(known(cluster, node)?),
        ("expect", [node, facts @ ..]) => {
            let node = known(cluster, node)?;
            return facts.iter().try_for_each(|fact| expect(cluster, node, fact));
        }
        ("answer", [node, words @ ..]) => return answer(cluster, known(cluster, node)?, words),
        ("silent", [node]) => {
            let node = known(cluster, node)?;
            let rest = &cluster.nodes[&node].answers;
            return if rest.is_empty() { Ok(()) } else { Err(format!("it answered {rest:?}")) };
        }
        ("heard", [node, count, kind]) => {
            return heard(cluster, known(cluster, node)?, number(count)?, kind);
        }
        ("noted", [node, words @ ..]) => {
            return noted(cluster, known(cluster, node)?, &words.join(" "));
        }
        (_, [node, words @ ..]) => {
            let node = running(cluster, node)?;
            ask(cluster, sequence, verb, node, words)?;
        }
        _ => return Err(format!("{verb} is no command, or not with these words")),
    }
    cluster.settle();
    Ok(())
}

/// Commands to a running server.
fn ask(
    cluster: &mut Cluster,
    sequence: &mut u64,
    verb: &str,
    node: u8,
    words: &[&str],
) -> Result<(), String> {
    let small = |word: &str| number(word).map(NodeId::small);
    match (verb, words) {
        ("campaign" | "beat", []) => cluster.timeout(node),
        ("resume", []) => cluster.resume(node),
        ("snapshot", []) => cluster.snapshot(node),
        ("read", []) => cluster.read(node),
        ("open", []) => cluster.propose(node, Proposal::OpenSession { nonce: 1 }),
        ("propose", [text, options @ ..]) => {
            *sequence += 1;
            let proposal = proposal(text, *sequence, options)?;
            cluster.propose(node, proposal);
        }
        ("transfer", [to]) => cluster.input(node, Input::Transfer { to: small(to)? }),
        ("connect", [other]) => cluster.input(node, Input::Connected(small(other)?)),
        ("fetch", [from, after, last, by @ ..]) => {
            let from = running(cluster, from)?;
            fetch(cluster, node, from, number(after)?, number(last)?, by)?;
        }
        ("fetching", [other, ms]) => {
            let until = cluster.now.plus(Duration::from_millis(number(ms)?));
            cluster.input(node, Input::Fetching { node: small(other)?, until });
        }
        ("learner", [other]) => change(cluster, node, Change::AddLearner(small(other)?)),
        ("promote", [other]) => change(cluster, node, Change::Promote(small(other)?)),
        ("remove", [other]) => change(cluster, node, Change::Remove(small(other)?)),
        _ => return Err(format!("{verb} is no command, or not with these words")),
    }
    Ok(())
}

fn found(count: &str, knobs: &[&str]) -> Result<Cluster, String> {
    let voters: Vec<u8> = (1..=number(count)?).collect();
    let tune: fn(&mut Config) = match knobs {
        [] => |_| {},
        ["inflight-1"] => |config| config.inflight_entries_max = 1,
        ["uncommitted-2"] => |config| config.uncommitted_entries_max = 2,
        ["tiny-messages"] => |config| config.message_bytes_max = 1,
        ["lease"] => |config| config.lease = Some(LEASE),
        _ => return Err(format!("{} is no knob", knobs.join(" "))),
    };
    Ok(Cluster::tuned(&voters, tune))
}

fn proposal(text: &str, sequence: u64, options: &[&str]) -> Result<Proposal, String> {
    let mut proposal = command(sequence, text);
    for option in options {
        let Proposal::Command { request, floor, .. } = &mut proposal else { continue };
        match option.split_once('=') {
            Some(("seq", value)) => *request = RequestId { sequence: number(value)?, ..*request },
            Some(("floor", value)) => *floor = number(value)?,
            Some(("session", value)) => request.session = SessionId(Index(number(value)?)),
            _ => return Err(format!("{option} is none of seq= floor= session=")),
        }
        *floor = (*floor).min(request.sequence);
    }
    Ok(proposal)
}

fn change(cluster: &mut Cluster, node: u8, change: Change) {
    cluster.propose(node, Proposal::Change(change));
}

fn fetch(
    cluster: &mut Cluster,
    node: u8,
    from: u8,
    after: u64,
    last: u64,
    by: &[&str],
) -> Result<(), String> {
    let known = cluster.raft(node).leader();
    let leader = match by.first().map(|by| by.split_once('=')) {
        None => known.ok_or("it knows no leader")?,
        Some(Some(("by", leader))) => NodeId::small(number(leader)?),
        Some(_) => return Err("only by= may follow".into()),
    };
    let (log, term) = (cluster.raft(from).log(), cluster.raft(node).term());
    let after = Index(after);
    let prev = log.term_at(after).ok_or("its log does not reach there")?;
    let prev = Position { term: prev, index: after };
    let entries = log.slice(after.next()..=Index(last), usize::MAX);
    cluster.input(node, Input::Fetched { leader, term, prev, entries });
    Ok(())
}

fn lose(cluster: &mut Cluster, node: u8, kind: &str) -> Result<(), String> {
    cluster.lose(node, kind_of_message(kind)?);
    Ok(())
}

fn kind_of_message(word: &str) -> Result<&'static str, String> {
    let kinds = ["request-vote", "vote", "append", "append-reply", "heartbeat", "heartbeat-reply"];
    let mut known = kinds.into_iter().chain(["timeout-now", "install-snapshot"]);
    known.find(|known| *known == word).ok_or("no such kind of message".into())
}

fn expect(cluster: &Cluster, node: u8, fact: &str) -> Result<(), String> {
    if fact == "down" {
        let runs = cluster.nodes[&node].raft.is_some();
        return if runs { Err("it runs".into()) } else { Ok(()) };
    }
    let (key, wanted) = fact.split_once('=').ok_or(format!("{fact} is no KEY=VALUE"))?;
    let raft = cluster.nodes[&node].raft.as_ref().ok_or("it is down")?;
    let members = |set: &std::collections::BTreeSet<NodeId>| {
        let numbers: Vec<String> = set.iter().map(ToString::to_string).collect();
        if numbers.is_empty() { "none".to_owned() } else { numbers.join(",") }
    };
    let found = match key {
        "role" => format!("{:?}", raft.role()).to_lowercase(),
        "term" => raft.term().to_string(),
        "leader" => raft.leader().map_or("none".to_owned(), |leader| leader.to_string()),
        "commit" => raft.commit().to_string(),
        "applied" => raft.applied().to_string(),
        "last" => raft.last().to_string(),
        "start" => raft.log().start().to_string(),
        "log" => terms(raft),
        "voters" => members(&raft.configuration().voters),
        "learners" => members(&raft.configuration().learners),
        "machine" => match cluster.nodes[&node].machine.join(",") {
            empty if empty.is_empty() => "empty".to_owned(),
            commands => commands,
        },
        "halted" => raft.halted().is_some().to_string(),
        _ => return Err(format!("{key} is not known of a server")),
    };
    if found == wanted { Ok(()) } else { Err(format!("{key} is {found}")) }
}

/// The terms of a server's entries: `1,1,2`.
fn terms(raft: &raft::Raft) -> String {
    let first = raft.log().start().index.0 + 1;
    let terms = (first..=raft.last().index.0)
        .filter_map(|index| raft.log().term_at(Index(index)))
        .map(|term| term.to_string());
    terms.collect::<Vec<_>>().join(",")
}

fn answer(cluster: &mut Cluster, node: u8, words: &[&str]) -> Result<(), String> {
    let answers = cluster.nodes.get_mut(&node).map(|node| &mut node.answers);
    let Some(answers) = answers.filter(|answers| !answers.is_empty()) else {
        return Err("it has not answered".into());
    };
    let (found, wanted) = (answers.remove(0), words.join(" "));
    if found.starts_with(&wanted) { Ok(()) } else { Err(format!("it answered {found}")) }
}

fn noted(cluster: &mut Cluster, node: u8, name: &str) -> Result<(), String> {
    let Some(node) = cluster.nodes.get_mut(&node) else { return Err("no such server".into()) };
    let notes: Vec<String> = node.notes.drain(..).map(|note| format!("{note:?}")).collect();
    let is_there = notes.iter().any(|note| note.starts_with(name));
    if is_there { Ok(()) } else { Err(format!("it noted {notes:?}")) }
}

fn heard(cluster: &mut Cluster, node: u8, count: usize, kind: &str) -> Result<(), String> {
    let kind = kind_of_message(kind)?;
    let Some(node) = cluster.nodes.get_mut(&node) else { return Err("no such server".into()) };
    let found = node.heard.drain(..).filter(|heard| *heard == kind).count();
    if found == count { Ok(()) } else { Err(format!("it heard {found}")) }
}

fn known(cluster: &Cluster, word: &str) -> Result<u8, String> {
    let node = number(word)?;
    if cluster.nodes.contains_key(&node) { Ok(node) } else { Err(format!("no server {node}")) }
}

fn running(cluster: &Cluster, word: &str) -> Result<u8, String> {
    let node = known(cluster, word)?;
    if cluster.nodes[&node].raft.is_some() { Ok(node) } else { Err(format!("{node} is down")) }
}

fn number<T: std::str::FromStr>(word: &str) -> Result<T, String> {
    word.parse().map_err(|_| format!("{word} is no fitting number"))
}

/// Of 150 ms, 130 are left.
const LEASE: LeaseLimits = LeaseLimits { drift_ppm_max: 0, margin: Duration::from_millis(20) };
