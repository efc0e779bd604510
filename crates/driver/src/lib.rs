//! The port between Provault and the things it protects.
//!
//! A [`Driver`] knows one kind of resource: how to take a consistent [`Capture`] of it and how to
//! write one back. It knows nothing of repositories: a capture is read into a [`Sink`], a restore
//! is read from a [`Source`], and the engine implements both over a vault.
//!
//! Invariants every driver keeps (the conformance suite in [`conformance`] checks them):
//!
//! * A capture only reads. Nothing of the source is changed, not even access times where the
//!   system allows that.
//! * What could not be read is listed in the [`CaptureReport`], never left out in silence.
//! * A restore never writes over anything that exists unless it was asked to, and what it could not
//!   finish it removes: a target that did not exist is complete or absent.
//! * What a process that died left of a restore is taken up by the same job, or removed under its id.
//! * Every call ends soon after its [`CancelFlag`] is raised.
//!
//! All calls block; the engine gives each its own thread.

pub mod blocks;
pub mod broken_off;
pub mod cancel;
pub mod conformance;
pub mod discovery;
pub mod entry;
pub mod error;
mod injection;
pub mod memory;
mod memory_volume;
pub mod port;
pub mod reserved;

pub use blocks::{
    BlockExtent, BlockRange, BlockSink, BlockSource, Lineage, StoredVolume, VolumeOutcome,
};
pub use broken_off::BrokenOff;
pub use cancel::CancelFlag;
pub use discovery::{Coverage, DiscoverRequest, Discovered, Discovery};
pub use entry::{Chunk, Entry, Metadata, NodeKind};
pub use error::{DriverError, SinkError, SourceError};
pub use port::{
    Capture, CaptureReport, ContentSink, Counted, CreatedResource, Driver, FileOutcome, Leaves,
    OUTSIDE_LISTED, PREVIEW_LISTED, PreviewChange, PreviewCounts, PreviewFate, PreviewLink,
    RestoreOutcome, RestorePreview, RestoreRequest, Sink, Source, Verified, WorkContext,
};
