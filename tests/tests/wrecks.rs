//! A slice of the wrecks of `cargo xtask soak`: the real program killed at seeded points, with and
//! without the loss of what was not synced.
#![allow(clippy::unwrap_used, reason = "a test panics where an error surprises it")]

use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};

use provault_tests::Random;
use provault_tests::disk::{Count, Doom, Fate, Loss};
use provault_tests::wreck::{Work, Yard};

/// The yard, or nothing and a line that says so where the host allows no FUSE.
fn yard(test: &str, environment: &[(&str, &str)]) -> Option<Yard> {
    match Yard::open(environment) {
        Ok(yard) => Some(yard),
        Err(error) => {
            // Whoever asks for a soak does not want to hear that it was fine without one.
            assert!(std::env::var_os("PROVAULT_WRECKS").is_none(), "cannot mount by FUSE: {error}");
            let line = format!("PROVAULT-NOT-TESTED: {test}: cannot mount by FUSE: {error}\n");
            match std::env::var_os("PROVAULT_NOT_TESTED") {
                Some(file) => {
                    let file = std::fs::OpenOptions::new().create(true).append(true).open(file);
                    file.unwrap().write_all(line.as_bytes()).unwrap();
                }
                None => print!("{line}"),
            }
            None
        }
    }
}

fn count(default: u64) -> u64 {
    let asked = std::env::var("PROVAULT_WRECKS").ok().and_then(|text| text.parse().ok());
    asked.unwrap_or(default)
}

#[test]
fn nothing_is_lost_in_a_wreck() {
    let Some(yard) = yard("nothing_is_lost_in_a_wreck", &[]) else { return };
    let (seed, count) = (Random::seed(), count(14));
    for number in 0..count {
        let told = yard.wreck(seed.wrapping_add(number));
        println!("wreck {number} of {count}, seed {}: whole: {told}", seed.wrapping_add(number));
    }
    // For `cargo xtask soak`, which must not take a test that did not run for one that passed.
    if let Some(file) = std::env::var_os("PROVAULT_WRECKS_DONE") {
        std::fs::write(file, count.to_string()).unwrap();
    }
}

/// The test of the test: with a bug planted, the same wrecks must find something broken.
fn finds_the_bug(bug: &str, wrecks: impl Fn(&Yard, u64) -> String) {
    let Some(yard) = yard(&format!("finds_the_bug {bug}"), &[("PROVAULT_PLANTED_BUG", bug)]) else {
        return;
    };
    let seed = Random::seed();
    // A hundred would be bad luck beyond belief.
    for number in 0..100 {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| wrecks(&yard, seed + number))) {
            let text = panic.downcast_ref::<String>().cloned().unwrap_or_default();
            println!("wreck {number} found {bug}: {text}");
            return;
        }
    }
    panic!("no wreck found the planted bug {bug}");
}

fn death(at: u64, after: bool) -> Doom {
    Doom { at, of: Count::Changes, after, fate: Fate::Dies }
}

#[test]
fn a_skipped_sync_is_found() {
    finds_the_bug("no-sync", |yard, seed| {
        let mut random = Random(seed);
        // Late in a backup, where there is most to lose.
        let at = yard.length(Work::Backup) - random.below(10) as u64;
        yard.wreck_at(Work::Backup, death(at, true), Loss::Content, &mut random)
    });
}

#[test]
fn an_index_before_its_pack_is_found() {
    finds_the_bug("index-before-pack", |yard, seed| {
        let mut random = Random(seed);
        let total = usize::try_from(yard.length(Work::Backup)).unwrap();
        let doom = death(1 + random.below(total) as u64, false);
        yard.wreck_at(Work::Backup, doom, Loss::Nothing, &mut random)
    });
}

#[test]
fn a_prune_that_does_not_wait_is_found() {
    finds_the_bug("prune-without-waiting", |yard, seed| {
        let mut random = Random(seed);
        let work = [Work::Backup, Work::Restore][random.below(2)];
        yard.wreck_beside_of(work, false, &mut random)
    });
}
