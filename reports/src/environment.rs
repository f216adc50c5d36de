//! What ran: the commit, the build and the machine, as far as they can be found out.
//!
//! Asks git and `/proc` and believes neither to be there: what cannot be told is `unknown`.
//! Invariant: it never fails and never names the user, the host or a path.

use crate::Environment;
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::SystemTime;

impl Environment {
    /// The environment of this process.
    pub fn here() -> Self {
        let build_profile = if cfg!(debug_assertions) { "debug" } else { "release" };
        Self {
            commit: commit().unwrap_or_else(unknown),
            build_profile: build_profile.to_owned(),
            rustc: env!("RUSTC_VERSION").to_owned(),
            machine: machine(),
        }
    }
}

/// The commit of the sources that this was built from, as far as they are still there: `-dirty`
/// where they have been edited, `-older` where another commit has come in their place since.
fn commit() -> Option<String> {
    let found = git(&["rev-parse", "--show-prefix", "--short=12", "HEAD"])?;
    let (prefix, hash) = found.split_once('\n')?;
    // Sources without a repository of their own may lie in somebody else's.
    if prefix != concat!(env!("CARGO_PKG_NAME"), "/") || hash.is_empty() {
        return None;
    }
    // Files that git does not know count as well: cargo compiles them.
    let is_clean = git(&["status", "--porcelain"])?.is_empty();
    Some(match (is_clean, is_older()) {
        (false, _) => format!("{hash}-dirty"),
        (true, true) => format!("{hash}-older"),
        (true, false) => hash.to_owned(),
    })
}

/// Whether this program was built before the commit that is checked out was.
fn is_older() -> bool {
    let moved = git(&["rev-parse", "--path-format=absolute", "--git-path", "logs/HEAD"]);
    let moved = moved.and_then(|path| modified(Path::new(&path)));
    let built = std::env::current_exe().ok().and_then(|program| modified(&program));
    // Where git keeps no log of it nothing can be told.
    built.zip(moved).is_some_and(|(built, moved)| built < moved)
}

fn modified(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).ok()?.modified().ok()
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git")
        .args(["--no-optional-locks", "-C", env!("CARGO_MANIFEST_DIR")])
        .args(arguments)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim_end().to_owned())
}

/// Processor, cores, memory, system.
fn machine() -> String {
    let processor = field("/proc/cpuinfo", "model name").unwrap_or_else(unknown);
    let cores = thread::available_parallelism().map_or_else(|_| unknown(), |n| n.to_string());
    let memory = field("/proc/meminfo", "MemTotal").and_then(|text| gibibytes(&text));
    let system = read("/proc/sys/kernel/osrelease").map(|release| release.trim().to_owned());
    format!(
        "{processor}, {cores} cores, {} memory, {} {}",
        memory.unwrap_or_else(unknown),
        std::env::consts::OS,
        system.unwrap_or_else(unknown)
    )
}

/// The first `name : value` of a file of such lines.
fn field(path: &str, name: &str) -> Option<String> {
    value_of(&read(path)?, name)
}

fn value_of(text: &str, name: &str) -> Option<String> {
    let mut fields = text.lines().filter_map(|line| line.split_once(':'));
    let (_, value) = fields.find(|(key, _)| key.trim() == name)?;
    Some(value.trim().to_owned())
}

/// `7.6 GiB` of `8016332 kB`.
fn gibibytes(text: &str) -> Option<String> {
    let kib: f64 = text.strip_suffix("kB")?.trim().parse().ok()?;
    Some(format!("{:.1} GiB", kib / (1024.0 * 1024.0)))
}

/// Files under `/proc` have no length that could be asked for, hence the limit.
fn read(path: &str) -> Option<String> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(FILE_BYTES_MAX).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

fn unknown() -> String {
    "unknown".to_owned()
}

const FILE_BYTES_MAX: u64 = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_fields_are_found_by_their_whole_name() {
        let text = "processor\t: 0\nmodel name\t: Some CPU @ 2 GHz\nmodel name\t: Other\n";
        assert_eq!(value_of(text, "model name").as_deref(), Some("Some CPU @ 2 GHz"));
        assert_eq!(value_of(text, "model"), None);
        assert_eq!(gibibytes("8388608 kB").as_deref(), Some("8.0 GiB"));
        assert_eq!(gibibytes("many"), None);
    }

    #[test]
    fn every_field_of_this_environment_says_something() {
        let Environment { commit, build_profile, rustc, machine } = Environment::here();
        let hash = commit.split_once('-').map_or(commit.as_str(), |(hash, _)| hash);
        let is_hash = hash.len() >= 12 && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
        assert!(is_hash || commit == "unknown", "{commit}");
        assert!(["debug", "release"].contains(&build_profile.as_str()), "{build_profile}");
        assert!(rustc.starts_with("rustc ") || rustc == "unknown", "{rustc}");
        assert!(machine.contains(" cores, "), "{machine}");
    }
}
