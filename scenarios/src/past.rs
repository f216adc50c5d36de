//! Past runs: a table of them, and the page of one.
//!
//! Reads folders and judges nothing. Invariant: a run that cannot be read is told with the reason,
//! and hides no other.

use std::env;
use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use reports::{PastRun, RunFolder};
use serde_json::json;

use crate::overrides::within;
use crate::{check, rerun};

/// Which of the past runs to name, and how.
#[derive(Args, Debug, Clone, PartialEq)]
pub(crate) struct ListOptions {
    /// The directory in which `runs` is
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub(crate) out: PathBuf,
    /// How many, the newest first
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = within::<1, LIMIT_MAX>)]
    pub(crate) limit: u64,
    /// Print JSON to standard output, and nothing else
    #[arg(long)]
    pub(crate) json: bool,
}

/// The past runs, newest first.
///
/// # Errors
/// A folder that cannot be read, and a limit that is none.
pub(crate) fn list(options: &ListOptions) -> anyhow::Result<String> {
    let ListOptions { out, limit, json } = options;
    ensure!(
        (1..=LIMIT_MAX).contains(limit),
        "--limit is {limit}, but must lie between 1 and {LIMIT_MAX}"
    );
    let limit = usize::try_from(*limit).context("--limit")?;
    ensure!(
        out.exists(),
        "--out is {}, but there is no such directory: use the one in which runs is",
        out.display()
    );
    ensure!(
        out.is_dir(),
        "--out is {}, but that is no directory: use the one in which runs is",
        out.display()
    );
    let (runs, more) = reports::past_runs(out, limit)?;
    if *json {
        let runs: Vec<serde_json::Value> = runs.iter().map(entry).collect();
        let list = json!({ "runs": runs, "more": more });
        return Ok(serde_json::to_string_pretty(&list).context("the list")? + "\n");
    }
    if runs.is_empty() {
        return Ok(format!("no runs below {}\n", out.join("runs").display()));
    }
    let mut text = table(&runs.iter().map(row).collect::<Vec<_>>());
    if more > 0 {
        text.push_str(&format!("and {more} older; --limit shows more\n"));
    }
    Ok(text)
}

fn entry(run: &PastRun) -> serde_json::Value {
    let PastRun { folder, started, record } = run;
    let folder = folder.path().display().to_string();
    match record {
        Ok(record) => json!({
            "folder": folder, "started": started, "scenario": record.scenario,
            "world": record.world, "verdict": record.verdict, "headline": record.headline(),
            "seed": format!("{:#018x}", record.seed), "build": record.environment.build_profile,
            "error": null,
        }),
        Err(error) => json!({
            "folder": folder, "started": started, "scenario": null, "world": null,
            "verdict": null, "headline": null, "seed": null, "build": null,
            "error": error.to_string(),
        }),
    }
}

/// When, what, where, its verdict, its figure, its folder.
fn row(run: &PastRun) -> Vec<String> {
    let PastRun { folder, started, record } = run;
    let started = started.as_deref().map_or("-", |started| started.trim_end_matches(" UTC"));
    let path = folder.path().display().to_string();
    let of_name = || folder.path().parent()?.file_name()?.to_str().map(str::to_owned);
    let cells = match record {
        Ok(record) => [
            record.scenario.clone(),
            record.world.clone(),
            record.verdict.as_str().to_owned(),
            record.headline().unwrap_or_else(|| "-".to_owned()),
            path,
        ],
        // The error names the folder.
        Err(error) => [
            of_name().unwrap_or_default(),
            "-".to_owned(),
            "broken".to_owned(),
            error.to_string(),
            String::new(),
        ],
    };
    [started.to_owned()].into_iter().chain(cells).map(|cell| plain(&cell)).collect()
}

fn table(rows: &[Vec<String>]) -> String {
    let heading = ["started, UTC", "scenario", "world", "verdict", "figure", "folder"];
    let heading: Vec<String> = heading.map(str::to_owned).to_vec();
    let rows: Vec<&Vec<String>> = [&heading].into_iter().chain(rows).collect();
    let width = |column: usize| {
        // A row without a folder may be as long as it likes.
        let whole = rows.iter().filter(|row| row.last().is_some_and(|cell| !cell.is_empty()));
        whole.map(|row| row[column].chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..heading.len()).map(width).collect();
    let line = |row: &&Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        format!("{}\n", cells.collect::<Vec<_>>().join("  ").trim_end())
    };
    rows.iter().map(line).collect()
}

/// One line, no escape sequences, not endless.
fn plain(text: &str) -> String {
    text.chars().take(CELL_CHARS_MAX).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Says where the page of a run is, and shows it to whoever sits at a screen.
///
/// # Errors
/// A folder that holds no run or no page, with the way to one.
pub(crate) fn open(run: &Path, has_json: bool) -> anyhow::Result<String> {
    let folder = RunFolder::open(run)?;
    let Some(page) = folder.page() else {
        check::refuse_bench(&folder, &folder.read_record()?)?;
        let check = rerun::of(&["check".to_owned(), run.display().to_string()]);
        bail!(
            "{} has no index.html: its harness was killed before it drew one, or it was made by an \
             older version; this draws it:\n{check}",
            run.display()
        );
    };
    let page = page.canonicalize().with_context(|| page.display().to_string())?;
    let is_opened = has_screen() && !has_json && show(&page);
    if has_json {
        let path = page.display().to_string();
        let told = json!({ "page": path, "url": url(&page), "opened": is_opened });
        return Ok(format!("{told}\n"));
    }
    Ok(format!("{}\n", url(&page)))
}

/// Whether somebody looks at a terminal of this machine's own desktop.
fn has_screen() -> bool {
    let is_set = |name| env::var_os(name).is_some_and(|value| !value.is_empty());
    io::stdout().is_terminal() && (is_set("DISPLAY") || is_set("WAYLAND_DISPLAY"))
}

/// Hands it to the desktop. Where that cannot be done, the address was printed.
fn show(page: &Path) -> bool {
    let mut opener = Command::new("xdg-open");
    opener.arg(page).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    opener.spawn().is_ok()
}

/// The path as an address: what has a meaning there is escaped.
fn url(path: &Path) -> String {
    let mut url = "file://".to_owned();
    for byte in path.as_os_str().as_encoded_bytes() {
        match byte {
            b'/' | b'-' | b'_' | b'.' | b'~' => url.push(char::from(*byte)),
            byte if byte.is_ascii_alphanumeric() => url.push(char::from(*byte)),
            byte => url.push_str(&format!("%{byte:02X}")),
        }
    }
    url
}

const LIMIT_MAX: u64 = 10_000;
const CELL_CHARS_MAX: usize = 300;

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn options(out: &Path, limit: u64, json: bool) -> ListOptions {
        ListOptions { out: out.to_owned(), limit, json }
    }

    /// Four runs, one of them damaged.
    fn runs() -> tempfile::TempDir {
        let out = tempfile::tempdir().unwrap();
        for (scenario, utc_unix_s, verdict) in
            [("steady", 1_000, "valid"), ("steady", 3_000, "unknown"), ("x", 2_000, "invalid")]
        {
            let folder = RunFolder::create(out.path(), scenario, utc_unix_s, 7, 1).unwrap();
            let record = format!(
                "{{\"schema_version\":1,\"scenario\":\"{scenario}\",\"world\":\"sim\",\
                 \"transport\":\"\",\"seed\":\"0x1\",\"verdict\":\"{verdict}\",\"plan\":{{}},\
                 \"environment\":{{\"commit\":\"\",\"build_profile\":\"debug\",\"rustc\":\"\",\
                 \"machine\":\"\"}},\"metrics\":{{\"outage_ms\":{{\"count\":3,\"min\":1,\
                 \"p50\":176,\"p90\":2,\"max\":245,\"mean\":2}}}}}}"
            );
            fs::write(folder.path().join("run.json"), record).unwrap();
        }
        let broken = RunFolder::create(out.path(), "x", 4_000, 7, 1).unwrap();
        fs::write(broken.path().join("run.json"), "{\"schema_version\":1,").unwrap();
        out
    }

    #[test]
    fn the_newest_come_first_and_the_damaged_say_what_is_wrong() {
        let out = runs();
        let text = list(&options(out.path(), 3, false)).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].starts_with("started, UTC         scenario  world  verdict"), "{text}");
        assert!(lines[1].starts_with("1970-01-01 01:06:40  x"), "{text}");
        assert!(lines[1].contains("broken") && lines[1].contains("run.json, line 1"), "{text}");
        assert!(lines[2].contains("steady") && lines[2].contains("unknown"), "{text}");
        assert!(lines[3].contains("invalid  outage p50 176 ms, max 245 ms of 3"), "{text}");
        assert_eq!(lines[4], "and 1 older; --limit shows more");
        let json: serde_json::Value =
            serde_json::from_str(&list(&options(out.path(), 9, true)).unwrap()).unwrap();
        assert_eq!((json["runs"].as_array().unwrap().len(), &json["more"]), (4, &0.into()));
        assert!(json["runs"][0]["error"].as_str().unwrap().contains("run.json"), "{json}");
        assert_eq!(json["runs"][3]["started"], "1970-01-01 00:16:40 UTC");
    }

    #[test]
    fn no_runs_and_no_limit_are_said() {
        let out = tempfile::tempdir().unwrap();
        let text = list(&options(out.path(), 3, false)).unwrap();
        assert!(text.starts_with("no runs below ") && text.ends_with("/runs\n"), "{text}");
        let missing = out.path().join("nope");
        for json in [false, true] {
            let error = list(&options(&missing, 3, json)).unwrap_err().to_string();
            let expected = format!("--out is {}, but there is no such", missing.display());
            assert!(error.starts_with(&expected), "{error}");
        }
        let file = out.path().join("file");
        fs::write(&file, "").unwrap();
        let error = list(&options(&file, 3, false)).unwrap_err().to_string();
        let expected = format!("--out is {}, but that is no directory: use", file.display());
        assert!(error.starts_with(&expected), "{error}");
        for limit in [0, LIMIT_MAX + 1] {
            let error = list(&options(out.path(), limit, false)).unwrap_err().to_string();
            assert!(error.contains("between 1 and 10000"), "{error}");
        }
    }

    #[test]
    fn a_page_has_an_address_and_a_run_without_one_a_way_to_it() {
        let out = runs();
        let latest = out.path().join("runs/latest");
        let error = open(&latest, false).unwrap_err().to_string();
        assert!(error.contains("run.json, line 1"), "it is damaged: {error}");
        let sound = &reports::past_runs(out.path(), 2).unwrap().0[1].folder;
        fs::copy(sound.path().join("run.json"), latest.join("run.json")).unwrap();
        let error = open(&latest, false).unwrap_err().to_string();
        assert!(error.contains("has no index.html") && error.contains("-- check "), "{error}");
        fs::write(latest.join("index.html"), "").unwrap();
        let text = open(&latest, false).unwrap();
        assert!(text.starts_with("file:///") && text.ends_with("-1/index.html\n"), "{text}");
        assert!(!text.contains("latest"), "it stays the page of this run: {text}");
        let json: serde_json::Value = serde_json::from_str(&open(&latest, true).unwrap()).unwrap();
        assert_eq!((&json["url"], &json["opened"]), (&text.trim_end().into(), &false.into()));
        assert_eq!(url(Path::new("/a b/ä#?%.html")), "file:///a%20b/%C3%A4%23%3F%25.html");
    }
}
