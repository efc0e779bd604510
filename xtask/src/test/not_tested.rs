//! Tests that the host made impossible, and why.
//!
//! Tests run in many processes, so they report through a file: each appends one line
//! `PROVAULT-NOT-TESTED: test: reason` to the file that [`VARIABLE`] names. Appending a short line
//! is atomic, so they cannot garble each other's.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::command::Environment;

/// The variable that names the file.
pub const VARIABLE: &str = "PROVAULT_NOT_TESTED";
/// How a line begins.
const PREFIX: &str = "PROVAULT-NOT-TESTED:";

/// A test that did not run.
#[derive(Debug, PartialEq, Eq)]
pub struct Skip {
    /// Its name.
    pub test: String,
    /// What the host lacks.
    pub reason: String,
}

/// The file.
pub fn file(environment: &Environment) -> PathBuf {
    environment.target.join("not-tested.txt")
}

/// Forgets what an earlier run reported.
pub fn forget(environment: &Environment) -> Result<(), String> {
    let file = file(environment);
    match fs::remove_file(&file) {
        Err(e) if e.kind() != ErrorKind::NotFound => {
            Err(format!("cannot remove {}: {e}", file.display()))
        }
        _ => Ok(()),
    }
}

/// What was reported, a test each, by name.
pub fn read(environment: &Environment) -> Result<Vec<Skip>, String> {
    let file = file(environment);
    match fs::read_to_string(&file) {
        Ok(text) => parse(&text, &file),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) => Err(format!("cannot read {}: {e}", file.display())),
    }
}

fn parse(text: &str, file: &Path) -> Result<Vec<Skip>, String> {
    let mut found = BTreeMap::new();
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let said = line.strip_prefix(PREFIX).and_then(|rest| rest.split_once(": "));
        match said.map(|(name, reason)| (name.trim(), reason.trim())) {
            Some((name, reason)) if !name.is_empty() && !reason.is_empty() => {
                found.insert(name.to_owned(), reason.to_owned());
            }
            _ => {
                return Err(format!(
                    "{}: a test did not run and gave no reason; the line must read \
                     `{PREFIX} test: reason` and is: {line}",
                    file.display()
                ));
            }
        }
    }
    Ok(found.into_iter().map(|(test, reason)| Skip { test, reason }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Result<Vec<Skip>, String> {
        parse(text, Path::new("not-tested.txt"))
    }

    #[test]
    fn a_test_counts_once_and_keeps_its_reason() {
        let text = "PROVAULT-NOT-TESTED: sandbox::net: no user namespaces: EPERM\n\n\
                    PROVAULT-NOT-TESTED: sandbox::net: no user namespaces: EPERM\n";
        let skip = Skip {
            test: "sandbox::net".to_owned(),
            reason: "no user namespaces: EPERM".to_owned(),
        };
        assert_eq!(lines(text).unwrap(), [skip]);
        assert_eq!(lines("").unwrap(), []);
    }

    #[test]
    fn a_skip_without_a_reason_is_an_error() {
        for line in
            ["PROVAULT-NOT-TESTED: sandbox::net", "PROVAULT-NOT-TESTED: sandbox::net:  ", "skipped"]
        {
            let message = lines(line).unwrap_err();
            assert!(message.contains("gave no reason"), "{message}");
        }
    }
}
