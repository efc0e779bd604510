//! `resource`: what is protected.

use std::path::PathBuf;

use provault_wire::provault::{
    AddResourceInput, ChangeTagsInput, ExemptResourceInput, Resource, ResourceList, Service,
    UpdateRetentionInput,
};
use serde_json::{Value, json};

use super::resource_update::UpdateArgs;
use super::testing::{self, TestingArgs};
use super::{Context, absolute, gone};
use crate::client::{Answer, segment};
use crate::duration::Seconds;
use crate::error::CliError;
use crate::exit::Exit;
use crate::input_file;
use crate::output::{View, dash, epoch, tags};
use crate::probe_spec::{self, ProbeSpec};
use crate::resolve;
use crate::words::{CommandLine, Pair, to_map};

#[derive(Debug, clap::Subcommand)]
pub enum ResourceCommand {
    /// Register a resource
    #[command(subcommand)]
    Add(AddCommand),
    /// List all resources
    List,
    /// Show one resource
    Show {
        /// Name or ARN
        resource: String,
    },
    /// Change its name, the application and questions of its restore tests, or its objectives; what is not
    /// named stays
    Update {
        /// Name or ARN
        resource: String,
        #[command(flatten)]
        change: Box<UpdateArgs>,
    },
    /// Set and remove tags; selections look at them
    Tag {
        /// Name or ARN
        resource: String,
        /// Tags to set, KEY=VALUE
        #[arg(value_name = "KEY=VALUE", required_unless_present = "remove")]
        set: Vec<Pair>,
        /// Key of a tag to remove; may be repeated
        #[arg(long, value_name = "KEY")]
        remove: Vec<String>,
    },
    /// Say why a resource needs no backup, for a time; until then it is EXEMPT
    Exempt {
        /// Name or ARN
        resource: String,
        /// Why it needs no backup, such as how it is made again
        #[arg(long, value_name = "TEXT")]
        reason: String,
        /// Who stands for it
        #[arg(long, value_name = "WHO")]
        owner: String,
        /// For how long, such as 90d; 366d at most
        #[arg(long, value_name = "TIME")]
        period: Seconds,
    },
    /// End an exemption before its time
    EndExemption {
        /// Name or ARN
        resource: String,
    },
    /// Change how its recovery points are kept, beside the days that each plan gives them
    Retention {
        /// Name or ARN
        resource: String,
        #[command(flatten)]
        settings: RetentionArgs,
    },
    /// Say whether restore tests follow its backups, and within which budgets; show what is said. It goes
    /// before what its selection and plan say, and is all that counts for backups on demand
    Testing {
        /// Name or ARN
        resource: String,
        #[command(flatten)]
        testing: TestingArgs,
    },
    /// Remove a resource; its recovery points stay
    Remove {
        /// Name or ARN
        resource: String,
    },
}

#[derive(Debug, clap::Subcommand)]
pub enum AddCommand {
    /// Register a directory tree on the server's machine
    Filesystem(Box<FilesystemArgs>),
    /// Register a block device, or a raw or qcow2 image, on the server's machine
    Volume(Box<VolumeArgs>),
}

#[derive(Debug, clap::Args)]
pub struct RetentionArgs {
    /// Mark a new recovery point that holds less than this share of the bytes or files of the
    /// newest good one, in percent; 0 for no such alarm [default of a new resource: 50]
    #[arg(long, value_name = "PERCENT")]
    shrink_alarm: Option<u32>,
    /// Keep at most so many recovery points, in all vaults together; 0 for no limit
    #[arg(long, value_name = "N")]
    keep_at_most: Option<u32>,
}

#[derive(Debug, clap::Args)]
pub struct FilesystemArgs {
    /// The directory, on the server's machine
    path: PathBuf,
    /// Glob of what to back up, relative to PATH; may be repeated [default: everything]
    #[arg(long, value_name = "GLOB")]
    include: Vec<String>,
    /// Glob of what to leave out, stronger than --include; may be repeated
    #[arg(long, value_name = "GLOB")]
    exclude: Vec<String>,
    /// Leave out other file systems mounted below PATH [default: true]
    #[arg(long, value_name = "BOOL")]
    one_file_system: Option<bool>,
    /// Back the directory up even when it is empty
    #[arg(long)]
    allow_empty: bool,
    /// Refuse to back up while PATH is not a mount point
    #[arg(long)]
    require_mount: bool,
    #[command(flatten)]
    any: AnyKindArgs,
}

#[derive(Debug, clap::Args)]
pub struct VolumeArgs {
    /// The block device, or raw or qcow2 image, on the server's machine
    path: PathBuf,
    /// How it is laid out: raw or qcow2 [default: qcow2 when PATH ends so, else raw]
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// How increments learn what changed: hash, which reads everything, or for qcow2 bitmap, which
    /// keeps a dirty bitmap in the image [default: hash]
    #[arg(long, value_name = "HOW")]
    changed_blocks: Option<String>,
    /// What to do while something may be writing to it: refuse; for raw images snapshot, which copies
    /// it at one stroke where its file system can (XFS, Btrfs); for raw as-is [default: refuse]
    #[arg(long, value_name = "HOW")]
    while_in_use: Option<String>,
    /// Directory below the server's `hooks` that holds two programs, before and after, which it runs
    /// before and after each capture
    #[arg(long, value_name = "NAME")]
    hooks: Option<String>,
    /// How long each of them may take [default: 60s]
    #[arg(long, value_name = "TIME", requires = "hooks")]
    hook_limit: Option<Seconds>,
    /// How long may pass between them [default: 1h]
    #[arg(long, value_name = "TIME", requires = "hooks")]
    held_limit: Option<Seconds>,
    #[command(flatten)]
    any: AnyKindArgs,
}

/// What is said of a resource of any kind.
#[derive(Debug, clap::Args)]
struct AnyKindArgs {
    /// A name for people, unique in the account
    #[arg(long)]
    name: String,
    /// Tag KEY=VALUE; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    tag: Vec<Pair>,
    /// How a restore test starts the application in a restored copy: program and arguments,
    /// started in the copy's root. Split into words as a shell does ('…', "…", \), but no shell
    /// runs: for pipes or variables write "sh -c '…'". A program with a / is looked for in the
    /// copy, one without in PATH
    #[arg(long, value_name = "COMMAND", verbatim_doc_comment)]
    service: Option<CommandLine>,
    /// Environment variable KEY=VALUE of the application; may be repeated. Whoever can list the
    /// processes of this machine sees it while the command runs: secrets belong in a file
    #[arg(long, value_name = "KEY=VALUE", requires = "service")]
    service_env: Vec<Pair>,
    /// File with environment variables of the application, - for standard input: a KEY=VALUE in each
    /// line, taken as it stands, without quotes; empty lines and those that begin with # say nothing
    #[arg(long, value_name = "FILE", requires = "service")]
    service_env_file: Option<PathBuf>,
    /// How long the application may take until its first probe answers, such as 60s
    #[arg(long, value_name = "TIME", requires = "service")]
    start_timeout: Option<Seconds>,
    /// A question that a restore test asks; may be repeated
    #[arg(long, value_name = "SPEC", long_help = probe_help())]
    probe: Vec<ProbeSpec>,
    /// Recovery point objective: how much time's data may be lost, such as 24h
    #[arg(long, value_name = "TIME")]
    rpo: Option<Seconds>,
    /// Recovery time objective: how long a recovery may take, such as 15m
    #[arg(long, value_name = "TIME")]
    rto: Option<Seconds>,
    /// Run a restore test after every completed backup; =false for none, whatever selection and plan say
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_missing_value = "true")]
    test_after_backup: Option<bool>,
    #[command(flatten)]
    retention: RetentionArgs,
}

fn probe_help() -> String {
    format!("A question that a restore test asks; may be repeated. One of:\n\n{}", probe_spec::HELP)
}

impl AnyKindArgs {
    fn input(self, kind: &str, config: Value) -> Result<AddResourceInput, CliError> {
        let mut variables = self.service_env;
        if let Some(file) = &self.service_env_file {
            variables.extend(input_file::pairs(file)?);
        }
        let environment = to_map("the variable", &variables)?;
        let service = self.service.map(|CommandLine(command)| Service {
            command,
            environment,
            start_timeout_seconds: self.start_timeout.map(|Seconds(seconds)| seconds),
        });
        Ok(AddResourceInput {
            kind: kind.to_owned(),
            name: self.name,
            config,
            tags: to_map("--tag", &self.tag)?,
            service,
            probes: self.probe.into_iter().map(|ProbeSpec(probe)| probe).collect(),
            rpo_seconds: self.rpo.map(|Seconds(seconds)| seconds),
            rto_seconds: self.rto.map(|Seconds(seconds)| seconds),
            test_after_backup: self.test_after_backup,
            shrink_alarm_percent: self.retention.shrink_alarm,
            keep_at_most: self.retention.keep_at_most,
        })
    }
}

impl AddCommand {
    fn input(self) -> Result<AddResourceInput, CliError> {
        match self {
            Self::Filesystem(args) => {
                let mut config = json!({
                    "path": absolute(&args.path)?,
                    "include": args.include,
                    "exclude": args.exclude,
                    "allowEmpty": args.allow_empty,
                    "requireMount": args.require_mount,
                });
                if let Some(one) = args.one_file_system {
                    config["oneFileSystem"] = one.into();
                }
                args.any.input("filesystem", config)
            }
            Self::Volume(args) => {
                let mut config = json!({ "path": absolute(&args.path)? });
                let given = [
                    ("format", args.format),
                    ("changedBlocks", args.changed_blocks),
                    ("whileInUse", args.while_in_use),
                    ("hooks", args.hooks),
                ];
                let limits = [("hookSeconds", args.hook_limit), ("heldSeconds", args.held_limit)];
                for (key, value) in given {
                    if let Some(value) = value {
                        config[key] = value.into();
                    }
                }
                for (key, limit) in limits {
                    if let Some(Seconds(seconds)) = limit {
                        config[key] = seconds.into();
                    }
                }
                args.any.input("volume", config)
            }
        }
    }
}

impl ResourceCommand {
    pub(crate) fn run(self, context: &Context<'_>) -> Result<Exit, CliError> {
        let client = context.client;
        match self {
            Self::Add(command) => {
                let body = body(&command.input()?)?;
                let added: Answer<Resource> = client.own("POST", "/resources", &[], Some(&body))?;
                show(context, &added)
            }
            Self::List => {
                let list: Answer<ResourceList> = client.own_all("/resources", &[], "Resources")?;
                context.out.show(&list.json, || vec![table(&list.typed.resources)])?;
                Ok(Exit::Done)
            }
            Self::Show { resource } => show(context, &resolve::resource(client, &resource)?),
            Self::Update { resource, change } => {
                let body = body(&change.input()?)?;
                if body == json!({}) {
                    return Err(CliError::usage(
                        "say what is to change: --name, --service, --probe, --rpo, --rto, or --no-… of one",
                    ));
                }
                let path = format!("/resources/{}", segment(&resource));
                show(context, &client.own("POST", &path, &[], Some(&body))?)
            }
            Self::Tag { resource, set, remove } => {
                let set = to_map("tag", &set)?;
                let body = body(&ChangeTagsInput { set, remove })?;
                let path = format!("/resources/{}/tags", segment(&resource));
                show(context, &client.own("POST", &path, &[], Some(&body))?)
            }
            Self::Exempt { resource, reason, owner, period: Seconds(seconds) } => {
                #[allow(clippy::cast_precision_loss)] // Seconds of some years.
                let end_date = (jiff::Timestamp::now().as_second() as f64) + (seconds as f64);
                let input = ExemptResourceInput { reason, owner, end_date };
                let path = format!("/resources/{}/exemption", segment(&resource));
                show(context, &client.own("POST", &path, &[], Some(&body(&input)?))?)
            }
            Self::EndExemption { resource } => {
                let path = format!("/resources/{}/exemption", segment(&resource));
                show(context, &client.own("DELETE", &path, &[], None)?)
            }
            Self::Retention { resource, settings } => {
                if settings.shrink_alarm.is_none() && settings.keep_at_most.is_none() {
                    return Err(CliError::usage(
                        "say what is to change: --shrink-alarm or --keep-at-most",
                    ));
                }
                let input = UpdateRetentionInput {
                    shrink_alarm_percent: settings.shrink_alarm,
                    keep_at_most: settings.keep_at_most,
                };
                let path = format!("/resources/{}/retention", segment(&resource));
                show(context, &client.own("POST", &path, &[], Some(&body(&input)?))?)
            }
            Self::Testing { resource, testing } => {
                let path = format!("/resources/{}/testing", segment(&resource));
                testing.run(context, &format!("resource {resource}"), &path)
            }
            Self::Remove { resource } => {
                let path = format!("/resources/{}", segment(&resource));
                client.own::<Value>("DELETE", &path, &[], None)?;
                gone(context, &format!("removed resource {resource}; its recovery points stay"))
            }
        }
    }
}

/// A message of ours as JSON. They always have such a form.
pub(crate) fn body(message: &impl serde::Serialize) -> Result<Value, CliError> {
    serde_json::to_value(message).map_err(|e| provault_wire::EncodeError::from(e).into())
}

fn show(context: &Context<'_>, resource: &Answer<Resource>) -> Result<Exit, CliError> {
    context.out.show(&resource.json, || vec![fields(&resource.typed)])?;
    Ok(Exit::Done)
}

fn table(resources: &[Resource]) -> View {
    View::table(&["NAME", "KIND", "VERDICT", "LAST BACKUP", "TAGS", "ARN"]).rows(
        resources.iter().map(|r| {
            vec![
                r.name.clone(),
                r.kind.clone(),
                dash(r.verdict.clone()),
                dash(r.last_backup_time.map(epoch)),
                dash(Some(tags(&r.tags))),
                r.resource_arn.clone(),
            ]
        }),
    )
}

fn fields(r: &Resource) -> View {
    let mut view = View::fields()
        .field("Name", r.name.clone())
        .field("ARN", r.resource_arn.clone())
        .field("Kind", format!("{} ({})", r.kind, r.resource_type));
    for (key, value) in r.config.as_object().into_iter().flatten() {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        view = view.field(&format!("Setting {key}"), text);
    }
    view = view.field("Tags", dash(Some(tags(&r.tags))));
    if let Some(service) = &r.service {
        // Values of the environment may be secrets: their names are enough here.
        let names: Vec<&str> = service.environment.keys().map(String::as_str).collect();
        view = view
            .field("Service", service.command.join(" "))
            .field("Service environment", (!names.is_empty()).then(|| names.join(" ")))
            .field("Start timeout", service.start_timeout_seconds.map(|s| Seconds(s).to_string()));
    }
    for probe in &r.probes {
        view = view.field("Probe", probe_spec::to_text(probe));
    }
    let view = view
        .field("RPO", r.rpo_seconds.map(|s| Seconds(s).to_string()))
        .field("RTO", r.rto_seconds.map(|s| Seconds(s).to_string()))
        .field("Test after backup", testing::word(r.testing.as_ref()));
    testing::budgets(view, r.testing.as_ref())
        .field(
            "Shrink alarm",
            r.shrink_alarm_percent.map_or_else(|| "off".to_owned(), |p| format!("below {p} %")),
        )
        .field("Kept at most", r.keep_at_most.map(|n| format!("{n} recovery points")))
        .field("Registered", epoch(r.creation_date))
        .field("Last backup", r.last_backup_time.map(epoch))
        .field("Last good backup", r.last_good_backup_time.map(epoch))
        .field("Last good recovery point", r.last_good_recovery_point_arn.clone())
        .field("Shrunk", r.shrunk.clone())
        .field("Verdict", r.verdict.clone())
        .field("Left out", r.left_out.clone())
        .field("Protection", (!r.protection.is_empty()).then(|| r.protection.clone()))
        .field(
            "Trouble",
            (!r.troubles.is_empty()).then(|| {
                r.troubles.iter().map(|t| t.reason.as_str()).collect::<Vec<_>>().join(" ")
            }),
        )
        .field(
            "Exemption",
            r.exemption.as_ref().map(|exemption| {
                let until = epoch(exemption.end_date);
                format!("until {until}, {}: {}", exemption.owner, exemption.reason)
            }),
        )
}
