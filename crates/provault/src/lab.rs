//! `provault lab`: the whole story on one machine, in under a minute, with nothing else installed.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use provault_cli::{CommandLine, GlobalOptions, ProbeSpec};
use provault_wire::provault as wire;

use provault_engine::TestLimits;
use provault_repository::StorageOptions;

use crate::instance::{Instance, InstanceOptions};
use crate::serve::{DEFAULT_LISTEN, LAST_PATIENCE, fail, start_logging};
use crate::settings::region_of;
use crate::story::{Outcome, Story, Subject};

/// Marks a directory as a lab's, so that `--destroy` never removes anything else.
const MARKER: &str = ".provault-lab";

/// Arguments of `lab`. The lab lives in the global `--data-dir`, by default in `provault-lab`
/// below the user's state directory.
#[derive(Debug, clap::Args)]
pub struct LabArgs {
    /// Stop the server at the end, and exit 0 only when the verdict is PASSED
    #[arg(long)]
    once: bool,
    /// Remove what an earlier lab left in the data directory
    #[arg(long, conflicts_with_all = ["once", "source"])]
    destroy: bool,
    /// Play the story on this directory, which is only read
    #[arg(long, value_name = "DIR")]
    source: Option<PathBuf>,
    /// How to start the application in a restored copy of --source, as shell words
    #[arg(long, requires = "source", requires = "probe", value_name = "COMMAND")]
    service: Option<CommandLine>,
    /// What to ask that application, such as `http:8080/health,json:/rows>=1`, or without one the
    /// copy, such as `command:./check.sh`
    #[arg(long, requires = "source", value_name = "SPEC")]
    probe: Vec<ProbeSpec>,
}

/// Plays the story.
pub fn run(args: &LabArgs, global: &GlobalOptions) -> ExitCode {
    start_logging("warn");
    let directory = match global.data_dir.clone().map_or_else(default_directory, Ok) {
        Ok(directory) => directory,
        Err(message) => return fail(&message),
    };
    if args.destroy {
        // What a link leads to is what was made.
        return destroy(&directory.canonicalize().unwrap_or(directory));
    }
    match play(args, global, &directory) {
        Ok(code) => code,
        Err(message) => fail(&message),
    }
}

fn default_directory() -> Result<PathBuf, String> {
    provault_cli::default_data_dir()
        .map(|beside| beside.with_file_name("provault-lab"))
        .ok_or_else(|| "there is no HOME to keep data below; name a --data-dir.".to_owned())
}

fn play(args: &LabArgs, global: &GlobalOptions, directory: &Path) -> Result<ExitCode, String> {
    // Everything the user gave is looked at before anything is made.
    let subject = subject(args)?;
    let region = region_of(global)?;
    prepare(directory)?;
    let server = directory.join("server");
    if crate::instance::is_in_use(&server).map_err(|error| error.to_string())? {
        return Err(format!("a lab runs in {} already; stop it first.", directory.display()));
    }
    let runtime = tokio::runtime::Runtime::new().map_err(|error| error.to_string())?;
    let mut story = Story::begin(directory.to_owned(), global.json);
    let subject = story.application(subject)?;
    let instance = story.server(|| {
        let options = InstanceOptions {
            data_dir: server.clone(),
            listen: free_address(args.once),
            account_id: None,
            region,
            missing_vault_not_found: false,
            storage: StorageOptions::default(),
            vault_storage: None,
            sites: Vec::new(),
            catalog: None,
            tls: None,
            command_subscriptions: false,
            trust_the_clock: false,
            tests: TestLimits::default(),
        };
        runtime.block_on(Instance::start(options)).map_err(|error| error.to_string())
    })?;
    // The server is stopped whatever became of the story.
    let played = story.play(&instance, &subject);
    let outcome = match played {
        Ok(outcome) => outcome,
        Err(message) => {
            runtime.block_on(instance.stop("The lab failed"));
            return Err(message);
        }
    };
    story.show(&outcome, &subject);
    if !args.once {
        story.what_next(&instance, &subject);
        runtime.block_on(instance.until_signal());
    }
    runtime.block_on(instance.stop("The lab ended"));
    runtime.shutdown_timeout(LAST_PATIENCE);
    Ok(exit_code(&outcome))
}

fn exit_code(outcome: &Outcome) -> ExitCode {
    if outcome.passed() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn subject(args: &LabArgs) -> Result<Subject, String> {
    let Some(source) = &args.source else { return Ok(Subject::Sample) };
    let path =
        source.canonicalize().map_err(|error| format!("--source {}: {error}", source.display()))?;
    if !path.is_dir() {
        return Err(format!("--source {} is not a directory", path.display()));
    }
    let service = args.service.as_ref().map(|command| wire::Service {
        command: command.0.clone(),
        environment: std::collections::BTreeMap::new(),
        start_timeout_seconds: Some(60),
    });
    let probes = args.probe.iter().map(|spec| spec.0.clone()).collect();
    Ok(Subject::Own { path, service, probes })
}

/// Makes the lab's directory and marks it; a directory that holds anything else is refused.
fn prepare(directory: &Path) -> Result<(), String> {
    let told = |error: std::io::Error| format!("{}: {error}", directory.display());
    std::fs::create_dir_all(directory).map_err(told)?;
    let marker = directory.join(MARKER);
    if marker.exists() {
        return Ok(());
    }
    if std::fs::read_dir(directory).map_err(told)?.next().is_some() {
        return Err(format!(
            "{} is not empty and not a lab's; choose another --data-dir.",
            directory.display()
        ));
    }
    std::fs::write(
        marker,
        "made by provault lab; 'provault lab --destroy' removes this directory\n",
    )
    .map_err(told)
}

fn destroy(directory: &Path) -> ExitCode {
    if !directory.exists() {
        println!("Nothing to destroy: {} does not exist.", directory.display());
        return ExitCode::SUCCESS;
    }
    if !directory.join(MARKER).exists() {
        return fail(&format!(
            "{} was not made by 'provault lab'; nothing was removed.",
            directory.display()
        ));
    }
    match crate::instance::is_in_use(&directory.join("server")) {
        Ok(false) => {}
        Ok(true) => {
            return fail(&format!(
                "the lab in {} still runs; stop it first (Ctrl-C in its terminal).",
                directory.display()
            ));
        }
        Err(error) => return fail(&error.to_string()),
    }
    // The marker goes last, so that an interrupted destroy can be repeated.
    let removed = std::fs::read_dir(directory).and_then(|entries| {
        for entry in entries {
            let entry = entry?;
            if entry.file_name() == MARKER {
                continue;
            }
            if entry.file_type()?.is_dir() {
                std::fs::remove_dir_all(entry.path())?;
            } else {
                std::fs::remove_file(entry.path())?;
            }
        }
        std::fs::remove_dir_all(directory)
    });
    match removed {
        Ok(()) => {
            println!("Destroyed {}.", directory.display());
            ExitCode::SUCCESS
        }
        Err(error) => fail(&format!("{}: {error}", directory.display())),
    }
}

/// The usual port when it is free and the server is to stay, else any.
fn free_address(once: bool) -> std::net::SocketAddr {
    let any = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    let usual = DEFAULT_LISTEN.parse().unwrap_or(any);
    if !once && std::net::TcpListener::bind(usual).is_ok() { usual } else { any }
}
