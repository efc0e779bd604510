//! Where the password comes from. Never from an argument: those can be seen by everybody.

use std::io::{IsTerminal as _, Read as _};
use std::path::{Path, PathBuf};

use provault_repository::Password;

use super::failure::Failure;
use super::usage;

/// Passwords are short; a device or a wrong file is not read to its end.
const LONGEST: u64 = 64 << 10;

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

/// The password in a file, without the white space around it (as restic has it); `-` is standard
/// input.
pub(crate) fn read(file: &Path) -> Result<Password, Failure> {
    let shown = if file == Path::new("-") {
        "the password on standard input".to_owned()
    } else {
        format!("the password file {}", file.display())
    };
    let mut text = zeroize::Zeroizing::new(String::new());
    let read = if file == Path::new("-") {
        std::io::stdin().take(LONGEST).read_to_string(&mut text)
    } else {
        std::fs::File::open(file).and_then(|file| file.take(LONGEST).read_to_string(&mut text))
    };
    read.map_err(|error| usage(format!("cannot read {shown}: {error}")))?;
    let password = text.trim();
    if password.is_empty() {
        return Err(usage(format!("{shown} is empty")));
    }
    Ok(Password::from_text(password))
}

fn ask(prompt: &str) -> Result<Password, Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(usage(
            "there is no password: use --password-file FILE (- for standard input), or set \
             PROVAULT_PASSWORD_FILE",
        ));
    }
    let text = rpassword::prompt_password(prompt)
        .map_err(|error| usage(format!("cannot read the password from the terminal: {error}")))?;
    if text.is_empty() {
        return Err(usage("an empty password is not allowed"));
    }
    Ok(Password::from_text(text))
}
