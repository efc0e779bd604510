//! Where the password comes from: a file, the environment, the terminal.

use std::path::{Path, PathBuf};

use provault_repository::Password;

use super::failure::Failure;
use super::usage;
use crate::secret;

/// The password of an existing repository.
pub(crate) fn find(option: Option<&Path>) -> Result<Password, Failure> {
    match given(option)? {
        Some(password) => Ok(password),
        None => ask("enter the repository's password: "),
    }
}

/// The password for a new key: one that is typed is typed twice.
pub(crate) fn find_new(option: Option<&Path>) -> Result<Password, Failure> {
    if let Some(password) = given(option)? {
        return Ok(password);
    }
    ask_new()
}

/// A new password from the terminal, typed twice.
pub(crate) fn ask_new() -> Result<Password, Failure> {
    let first = ask("enter the new password: ")?;
    if ask("enter it again: ")? != first {
        return Err(usage("the two passwords differ; nothing was changed"));
    }
    Ok(first)
}

fn given(option: Option<&Path>) -> Result<Option<Password>, Failure> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let file = option
        .map(Path::to_owned)
        .or_else(|| variable("PROVAULT_PASSWORD_FILE").map(PathBuf::from))
        .or_else(|| variable("RESTIC_PASSWORD_FILE").map(PathBuf::from));
    if let Some(file) = file {
        return read(&file).map(Some);
    }
    match variable("RESTIC_PASSWORD") {
        None => Ok(None),
        Some(text) => text
            .into_string()
            .map(|text| Some(Password::from_text(text)))
            .map_err(|_| usage("RESTIC_PASSWORD is not UTF-8; use a password file")),
    }
}

/// The password in a file; `-` is standard input.
pub(crate) fn read(file: &Path) -> Result<Password, Failure> {
    secret::read(file, "password").map(|text| Password::from_text(text.as_str())).map_err(usage)
}

fn ask(prompt: &str) -> Result<Password, Failure> {
    match secret::ask(prompt, "password").map_err(usage)? {
        Some(text) => Ok(Password::from_text(text.as_str())),
        None => Err(usage(
            "there is no password: use --password-file FILE (- for standard input), or set \
             PROVAULT_PASSWORD_FILE",
        )),
    }
}
