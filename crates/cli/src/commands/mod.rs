//! The commands, one file a noun.
#![allow(
    clippy::doc_markdown,
    reason = "doc comments are help texts here, and backticks would show"
)]

mod backup;
mod declared;
mod delivery;
mod discovery;
pub(crate) mod evidence;
mod jobs;
mod named;
mod plan;
mod plan_rule;
mod receiver;
pub(crate) mod recovery_kit;
mod recovery_points;
mod reload;
mod resource;
mod resource_update;
mod restore;
mod restore_preview;
mod restore_test;
mod restore_testing_plan;
mod restore_testing_selection;
mod selection;
mod status;
mod subscription;
mod testing;
mod topic;
mod user;
mod vault;
pub(crate) mod vault_access;
mod vault_care;

use std::time::Duration;

use crate::client::Client;
use crate::error::CliError;
use crate::exit::{EXIT_CODES_HELP, Exit};
use crate::output::Output;

/// What every command works with.
pub(crate) struct Context<'a> {
    pub client: &'a Client,
    pub out: &'a Output,
    /// Called once before watching begins: from here on Ctrl-C is noticed by `sleep`.
    pub before_watch: &'a dyn Fn(),
    /// Waits; true as soon as Ctrl-C came.
    pub sleep: &'a dyn Fn(Duration) -> bool,
    /// Asks a question; nothing where there is no terminal to ask on.
    pub confirm: &'a dyn Fn(&str) -> Option<bool>,
}

/// The commands that work over the HTTP API.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Whether all is well: what is overdue, unprotected, untested, or wrong with a vault
    #[command(after_help = EXIT_CODES_HELP)]
    Status(status::StatusArgs),
    /// Look the server over: disk, clock, permissions, isolation, vaults, receivers
    #[command(after_help = EXIT_CODES_HELP)]
    Doctor(status::DoctorArgs),
    /// Have the server read its file of settings again; running jobs go on
    #[command(after_help = EXIT_CODES_HELP)]
    Reload(reload::ReloadArgs),
    /// Look over the server's host for what stands there unprotected, and register it
    #[command(after_help = EXIT_CODES_HELP)]
    Discover(discovery::DiscoverArgs),
    /// Write what the server protects and how into one document, without secrets
    Export(declared::ExportArgs),
    /// Make the server protect what documents say: shows what is to change, asks, and does it
    #[command(after_help = EXIT_CODES_HELP)]
    Apply(declared::ApplyArgs),
    /// Register what is to be protected, show it, tag it, remove it
    #[command(subcommand)]
    Resource(resource::ResourceCommand),
    /// Roles: what an IamRoleArn names
    #[command(subcommand)]
    Role(named::RoleCommand),
    /// Users: who may do what, and their access keys
    #[command(subcommand)]
    User(user::UserCommand),
    /// The audit trail: what was changed, and what somebody was not allowed to change
    Audit(user::AuditArgs),
    /// Keys: what an EncryptionKeyArn names
    #[command(subcommand)]
    Key(named::KeyCommand),
    /// Vaults and their notifications
    #[command(subcommand)]
    Vault(vault::VaultCommand),
    /// Plans: when to back up, and for how long to keep it
    #[command(subcommand)]
    Plan(plan::PlanCommand),
    /// Selections: which resources a plan is for
    #[command(subcommand)]
    Selection(selection::SelectionCommand),
    /// Back up a resource now
    #[command(after_help = EXIT_CODES_HELP)]
    Backup(backup::BackupArgs),
    /// Backup jobs, restore jobs and restore tests: list, watch, show, log, stop
    #[command(after_help = EXIT_CODES_HELP)]
    Jobs(jobs::JobsArgs),
    /// Recovery points: list, show, accept, delete, restore metadata
    #[command(subcommand)]
    RecoveryPoints(recovery_points::RecoveryPointsCommand),
    /// Restore a recovery point to a new place or in place, or tell what that would do
    #[command(after_help = EXIT_CODES_HELP)]
    Restore(restore::RestoreArgs),
    /// Prove a recovery point: restore it in isolation, start its application, ask its probes
    #[command(after_help = EXIT_CODES_HELP)]
    RestoreTest(restore_test::RestoreTestArgs),
    /// Restore testing plans: when recovery points are tested by themselves, and which
    #[command(subcommand)]
    RestoreTestingPlan(restore_testing_plan::RestoreTestingPlanCommand),
    /// Restore testing selections: which resources a restore testing plan tests
    #[command(subcommand)]
    RestoreTestingSelection(restore_testing_selection::RestoreTestingSelectionCommand),
    /// Topics and their subscriptions: where notifications go
    #[command(subcommand)]
    Topic(topic::TopicCommand),
    /// One subscription: send it a test
    #[command(subcommand)]
    Subscription(subscription::SubscriptionCommand),
    /// Notifications on their way: list, show, send again what was given up
    #[command(subcommand)]
    Delivery(delivery::DeliveryCommand),
}

impl Command {
    pub(crate) fn run(self, context: &Context<'_>) -> Result<Exit, CliError> {
        match self {
            Self::Status(args) => args.run(context),
            Self::Doctor(args) => args.run(context),
            Self::Reload(args) => args.run(context),
            Self::Discover(args) => args.run(context),
            Self::Export(args) => args.run(context),
            Self::Apply(args) => args.run(context),
            Self::Resource(command) => command.run(context),
            Self::Role(command) => command.run(context),
            Self::User(command) => command.run(context),
            Self::Audit(args) => args.run(context),
            Self::Key(command) => command.run(context),
            Self::Vault(command) => command.run(context),
            Self::Plan(command) => command.run(context),
            Self::Selection(command) => command.run(context),
            Self::Backup(args) => args.run(context),
            Self::Jobs(args) => args.run(context),
            Self::RecoveryPoints(command) => command.run(context),
            Self::Restore(args) => args.run(context),
            Self::RestoreTest(args) => args.run(context),
            Self::RestoreTestingPlan(command) => command.run(context),
            Self::RestoreTestingSelection(command) => command.run(context),
            Self::Topic(command) => command.run(context),
            Self::Subscription(command) => command.run(context),
            Self::Delivery(command) => command.run(context),
        }
    }
}

/// An absolute path as the server wants it: text, in one way of writing. A relative one is taken
/// from here, which is right on the server's own machine.
fn absolute(path: &std::path::Path) -> Result<String, CliError> {
    let shown = path.display();
    let absolute = std::path::absolute(path)
        .map_err(|e| CliError::usage(format!("'{shown}' cannot be made absolute: {e}")))?;
    let plain: std::path::PathBuf = absolute.components().collect();
    plain.into_os_string().into_string().map_err(|_| {
        CliError::usage(format!("'{shown}' is not UTF-8, and JSON can hold no such path"))
    })
}

/// A confirmation that something is gone, in both forms.
fn gone(context: &Context<'_>, what: &str) -> Result<Exit, CliError> {
    context.out.show_line(&serde_json::json!({}), what)?;
    Ok(Exit::Done)
}

/// 64 hexadecimal digits with 244 random bits, for a secret that is made here.
fn random_digits() -> String {
    [uuid::Uuid::new_v4(), uuid::Uuid::new_v4()]
        .iter()
        .map(|half| half.simple().to_string())
        .collect()
}
