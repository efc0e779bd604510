//! `discover`: what stands on the server's host, and what of it is protected.

use provault_wire::provault::{Discovered, Discovery, Resource};
use serde_json::{Value, json};

use super::Context;
use crate::client::Answer;
use crate::error::CliError;
use crate::exit::Exit;
use crate::output::{View, dash, epoch, size};
use crate::words::{Pair, to_map};

/// Registers everything that can be registered as it is.
const ALL: &str = "all";

#[derive(Debug, clap::Args)]
pub struct DiscoverArgs {
    /// Show also what is protected already
    #[arg(long, conflicts_with = "register")]
    all: bool,
    /// How long the server may look, in seconds
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=45))]
    seconds: Option<u64>,
    /// Register what was found, by its name or path; may be repeated. all is everything that is not
    /// protected and whose files can be copied while they are in use
    #[arg(long, value_name = "NAME|PATH|all")]
    register: Vec<String>,
    /// Tag KEY=VALUE of what is registered; may be repeated
    #[arg(long, value_name = "KEY=VALUE", requires = "register")]
    tag: Vec<Pair>,
}

impl DiscoverArgs {
    pub(crate) fn run(self, context: &Context<'_>) -> Result<Exit, CliError> {
        let tags = to_map("--tag", &self.tag)?;
        let seconds = self.seconds.map(|seconds| seconds.to_string());
        let query: Vec<(&str, &str)> =
            seconds.iter().map(|seconds| ("seconds", seconds.as_str())).collect();
        let seen: Answer<Discovery> = context.client.own("GET", "/discoveries", &query, None)?;
        for note in seen.typed.cut.iter().chain(&seen.typed.notes) {
            context.out.note(&format!("note: {}", crate::output::clean(note)))?;
        }
        if self.register.is_empty() {
            return self.show(context, &seen);
        }
        let Chosen { register, skipped } = choose(&seen.typed.found, &self.register)?;
        for (found, why) in &skipped {
            context
                .out
                .note(&format!("skipped {}: {why}", crate::output::clean(&found.location)))?;
        }
        let mut made = Vec::new();
        for found in register {
            // All else is at its default.
            let input = json!({
                "Kind": found.kind,
                "Name": found.name,
                "Config": found.config,
                "Tags": tags,
            });
            let one: Answer<Resource> =
                context.client.own("POST", "/resources", &[], Some(&input))?;
            context.out.note(&format!(
                "registered {} as {}",
                crate::output::clean(&found.location),
                found.name
            ))?;
            made.push(one);
        }
        let skipped: Vec<Value> = skipped
            .iter()
            .map(|(found, why)| json!({ "Location": found.location, "Reason": why }))
            .collect();
        let resources: Vec<&Value> = made.iter().map(|one| &one.json).collect();
        context.out.show(&json!({ "Resources": resources, "Skipped": skipped }), || {
            let row = |one: &Answer<Resource>| {
                vec![one.typed.name.clone(), one.typed.resource_arn.clone()]
            };
            vec![View::table(&["NAME", "ARN"]).rows(made.iter().map(row))]
        })?;
        if !made.is_empty() && tags.is_empty() {
            context.out.note("no plan backs them up before a selection holds them")?;
        }
        Ok(Exit::Done)
    }

    fn show(&self, context: &Context<'_>, seen: &Answer<Discovery>) -> Result<Exit, CliError> {
        let shown = |found: &&Discovered| self.all || !is_held(found);
        let rows: Vec<&Discovered> = seen.typed.found.iter().filter(shown).collect();
        context.out.show(&seen.json, || {
            let headers = ["PATH", "WHAT", "SIZE", "FILES", "NEWEST", "PROTECTED", "NAME"];
            vec![View::table(&headers).rows(rows.iter().map(|found| row(found)))]
        })?;
        if context.out.is_json() {
            return Ok(Exit::Done);
        }
        for found in &rows {
            if let Some(advice) = found.advice.as_ref().filter(|_| !is_held(found)) {
                let location = crate::output::clean(&found.location);
                context.out.note(&format!("{location}: {advice}"))?;
            }
        }
        let open = seen.typed.found.iter().filter(|found| found.coverage == "NOTHING").count();
        context.out.note(&format!(
            "{open} of {} unprotected; --register NAME registers one, --register all those whose \
             files can be copied as they are",
            seen.typed.found.len()
        ))?;
        Ok(Exit::Done)
    }
}

/// Whether a resource holds all of it.
fn is_held(found: &Discovered) -> bool {
    matches!(found.coverage.as_str(), "REGISTERED" | "INSIDE")
}

fn row(found: &Discovered) -> Vec<String> {
    let bytes = size(i64::try_from(found.bytes).unwrap_or(i64::MAX));
    let files = found.files.to_string();
    let at_least = |text: String| if found.counted { text } else { format!(">{text}") };
    let names = found.resources.join(" ");
    let protected = match found.coverage.as_str() {
        "NOTHING" => "no".to_owned(),
        "REGISTERED" if found.exempt => format!("exempt: {names}"),
        "REGISTERED" => format!("registered: {names}"),
        "INSIDE" => format!("within {names}"),
        "PARTS" => format!("parts: {names}"),
        other => other.to_lowercase(),
    };
    vec![
        found.location.clone(),
        found.what.clone(),
        at_least(bytes),
        at_least(files),
        dash(found.newest_date.map(epoch)),
        protected,
        found.name.clone(),
    ]
}

/// What is to be registered, and what is not although it was asked for.
struct Chosen<'d> {
    register: Vec<&'d Discovered>,
    skipped: Vec<(&'d Discovered, String)>,
}

/// Finds what was asked for. A word that names nothing ends the command before anything is done.
fn choose<'d>(found: &'d [Discovered], wanted: &[String]) -> Result<Chosen<'d>, CliError> {
    let mut chosen = Chosen { register: Vec::new(), skipped: Vec::new() };
    for word in wanted {
        let word = if word == "/" { word } else { word.trim_end_matches('/') };
        let named = |one: &&Discovered| one.location == word || one.name == word;
        let all = word == ALL;
        let matching: Vec<&Discovered> = found.iter().filter(|one| all || named(one)).collect();
        if matching.is_empty() && !all {
            return Err(CliError::Name(format!(
                "nothing that was found is '{word}'; `provault discover --all` shows what was, and \
                 `provault resource add` registers any other"
            )));
        }
        for one in matching {
            if is_held(one) {
                let held = format!("it is protected by {}", one.resources.join(", "));
                chosen.skipped.push((one, held));
            } else if let Some(advice) = one.advice.as_ref().filter(|_| all) {
                let why = format!("{advice} Name it to register it all the same");
                chosen.skipped.push((one, why));
            } else if all && one.coverage != "NOTHING" {
                let parts = one.resources.join(", ");
                let why =
                    format!("parts of it are protected by {parts}; name it to register all of it");
                chosen.skipped.push((one, why));
            } else if !chosen.register.iter().any(|other| std::ptr::eq(*other, one)) {
                chosen.register.push(one);
            }
        }
    }
    Ok(chosen)
}
