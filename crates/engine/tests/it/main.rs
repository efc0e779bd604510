//! The engine over a real catalog, a real repository and real directories, with a clock of the
//! test's own.

// A test may fail by panicking; that is what it is for.
#![allow(clippy::unwrap_used)]

mod absence;
mod adoption;
mod care;
mod claimed_twice;
mod doctor;
mod expiry;
mod half_written;
mod hanging;
mod interposed;
mod jobs;
mod log;
mod mending;
mod notifications;
mod pruning;
mod receivers;
mod recovery_kit;
mod restores;
mod schedule;
mod simulation;
mod stopping;
mod support;
mod test_budgets;
mod testing_plans;
mod tests_of_restores;
mod validation;
mod verification;
mod volumes;
mod windows;
