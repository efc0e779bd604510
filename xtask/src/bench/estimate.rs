//! How long a run will take: what the same took before, or else what it took when it was tried out.

use super::options::Options;
use super::record;
use super::round::does_all_increments;
use super::summary::median;
use super::tool::Tool;
use super::{INDEX, Setup};

/// Seconds of a round with all increments, of one program, on two cores of a server: measuring,
/// warming and comparing. Only the first run on a machine needs them.
const TRIED: [(&str, f64); 4] =
    [("files", 150.0), ("volume", 500.0), ("random", 150.0), ("many", 700.0)];
/// The part of it that a round without the later increments takes.
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
                let all = does_all_increments(round);
                let same = records
                    .iter()
                    .filter(|r| r.tool == *name && does_all_increments(r.round) == all);
                let tried = TRIED.iter().find(|(known, _)| known == corpus).map_or(600.0, |t| t.1);
                let guess = tried * if all { 1.0 } else { SHORT };
                seconds += median(same.map(|record| record.elapsed)).unwrap_or(guess);
            }
        }
        total += seconds;
        println!("plan: {corpus}: {rounds} rounds of one program, {:.0} min", seconds / 60.0);
    }
    println!("plan: about {:.0} min in all, without building tools and corpora", total / 60.0);
    Ok(())
}
