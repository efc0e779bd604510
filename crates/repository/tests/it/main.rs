//! Tests of the repository as a whole. Stock restic is the oracle: Debian's package `restic` has to
//! be installed. They run as root, for owners and device nodes.
// An unwrap that fails is how a test fails.
#![allow(clippy::unwrap_used)]

mod adoption;
mod bad_sectors;
mod beside;
mod care;
mod concurrency;
mod damage;
mod dedup;
mod expected;
mod familiar;
mod faults;
mod foreign;
mod hook;
mod hostile;
mod lapse;
mod locks;
mod nbd;
mod nbd_protocol;
mod proxy;
mod prune;
mod reading;
mod storage;
mod storage_faults;
mod support;
mod sync;
mod tree;
mod unruly;
mod volume;
mod volume_model;
