//! What Provault can be asked to do: one function a use case.
//!
//! Every method of [`App`] authorises the caller, validates what it was given, acts, and leaves an
//! audit record when something changed. The HTTP server and the console call the same methods, so
//! that a rule holds whoever asks. Domain types come in and go out; nothing here knows the wire.
//!
//! Invariants:
//!
//! * **Authorise first.** Nothing is done or told before the caller may know of it; what is not the
//!   caller's account is not found or denied. Every action is decided on what
//!   [`provault_iam::ACTIONS`] says: what has no ARN in the request is looked up for it.
//! * **Bad input changes nothing.** Everything is checked before the first write, and a write is
//!   one transaction of the catalog or one call of the engine.
//! * **No setting is forgotten.** What this server cannot honour yet is refused by name
//!   ([`AppError::not_supported`]).
//! * **Repeating is safe.** A request with the token of an earlier one returns what that one made;
//!   the same token with other parameters is an error.
//! * **Errors say what to do next**, under the names that AWS clients act upon.

mod audit;
mod backup_job;
mod backup_testing;
mod bootstrap;
mod caller;
mod care;
mod delivery;
mod discovery;
mod error;
mod evidence;
mod job_log;
mod key;
mod key_use;
mod lifecycle;
mod notification;
mod page_token;
mod paging;
mod plan;
mod plan_document;
mod protected_resource;
mod recovery_point;
mod reload;
mod repository;
mod resource;
mod restore_job;
mod restore_test;
mod restore_testing_plan;
mod restore_testing_selection;
mod retention;
mod role;
mod selection;
mod status;
mod subscription;
mod tag;
mod topic;
mod user;
mod vault;

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use jiff::Timestamp;
use provault_catalog::Catalog;
use provault_domain::{AccountId, Region};
use provault_engine::Engine;
use provault_iam::AccessKey;

use user::Identities;

pub use backup_job::{BackupJobFilter, BackupJobView, StartBackup};
pub use backup_testing::{TestingDocument, TestingOf, WindowDocument};
pub use bootstrap::{
    BootstrapError, CREDENTIALS_FILE, DEFAULT_ACCOUNT, DEFAULT_REGION, Setup, region_of,
};
pub use caller::Caller;
pub use care::{CareUpdate, ImportVault, VaultCareReport};
pub use delivery::DeliveryView;
pub use discovery::{DiscoveredView, DiscoveryView};
pub use error::{AppError, ErrorKind, Result};
pub use evidence::EvidenceChain;
pub use job_log::{JobLog, JobType};
pub use notification::BACKUP_VAULT_EVENTS;
pub use paging::{Listing, Paging};
pub use plan::{NewPlan, PlanView, ScheduledRun};
pub use plan_document::{PlanDocument, RuleDocument};
pub use recovery_point::{PointByVaultFilter, PointView};
pub use reload::{Reload, Reloaded};
pub use repository::ServerInfo;
pub use resource::{NewResource, ResourceUpdate};
pub use restore_job::{
    RestoreJobByResourceFilter, RestoreJobFilter, RestoreJobView, StartRestore, ValidationResult,
};
pub use restore_test::TestTarget;
pub use restore_testing_plan::{NewTestingPlan, PointSelectionDocument, TestingPlanDocument};
pub use restore_testing_selection::TestingSelectionDocument;
pub use retention::RetentionUpdate;
pub use selection::SelectionDocument;
pub use status::{NewExemption, ResourceView, StandingAlarm, Status};
pub use subscription::NewSubscription;
pub use user::{AccessKeyView, NewUser, UserChange, UserView};
pub use vault::{NewVault, VaultView};

// What the methods hand out that belongs to the rooms below.
pub use provault_catalog::{AuditRecord, Delivery, DeliveryState, JobEvent, ProtectedResource};
pub use provault_driver::{
    Counted, Coverage, PreviewChange, PreviewCounts, PreviewLink, RestorePreview,
};
pub use provault_engine::{Finding, Level, SubscriptionTest};

/// Limits and habits that an operator may set; the defaults are AWS's.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Whether `DescribeBackupVault` answers `AccessDeniedException` for a vault that does not
    /// exist, as AWS does and Ansible demands; else `ResourceNotFoundException`.
    pub missing_vault_is_access_denied: bool,
    /// Vaults an account may have.
    pub max_vaults: u32,
    /// Plans an account may have, deleted ones not counted.
    pub max_plans: u32,
    /// Selections a plan may have.
    pub max_selections: u32,
    /// Restore testing plans an account may have.
    pub max_restore_testing_plans: u32,
    /// Selections a restore testing plan may have.
    pub max_restore_testing_selections: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            missing_vault_is_access_denied: true,
            max_vaults: 300,
            max_plans: 300,
            max_selections: 100,
            max_restore_testing_plans: 100,
            max_restore_testing_selections: 30,
        }
    }
}

/// The use cases over one engine. Cheap to clone.
#[derive(Clone)]
pub struct App {
    inner: Arc<Inner>,
}

struct Inner {
    /// The first region of the server, where identities are kept; nothing for that region itself.
    home: Option<App>,
    engine: Engine,
    account: AccountId,
    region: Region,
    settings: Settings,
    reloading: reload::Reloading,
    credentials_path: PathBuf,
    tokens: page_token::TokenKey,
    /// Who may sign, and what they may do: kept in memory, so that a request waits for neither disk nor
    /// database.
    identities: RwLock<Identities>,
    /// When each access key was used last.
    uses: key_use::KeyUses,
    /// Held over a change of the catalog and of `identities`, which must not part.
    changing_identities: tokio::sync::Mutex<()>,
}

impl App {
    /// The account this server was started for.
    pub fn account(&self) -> &AccountId {
        &self.inner.account
    }

    /// The first region of the server: whoever may sign is entered there, and what changes users and
    /// access keys is to be asked of it.
    pub fn home(&self) -> &App {
        self.inner.home.as_ref().unwrap_or(self)
    }

    /// The region these use cases are of.
    pub fn region(&self) -> &Region {
        &self.inner.region
    }

    /// The engine behind the use cases.
    pub fn engine(&self) -> &Engine {
        &self.inner.engine
    }

    /// The server's time.
    pub fn now(&self) -> Timestamp {
        self.inner.engine.now()
    }

    /// Where the root access key lies for clients on this machine.
    pub fn credentials_path(&self) -> &std::path::Path {
        &self.inner.credentials_path
    }

    /// Looks an access key up for the verification of a signature. The keys, their secrets
    /// unsealed, are kept in memory: a verification touches neither disk nor database.
    pub fn access_key(&self, access_key_id: &str) -> Option<AccessKey> {
        self.identities().key(access_key_id)
    }

    pub(crate) fn identities(&self) -> std::sync::RwLockReadGuard<'_, Identities> {
        // Every change is one map operation: there is nothing half done to protect from.
        self.home().inner.identities.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn catalog(&self) -> &Catalog {
        self.inner.engine.catalog()
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.inner.settings
    }
}

/// A new UUID, as ids of plans, selections and jobs are.
pub(crate) fn new_id() -> String {
    uuid::Uuid::new_v4().to_string()
}
