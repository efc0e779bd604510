//! `export` and `apply`: what a server protects and how, in a document.

mod act;
mod diff;
mod document;
mod export;
mod refs;
mod secret;
mod stand;
mod thing;
mod toml_text;
mod tree;
mod waiting;

use std::collections::BTreeSet;
use std::fs::{OpenOptions, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use self::act::Actor;
use self::diff::{Change, Difference};
use self::refs::{Kind, leaving, missing};
use self::stand::Stand;
use self::thing::{Key, Noun, Thing};
use super::Context;
use crate::error::CliError;
use crate::exit::Exit;

/// How a document begins.
const HEADER: &str = "\
# What a Provault server protects, and how: `provault apply -f THIS-FILE` makes it so.
# Secrets of their own are not in it: FromEnv and FromFile say where they are taken from. Addresses of
# webhooks and commands are in it as they are; where these hold a token, keep it as you keep secrets.
";

#[derive(Debug, clap::Args)]
pub struct ExportArgs {
    /// Write the document into this file, which nobody else may read, instead of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Write the variables of applications as they are; else only their names, since they may be
    /// secrets
    #[arg(long)]
    with_environment: bool,
}

#[derive(Debug, clap::Args)]
pub struct ApplyArgs {
    /// A document, TOML or JSON as export writes it, or - for standard input; may be repeated
    #[arg(short, long = "file", value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Only show what would be done; exit code 3 says that there is something
    #[arg(long, conflicts_with = "yes")]
    dry_run: bool,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
    /// Remove what is not in the document. Recovery points stay: no vault that holds one is removed, nor
    /// whom it notifies
    #[arg(long)]
    prune: bool,
}

impl ExportArgs {
    pub(crate) fn run(self, context: &Context<'_>) -> Result<Exit, CliError> {
        let stand = Stand::read(context.client)?;
        stand.refuse_doubles(&|_| true)?;
        stand.refuse_hidden(&|thing| self.with_environment || thing.noun != Noun::Resource)?;
        let document = export::document(&stand, self.with_environment, jiff::Timestamp::now());
        let toml = format!("{HEADER}{}", toml_text::write(&document));
        let json = Value::Object(document);
        let Some(path) = self.output else {
            context.out.show_text(&json, &toml)?;
            return Ok(Exit::Done);
        };
        let text = if context.out.is_json() { format!("{json:#}") } else { toml };
        let shown = path.display();
        write_private(&path, &format!("{}\n", text.trim_end()))
            .map_err(|error| CliError::usage(format!("cannot write {shown}: {error}")))?;
        context.out.note(&format!("wrote {shown}"))?;
        Ok(Exit::Done)
    }
}

/// Writes a file that nobody else can read, in place of one that is there.
fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(path)?;
    // One that was there has its own mode; a terminal or a pipe keeps it.
    if file.metadata()?.is_file() {
        file.set_permissions(Permissions::from_mode(0o600))?;
    }
    file.write_all(text.as_bytes())
}

impl ApplyArgs {
    pub(crate) fn run(self, context: &Context<'_>) -> Result<Exit, CliError> {
        let wanted = document::load(&self.files)?;
        let stand = Stand::read(context.client)?;
        let keys: BTreeSet<Key> = wanted.iter().map(Thing::key).collect();
        stand.refuse_doubles(&|thing| self.prune || keys.contains(&thing.key()))?;
        let topic = |thing: &Thing| (Noun::Topic, String::new(), thing.within.clone());
        stand.refuse_hidden(&|thing| {
            thing.noun == Noun::Subscription && (self.prune || keys.contains(&topic(thing)))
        })?;
        let wanted = with_names(wanted, &stand);
        check_references(&wanted, &stand, self.prune)?;
        let mut difference = diff::compare(&wanted, &stand, self.prune);
        waiting::hold_back(context.client, &mut difference)?;
        let out = context.out;
        if difference.is_nothing() {
            show(context, &difference, None)?;
            if !out.is_json() {
                out.show_line(&Value::Null, "nothing to change")?;
            }
            return Ok(Exit::Done);
        }
        if self.dry_run {
            show(context, &difference, None)?;
            return Ok(Exit::Differs);
        }
        if !out.is_json() {
            show(context, &difference, None)?;
        }
        if let Some(first) = difference.stuck.first() {
            if out.is_json() {
                show(context, &difference, Some(0))?;
            }
            return Err(CliError::Name(format!("nothing was changed: {first}")));
        }
        act::look_for_secrets(&difference.changes)?;
        if !self.yes && !confirmed(context, &difference)? {
            out.note("nothing was changed")?;
            return Ok(Exit::Failed);
        }
        apply(context, &stand, &difference)
    }
}

fn confirmed(context: &Context<'_>, difference: &Difference) -> Result<bool, CliError> {
    if context.out.is_json() {
        context.out.note(&difference.to_text())?;
    }
    let count = difference.changes.len();
    let question =
        format!("Make {count} {}? [y/N] ", if count == 1 { "change" } else { "changes" });
    (context.confirm)(&question).ok_or_else(|| {
        CliError::usage(
            "nothing was changed: there is no terminal to ask on; add --yes, or --dry-run to look only",
        )
    })
}

/// Makes the changes; what was done is told also when one of them fails.
fn apply(context: &Context<'_>, stand: &Stand, difference: &Difference) -> Result<Exit, CliError> {
    let out = context.out;
    let mut actor = Actor::new(context.client, stand);
    let count = difference.changes.len();
    for (done, change) in difference.changes.iter().enumerate() {
        if let Err(error) = actor.make(change) {
            if out.is_json() {
                show(context, difference, Some(done))?;
            }
            out.note(&format!(
                "{done} of {count} changes were made; {} {} failed, and what follows was not tried. \
                 Apply again when the reason is gone: what is done is not done twice",
                change.sign(),
                change.title()
            ))?;
            return Err(error);
        }
        out.note(&format!("{} {}", past(change), change.title()))?;
    }
    if out.is_json() {
        show(context, difference, Some(count))?;
    } else {
        let plural = if count == 1 { "change" } else { "changes" };
        out.show_line(&Value::Null, &format!("{count} {plural} made"))?;
    }
    Ok(Exit::Done)
}

fn past(change: &Change) -> &'static str {
    match change.sign() {
        '+' => "made",
        '~' => "changed",
        _ => "removed",
    }
}

fn show(
    context: &Context<'_>,
    difference: &Difference,
    done: Option<usize>,
) -> Result<(), CliError> {
    let changes = difference.changes.iter().enumerate();
    let json = json!({
        "Changes": changes
            .map(|(index, change)| change.to_json(done.map(|done| index < done)))
            .collect::<Vec<_>>(),
        "Unchanged": difference.same,
        "Kept": difference.kept,
        "Stuck": difference.stuck,
    });
    context.out.show_text(&json, &difference.to_text())
}

/// Writes names for the ARNs of a document, as what stands has them.
fn with_names(mut wanted: Vec<Thing>, stand: &Stand) -> Vec<Thing> {
    for thing in &mut wanted {
        stand.refs.to_names(thing.noun, &mut thing.body);
        thing.settle();
    }
    wanted
}

/// Refuses names that neither the document nor the server has, or the server only until this is done.
fn check_references(wanted: &[Thing], stand: &Stand, prune: bool) -> Result<(), CliError> {
    let declared: BTreeSet<Key> = wanted.iter().map(Thing::key).collect();
    let there = |kind: Kind, name: &str, stands: bool| {
        let key = kind.noun().map(|noun| (noun, String::new(), name.to_owned()));
        match key {
            Some(key) if declared.contains(&key) => Ok(()),
            Some(key) if prune && stand.things.iter().any(|thing| thing.key() == key) => {
                if diff::is_kept(&key, &declared, stand) {
                    Ok(())
                } else {
                    Err(leaving(kind, name))
                }
            }
            _ if stands => Ok(()),
            _ => Err(missing(kind, name)),
        }
    };
    let vault = |name: &str| {
        there(Kind::Vault, name, stand.refs.names(Kind::Vault).any(|(known, _)| known == name))
    };
    let mut unknown = Vec::new();
    for thing in wanted {
        let about = |why: String| format!("{}: {}: {why}", thing.at, thing.title());
        unknown.extend(stand.refs.unknown(thing.noun, &thing.body, &there).into_iter().map(about));
        let rules = thing.body.get("Rules").and_then(Value::as_array).into_iter().flatten();
        for rule in rules {
            let copies = rule["CopyActions"].as_array().into_iter().flatten();
            let copies = copies.filter_map(|copy| copy["DestinationBackupVaultArn"].as_str());
            // A vault of another server is nothing that is known here.
            let copies = copies.filter_map(|arn| {
                stand.refs.names(Kind::Vault).find(|(_, known)| *known == arn).map(|(name, _)| name)
            });
            let whys = rule["TargetBackupVaultName"].as_str().into_iter().chain(copies);
            let whys = whys.filter_map(|name| vault(name).err());
            unknown.extend(whys.map(|why| about(format!("Rules: {why}"))));
        }
    }
    if unknown.is_empty() { Ok(()) } else { Err(CliError::usage(unknown.join("\n"))) }
}
