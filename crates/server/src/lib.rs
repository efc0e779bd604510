//! HTTP: from a signed request to a use case, and back.
//!
//! The way of a request: its body is read within a limit and a time; its signature is verified over
//! the raw path and query; its route is found ([`provault_wire::match_route`], or our own under
//! `/provault/v1`); its input is decoded and validated along the model; one function, in a file a
//! noun, turns wire types into domain types, asks [`provault_app::App`], and turns the answer back.
//!
//! Invariants:
//!
//! * **Nothing without a signature**, but `GET /provault/v1/health`, which says nothing, `GET /provault/v1/ready`,
//!   which says little, and `GET /provault/v1/metrics`, which has a token of its own.
//! * **Every answer is modelled**: a status, `x-amzn-RequestId`, JSON; an error also
//!   `x-amzn-ErrorType`. A panic in a handler is an error like any other, and is logged.
//! * **An operation runs to its end** even when its client goes away: a change is never cut in two.
//! * **No secret is logged**: neither bodies, nor headers, nor queries.
//! * **Plain HTTP stays on loopback**: any other address needs a certificate.

mod answer;
mod body;
mod convert;
mod dispatch;
mod handle;
mod metrics;
mod not_after;
mod operations;
mod provault;
mod ready;
mod refusals;
mod serve;
mod strangers;
mod tls;

pub use not_after::not_after;
pub use serve::{ServeError, Server, ServerOptions};
pub use tls::{Tls, TlsError, TlsFiles};
