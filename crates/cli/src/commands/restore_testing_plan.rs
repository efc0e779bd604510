//! `restore-testing-plan`: when recovery points are tested, and which.

use provault_wire::types::{
    CreateRestoreTestingPlanInput, DeleteRestoreTestingPlanInput, GetRestoreTestingPlanInput,
    ListRestoreTestingPlansInput, RestoreTestingPlanForCreate, RestoreTestingPlanForGet,
    RestoreTestingRecoveryPointSelection,
};

use super::{Context, gone};
use crate::error::CliError;
use crate::exit::Exit;
use crate::output::{View, dash, time};
use crate::resolve;
use crate::words::{Pair, to_map};

#[derive(Debug, clap::Subcommand)]
pub enum RestoreTestingPlanCommand {
    /// Create a restore testing plan; prints its ARN
    Create(Box<CreateArgs>),
    /// List all restore testing plans
    List,
    /// Show a restore testing plan
    Show {
        /// Its name
        plan: String,
    },
    /// Delete a restore testing plan; its selections must be deleted first
    Delete {
        /// Its name
        plan: String,
    },
}

#[derive(Debug, clap::Args)]
pub struct CreateArgs {
    /// 1 to 50 letters, digits or '_'; it cannot be changed
    name: String,
    /// When, as an AWS cron expression: 'cron(MINUTE HOUR DAY MONTH WEEKDAY YEAR)'
    #[arg(long, value_name = "CRON")]
    schedule: String,
    /// The time zone of the schedule, such as Europe/Berlin [default: Etc/UTC]
    #[arg(long, value_name = "ZONE")]
    timezone: Option<String>,
    /// Hours a test may wait to start, 1 to 168 [default: 24]
    #[arg(long, value_name = "HOURS")]
    start_window: Option<i32>,
    /// Test any recovery point of the window, by chance, instead of the latest
    #[arg(long)]
    random: bool,
    /// Days back in which a recovery point must have been created, 1 to 365 [default: 30]
    #[arg(long, value_name = "DAYS")]
    window_days: Option<i32>,
    /// Look at this vault, by name or ARN, with wildcards too; may be repeated [default: all]
    #[arg(long, value_name = "NAME|ARN")]
    vault: Vec<String>,
    /// Leave out this vault, by name or ARN, with wildcards too; may be repeated
    #[arg(long, value_name = "NAME|ARN")]
    not_vault: Vec<String>,
    /// Tag KEY=VALUE of the plan; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    tag: Vec<Pair>,
}

impl RestoreTestingPlanCommand {
    pub(crate) fn run(self, context: &Context<'_>) -> Result<Exit, CliError> {
        match self {
            Self::Create(args) => create(context, *args),
            Self::List => list(context),
            Self::Show { plan } => show(context, plan),
            Self::Delete { plan } => {
                // The API answers the same for what was never there.
                get(context, plan.clone())?;
                context.client.ask(&DeleteRestoreTestingPlanInput {
                    restore_testing_plan_name: Some(plan.clone()),
                })?;
                gone(context, &format!("deleted restore testing plan {plan}"))
            }
        }
    }
}

fn create(context: &Context<'_>, args: CreateArgs) -> Result<Exit, CliError> {
    let vaults = |wanted: &[String]| -> Result<Vec<String>, CliError> {
        wanted.iter().map(|vault| resolve::vault_pattern(context.client, vault)).collect()
    };
    let include = if args.vault.is_empty() { vec!["*".to_owned()] } else { vaults(&args.vault)? };
    let algorithm = if args.random { "RANDOM_WITHIN_WINDOW" } else { "LATEST_WITHIN_WINDOW" };
    let tags = to_map("--tag", &args.tag)?;
    let input = CreateRestoreTestingPlanInput {
        creator_request_id: Some(uuid::Uuid::new_v4().to_string()),
        restore_testing_plan: Some(RestoreTestingPlanForCreate {
            recovery_point_selection: Some(RestoreTestingRecoveryPointSelection {
                algorithm: Some(algorithm.into()),
                exclude_vaults: Some(vaults(&args.not_vault)?),
                include_vaults: Some(include),
                recovery_point_types: Some(vec!["SNAPSHOT".into()]),
                selection_window_days: args.window_days,
            }),
            restore_testing_plan_name: Some(args.name),
            schedule_expression: Some(args.schedule),
            schedule_expression_timezone: args.timezone,
            start_window_hours: args.start_window,
        }),
        tags: (!tags.is_empty()).then_some(tags),
    };
    let made = context.client.ask(&input)?;
    context.out.show_line(&made.json, &made.typed.restore_testing_plan_arn.unwrap_or_default())?;
    Ok(Exit::Done)
}

fn list(context: &Context<'_>) -> Result<Exit, CliError> {
    let list = context.client.ask_all(&ListRestoreTestingPlansInput::default())?;
    context.out.show(&list.json, || {
        let rows = list.typed.restore_testing_plans.unwrap_or_default().into_iter().map(|plan| {
            vec![
                dash(plan.restore_testing_plan_name),
                dash(plan.schedule_expression),
                dash(plan.schedule_expression_timezone),
                dash(plan.creation_time.map(time)),
                dash(plan.last_execution_time.map(time)),
            ]
        });
        vec![View::table(&["NAME", "SCHEDULE", "TIME ZONE", "CREATED", "LAST RUN"]).rows(rows)]
    })?;
    Ok(Exit::Done)
}

fn get(
    context: &Context<'_>,
    name: String,
) -> Result<crate::Answer<provault_wire::types::GetRestoreTestingPlanOutput>, CliError> {
    context.client.ask(&GetRestoreTestingPlanInput { restore_testing_plan_name: Some(name) })
}

fn show(context: &Context<'_>, name: String) -> Result<Exit, CliError> {
    let found = get(context, name)?;
    context
        .out
        .show(&found.json, || vec![fields(found.typed.restore_testing_plan.unwrap_or_default())])?;
    Ok(Exit::Done)
}

fn fields(plan: RestoreTestingPlanForGet) -> View {
    let points = plan.recovery_point_selection.unwrap_or_default();
    let mut view = View::fields()
        .field("Name", plan.restore_testing_plan_name)
        .field("ARN", plan.restore_testing_plan_arn)
        .field("Schedule", plan.schedule_expression)
        .field("Time zone", plan.schedule_expression_timezone)
        .field("Start window", plan.start_window_hours.map(|hours| format!("{hours} h")))
        .field("Choice", points.algorithm.map(|algorithm| algorithm.to_string()))
        .field("Window", points.selection_window_days.map(|days| format!("{days} d")))
        .field("Created", plan.creation_time.map(time))
        .field("Changed", plan.last_update_time.map(time))
        .field("Last run", plan.last_execution_time.map(time));
    for vault in points.include_vaults.unwrap_or_default() {
        view = view.field("Vault", vault);
    }
    for vault in points.exclude_vaults.unwrap_or_default() {
        view = view.field("Not vault", vault);
    }
    view
}
