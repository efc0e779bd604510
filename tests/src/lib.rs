//! Support for the end-to-end tests: the real `provault` program, asked by real clients.
//!
//! A test makes a [`Sandbox`], starts a [`TestServer`] on a data directory in it, and drives it
//! over HTTP: by the signed JSON client [`Api`], by the command line ([`Program`]), by the aws CLI
//! and boto3 ([`clients`]). Trees are compared by [`Manifest`], vaults by stock restic ([`restic`]);
//! neither uses code of the program under test.
//!
//! **The program has to be there.** Nextest builds the binary of a package only for the package's
//! own tests, so `cargo nextest run -p provault-tests` alone does not build (or rebuild!) `provault`.
//! `cargo xtask test` builds everything first; by hand it is
//! `cargo build -p provault && cargo nextest run -p provault-tests`.
//!
//! Rules that everything here keeps:
//!
//! * Servers listen on a free port of 127.0.0.1, keep their files in a temporary directory and are
//!   ended by their process id. Tests can run beside each other.
//! * Children get an environment without `AWS_*`, `PROVAULT_*`, `XDG_STATE_HOME`, `RUST_LOG` and
//!   proxies: nothing of the person who runs the tests has a say.
//! * A missing tool fails the test with a message that names what to install.
//! * Every wait has a limit; none asserts a duration.
#![allow(clippy::unwrap_used, reason = "what surprises a test's support ends the test")]

mod api;
pub mod clients;
mod command;
pub mod disk;
mod flow;
pub mod kill;
mod lone_repository;
mod not_tested;
pub mod processes;
mod program;
mod random;
mod receiver;
pub mod restic;
mod sample;
mod sandbox;
mod server;
mod small_disk;
mod store;
mod tree;
pub mod vault_files;
mod wait;
pub mod wreck;

pub use api::{Answer, Api, encode};
pub use command::{Finished, clean_command};
pub use flow::{ACCOUNT, DEFAULT_ROLE, REGION, VAULT};
pub use lone_repository::LoneRepository;
pub use not_tested::not_tested;
pub use program::{Program, executable};
pub use random::Random;
pub use receiver::Receiver;
pub use sample::{NOTES, SampleApp};
pub use sandbox::Sandbox;
pub use server::{Start, TestServer};
pub use small_disk::SmallDisk;
pub use store::Store;
pub use tree::{Manifest, write_tree};
pub use wait::{PATIENCE, until};
