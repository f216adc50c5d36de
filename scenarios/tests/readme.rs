//! The README's example of embedding the runtime is this file's: it compiles, and it runs.

use std::error::Error;
use std::io::{self, Read, Write};

use runtime::{ApplyContext, Bootstrap, Consistency, GroupKey, Network, StateMachine, storage};

/// The machine that the README speaks of.
#[derive(Default)]
struct Counter {
    value: u64,
}

impl StateMachine for Counter {
    type Command = u64;
    type Output = u64;
    type Query = ();
    type Answer = u64;

    const SIGNATURE: &'static str = "readme counter 1";

    fn apply(&mut self, command: u64, _: &ApplyContext) -> u64 {
        self.value = self.value.wrapping_add(command);
        self.value
    }

    fn query(&self, (): ()) -> u64 {
        self.value
    }

    fn snapshot(&self, writer: &mut dyn Write) -> io::Result<()> {
        writer.write_all(&self.value.to_le_bytes())
    }

    fn restore(&mut self, reader: &mut dyn Read) -> io::Result<()> {
        let mut bytes = [0; 8];
        reader.read_exact(&mut bytes)?;
        self.value = u64::from_le_bytes(bytes);
        Ok(())
    }
}

#[tokio::test]
async fn the_example_runs() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("store");
    // From here on it is the README's text.
    let network = Network::builder("my-app").build().await?;
    let group = network
        .group(GroupKey::from_secret("known to all members"))
        .machine(Counter::default())
        .storage(storage::Disk::at(&path))
        .bootstrap(Bootstrap::Solo)
        .join()
        .await?;
    group.when().leader_elected().await?;

    let executed = group.execute(2).await?;
    println!("{} stands at {} in the log", executed.output, executed.position);
    let queried = group.query((), Consistency::Strong).await?;
    assert_eq!(queried.answer, executed.output);
    network.shutdown().await;
    // To here.
    Ok(())
}

#[test]
fn the_readme_shows_what_is_tested() {
    let this = include_str!("readme.rs");
    let (_, example) = this.split_once("README's text.\n").unwrap();
    let (example, _) = example.split_once("    // To here.").unwrap();
    let shown: Vec<&str> =
        example.lines().map(|line| line.strip_prefix("    ").unwrap_or(line)).collect();
    let shown = format!("```rust\n{}\n```", shown.join("\n"));
    assert!(include_str!("../../README.md").contains(&shown), "README.md lacks:\n{shown}");
}
