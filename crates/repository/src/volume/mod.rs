//! Volumes: block devices and raw images, of any size.
//!
//! A volume is stored as fixed, aligned blocks. In the snapshot it is a directory
//! `NAME.volume/`, which stock restic restores like any other:
//!
//! ```text
//! disk.volume/volume.json                    size, block size, version of this layout
//! disk.volume/group-000000/segment-000/data  the first 64 MiB
//! disk.volume/group-000000/segment-001/data  the next, and so on to segment-127
//! disk.volume/group-000001/segment-000/data  8 GiB from the start
//! ```
//!
//! `cat disk.volume/group-*/segment-*/data` is the volume: the names sort as the bytes lie.
//!
//! Why the levels: a tree is stored whole, so whatever stands in one is stored again when anything
//! in it changes. A changed block costs the list of blocks of its segment, the list of segments of
//! its group and the list of groups (together about 20 KB), and everything else is named by ids
//! that are taken over. Names, owners and times of segments are the same in every volume, so that
//! equal segments (those without data above all) are equal trees, stored once.
//!
//! A block of zeros is a hole: it is one shared blob, is never read when the source tells that it
//! is one, and is not written in a sparse restore. The field `provault_data_extents` of a
//! segment's node says the same to readers that do not know volumes.

mod base;
mod cache;
mod diff;
mod layout;
mod nbd;
mod periodic;
mod plan;
mod range;
mod reader;
mod restore;
mod segments;
mod source;
mod target;
mod writer;
mod zero;

pub(crate) use cache::Cache;
pub use layout::{DEFAULT_BLOCK_SIZE, MAX_VOLUME, VOLUME_SUFFIX};
pub use nbd::{NbdAddress, NbdExport, NbdLimits, NbdServer};
pub use range::ByteRange;
pub use reader::{VolumeCacheLimits, VolumeExtent, VolumeReader};
pub use restore::{DamagedRange, VolumeRestore, VolumeRestoreOptions};
pub use source::{Extent, RawImage, VolumeSource};
pub use target::{RawTarget, VolumeTarget};
pub use writer::{ChangedBlocks, VolumeOptions, VolumeStats};
