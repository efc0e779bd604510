//! `key`: which passwords open the repository.

use std::path::PathBuf;

use provault_cli::View;
use provault_repository::{Id, Password, Repository};
use serde_json::json;

use super::context::Context;
use super::failure::Failure;
use super::{init, password, usage};

/// List, add, change and remove the passwords that open the repository.
#[derive(Debug, clap::Args)]
pub(crate) struct KeyArgs {
    #[command(subcommand)]
    command: KeyCommand,
}

#[derive(Debug, clap::Subcommand)]
enum KeyCommand {
    /// List the keys; each belongs to one password
    List,
    /// Let one more password open the repository
    Add(NewPassword),
    /// Change the password in use
    Passwd(NewPassword),
    /// Remove a key, so that its password opens the repository no more
    Remove {
        /// The key's id, or the beginning of it
        #[arg(value_name = "KEY")]
        key: String,
    },
}

#[derive(Debug, clap::Args)]
struct NewPassword {
    /// File with the new password, - for standard input [default: asked for on the terminal]
    #[arg(long, value_name = "FILE")]
    new_password_file: Option<PathBuf>,
    /// Choose a password of 256 random bits and write it to the new file --new-password-file
    #[arg(long, requires = "new_password_file")]
    generate_password: bool,
}

pub(crate) fn run(args: &KeyArgs, context: &Context<'_>) -> Result<(), Failure> {
    let current = password::find(context.options.password_file.as_deref())?;
    let repository = context.open_with(&current)?;
    match &args.command {
        KeyCommand::List => list(context, &repository, &current),
        KeyCommand::Add(new) => {
            let (new, undo) = new.get()?;
            let id = repository.add_key(&new).inspect_err(|_| undo.run())?;
            tell(context, "added", &id)
        }
        KeyCommand::Passwd(new) => {
            let (new, undo) = new.get()?;
            if new == current {
                return Err(usage("the new password is the old one; nothing was changed"));
            }
            // Once the new key may be there, its password must not be lost: no undo.
            let _ = undo;
            let id = repository.change_password(&current, &new)?;
            tell(context, "changed", &id)
        }
        KeyCommand::Remove { key } => {
            let mut found =
                repository.keys()?.into_iter().filter(|k| k.id.to_string().starts_with(key));
            let id = match (found.next(), found.next()) {
                (Some(found), None) => found.id,
                (None, _) => return Err(usage(format!("no key's id begins with '{key}'"))),
                _ => return Err(usage(format!("more than one key's id begins with '{key}'"))),
            };
            repository.remove_key(&id, &current)?;
            tell(context, "removed", &id)
        }
    }
}

/// Removes a password file that was written for nothing.
struct Undo(Option<PathBuf>);

impl Undo {
    fn run(&self) {
        if let Some(file) = &self.0 {
            let _ = std::fs::remove_file(file);
        }
    }
}

impl NewPassword {
    fn get(&self) -> Result<(Password, Undo), Failure> {
        let file = self.new_password_file.as_deref();
        match file {
            Some(file) if self.generate_password => {
                let password = Password::generate();
                init::write(file, &password)?;
                Ok((password, Undo(Some(file.to_owned()))))
            }
            Some(file) => Ok((password::read(file)?, Undo(None))),
            None => Ok((password::ask_new()?, Undo(None))),
        }
    }
}

fn list(context: &Context<'_>, repository: &Repository, current: &Password) -> Result<(), Failure> {
    let keys = repository.keys()?;
    let mine = repository.key_of(current)?;
    let value = keys
        .iter()
        .map(|key| {
            json!({
                "current": key.id == mine,
                "id": key.id.to_string(),
                "userName": key.username,
                "hostName": key.hostname,
                "created": key.created,
            })
        })
        .collect();
    context.out.show(&serde_json::Value::Array(value), || {
        let mut table = View::table(&["KEY", "IN USE", "USER", "HOST", "CREATED"]);
        for key in &keys {
            table.row([
                key.id.to_string()[..8].to_owned(),
                if key.id == mine { "yes" } else { "" }.to_owned(),
                key.username.clone(),
                key.hostname.clone(),
                key.created.clone(),
            ]);
        }
        vec![table]
    })?;
    Ok(())
}

fn tell(context: &Context<'_>, done: &str, id: &Id) -> Result<(), Failure> {
    let id = id.to_string();
    let value = json!({ "message_type": format!("key_{done}"), "id": id });
    Ok(context.out.show_line(&value, &format!("{done} key {}", &id[..8]))?)
}
