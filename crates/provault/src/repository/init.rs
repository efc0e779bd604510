//! `init`: a new repository.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use provault_repository::{Options, Password, Repository};
use serde_json::json;

use super::context::Context;
use super::failure::Failure;
use super::{password, usage};

/// Make a new, empty repository.
///
/// Keep the password safe and apart from the repository: without it nobody can read the backups,
/// and there is no way around that.
#[derive(Debug, clap::Args)]
pub(crate) struct InitArgs {
    /// Choose a password of 256 random bits and write it to the new file --password-file, readable
    /// by you alone
    #[arg(long)]
    generate_password: bool,
}

pub(crate) fn run(args: &InitArgs, context: &Context<'_>) -> Result<(), Failure> {
    let location = context.location()?;
    let file = context.options.password_file.as_deref();
    if args.generate_password {
        let file = file.filter(|file| *file != Path::new("-")).ok_or_else(|| {
            usage("--generate-password needs --password-file FILE: where to write the password")
        })?;
        if file.exists() {
            return Err(usage(format!(
                "{} exists already; a password is never written over another",
                file.display()
            )));
        }
        let storage = location.storage(context.options.limits)?;
        if Repository::exists(storage.as_ref())? {
            return Err(provault_repository::Error::AlreadyInitialised.into());
        }
        let password = Password::generate();
        // The password first: a repository whose password is nowhere is lost.
        write(file, &password)?;
        match Repository::init(storage, &password, Options::default()) {
            Ok(repository) => tell(context, &location.to_string(), &repository),
            Err(error) => {
                let _ = std::fs::remove_file(file);
                Err(error.into())
            }
        }
    } else {
        let password = password::find_new(file)?;
        let repository = Repository::init(
            location.storage(context.options.limits)?,
            &password,
            Options::default(),
        )?;
        tell(context, &location.to_string(), &repository)
    }
}

/// Writes a password to a new file that only its owner may read, durably.
pub(crate) fn write(file: &Path, password: &Password) -> Result<(), Failure> {
    let failed = |error: std::io::Error| {
        Failure::Failed(format!("cannot write the password file {}: {error}", file.display()))
    };
    let mut options = std::fs::OpenOptions::new();
    let mut opened = options.write(true).create_new(true).mode(0o600).open(file).map_err(failed)?;
    let written = opened
        .write_all(password.expose().as_bytes())
        .and_then(|()| opened.write_all(b"\n"))
        .and_then(|()| opened.sync_all());
    if let Err(error) = written {
        let _ = std::fs::remove_file(file);
        return Err(failed(error));
    }
    // The name is durable with the directory; without it a crash could lose the only password.
    let parent = file.parent().filter(|parent| !parent.as_os_str().is_empty());
    std::fs::File::open(parent.unwrap_or(Path::new(".")))
        .and_then(|directory| directory.sync_all())
        .map_err(failed)
}

fn tell(context: &Context<'_>, location: &str, repository: &Repository) -> Result<(), Failure> {
    let id = repository.config().id.to_string();
    let value = json!({ "message_type": "initialized", "id": id, "repository": location });
    let line = format!("made repository {} at {location}", &id[..10]);
    context.out.show_line(&value, &line)?;
    context.note("Keep the password safe: without it the backups cannot be read by anybody.");
    Ok(())
}
