//! What the tests of several rooms need. Never part of the program.
//!
//! Everything here that starts a process ends it by its id when it is dropped, keeps its files in
//! a temporary directory of its own, and is reachable from this machine alone. A tool that is
//! missing is an error that names the package to install, never a reason to skip a test.

pub mod postgres;
pub mod s3;

pub use postgres::PostgresServer;
pub use s3::S3Server;
