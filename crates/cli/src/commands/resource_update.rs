//! `resource update`: another name, application, questions or objectives.

use provault_wire::provault::{Service, UpdateResourceInput};

use crate::duration::Seconds;
use crate::error::CliError;
use crate::probe_spec::ProbeSpec;
use crate::words::{CommandLine, Pair, to_map};

/// What is to change.
#[derive(Debug, clap::Args)]
#[allow(clippy::struct_excessive_bools, reason = "each is an option of its own")]
pub struct UpdateArgs {
    /// Another name, unique in the account; the ARN stays
    #[arg(long)]
    name: Option<String>,
    /// How a restore test starts the application in a restored copy, as for `resource add`; in place of all
    /// that was said of it, its environment and its time to start too
    #[arg(long, value_name = "COMMAND")]
    service: Option<CommandLine>,
    /// Environment variable KEY=VALUE of the application; may be repeated
    #[arg(long, value_name = "KEY=VALUE", requires = "service")]
    service_env: Vec<Pair>,
    /// How long the application may take until its first probe answers, such as 60s
    #[arg(long, value_name = "TIME", requires = "service")]
    start_timeout: Option<Seconds>,
    /// There is no application to start any more
    #[arg(long, conflicts_with = "service")]
    no_service: bool,
    /// A question that a restore test asks, as for `resource add`; may be repeated. In place of all that were
    /// asked
    #[arg(long, value_name = "SPEC")]
    probe: Vec<ProbeSpec>,
    /// Ask nothing any more
    #[arg(long, conflicts_with = "probe")]
    no_probes: bool,
    /// Recovery point objective: how much time's data may be lost, such as 24h
    #[arg(long, value_name = "TIME")]
    rpo: Option<Seconds>,
    /// No recovery point objective any more
    #[arg(long, conflicts_with = "rpo")]
    no_rpo: bool,
    /// Recovery time objective: how long a recovery may take, such as 15m
    #[arg(long, value_name = "TIME")]
    rto: Option<Seconds>,
    /// No recovery time objective any more
    #[arg(long, conflicts_with = "rto")]
    no_rto: bool,
}

impl UpdateArgs {
    pub(crate) fn input(self) -> Result<UpdateResourceInput, CliError> {
        let environment = to_map("--service-env", &self.service_env)?;
        let seconds = |given: Option<Seconds>, none: bool| {
            given.map(|Seconds(seconds)| seconds).or(none.then_some(0))
        };
        let probes = !self.probe.is_empty() || self.no_probes;
        Ok(UpdateResourceInput {
            name: self.name,
            service: self.service.map(|CommandLine(command)| Service {
                command,
                environment,
                start_timeout_seconds: self.start_timeout.map(|Seconds(seconds)| seconds),
            }),
            remove_service: self.no_service.then_some(true),
            probes: probes.then(|| self.probe.into_iter().map(|ProbeSpec(probe)| probe).collect()),
            rpo_seconds: seconds(self.rpo, self.no_rpo),
            rto_seconds: seconds(self.rto, self.no_rto),
        })
    }
}
