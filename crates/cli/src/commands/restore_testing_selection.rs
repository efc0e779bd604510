//! `restore-testing-selection`: which resources a restore testing plan tests.

use provault_wire::types::{
    CreateRestoreTestingSelectionInput, DeleteRestoreTestingSelectionInput,
    GetRestoreTestingSelectionInput, KeyValue, ListRestoreTestingSelectionsInput,
    ProtectedResourceConditions, RestoreTestingSelectionForCreate, RestoreTestingSelectionForGet,
};

use super::{Context, gone};
use crate::duration::Hours;
use crate::error::CliError;
use crate::exit::Exit;
use crate::output::{View, dash, time};
use crate::resolve;
use crate::words::{Pair, to_map};

#[derive(Debug, clap::Subcommand)]
pub enum RestoreTestingSelectionCommand {
    /// Select resources for a restore testing plan; prints the selection's name
    Create(Box<CreateArgs>),
    /// List the selections of a restore testing plan
    List {
        /// Name of the plan
        plan: String,
    },
    /// Show a selection
    Show {
        /// Name of the plan
        plan: String,
        /// Name of the selection
        selection: String,
    },
    /// Delete a selection; tests it led to go on
    Delete {
        /// Name of the plan
        plan: String,
        /// Name of the selection
        selection: String,
    },
}

#[derive(Debug, clap::Args)]
pub struct CreateArgs {
    /// Name of the plan
    plan: String,
    /// 1 to 50 letters, digits or '_'; it cannot be changed
    name: String,
    /// The role that restores run under, by name or ARN
    #[arg(long, default_value = "DEFAULT")]
    role: String,
    /// The type of the resources, as AWS Backup names it
    #[arg(long, value_name = "TYPE", default_value = "EFS")]
    resource_type: String,
    /// Test a resource by name or ARN; may be repeated [default: every resource of the type]
    #[arg(long, value_name = "NAME|ARN", conflicts_with_all = ["tag", "not_tag"])]
    resource: Vec<String>,
    /// Test only what bears the tag KEY=VALUE (case sensitive); may be repeated, all must hold
    #[arg(long, value_name = "KEY=VALUE")]
    tag: Vec<Pair>,
    /// Leave out what bears the tag KEY=VALUE; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    not_tag: Vec<Pair>,
    /// Restore metadata KEY=VALUE that goes before what is inferred; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    metadata: Vec<Pair>,
    /// Keep the copy of each test for others to look at, such as 4h: 1 to 168 hours, or until they
    /// report [default: not at all]
    #[arg(long, value_name = "TIME")]
    validation_window: Option<Hours>,
}

impl RestoreTestingSelectionCommand {
    pub(crate) fn run(self, context: &Context<'_>) -> Result<Exit, CliError> {
        match self {
            Self::Create(args) => create(context, *args),
            Self::List { plan } => list(context, plan),
            Self::Show { plan, selection } => {
                let found = context.client.ask(&GetRestoreTestingSelectionInput {
                    restore_testing_plan_name: Some(plan),
                    restore_testing_selection_name: Some(selection),
                })?;
                context.out.show(&found.json, || {
                    vec![fields(found.typed.restore_testing_selection.unwrap_or_default())]
                })?;
                Ok(Exit::Done)
            }
            Self::Delete { plan, selection } => {
                context.client.ask(&DeleteRestoreTestingSelectionInput {
                    restore_testing_plan_name: Some(plan.clone()),
                    restore_testing_selection_name: Some(selection.clone()),
                })?;
                gone(
                    context,
                    &format!("deleted selection {selection} of restore testing plan {plan}"),
                )
            }
        }
    }
}

fn create(context: &Context<'_>, args: CreateArgs) -> Result<Exit, CliError> {
    let client = context.client;
    let wanted = if args.resource.is_empty() {
        vec!["*".to_owned()]
    } else {
        let resources = args.resource.iter();
        resources.map(|name| resolve::resource_arn(client, name)).collect::<Result<_, _>>()?
    };
    let conditions = ProtectedResourceConditions {
        string_equals: conditions(args.tag),
        string_not_equals: conditions(args.not_tag),
    };
    let metadata = to_map("--metadata", &args.metadata)?;
    let input = CreateRestoreTestingSelectionInput {
        creator_request_id: Some(uuid::Uuid::new_v4().to_string()),
        restore_testing_plan_name: Some(args.plan),
        restore_testing_selection: Some(RestoreTestingSelectionForCreate {
            iam_role_arn: Some(resolve::role_arn(client, &args.role)?),
            protected_resource_arns: Some(wanted),
            protected_resource_conditions: Some(conditions),
            protected_resource_type: Some(args.resource_type),
            restore_metadata_overrides: (!metadata.is_empty()).then_some(metadata),
            restore_testing_selection_name: Some(args.name),
            validation_window_hours: args.validation_window.map(|Hours(hours)| hours),
        }),
    };
    let made = client.ask(&input)?;
    let name = made.typed.restore_testing_selection_name.unwrap_or_default();
    context.out.show_line(&made.json, &name)?;
    Ok(Exit::Done)
}

fn conditions(tags: Vec<Pair>) -> Option<Vec<KeyValue>> {
    let condition = |Pair { key, value }| KeyValue {
        key: Some(format!("aws:ResourceTag/{key}")),
        value: Some(value),
    };
    (!tags.is_empty()).then(|| tags.into_iter().map(condition).collect())
}

fn list(context: &Context<'_>, plan: String) -> Result<Exit, CliError> {
    let input = ListRestoreTestingSelectionsInput {
        restore_testing_plan_name: Some(plan),
        ..ListRestoreTestingSelectionsInput::default()
    };
    let list = context.client.ask_all(&input)?;
    context.out.show(&list.json, || {
        let all = list.typed.restore_testing_selections.unwrap_or_default();
        let rows = all.into_iter().map(|selection| {
            vec![
                dash(selection.restore_testing_selection_name),
                dash(selection.protected_resource_type),
                dash(selection.iam_role_arn),
                dash(selection.creation_time.map(time)),
            ]
        });
        vec![View::table(&["NAME", "TYPE", "ROLE", "CREATED"]).rows(rows)]
    })?;
    Ok(Exit::Done)
}

/// How long copies are kept, where they are.
fn kept(hours: Option<i32>) -> Option<String> {
    hours.filter(|hours| *hours > 0).map(|hours| format!("{hours} h"))
}

fn fields(selection: RestoreTestingSelectionForGet) -> View {
    let mut view = View::fields()
        .field("Name", selection.restore_testing_selection_name)
        .field("Plan", selection.restore_testing_plan_name)
        .field("Type", selection.protected_resource_type)
        .field("Role", selection.iam_role_arn)
        .field("Validation window", kept(selection.validation_window_hours))
        .field("Created", selection.creation_time.map(time));
    for arn in selection.protected_resource_arns.unwrap_or_default() {
        view = view.field("Resource", arn);
    }
    let conditions = selection.protected_resource_conditions.unwrap_or_default();
    for (operator, list) in [("=", conditions.string_equals), ("!=", conditions.string_not_equals)]
    {
        for pair in list.unwrap_or_default() {
            let (key, value) = (dash(pair.key), dash(pair.value));
            view = view.field("Condition", format!("{key} {operator} {value}"));
        }
    }
    for (key, value) in selection.restore_metadata_overrides.unwrap_or_default() {
        view = view.field("Metadata", format!("{key}={value}"));
    }
    view
}
