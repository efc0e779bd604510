//! How long a run will take: what the same took before, or else a guess.

use super::options::Options;
use super::record;
use super::round::does_all_increments;
use super::summary::median;
use super::tool::Tool;
use super::{INDEX, Setup};

/// Seconds of the first round of one program, guessed for two cores of a server: measuring,
/// warming and comparing. Only the first run on a machine needs them.
const GUESSED: [(&str, f64); 4] =
    [("files", 150.0), ("volume", 300.0), ("random", 60.0), ("many", 250.0)];
/// The part of it that a round takes that leaves out the later increments.
const SHORT: f64 = 0.5;
/// Seconds of the index: building, filling, opening.
const INDEX_SECONDS: f64 = 180.0;

/// The plan for tools that may not be installed yet.
pub fn print(options: &Options, setup: &Setup) -> Result<(), String> {
    // Without the programs nobody knows which of their versions are recorded.
    println!("(tools are not looked at: rounds that are recorded already count too)");
    let names: Vec<(&str, Option<&str>)> =
        options.tools.iter().map(|name| (name.as_str(), None)).collect();
    tell(options, setup, &names)
}

/// The plan for these programs.
pub fn print_for(
    options: &Options,
    setup: &Setup,
    programs: &[Box<dyn Tool>],
) -> Result<(), String> {
    let names: Vec<(&str, Option<&str>)> =
        programs.iter().map(|program| (program.name(), Some(program.identity()))).collect();
    tell(options, setup, &names)
}

fn tell(options: &Options, setup: &Setup, programs: &[(&str, Option<&str>)]) -> Result<(), String> {
    let mut total = 0.0;
    for corpus in &options.corpora {
        if corpus == INDEX {
            total += INDEX_SECONDS;
            println!("plan: {corpus}: {:.0} min", INDEX_SECONDS / 60.0);
            continue;
        }
        let records = record::all(&setup.results, corpus)?;
        let (mut seconds, mut rounds) = (0.0, 0);
        for round in 1..=options.rounds {
            for (name, identity) in programs {
                let done = identity.is_some_and(|identity| {
                    record::path(&setup.results, corpus, identity, round).exists()
                });
                if done {
                    continue;
                }
                rounds += 1;
                let all = does_all_increments(corpus, round);
                let same = records.iter().filter(|record| {
                    record.tool == *name && does_all_increments(corpus, record.round) == all
                });
                let known_guess =
                    GUESSED.iter().find(|(known, _)| known == corpus).map_or(600.0, |t| t.1);
                let is_short = !all && does_all_increments(corpus, 1);
                let guess = known_guess * if is_short { SHORT } else { 1.0 };
                seconds += median(same.map(|record| record.elapsed)).unwrap_or(guess);
            }
        }
        total += seconds;
        println!("plan: {corpus}: {rounds} rounds of one program, {:.0} min", seconds / 60.0);
    }
    println!("plan: about {:.0} min in all, without building tools and corpora", total / 60.0);
    Ok(())
}
