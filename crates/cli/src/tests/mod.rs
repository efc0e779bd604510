//! Tests that need more than one file of the crate: a small server, whole command lines.

mod client;
mod commands;
mod discovery;
mod evidence;
mod server;
