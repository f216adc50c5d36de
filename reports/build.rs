//! Hands the compiler's version to the crate: a binary cannot ask for it later.

use std::env;
use std::process::Command;

fn main() {
    let compiler = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let version = Command::new(compiler).arg("--version").output();
    let version = version.ok().filter(|output| output.status.success()).and_then(|output| {
        let text = String::from_utf8(output.stdout).ok()?;
        text.lines().next().map(str::to_owned)
    });
    println!("cargo::rustc-env=RUSTC_VERSION={}", version.as_deref().unwrap_or("unknown"));
    println!("cargo::rerun-if-changed=build.rs");
}
