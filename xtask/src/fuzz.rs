//! `cargo xtask fuzz`: all fuzz targets in turn, from the committed corpus on.
//!
//! The targets are in `fuzz/`, a workspace of its own. cargo-fuzz is installed into `.tools` when it
//! is missing. Its compiler flags are unstable ones, which the stable compiler takes when it is told
//! to (`RUSTC_BOOTSTRAP=1`): no second toolchain is needed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A version that is known to build with our toolchain.
const CARGO_FUZZ: &str = "0.13.2";
/// Memory for one target, in MiB: a parser that takes more has no bounds.
const MEMORY: &str = "2048";
/// Seconds for one input: a parser that takes longer has no end.
const TIMEOUT: &str = "20";

/// Runs the task.
pub fn run(args: &[String]) -> Result<(), String> {
    let (seconds, chosen) = parse(args)?;
    let root = crate::root();
    let all = targets(&root)?;
    if let Some(unknown) = chosen.iter().find(|name| !all.contains(name)) {
        return Err(format!("there is no target {unknown}; there are {}", all.join(", ")));
    }
    let chosen = if chosen.is_empty() { all } else { chosen };
    let bin = cargo_fuzz(&root)?;
    let mut fell = Vec::new();
    for target in &chosen {
        println!("== {target}, {seconds} s");
        // What a run finds goes here, and the committed seeds stay as they are.
        let found = root.join("target/fuzz-corpus").join(target);
        fs::create_dir_all(&found).map_err(|e| format!("{}: {e}", found.display()))?;
        let mut command = Command::new(bin.join("cargo-fuzz"));
        command.args(["fuzz", "run", "--release", "--fuzz-dir"]).arg(root.join("fuzz"));
        command.arg(target).arg(&found).arg(root.join("fuzz/corpus").join(target));
        command.args(["--", &format!("-max_total_time={seconds}"), "-max_len=65536"]);
        command.arg(format!("-rss_limit_mb={MEMORY}")).arg(format!("-timeout={TIMEOUT}"));
        command.arg("-print_final_stats=1");
        command.env("RUSTC_BOOTSTRAP", "1").env("CARGO", crate::cargo()).current_dir(&root);
        let status = command.status().map_err(|e| format!("cannot run cargo-fuzz: {e}"))?;
        if !status.success() {
            fell.push(target.as_str());
        }
    }
    if fell.is_empty() {
        println!("{} targets, {seconds} s each: none fell", chosen.len());
        Ok(())
    } else {
        Err(format!("fell: {}; the inputs are in fuzz/artifacts", fell.join(", ")))
    }
}

/// Seconds for each target, and the targets that are named.
fn parse(args: &[String]) -> Result<(u64, Vec<String>), String> {
    let (mut seconds, mut chosen) = (60, Vec::new());
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--seconds" => {
                let number = args.next().and_then(|text| text.parse().ok()).filter(|n| *n > 0);
                seconds = number.ok_or("--seconds needs a number, at least 1")?;
            }
            option if option.starts_with('-') => {
                return Err(format!(
                    "unknown argument {option}; there are --seconds N and targets"
                ));
            }
            target => chosen.push(target.to_owned()),
        }
    }
    Ok((seconds, chosen))
}

fn targets(root: &Path) -> Result<Vec<String>, String> {
    let directory = root.join("fuzz/targets");
    let entries = fs::read_dir(&directory).map_err(|e| format!("{}: {e}", directory.display()))?;
    let mut names: Vec<String> = entries
        .flatten()
        .filter_map(|entry| Some(entry.file_name().to_str()?.strip_suffix(".rs")?.to_owned()))
        .collect();
    names.sort();
    Ok(names)
}

/// Where cargo-fuzz is; installed when it is nowhere.
fn cargo_fuzz(root: &Path) -> Result<PathBuf, String> {
    let own = root.join(".tools/bin");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places = std::env::split_paths(&path).chain([own.clone()]);
    if let Some(place) = places.find(|place| place.join("cargo-fuzz").is_file()) {
        return Ok(place);
    }
    let mut command = Command::new(crate::cargo());
    command.args(["install", "--locked", "--version", CARGO_FUZZ, "cargo-fuzz", "--root"]);
    let status = command.arg(root.join(".tools")).status().map_err(|e| format!("cargo: {e}"))?;
    if status.success() { Ok(own) } else { Err("cannot install cargo-fuzz".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments() {
        let parse =
            |args: &[&str]| parse(&args.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(parse(&[]).unwrap(), (60, Vec::new()));
        assert_eq!(parse(&["tree", "--seconds", "5"]).unwrap(), (5, vec!["tree".to_owned()]));
        assert!(parse(&["--seconds", "0"]).is_err());
        assert!(parse(&["--second"]).is_err());
    }

    #[test]
    fn every_target_has_a_corpus() {
        let all = targets(&crate::root()).unwrap();
        assert!(all.len() > 5, "{all:?}");
        for target in all {
            assert!(crate::root().join("fuzz/corpus").join(&target).is_dir(), "{target}");
        }
    }
}
