//! The catalog: everything Provault knows beside the data itself.
//!
//! One store for vaults, plans, jobs, recovery points, evidence and the outbox, in SQLite (one
//! server, one file) or PostgreSQL (several servers). Both are spoken to with the same SQL: only
//! TEXT and BIGINT columns, moments as microseconds, the domain's value as JSON in `body` with
//! those members beside it that a query, an order or a unique index needs. Rows never leave this
//! room; what comes out are the domain's types and the few that are the catalog's own.
//!
//! Invariants:
//!
//! * **A change is a transaction, and transactions behave as if they ran one after the other.**
//!   SQLite has one writer (`BEGIN IMMEDIATE` on a single connection). On PostgreSQL every change
//!   runs SERIALIZABLE, and one that lost against another is run again, a bounded number of
//!   times. So every operation may look first and write then: what it saw holds.
//! * **A job changes only by a step** ([`Catalog::step_job`]): new state, log line, outbox rows
//!   and whatever else belongs to it, together or not at all, by compare-and-swap on the row's
//!   version.
//! * **A stale worker is refused.** A [`Claim`] carries a generation that each new claim raises; a
//!   step, a log line or a renewal under an older one answers [`CatalogError::Fenced`].
//! * **One backup of a resource at a time**, held by a unique index and not by good behaviour.
//! * **Nothing is lost by a crash**: a commit is on disk when the operation returns (WAL with
//!   synchronous FULL; PostgreSQL as its server is set up).
//! * **Time comes from the caller.** No query reads the database's clock.
//!
//! Moments in columns are cut to the microsecond; those inside a value are kept whole.
//!
//! An operation can be dropped at any moment: its transaction is rolled back.

mod absence;
mod access_key;
mod audit;
mod backup_testing;
mod before;
mod care;
mod change;
mod death;
mod delivery;
mod digest;
mod error;
mod evidence;
mod first_backup;
mod inspect;
mod job;
mod job_event;
mod job_store;
mod key;
mod lease;
mod migrate;
mod mutant;
mod on_record;
mod page;
mod plan;
mod pool;
mod protected_resource;
mod recovery_point;
mod resource;
mod restore_testing_plan;
mod restore_testing_selection;
mod retention;
mod role;
mod schedule;
mod selection;
mod setting;
mod sole_use;
mod tag;
mod topic;
mod unreadable;
mod unsettled;
mod user;
mod vault;

pub use access_key::AccessKeyRow;
pub use audit::{AuditRecord, MAX_DENIALS, Outcome};
pub use backup_testing::TestingSettings;
pub use care::{EnteredImport, PackRead};
pub use change::Change;
pub use delivery::{Delivery, DeliveryState};
pub use error::{CatalogError, Result};
pub use inspect::Inspection;
pub use job::{EventNote, Job};
pub use job_event::JobEvent;
pub use job_store::JobFilter;
pub use lease::{Claim, Claimed};
pub use on_record::OnRecord;
pub use page::{Cursor, Listed, Page};
pub use pool::Catalog;
pub use protected_resource::ProtectedResource;
pub use recovery_point::PointFilter;
pub use retention::Expired;
pub use schedule::DueJob;
pub use sole_use::SoleUse;
pub use tag::MAX_TAGS;
pub use unreadable::UnreadableJob;
pub use unsettled::{UnsettledState, UnsettledVault};
