//! The rules of Provault, and nothing else: no clock, no I/O, no runtime.
//!
//! Everything that decides lives here, so that it can be tested by itself: which resources a
//! selection matches, when a plan is due, which state a job may go to next, when a recovery point
//! expires, and what a restore test proved. The outer rooms only carry these decisions out.
//!
//! Invariants:
//!
//! * `now` is always a parameter; nothing here reads a clock.
//! * A job changes state only through its `step` function, which names the effects that belong to
//!   the change. The catalog writes the new state and the effects in one transaction, or neither.
//! * A value that exists is valid: constructors and `validate` functions answer with [`Invalid`],
//!   which says which member is wrong and what to do about it.

pub mod arn;
pub mod assignment;
pub mod backup_job;
pub mod backup_testing;
pub mod care;
pub mod cron;
pub mod daily_window;
pub mod doctor;
pub mod evidence;
pub mod invalid;
pub mod key;
pub mod lifecycle;
pub mod notification;
pub mod plan;
pub mod probe;
pub mod protection;
pub mod recovery_point;
pub mod resource;
pub mod restore_job;
pub mod restore_test;
pub mod restore_testing_plan;
pub mod restore_testing_selection;
pub mod retention;
pub mod role;
pub mod selection;
pub mod step;
pub mod topic;
pub mod user;
pub mod vault;
pub mod verdict;
pub mod verification;
pub mod wildcard;

pub use arn::{AccountId, Arn, Region};
pub use assignment::{AssignableResource, Assignment};
pub use backup_job::{BackupJob, BackupJobEvent, BackupJobState};
pub use backup_testing::{BackupTesting, TestBudget, TestingScope};
pub use care::{CareEvent, CareOperation, CareRun, CareState};
pub use daily_window::DailyWindow;
pub use doctor::DoctorCheck;
pub use evidence::Evidence;
pub use invalid::Invalid;
pub use key::Key;
pub use lifecycle::Lifecycle;
pub use notification::{Notification, NotificationEvent};
pub use plan::{BackupPlan, BackupRule};
pub use probe::{Assertion, Probe, ServiceSpec};
pub use protection::{Exemption, Protection, ResourceTrouble};
pub use recovery_point::{Payload, RecoveryPoint, RecoveryPointStatus};
pub use resource::{Kind, Resource};
pub use restore_job::{RestoreJob, RestoreJobEvent, RestoreJobState};
pub use restore_test::{PlannedTest, RestoreTest, RestoreTestEvent, RestoreTestState};
pub use restore_testing_plan::RestoreTestingPlan;
pub use restore_testing_selection::RestoreTestingSelection;
pub use retention::RetentionSettings;
pub use role::Role;
pub use selection::BackupSelection;
pub use step::{Effect, IllegalTransition, MOST_ATTEMPTS, StepRecord};
pub use topic::{SmtpTarget, SmtpTls, SnsTarget, Subscription, SubscriptionTarget, Topic};
pub use user::User;
pub use vault::BackupVault;
pub use verdict::Verdict;

/// Tags of a resource, vault, plan or recovery point. Keys and values are case sensitive.
pub type Tags = std::collections::BTreeMap<String, String>;
