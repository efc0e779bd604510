//! `cargo xtask soak`: wrecks by the hundred.
//!
//! The same as the slice in the ordinary tests (`tests/tests/wrecks.rs`), for as many as one likes.
//! Wreck number K of a soak with seed S is the wreck with seed S + K, so that any of them can be
//! seen again by itself: `cargo xtask soak --count 1 --seed NUMBER`.

use std::process::Command;

/// Runs the task.
pub fn run(args: &[String]) -> Result<(), String> {
    let (count, seed) = parse(args)?;
    let seed = seed.unwrap_or_else(|| u64::from(std::process::id()) * 1_000_003);
    println!("{count} wrecks, seed {seed}");
    let cargo = |args: &[&str]| {
        let mut command = Command::new(crate::cargo());
        command.args(args).current_dir(crate::root());
        command
    };
    let run = |command: &mut Command, what: &str| {
        let status = command.status().map_err(|e| format!("cannot run {what}: {e}"))?;
        if status.success() { Ok(()) } else { Err(format!("{what} failed, seed {seed}")) }
    };
    run(&mut cargo(&["build", "--locked", "-p", "provault"]), "the build")?;
    let test = ["test", "--locked", "-p", "provault-tests", "--test", "wrecks", "--"];
    let name = ["nothing_is_lost_in_a_wreck", "--exact", "--nocapture"];
    let mut command = cargo(&[&test[..], &name[..]].concat());
    command.env("PROVAULT_WRECKS", count.to_string());
    command.env("PROVAULT_TEST_SEED", seed.to_string());
    // A run that found no such test would succeed as well.
    let done = std::env::temp_dir().join(format!("provault-soak-{}", std::process::id()));
    command.env("PROVAULT_WRECKS_DONE", &done);
    run(&mut command, "a wreck")?;
    let told = std::fs::read_to_string(&done).unwrap_or_default();
    let _ = std::fs::remove_file(&done);
    if told != count.to_string() {
        return Err(format!("{count} wrecks were asked for, and the test tells of '{told}'"));
    }
    println!("{count} wrecks, seed {seed}: nothing was lost");
    Ok(())
}

fn parse(args: &[String]) -> Result<(u64, Option<u64>), String> {
    let (mut count, mut seed) = (300, None);
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let number = args.next().and_then(|text| text.parse().ok());
        let number = number.ok_or_else(|| format!("{arg} needs a number"))?;
        match arg.as_str() {
            "--count" => count = number,
            "--seed" => seed = Some(number),
            other => return Err(format!("unknown argument {other}; there are --count and --seed")),
        }
    }
    Ok((count, seed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments() {
        let parse =
            |args: &[&str]| parse(&args.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(parse(&[]).unwrap(), (300, None));
        assert_eq!(parse(&["--seed", "7", "--count", "2"]).unwrap(), (2, Some(7)));
        assert!(parse(&["--seed"]).is_err());
        assert!(parse(&["--sead", "3"]).is_err());
    }
}
