//! The API as a client meets it: a real server on loopback, real signatures, a catalog and vaults
//! in a temporary directory.

// Helpers of tests are not tests to clippy; a failed unwrap is a failed test here as well.
#![allow(clippy::unwrap_used)]

mod audited;
mod auth;
mod backup_testing;
mod bad_input;
mod bootstrap;
mod discovery;
mod metrics;
mod own_operations;
mod paging;
mod permissions;
mod plans;
mod protection;
mod restore_testing;
mod sites;
mod status;
mod subscriptions;
mod support;
mod tls;
mod trail;
mod users;
mod vaults;
