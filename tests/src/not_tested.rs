//! Saying what the host keeps from being tested.

use std::fs::OpenOptions;
use std::io::Write as _;

/// Says that the host makes a test impossible, and why: to the file that `PROVAULT_NOT_TESTED`
/// names, where `cargo xtask test` reads it, or on standard output.
pub fn not_tested(test: &str, reason: &str) {
    let line = format!("PROVAULT-NOT-TESTED: {test}: {reason}\n");
    match std::env::var_os("PROVAULT_NOT_TESTED") {
        Some(file) => {
            let file = OpenOptions::new().create(true).append(true).open(file);
            file.unwrap().write_all(line.as_bytes()).unwrap();
        }
        None => print!("{line}"),
    }
}
