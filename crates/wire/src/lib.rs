//! The AWS Backup API on the wire: types, routes, decoding, validation, errors.
//!
//! Half of this crate is generated. `model/` holds AWS's public service model; `cargo xtask
//! gen-wire` turns it into [`types`], [`enums`], [`errors`], the [`Operation`] table and a schema
//! (the shapes as data). The hand-written half walks along that schema, so that no rule of the
//! model is written down twice. Nothing here does I/O or knows another room.
//!
//! The way of a request:
//!
//! 1. [`match_route`] finds the [`Operation`] and the path labels from the raw, still-encoded path;
//! 2. [`OperationInput::decode`] merges labels, query and JSON body into the operation's input;
//! 3. [`OperationInput::validate`] checks what the model demands: required members, lengths,
//!    ranges, patterns, enumerations, at every depth;
//! 4. the answer is [`OperationInput::encode_output`] with [`Operation::success_status`], or a
//!    [`ServiceError`]; every error of this crate converts into one.
//!
//! Invariants:
//!
//! - Every member is an `Option`, required ones too: what is absent is found by validation, which
//!   can name it, and not by serde.
//! - Decoding accepts what AWS accepts (unknown members are ignored) and refuses a value of the
//!   wrong JSON type with the path of the member, such as `BackupPlan.Rules[0].RuleName`.
//! - Values of members the model calls sensitive never stand in an error message.
//! - The serde form of an input holds all members under their own names, as `--cli-input-json` of
//!   the aws CLI does; [`OperationInput::encode`] is what splits it into path, query and body.

mod error;
mod generated;
mod operation;
mod pattern;
mod percent;
pub mod provault;
mod request;
mod route;
mod schema;
mod string_enum;
mod timestamp;
mod validate;

pub use error::{ErrorShape, ServiceError};
pub use generated::operations::Operation;
pub use generated::{enums, types};
pub use operation::{NoOutput, OperationInfo, PathSegment, UnknownOperation, not_implemented};
pub use request::{DecodeError, EncodeError, EncodedRequest, OperationInput};
pub use route::{RouteError, RouteMatch, match_route};
pub use schema::{Bounds, Location, Member, Pattern, Shape, Structure};
pub use timestamp::{ParseTimestampError, Timestamp};
pub use validate::{ValidationError, Violation};

/// The errors the server answers: the model's own, and those AWS answers outside of it.
pub mod errors {
    pub use crate::error::{
        ACCESS_DENIED, INTERNAL_FAILURE, METHOD_NOT_ALLOWED, NOT_IMPLEMENTED, REQUEST_TOO_LARGE,
        SERIALIZATION, THROTTLING, UNKNOWN_OPERATION,
    };
    pub use crate::generated::errors::*;
}
