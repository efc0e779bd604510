//! `selection`: which resources a plan is for.

use std::path::PathBuf;

use provault_wire::types::{
    BackupSelection, Condition, CreateBackupSelectionInput, DeleteBackupSelectionInput,
    GetBackupSelectionInput, ListBackupSelectionsInput,
};

use super::testing::TestingArgs;
use super::{Context, gone};
use crate::client::{Client, segment};
use crate::error::CliError;
use crate::exit::Exit;
use crate::input_file;
use crate::output::{View, dash, time};
use crate::resolve;
use crate::words::Pair;

#[derive(Debug, clap::Subcommand)]
pub enum SelectionCommand {
    /// Select resources for a plan; prints the selection's id
    Add(Box<AddArgs>),
    /// List the selections of a plan
    List {
        /// Name, id or ARN of the plan
        plan: String,
    },
    /// Show a selection
    Show {
        /// Name, id or ARN of the plan
        plan: String,
        /// Name or id of the selection
        selection: String,
    },
    /// Say whether restore tests follow the backups of what it selects, and within which budgets; show
    /// what is said. It goes before what the plan says
    Testing {
        /// Name, id or ARN of the plan
        plan: String,
        /// Name or id of the selection
        selection: String,
        #[command(flatten)]
        testing: TestingArgs,
    },
    /// Remove a selection
    Remove {
        /// Name, id or ARN of the plan
        plan: String,
        /// Name or id of the selection
        selection: String,
    },
}

#[derive(Debug, clap::Args)]
pub struct AddArgs {
    /// Name, id or ARN of the plan
    plan: String,
    /// A name for the selection
    name: String,
    /// The role that jobs run under, by name or ARN
    #[arg(long, default_value = "DEFAULT")]
    role: String,
    /// Select what bears the tag KEY=VALUE (case sensitive); may be repeated, one is enough
    #[arg(long, value_name = "KEY=VALUE")]
    tag: Vec<Pair>,
    /// Select a resource by name or ARN; an ARN may hold * as a wildcard; may be repeated
    #[arg(long, value_name = "NAME|ARN")]
    resource: Vec<String>,
    /// Leave out a resource by name or ARN, with wildcards too; may be repeated
    #[arg(long, value_name = "NAME|ARN")]
    not_resource: Vec<String>,
    /// The selection as JSON, as AWS Backup's BackupSelection (this is where Conditions go), or -
    /// for standard input; NAME goes before the file's, the role is the file's if it names one
    #[arg(long, value_name = "FILE", conflicts_with_all = ["tag", "resource", "not_resource"])]
    file: Option<PathBuf>,
}

impl SelectionCommand {
    pub(crate) fn run(self, context: &Context<'_>) -> Result<Exit, CliError> {
        let client = context.client;
        match self {
            Self::Add(args) => add(context, *args),
            Self::List { plan } => list(context, &plan),
            Self::Show { plan, selection } => {
                let plan_id = resolve::plan_id(client, &plan)?;
                let selection_id = resolve::selection_id(client, &plan_id, &selection)?;
                let input = GetBackupSelectionInput {
                    backup_plan_id: Some(plan_id),
                    selection_id: Some(selection_id),
                };
                let found = client.ask(&input)?;
                context.out.show(&found.json, || {
                    let selection = found.typed.backup_selection.unwrap_or_default();
                    let view = fields(selection)
                        .field("Id", found.typed.selection_id)
                        .field("Created", found.typed.creation_date.map(time));
                    vec![view]
                })?;
                Ok(Exit::Done)
            }
            Self::Testing { plan, selection, testing } => {
                let plan_id = resolve::plan_id(client, &plan)?;
                let id = resolve::selection_id(client, &plan_id, &selection)?;
                let path = format!(
                    "/backup-plans/{}/selections/{}/testing",
                    segment(&plan_id),
                    segment(&id)
                );
                testing.run(context, &format!("selection {selection} of plan {plan}"), &path)
            }
            Self::Remove { plan, selection } => {
                let plan_id = resolve::plan_id(client, &plan)?;
                let selection_id = resolve::selection_id(client, &plan_id, &selection)?;
                client.ask(&DeleteBackupSelectionInput {
                    backup_plan_id: Some(plan_id),
                    selection_id: Some(selection_id),
                })?;
                gone(context, &format!("removed selection {selection} of plan {plan}"))
            }
        }
    }
}

fn add(context: &Context<'_>, args: AddArgs) -> Result<Exit, CliError> {
    let client = context.client;
    let mut selection = match &args.file {
        Some(path) => input_file::typed(path, &input_file::load(path)?)?,
        None if args.tag.is_empty() && args.resource.is_empty() => {
            return Err(CliError::usage(
                "the selection selects nothing: give --tag, --resource or --file",
            ));
        }
        None => BackupSelection {
            list_of_tags: some(args.tag.into_iter().map(condition).collect()),
            resources: some(arns(client, &args.resource)?),
            not_resources: some(arns(client, &args.not_resource)?),
            ..BackupSelection::default()
        },
    };
    selection.selection_name = Some(args.name);
    if selection.iam_role_arn.is_none() {
        selection.iam_role_arn = Some(resolve::role_arn(client, &args.role)?);
    }
    let input = CreateBackupSelectionInput {
        backup_plan_id: Some(resolve::plan_id(client, &args.plan)?),
        backup_selection: Some(selection),
        creator_request_id: Some(uuid::Uuid::new_v4().to_string()),
    };
    let made = client.ask(&input)?;
    context.out.show_line(&made.json, &made.typed.selection_id.unwrap_or_default())?;
    Ok(Exit::Done)
}

fn some<T>(list: Vec<T>) -> Option<Vec<T>> {
    (!list.is_empty()).then_some(list)
}

fn condition(Pair { key, value }: Pair) -> Condition {
    Condition {
        condition_type: Some("STRINGEQUALS".into()),
        condition_key: Some(key),
        condition_value: Some(value),
    }
}

/// ARNs and the wildcard for everything as they are, names looked up.
fn arns(client: &Client, wanted: &[String]) -> Result<Vec<String>, CliError> {
    let arn = |wanted: &String| {
        if wanted == "*" { Ok(wanted.clone()) } else { resolve::resource_arn(client, wanted) }
    };
    wanted.iter().map(arn).collect()
}

fn list(context: &Context<'_>, plan: &str) -> Result<Exit, CliError> {
    let input = ListBackupSelectionsInput {
        backup_plan_id: Some(resolve::plan_id(context.client, plan)?),
        ..ListBackupSelectionsInput::default()
    };
    let list = context.client.ask_all(&input)?;
    context.out.show(&list.json, || {
        let rows = list.typed.backup_selections_list.unwrap_or_default().into_iter().map(|s| {
            vec![
                dash(s.selection_name),
                dash(s.selection_id),
                dash(s.iam_role_arn),
                dash(s.creation_date.map(time)),
            ]
        });
        vec![View::table(&["NAME", "ID", "ROLE", "CREATED"]).rows(rows)]
    })?;
    Ok(Exit::Done)
}

fn fields(s: BackupSelection) -> View {
    let mut view = View::fields().field("Name", s.selection_name).field("Role", s.iam_role_arn);
    for tag in s.list_of_tags.unwrap_or_default() {
        let (key, value) = (dash(tag.condition_key), tag.condition_value.unwrap_or_default());
        view = view.field("Tag", format!("{key}={value}"));
    }
    for arn in s.resources.unwrap_or_default() {
        view = view.field("Resource", arn);
    }
    for arn in s.not_resources.unwrap_or_default() {
        view = view.field("Not resource", arn);
    }
    let conditions = s.conditions.unwrap_or_default();
    for (operator, list) in [
        ("=", conditions.string_equals),
        ("like", conditions.string_like),
        ("!=", conditions.string_not_equals),
        ("not like", conditions.string_not_like),
    ] {
        for condition in list.unwrap_or_default() {
            let (key, value) = (dash(condition.condition_key), dash(condition.condition_value));
            view = view.field("Condition", format!("{key} {operator} {value}"));
        }
    }
    view
}
