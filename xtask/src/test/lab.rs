//! The lab, run as the README says, by the program that is handed out (the same sources a second time,
//! optimised for nobody else, would cost the gate seven minutes): exit status 0, one JSON object. Its
//! directory is another one, so that a lab of the contributor's own is left alone.

use std::fs;
use std::io::Read as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::Failure;
use super::command::{Environment, shown};
use super::count::Count;

/// No measure of speed: a lab that hangs is to end.
const LIMIT: Duration = Duration::from_mins(10);

/// Builds the program and runs its lab.
pub fn run(environment: &Environment) -> Result<Count, Failure> {
    let program = crate::package::program(environment)?;
    is_free_of_traps(&program)?;
    let directory = std::env::temp_dir().join(format!("provault-lab-{}", std::process::id()));
    let result = play(environment.command(program), &directory.to_string_lossy());
    let removed = fs::remove_dir_all(&directory);
    result?;
    removed.map_err(|e| format!("cannot remove {}: {e}", directory.display()))?;
    Ok(Count { passed: 1, ..Count::default() })
}

/// By these variables tests plant bugs, let servers die and hold them up, in debug builds; what people use
/// must not even know them.
const TRAPS: [&[u8]; 3] =
    [b"PROVAULT_PLANTED_BUG", b"PROVAULT_KILL_AT_COMMIT", b"PROVAULT_PAUSE_AT"];
/// Every build knows this one, so a search that does not find it is no search.
const KNOWN: &[u8] = b"PROVAULT_PASSWORD_FILE";

/// An error if an executable has bugs that can be planted, or dies when it is told to.
fn is_free_of_traps(executable: &Path) -> Result<(), String> {
    let shown = executable.display();
    let content = fs::read(executable).map_err(|e| format!("cannot read {shown}: {e}"))?;
    let holds = |text: &[u8]| content.windows(text.len()).any(|window| window == text);
    if let Some(trap) = TRAPS.into_iter().find(|trap| holds(trap)) {
        return Err(format!(
            "{shown} knows {}: what is there for tests must not be in a release (look for code that \
             lacks cfg(debug_assertions))",
            String::from_utf8_lossy(trap)
        ));
    }
    if !holds(KNOWN) {
        return Err(format!("{shown} does not look like provault: it was not searched"));
    }
    println!("{shown} has no planted bugs, dies at no commit and waits nowhere");
    Ok(())
}

fn play(mut command: Command, directory: &str) -> Result<(), String> {
    command.args(["lab", "--once", "--json", "--data-dir", directory]);
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let line = shown(&command);
    println!("$ {line}");
    let begun = Instant::now();
    let child = command.spawn().map_err(|e| format!("cannot run `{line}`: {e}"))?;
    let (status, text) = wait(child).map_err(|e| format!("`{line}`: {e}"))?;
    print!("{text}");
    if !status.success() {
        return Err(format!("`{line}` failed: {status}"));
    }
    let report: serde_json::Value = serde_json::from_str(&text)
        .map_err(|e| format!("`{line}` did not print one JSON object: {e}"))?;
    if !report.is_object() {
        return Err(format!("`{line}` did not print a JSON object but {report}"));
    }
    println!("the lab took {:.1} s", begun.elapsed().as_secs_f64());
    Ok(())
}

/// Waits for a process and collects what it prints; ends it after [`LIMIT`].
fn wait(mut child: Child) -> Result<(ExitStatus, String), String> {
    let pipe = child.stdout.take();
    let reader = thread::spawn(move || {
        let mut text = String::new();
        pipe.map_or(Ok(0), |mut pipe| pipe.read_to_string(&mut text)).map(|_| text)
    });
    let begun = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().map_err(|e| e.to_string())? {
            break status;
        }
        if begun.elapsed() > LIMIT {
            child.kill().and_then(|()| child.wait()).map_err(|e| format!("cannot end it: {e}"))?;
            return Err(format!("it did not end within {} s", LIMIT.as_secs()));
        }
        thread::sleep(Duration::from_millis(100));
    };
    let text = reader.join().map_err(|_| "the thread reading its output panicked".to_owned())?;
    Ok((status, text.map_err(|e| format!("cannot read its output: {e}"))?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traps_in_an_executable_are_found() {
        let directory =
            std::env::temp_dir().join(format!("provault-planted-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let file = directory.join("executable");
        let is_free = |parts: &[&[u8]]| {
            fs::write(&file, parts.concat()).unwrap();
            is_free_of_traps(&file)
        };
        let good = is_free(&[b"\x7fELF", KNOWN, b"\0\0"]);
        let bad = TRAPS.map(|trap| is_free(&[b"\x7fELF", KNOWN, b"\xff", trap]).unwrap_err());
        let other = is_free(&[b"#!/bin/sh"]).unwrap_err();
        let gone = is_free_of_traps(&directory.join("gone")).unwrap_err();
        fs::remove_dir_all(&directory).unwrap();
        assert_eq!(good, Ok(()));
        assert!(bad.iter().all(|told| told.contains("must not be in a release")), "{bad:?}");
        assert!(other.contains("was not searched"), "{other}");
        assert!(gone.contains("cannot read"), "{gone}");
    }
}
