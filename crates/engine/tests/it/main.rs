//! The engine over a real catalog, a real repository and real directories, with a clock of the
//! test's own.

mod adoption;
mod expiry;
mod jobs;
mod schedule;
mod support;
mod tests_of_restores;
