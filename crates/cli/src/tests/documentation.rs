//! The how-tos: their commands are such as this program takes.

use std::path::Path;

use clap::Parser as _;

use super::commands::Cli;
use crate::words::split;

/// Commands that the binary adds to those of this room, and parses itself.
const OF_THE_BINARY: [&str; 8] = [
    "serve",
    "lab",
    "repository",
    "evidence",
    "recovery-kit",
    "upgrade-check",
    "completions",
    "man",
];

/// The command lines of a page: what is indented and begins with the program's name, without a comment
/// behind it.
fn command_lines(page: &str) -> Vec<Vec<String>> {
    let page = page.replace("\\\n", " ");
    let lines = page.lines().filter_map(|line| line.strip_prefix("    "));
    let words = lines.filter(|line| line.starts_with("provault ")).map(|line| {
        // A comment stands behind two blanks; a # of an expression does not.
        let line = line.split_once("  #").map_or(line, |(command, _)| command);
        split(line).unwrap_or_else(|error| panic!("{line}: {error}"))
    });
    words.collect()
}

#[test]
fn the_commands_of_the_how_tos_are_commands() {
    let pages = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/how-to");
    let mut wrong = Vec::new();
    let mut parsed = 0;
    for page in std::fs::read_dir(pages).unwrap() {
        let path = page.unwrap().path();
        for mut words in command_lines(&std::fs::read_to_string(&path).unwrap()) {
            // What comes behind the program in a shell is the shell's.
            let end = words
                .iter()
                .position(|word| ["||", "|", "&&", ">", ">>", ";"].contains(&word.as_str()));
            words.truncate(end.unwrap_or(words.len()));
            // `volume` is a kind of resource as well.
            let of_the_binary = words.iter().any(|word| OF_THE_BINARY.contains(&word.as_str()))
                || words.get(1).is_some_and(|word| word == "volume");
            if of_the_binary {
                continue;
            }
            parsed += 1;
            if let Err(error) = Cli::try_parse_from(&words) {
                let name = path.file_name().unwrap().to_string_lossy().into_owned();
                wrong.push(format!("{name}: {}\n{error}", words.join(" ")));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {parsed}:\n{}", wrong.len(), wrong.join("\n"));
    assert!(parsed > 100, "only {parsed} commands were found");
}
