//! `provault`: one binary for the server, the command line, the lab and the isolation helper.
//!
//! This crate only wires the rooms together; what they do is theirs.

mod certificate;
mod clock;
mod config_file;
mod evidence;
mod instance;
mod lab;
mod mount;
mod receiver;
mod recovery_kit;
mod reload;
mod repository;
mod sample_app;
mod secret;
mod serve;
mod settings;
mod signals;
mod site;
mod storage_limits;
mod story;
mod upgrade_check;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser};

/// Backup that is proven: every recovery point is restored in isolation and asked.
#[derive(Debug, Parser)]
#[command(name = "provault", version, about, after_help = provault_cli::EXIT_CODES_HELP)]
struct Args {
    #[command(flatten)]
    global: provault_cli::GlobalOptions,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Run the server.
    Serve(serve::ServeArgs),
    /// Play the whole story on this machine: back up, restore in isolation, prove.
    Lab(lab::LabArgs),
    Repository(repository::RepositoryArgs),
    /// The volume of a recovery point before it is restored: over NBD, or as a file
    #[command(subcommand)]
    Volume(repository::VolumeCommand),
    /// Recovery kits: bring a server back from a kit and the storage of its vaults
    #[command(subcommand)]
    RecoveryKit(recovery_kit::RecoveryKitCommand),
    /// The hash-chained record of all verdicts: list, export, verify without a server
    #[command(subcommand)]
    Evidence(evidence::EvidenceCommand),
    UpgradeCheck(upgrade_check::UpgradeCheckArgs),
    /// Print a completion script for a shell, such as `provault completions bash`
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Write the manual pages of all commands into a directory
    Man {
        /// The directory; it must be there
        directory: std::path::PathBuf,
    },
    #[command(flatten)]
    Client(provault_cli::Command),
    /// The isolation helper; started by the server.
    #[command(name = "__isolate", hide = true)]
    Isolate,
    /// The lab's sample application.
    #[command(name = "__sample-app", hide = true)]
    SampleApp(sample_app::SampleAppArgs),
}

/// The command line, and what a file of settings adds to it.
fn parse() -> Result<Args, ExitCode> {
    let given: Vec<OsString> = std::env::args_os().collect();
    let args = Args::parse_from(&given);
    let Command::Serve(serve) = &args.command else { return Ok(args) };
    let Some(path) = serve.config() else { return Ok(args) };
    with_file(&given, &path).map_err(|message| {
        eprintln!("provault: {message}");
        ExitCode::from(serve::USAGE)
    })
}

/// A command line of `serve` with what the file at `path` says that neither it nor the environment does.
fn with_file(given: &[OsString], path: &Path) -> Result<Args, String> {
    with_file_in(given, path, &|variable| std::env::var_os(variable))
}

fn with_file_in(
    given: &[OsString],
    path: &Path,
    environment: &dyn Fn(&str) -> Option<OsString>,
) -> Result<Args, String> {
    let said =
        config_file::said_elsewhere(given, environment).map_err(|error| error.to_string())?;
    let settings = config_file::arguments(path, &said)?;
    // `serve` takes no operands, so nothing comes behind `--`; what is added must not either.
    let given = given.strip_suffix(&[OsString::from("--")]).unwrap_or(given);
    let whole = given.iter().chain(&settings);
    Args::try_parse_from(whole).map_err(|error| format!("{}: {error}", path.display()))
}

fn main() -> ExitCode {
    let args = match parse() {
        Ok(args) => args,
        Err(code) => return code,
    };
    if matches!(
        args.command,
        Command::Serve(_)
            | Command::Lab(_)
            | Command::RecoveryKit(recovery_kit::RecoveryKitCommand::Restore { .. })
    ) {
        // What the server keeps is nobody else's to read: rows, logs, mail, copies under test.
        // What is restored gets the modes it had.
        nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o077));
    }
    match args.command {
        Command::Serve(serve) => serve::run(&serve, &args.global),
        Command::Lab(lab) => lab::run(&lab, &args.global),
        Command::Repository(repository) => repository::run(&repository, &args.global),
        Command::Volume(command) => repository::run_volume(&command, &args.global),
        Command::RecoveryKit(command) => recovery_kit::run(command, &args.global),
        Command::Evidence(command) => evidence::run(command, &args.global),
        Command::UpgradeCheck(check) => upgrade_check::run(&check, &args.global),
        Command::Completions { shell } => {
            let mut command = Args::command();
            clap_complete::generate(shell, &mut command, "provault", &mut std::io::stdout());
            ExitCode::SUCCESS
        }
        Command::Man { directory } => match clap_mangen::generate_to(Args::command(), &directory) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => serve::fail(&format!("{}: {error}", directory.display())),
        },
        Command::Client(command) => provault_cli::run(command, &args.global),
        Command::Isolate => provault_proof::helper_main(),
        Command::SampleApp(sample) => sample_app::run(&sample),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every room brings its own part of the command line; only here do they meet.
    #[test]
    fn the_whole_command_line_is_sound() {
        Args::command().debug_assert();
    }

    /// What `serve` is to do with such a file, command line and environment.
    fn read(
        file: &str,
        line: &[&str],
        environment: &[(&str, &str)],
    ) -> Result<(serve::ServeArgs, Option<std::path::PathBuf>), String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("provault.toml");
        std::fs::write(&path, file).unwrap();
        let line: Vec<OsString> = line.iter().map(Into::into).collect();
        let variable = |name: &str| {
            let found = environment.iter().find(|(variable, _)| *variable == name);
            found.map(|(_, value)| (*value).into())
        };
        let args = with_file_in(&line, &path, &variable)?;
        let Command::Serve(serve) = args.command else { panic!("{line:?} is not serve") };
        Ok((serve, args.global.data_dir))
    }

    #[test]
    fn the_environment_wins_over_the_file_and_the_command_line_over_both() {
        let file = "vault-storage = \"/file\"\ncatalog = \"postgres://file/x\"\n\
                    data-dir = \"/file\"\nlisten = \"127.0.0.1:1\"";
        let environment = [
            ("PROVAULT_VAULT_STORAGE", "/environment"),
            ("PROVAULT_CATALOG", "postgres://environment/x"),
            ("PROVAULT_DATA_DIR", "/environment"),
        ];
        let (serve, data_dir) = read(file, &["provault", "serve"], &[]).unwrap();
        assert_eq!(serve.vault_storage.as_deref(), Some("/file"));
        assert_eq!(serve.catalog.as_deref(), Some("postgres://file/x"));
        assert_eq!(data_dir.as_deref(), Some(Path::new("/file")));
        // An option that is absent leaves the word to the variable.
        let (serve, data_dir) = read(file, &["provault", "serve"], &environment).unwrap();
        assert_eq!((serve.vault_storage, serve.catalog, data_dir), (None, None, None));
        assert_eq!(serve.listen.port(), 1, "the rest of the file holds");
        let line = ["provault", "serve", "--vault-storage", "/line"];
        let (serve, _) = read(file, &line, &environment).unwrap();
        assert_eq!(serve.vault_storage.as_deref(), Some("/line"));
        // An empty variable is none.
        let empty = [("PROVAULT_VAULT_STORAGE", "")];
        let (serve, _) = read(file, &["provault", "serve"], &empty).unwrap();
        assert_eq!(serve.vault_storage.as_deref(), Some("/file"));
    }

    #[test]
    fn a_certificate_and_its_key_come_from_one_place() {
        let pair = "tls-certificate = \"/file.pem\"\ntls-key = \"/file.key\"";
        for file in [pair, "tls-key = \"/file.key\""] {
            let line = ["provault", "serve", "--tls-certificate=/line.pem"];
            let error = read(file, &line, &[]).unwrap_err();
            assert!(error.contains("--tls-key"), "{error}");
        }
        let line = ["provault", "serve", "--tls-certificate=/line.pem", "--tls-key=/line.key"];
        for file in [pair, "tls-key = \"/file.key\"", "tls-generate = true"] {
            let (serve, _) = read(file, &line, &[]).unwrap();
            assert_eq!(serve.tls_certificate.as_deref(), Some(Path::new("/line.pem")));
            assert_eq!(serve.tls_key.as_deref(), Some(Path::new("/line.key")));
            assert!(!serve.tls_generate);
        }
        let (serve, _) = read(pair, &["provault", "serve", "--tls-generate"], &[]).unwrap();
        assert!(serve.tls_generate && serve.tls_certificate.is_none() && serve.tls_key.is_none());
    }

    #[test]
    fn a_value_is_not_taken_for_the_command_or_an_option() {
        let file = "listen = \"127.0.0.1:1\"";
        for line in [
            &["provault", "--data-dir", "serve", "serve"][..],
            &["provault", "serve", "--data-dir", "serve"],
            &["provault", "serve", "--data-dir=serve", "--"],
        ] {
            let (serve, data_dir) = read(file, line, &[]).unwrap();
            assert_eq!(serve.listen.port(), 1, "{line:?}");
            assert_eq!(data_dir.as_deref(), Some(Path::new("serve")), "{line:?}");
        }
        // One that every command has, before the command.
        let (_, data_dir) =
            read("data-dir = \"/file\"", &["provault", "--data-dir", "/line", "serve"], &[])
                .unwrap();
        assert_eq!(data_dir.as_deref(), Some(Path::new("/line")));
    }
}
