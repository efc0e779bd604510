//! Where time passes: scheduler, job runner, restore tests, notifications, reconcilers.
//!
//! The engine carries out what the domain decides. It knows the time only from its [`Clock`], its
//! state only from the catalog, and changes that state only through one transaction per
//! transition.
//!
//! Invariants:
//!
//! * A job is worked on under a lease; whatever its worker writes is refused once the lease is
//!   another's. A worker that hears so stops.
//! * A recovery point is entered in the catalog only after its snapshot is durable, and a snapshot
//!   is forgotten only after its recovery point is no longer offered.
//! * Whatever stops the process between two lines, the reconcilers of the next start bring every
//!   job to a truthful end; they take no input but the state.
//! * A restore test deletes only what bears its token, and marks what it makes before it makes it.
//!
//! Everything that touches disks or waits for programs runs on threads that may block.

mod absence;
mod backup;
mod backup_ready;
mod backup_testing;
mod care;
mod care_check;
mod care_prune;
mod care_repair;
mod care_report;
mod care_schedule;
mod catalog_backup;
mod clock;
mod doctor;
mod engine;
mod error;
mod expiry;
mod heartbeat;
mod import;
mod keyring;
mod lineage;
mod missing;
pub mod offline;
mod older_state;
mod outbox;
pub mod pause;
mod pulse;
mod reads;
mod reconcile;
mod recovery_kit;
mod restore;
mod restore_preview;
mod restore_stop;
mod restore_test;
mod rounds;
mod schedule;
mod shared;
mod sink;
mod source;
mod subscription;
mod test_queue;
mod test_result;
mod test_share;
mod test_stop;
mod testing_schedule;
mod trial;
mod unsettled;
mod validation;
mod vault_care;
mod vault_place;
mod vaults;
mod verification;
mod volume;
mod waiting;
mod watch;

pub use absence::{Promises, Standing};
pub use clock::Clock;
pub use doctor::{Finding, Level};
pub use engine::{Engine, RepositoryInfo, Running};
pub use error::{EngineError, Result};
pub use import::Imported;
pub use keyring::{Keyring, SERVER_KEY};
pub use provault_notify::{Message, render};
pub use provault_repository::StorageOptions;
pub use reads::HungRead;
pub use recovery_kit::{Kit, KitVault, Restored, SHORTEST_PASSPHRASE, check_passphrase};
pub use shared::Parts;
pub use subscription::SubscriptionTest;
pub use test_queue::{DiskReserve, TestLimits};
pub use test_share::TestsAtWork;
pub use vault_care::VaultCareView;
pub use vault_place::VaultPlace;
