//! Secrets from files and from people. Never from an argument: those can be seen by everybody.

use std::io::{IsTerminal as _, Read as _};
use std::path::Path;

use zeroize::Zeroizing;

/// Secrets are short; a device or a wrong file is not read to its end.
const LONGEST: u64 = 64 << 10;

/// The secret in a file, without the white space around it (as restic has it); `-` is standard
/// input. `what` names it in errors, such as `password`.
pub(crate) fn read(file: &Path, what: &str) -> Result<Zeroizing<String>, String> {
    let shown = if file == Path::new("-") {
        format!("the {what} on standard input")
    } else {
        format!("the {what} file {}", file.display())
    };
    let mut text = Zeroizing::new(String::new());
    let read = if file == Path::new("-") {
        std::io::stdin().take(LONGEST).read_to_string(&mut text)
    } else {
        std::fs::File::open(file).and_then(|file| file.take(LONGEST).read_to_string(&mut text))
    };
    read.map_err(|error| format!("cannot read {shown}: {error}"))?;
    let secret = text.trim();
    if secret.is_empty() {
        return Err(format!("{shown} is empty"));
    }
    Ok(Zeroizing::new(secret.to_owned()))
}

/// The secret that somebody types at the terminal, where it does not show; nothing where standard
/// input is no terminal.
pub(crate) fn ask(prompt: &str, what: &str) -> Result<Option<Zeroizing<String>>, String> {
    if !std::io::stdin().is_terminal() {
        return Ok(None);
    }
    let text = rpassword::prompt_password(prompt)
        .map_err(|error| format!("cannot read the {what} from the terminal: {error}"))?;
    let text = Zeroizing::new(text);
    if text.is_empty() {
        return Err(format!("an empty {what} is not allowed"));
    }
    Ok(Some(text))
}
