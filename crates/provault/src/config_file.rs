//! `provault.toml`: the options of `serve` in a file.
//!
//! A key is an option without its dashes, so that there is one list of settings, one place that checks them and one
//! that says what they mean. The file's settings become arguments beside those on the command line; clap refuses what it does not know, and says what was probably meant.
//!
//! The command line wins over the environment, and that over the file.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::Path;

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, CommandFactory as _};
use toml::{Table, Value};

/// Keys that would be of no use in the file, or mean something else there.
pub(crate) const FOREIGN: [&str; 8] =
    ["config", "help", "version", "json", "profile", "endpoint", "ca-bundle", "trust-the-clock"];

/// Settings that a variable of the environment says, too.
const VARIABLES: [(&str, &str); 3] = [
    ("catalog", crate::settings::CATALOG),
    ("data-dir", "PROVAULT_DATA_DIR"),
    ("vault-storage", crate::settings::VAULT_STORAGE),
];

/// One choice: a key belongs to its certificate, and either is instead of one that the server makes. So all of
/// it comes from one place.
const CERTIFICATE: [&str; 3] = ["tls-certificate", "tls-generate", "tls-key"];

/// The settings that are not the file's to say: the command line or the environment says them.
pub(crate) fn said_elsewhere(
    given: &[OsString],
    environment: &dyn Fn(&str) -> Option<OsString>,
) -> Result<BTreeSet<String>, clap::Error> {
    let mut program = crate::Args::command();
    // With the options that every command has.
    program.build();
    let matches = program.try_get_matches_from_mut(given)?;
    let mut said = BTreeSet::new();
    if let Some((serve, found)) =
        program.find_subcommand("serve").zip(matches.subcommand_matches("serve"))
    {
        let given = serve.get_arguments().filter(|option| {
            found.value_source(option.get_id().as_str()) == Some(ValueSource::CommandLine)
        });
        said.extend(given.filter_map(Arg::get_long).map(str::to_owned));
    }
    for (key, variable) in VARIABLES {
        if environment(variable).is_some_and(|value| !value.is_empty()) {
            said.insert(key.to_owned());
        }
    }
    if CERTIFICATE.iter().any(|key| said.contains(*key)) {
        said.extend(CERTIFICATE.map(str::to_owned));
    }
    Ok(said)
}

/// The arguments that a file stands for, without those that are [`said_elsewhere`]: an option that may
/// be repeated is replaced by the command line, not added to.
pub(crate) fn arguments(path: &Path, said: &BTreeSet<String>) -> Result<Vec<OsString>, String> {
    let wrong = |why: &dyn std::fmt::Display| format!("{}: {why}", path.display());
    let text = fs::read_to_string(path).map_err(|error| wrong(&error))?;
    let table: Table = text.parse().map_err(|error: toml::de::Error| wrong(&error))?;
    let mut arguments = Vec::new();
    for (key, value) in &table {
        if FOREIGN.contains(&key.as_str()) {
            return Err(wrong(&format_args!("'{key}' is no setting of the server; remove it.")));
        }
        // A key with a dash in front, or with `=`, would be another argument.
        if !key.chars().all(|c| c.is_ascii_lowercase() || c == '-') || key.starts_with('-') {
            return Err(wrong(&format_args!(
                "'{key}' cannot be a setting; keys are options of `provault serve` without their dashes."
            )));
        }
        let option = format!("--{key}");
        let assigned = format!("{option}=");
        if said.contains(key) {
            continue;
        }
        // A table is refused below, whatever its name.
        if !value.is_table() && !is_setting(key, value).map_err(|why| wrong(&why))? {
            // clap refuses it, and says what was probably meant.
            arguments.push(option.into());
            continue;
        }
        let values = match value {
            Value::Array(values) => values.as_slice(),
            one => std::slice::from_ref(one),
        };
        for value in values {
            match value {
                Value::Boolean(true) => arguments.push(option.clone().into()),
                Value::Boolean(false) => {}
                Value::String(text) => arguments.push(format!("{assigned}{text}").into()),
                Value::Integer(number) => arguments.push(format!("{assigned}{number}").into()),
                _ => {
                    return Err(wrong(&format_args!(
                        "'{key}' has a value of a kind that no setting has; give a text, a number, \
                         true or false, or a list of texts."
                    )));
                }
            }
        }
    }
    Ok(arguments)
}

/// Whether there is an option of this name, and a value of this kind can be its: what makes no argument,
/// `false` and `[]`, would be forgotten otherwise.
fn is_setting(key: &str, value: &Value) -> Result<bool, String> {
    let mut program = crate::Args::command();
    // With the options that every command has.
    program.build();
    let serve = program.find_subcommand("serve");
    let named = |option: &&Arg| option.get_long() == Some(key);
    let Some(option) = serve.and_then(|serve| serve.get_arguments().find(named)) else {
        return Ok(false);
    };
    let is_flag = matches!(option.get_action(), ArgAction::SetTrue);
    if is_flag != matches!(value, Value::Boolean(_)) {
        let wanted =
            if is_flag { "is true or false" } else { "has a value; true and false are none" };
        return Err(format!("'{key}' {wanted}."));
    }
    if value.is_array() && !matches!(option.get_action(), ArgAction::Append) {
        return Err(format!("'{key}' has one value, and no list."));
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_accepted_and_forgotten() {
        for text in ["tls-genrate = false", "tls-nam = []", "listn = \"x\"", "x = [1, 2]"] {
            let key = text.split(' ').next().unwrap();
            // clap gets it, and refuses it.
            assert_eq!(read(text, &[]).unwrap(), [format!("--{key}")], "{text}");
        }
        for text in [
            "listen = false",
            "listen = []",
            "listen = true",
            "tls-name = true",
            "tls-generate = 1",
            "tls-generate = \"yes\"",
            "tls-generate = []",
            "storage-timeout = [1, 2]",
        ] {
            let key = text.split(' ').next().unwrap();
            let error = read(text, &[]).unwrap_err();
            assert!(error.contains(key), "{text}: {error}");
        }
        assert_eq!(read("tls-name = []\ntls-generate = false", &[]).unwrap(), [""; 0]);
        // An option that every command has.
        assert_eq!(read("region = \"eu-1\"", &[]).unwrap(), ["--region=eu-1"]);
    }

    fn read(text: &str, given: &[&str]) -> Result<Vec<String>, String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("provault.toml");
        fs::write(&path, text).unwrap();
        let line: Vec<OsString> =
            ["provault", "serve"].iter().chain(given).map(Into::into).collect();
        let said = said_elsewhere(&line, &|_| None).map_err(|error| error.to_string())?;
        let arguments = arguments(&path, &said)?;
        Ok(arguments.into_iter().map(|a| a.into_string().unwrap()).collect())
    }

    #[test]
    fn settings_become_arguments_and_the_command_line_wins() {
        let text = r#"
            # a comment
            listen = "127.0.0.1:1"
            storage-timeout = 30
            tls-generate = true
            missing-vault-not-found = false
            tls-name = ["a", "b"]
        "#;
        let all = [
            "--listen=127.0.0.1:1",
            "--storage-timeout=30",
            "--tls-generate",
            "--tls-name=a",
            "--tls-name=b",
        ];
        let mut found = read(text, &[]).unwrap();
        found.sort();
        assert_eq!(found, all);
        let found = read(text, &["--listen", "[::1]:2", "--tls-name=c", "--tls-generate"]).unwrap();
        assert_eq!(found, ["--storage-timeout=30"]);
    }

    #[test]
    fn what_is_no_setting_is_refused() {
        for (text, word) in [
            ("listen", "provault.toml"),
            ("config = \"x\"", "config"),
            ("help = true", "help"),
            ("Listen = \"x\"", "Listen"),
            ("-x = 1", "-x"),
            ("[tls]\nname = \"x\"", "tls"),
            ("storage-timeout = 1.5", "storage-timeout"),
            ("listen = \"a\"\nlisten = \"b\"", "provault.toml"),
        ] {
            let error = read(text, &[]).unwrap_err();
            assert!(error.contains(word), "{text}: {error}");
        }
    }
}
