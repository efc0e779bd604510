//! What the repository is meant to reach, and whether it does.

use super::record::Operation;
use super::summary::{Quantity, Summary};

/// What a number is compared with.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Bound {
    /// At most this part of the best peer.
    BestPeer(f64),
    /// At most this part of restic.
    Restic(f64),
    /// Less than the best peer.
    BelowPeers,
    /// At most so much in itself, in the unit of the quantity.
    Fixed(f64),
}

struct Goal {
    corpus: &'static str,
    operation: Operation,
    quantity: Quantity,
    bound: Bound,
}

const fn goal(
    corpus: &'static str,
    operation: Operation,
    quantity: Quantity,
    bound: Bound,
) -> Goal {
    Goal { corpus, operation, quantity, bound }
}

use Bound::{BelowPeers, BestPeer, Fixed, Restic};
use Operation::{Changed, Check, First, Later, Prune, Restore, Unchanged};
use Quantity::{Cpu, Peak, Stored, Wall};

const GOALS: &[Goal] = &[
    goal("files", First, Cpu, BestPeer(1.0)),
    goal("files", First, Cpu, Restic(0.4)),
    goal("files", First, Wall, BestPeer(1.0)),
    goal("files", Unchanged, Cpu, BestPeer(1.0)),
    goal("files", Unchanged, Cpu, Restic(0.15)),
    goal("files", Unchanged, Wall, BestPeer(1.0)),
    goal("files", Changed, Cpu, BestPeer(0.7)),
    goal("files", Changed, Wall, BestPeer(1.0)),
    goal("files", Later, Stored, BelowPeers),
    goal("files", Restore, Cpu, BestPeer(0.8)),
    goal("files", Restore, Wall, BestPeer(1.0)),
    goal("files", Restore, Peak, Fixed(256.0)),
    goal("files", Check, Cpu, BestPeer(0.6)),
    goal("files", Check, Wall, BestPeer(1.0)),
    goal("files", Prune, Cpu, Restic(0.5)),
    goal("files", Prune, Wall, BestPeer(1.0)),
    goal("volume", First, Cpu, BelowPeers),
    goal("volume", First, Cpu, Restic(0.4)),
    goal("volume", First, Wall, BestPeer(1.0)),
    goal("volume", Changed, Cpu, BestPeer(0.5)),
    goal("volume", Changed, Wall, BestPeer(1.0)),
    goal("volume", Check, Cpu, BestPeer(0.6)),
    goal("volume", Check, Wall, BestPeer(1.0)),
    goal("volume", Prune, Cpu, Restic(0.5)),
    goal("volume", Prune, Wall, BestPeer(1.0)),
];

/// Memory of any operation on any corpus, in millions of bytes.
const MEMORY: f64 = 250.0;

/// A goal held against the numbers.
#[derive(Debug, PartialEq)]
pub struct Judged {
    /// What is asked.
    pub what: String,
    /// The most that is allowed, in the unit of the quantity; nothing when the peer was not measured.
    pub allowed: Option<f64>,
    /// What was measured.
    pub measured: Option<f64>,
    /// Whether that is enough.
    pub met: Option<bool>,
}

/// All goals, in the order of the table.
pub fn judge(summaries: &[Summary]) -> Vec<Judged> {
    let mut judged: Vec<Judged> = GOALS.iter().map(|goal| one(goal, summaries)).collect();
    for summary in summaries {
        let peaks = Operation::ALL.iter().filter_map(|o| summary.value("ours", *o, Peak));
        if let Some(measured) = peaks.max_by(f64::total_cmp) {
            judged.push(Judged {
                what: format!("{}, every operation: memory MB at most {MEMORY}", summary.corpus),
                allowed: Some(MEMORY),
                measured: Some(measured),
                met: Some(measured <= MEMORY),
            });
        }
    }
    judged
}

fn one(goal: &Goal, summaries: &[Summary]) -> Judged {
    let Goal { corpus, operation, quantity, bound } = *goal;
    let summary = summaries.iter().find(|summary| summary.corpus == corpus);
    let best = summary.and_then(|summary| summary.best_peer(operation, quantity));
    let restic = summary.and_then(|summary| summary.value("restic", operation, quantity));
    let measured = summary.and_then(|summary| summary.value("ours", operation, quantity));
    let (words, allowed) = match bound {
        BestPeer(1.0) => ("at most the best peer".to_owned(), best),
        BestPeer(part) => (format!("at most {part} of the best peer"), best.map(|b| b * part)),
        Restic(part) => (format!("at most {part} of restic"), restic.map(|r| r * part)),
        BelowPeers => ("below every peer".to_owned(), best),
        Fixed(most) => (format!("at most {most}"), Some(most)),
    };
    let met = measured.zip(allowed).map(|(measured, allowed)| match bound {
        BelowPeers => measured < allowed,
        _ => measured <= allowed,
    });
    let what = format!("{corpus}, {}: {} {words}", name(operation), quantity.label());
    Judged { what, allowed, measured, met }
}

/// An operation in words.
pub fn name(operation: Operation) -> &'static str {
    match operation {
        First => "first",
        Unchanged => "unchanged",
        Restore => "restore",
        Check => "check of all data",
        Changed => "1 % changed",
        Operation::Scattered => "blocks scattered",
        Later => "all increments",
        Prune => "prune of 10 %",
    }
}
