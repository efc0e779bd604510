//! `plan`: when to back up, and for how long to keep it.

use std::path::{Path, PathBuf};

use provault_wire::types::{
    BackupPlan, BackupPlanInput, CreateBackupPlanInput, DeleteBackupPlanInput, GetBackupPlanInput,
    GetBackupPlanOutput, ListBackupPlanVersionsInput, ListBackupPlansInput, UpdateBackupPlanInput,
};
use serde_json::Value;

use super::plan_rule::{RuleArgs, as_input, kept};
use super::testing::TestingArgs;
use super::{Context, gone};
use crate::client::segment;
use crate::error::CliError;
use crate::exit::Exit;
use crate::input_file;
use crate::output::{View, dash, tags, time};
use crate::resolve;
use crate::words::{Pair, to_map};

const FILE_HELP: &str = "\
The plan as JSON, as AWS Backup's BackupPlan: {\"BackupPlanName\": …, \"Rules\": [{\"RuleName\": …, \
\"TargetBackupVaultName\": …}, …]}, or - for standard input. The BackupPlan of `plan show --json` \
may be given back; its rule ids are left out";

#[derive(Debug, clap::Subcommand)]
pub enum PlanCommand {
    /// Create a plan: one rule by options, or any plan with --file; prints its id
    Create {
        /// 1 to 50 characters
        name: String,
        #[arg(long, value_name = "FILE", conflicts_with = "rule", help = FILE_HELP)]
        file: Option<PathBuf>,
        #[command(flatten)]
        rule: Box<RuleArgs>,
        /// Tag KEY=VALUE of the plan; may be repeated
        #[arg(long, value_name = "KEY=VALUE")]
        tag: Vec<Pair>,
    },
    /// List all plans
    List {
        /// Deleted ones too
        #[arg(long)]
        deleted: bool,
    },
    /// Show a plan
    Show {
        /// Name, id or ARN
        plan: String,
        /// An older version, by its id
        #[arg(long, value_name = "ID")]
        version: Option<String>,
    },
    /// List all versions of a plan
    Versions {
        /// Name, id or ARN
        plan: String,
    },
    /// Make a new version: change or add one rule by options, remove one, or replace the whole plan
    Update {
        /// Name, id or ARN
        plan: String,
        #[arg(long, value_name = "FILE", conflicts_with_all = ["rule", "remove_rule"], help = FILE_HELP)]
        file: Option<PathBuf>,
        #[command(flatten)]
        rule: Box<RuleArgs>,
        /// Remove the rule of this name; may be repeated
        #[arg(long, value_name = "NAME")]
        remove_rule: Vec<String>,
    },
    /// Say whether restore tests follow the plan's backups, and within which budgets; show what is said
    ///
    /// What a resource says goes before what its selection says, and that before the plan. It belongs to
    /// the plan, not to a version of it
    Testing {
        /// Name, id or ARN
        plan: String,
        #[command(flatten)]
        testing: TestingArgs,
    },
    /// Delete a plan; its selections must be removed first
    Delete {
        /// Name, id or ARN
        plan: String,
    },
}

impl PlanCommand {
    pub(crate) fn run(self, context: &Context<'_>) -> Result<Exit, CliError> {
        match self {
            Self::Create { name, file, rule, tag } => {
                create(context, name, file.as_deref(), &rule, &tag)
            }
            Self::List { deleted } => list(context, deleted),
            Self::Show { plan, version } => show(context, &plan, version),
            Self::Versions { plan } => versions(context, &plan),
            Self::Update { plan, file, rule, remove_rule } => {
                update(context, &plan, file.as_deref(), &rule, &remove_rule)
            }
            Self::Testing { plan, testing } => {
                let id = resolve::plan_id(context.client, &plan)?;
                let path = format!("/backup-plans/{}/testing", segment(&id));
                testing.run(context, &format!("plan {plan}"), &path)
            }
            Self::Delete { plan } => {
                let id = resolve::plan_id(context.client, &plan)?;
                context.client.ask(&DeleteBackupPlanInput { backup_plan_id: Some(id) })?;
                gone(context, &format!("deleted plan {plan}; its versions stay readable"))
            }
        }
    }
}

/// Reads a plan file, either bare or inside `BackupPlan`.
fn from_file(path: &Path) -> Result<BackupPlanInput, CliError> {
    let mut value = input_file::load(path)?;
    if let Some(object) = value.as_object()
        && let (Some(inner), 1) = (object.get("BackupPlan"), object.len())
    {
        value = inner.clone();
    }
    for rule in value.get_mut("Rules").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(rule) = rule.as_object_mut() {
            rule.remove("RuleId");
        }
    }
    input_file::typed(path, &value)
}

fn create(
    context: &Context<'_>,
    name: String,
    file: Option<&Path>,
    rule: &RuleArgs,
    tag: &[Pair],
) -> Result<Exit, CliError> {
    let plan = match file {
        Some(path) => {
            let mut plan = from_file(path)?;
            if plan.backup_plan_name.as_ref().is_some_and(|inside| *inside != name) {
                return Err(CliError::usage(format!(
                    "{} has another BackupPlanName than '{name}'; make them the same, or leave it \
                     out of the file",
                    path.display()
                )));
            }
            plan.backup_plan_name = Some(name);
            plan
        }
        None => BackupPlanInput {
            backup_plan_name: Some(name),
            rules: Some(vec![rule.new_rule()?]),
            ..BackupPlanInput::default()
        },
    };
    let tags = to_map("--tag", tag)?;
    let input = CreateBackupPlanInput {
        backup_plan: Some(plan),
        backup_plan_tags: (!tags.is_empty()).then_some(tags),
        creator_request_id: Some(uuid::Uuid::new_v4().to_string()),
    };
    let made = context.client.ask(&input)?;
    context.out.show_line(&made.json, &made.typed.backup_plan_id.unwrap_or_default())?;
    Ok(Exit::Done)
}

fn list(context: &Context<'_>, deleted: bool) -> Result<Exit, CliError> {
    let input = ListBackupPlansInput {
        include_deleted: deleted.then_some(true),
        ..ListBackupPlansInput::default()
    };
    let list = context.client.ask_all(&input)?;
    context.out.show(&list.json, || {
        let plans = list.typed.backup_plans_list.unwrap_or_default();
        let rows = plans.into_iter().map(|p| {
            vec![
                dash(p.backup_plan_name),
                dash(p.backup_plan_id),
                dash(p.creation_date.map(time)),
                dash(p.last_execution_date.map(time)),
                dash(p.deletion_date.map(time)),
            ]
        });
        vec![View::table(&["NAME", "ID", "CREATED", "LAST RUN", "DELETED"]).rows(rows)]
    })?;
    Ok(Exit::Done)
}

fn get(
    context: &Context<'_>,
    id: &str,
    version: Option<String>,
) -> Result<crate::Answer<GetBackupPlanOutput>, CliError> {
    context.client.ask(&GetBackupPlanInput {
        backup_plan_id: Some(id.to_owned()),
        version_id: version,
        ..GetBackupPlanInput::default()
    })
}

fn show(context: &Context<'_>, plan: &str, version: Option<String>) -> Result<Exit, CliError> {
    let id = resolve::plan_id(context.client, plan)?;
    let found = get(context, &id, version)?;
    context.out.show(&found.json, || views(found.typed))?;
    Ok(Exit::Done)
}

fn views(found: GetBackupPlanOutput) -> Vec<View> {
    let plan = found.backup_plan.unwrap_or_default();
    let mut views = vec![
        View::fields()
            .field("Name", plan.backup_plan_name)
            .field("Id", found.backup_plan_id)
            .field("ARN", found.backup_plan_arn)
            .field("Version", found.version_id)
            .field("Created", found.creation_date.map(time))
            .field("Last run", found.last_execution_date.map(time))
            .field("Deleted", found.deletion_date.map(time)),
    ];
    for rule in plan.rules.unwrap_or_default() {
        let minutes = |m: Option<i64>| m.map(|m| format!("{m} min"));
        let point_tags = rule.recovery_point_tags.as_ref().map(tags);
        views.push(
            View::fields()
                .titled(format!("Rule {}", dash(rule.rule_name)))
                .field("Vault", rule.target_backup_vault_name)
                .field("Schedule", rule.schedule_expression)
                .field("Time zone", rule.schedule_expression_timezone)
                .field("Kept", kept(rule.lifecycle.as_ref()))
                .field("Start window", minutes(rule.start_window_minutes))
                .field("Completion window", minutes(rule.completion_window_minutes))
                .field("Point tags", point_tags.filter(|text| !text.is_empty())),
        );
    }
    views
}

fn versions(context: &Context<'_>, plan: &str) -> Result<Exit, CliError> {
    let input = ListBackupPlanVersionsInput {
        backup_plan_id: Some(resolve::plan_id(context.client, plan)?),
        ..ListBackupPlanVersionsInput::default()
    };
    let list = context.client.ask_all(&input)?;
    context.out.show(&list.json, || {
        let rows = list.typed.backup_plan_versions_list.unwrap_or_default().into_iter().map(|p| {
            vec![
                dash(p.version_id),
                dash(p.backup_plan_name),
                dash(p.creation_date.map(time)),
                dash(p.deletion_date.map(time)),
            ]
        });
        vec![View::table(&["VERSION", "NAME", "CREATED", "DELETED"]).rows(rows)]
    })?;
    Ok(Exit::Done)
}

fn update(
    context: &Context<'_>,
    plan: &str,
    file: Option<&Path>,
    rule: &RuleArgs,
    remove: &[String],
) -> Result<Exit, CliError> {
    if file.is_none() && rule.is_empty() && remove.is_empty() {
        return Err(CliError::usage(
            "nothing to change: give --file, options of a rule, or --remove-rule",
        ));
    }
    let given = file.map(from_file).transpose()?;
    let id = resolve::plan_id(context.client, plan)?;
    let current = get(context, &id, None)?.typed.backup_plan.unwrap_or_default();
    let changed = match given {
        Some(mut changed) => {
            // A file without a name keeps the name.
            changed.backup_plan_name = changed.backup_plan_name.or(current.backup_plan_name);
            changed
        }
        None => edited(current, rule, remove)?,
    };
    let input = UpdateBackupPlanInput { backup_plan_id: Some(id), backup_plan: Some(changed) };
    let updated = context.client.ask(&input)?;
    let version = updated.typed.version_id.unwrap_or_default();
    context.out.show_line(&updated.json, &format!("plan {plan} is now at version {version}"))?;
    Ok(Exit::Done)
}

/// The plan with one rule changed or added, and others removed.
fn edited(
    current: BackupPlan,
    args: &RuleArgs,
    remove: &[String],
) -> Result<BackupPlanInput, CliError> {
    let BackupPlan { advanced_backup_settings, backup_plan_name, rules, scan_settings } = current;
    let mut rules: Vec<_> = rules.unwrap_or_default().into_iter().map(as_input).collect();
    for name in remove {
        let before = rules.len();
        rules.retain(|rule| rule.rule_name.as_ref() != Some(name));
        if rules.len() == before {
            return Err(CliError::Name(format!("the plan has no rule '{name}' to remove")));
        }
    }
    if !args.is_empty() {
        let at = match (&args.rule_name, rules.len()) {
            (Some(name), _) => rules.iter().position(|rule| rule.rule_name.as_ref() == Some(name)),
            (None, 1) => Some(0),
            (None, count) => {
                return Err(CliError::usage(format!(
                    "the plan has {count} rules; say with --rule-name which one to change or add"
                )));
            }
        };
        match at {
            Some(at) => args.apply(&mut rules[at])?,
            None => rules.push(args.new_rule()?),
        }
    }
    Ok(BackupPlanInput {
        advanced_backup_settings,
        backup_plan_name,
        rules: Some(rules),
        scan_settings,
    })
}
