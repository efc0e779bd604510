//! The AWS clients that drive Provault in tests: the aws CLI, boto3 and botocore.

use super::super::command::{Environment, run};
use super::debian::install_packages;

/// The first versions that know `AWS_ENDPOINT_URL_BACKUP`.
const BOTOCORE: &[u32] = &[1, 31, 0];
const AWS_CLI_1: &[u32] = &[1, 29, 0];
const AWS_CLI_2: &[u32] = &[2, 13, 0];
/// What pip is asked for.
const REQUIREMENTS: &[&str] = &["awscli>=1.29.0", "boto3>=1.28.0", "botocore>=1.31.0"];

/// Uses the clients that are there when they are new enough, else installs them in `.tools/venv`.
pub fn install(environment: &Environment) -> Result<(), String> {
    if let Some(found) = usable(environment) {
        println!("{found}");
        return Ok(());
    }
    // `ensurepip` is what Debian splits off into python3-venv.
    if environment.output("python3", &["-c", "import venv, ensurepip"]).is_none() {
        install_packages(environment, &["python3-venv", "python3-pip"])?;
    }
    let venv = environment.tools.join("venv");
    run(environment.command("python3").args(["-m", "venv", "--clear"]).arg(&venv))?;
    let pip = venv.join("bin/python");
    let options = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
    run(environment.command(pip).args(options).args(REQUIREMENTS))?;
    match usable(environment) {
        Some(found) => {
            println!("{found}");
            Ok(())
        }
        None => Err(format!(
            "the AWS clients in {} do not run; delete it and start again",
            venv.display()
        )),
    }
}

/// The versions of the clients in the path when all are there and new enough.
fn usable(environment: &Environment) -> Option<String> {
    let versions = "import boto3, botocore; print(boto3.__version__, botocore.__version__)";
    let python = environment.output("python3", &["-c", versions])?;
    let (boto3, botocore) = python.split_once(' ')?;
    let aws = environment.output("aws", &["--version"])?;
    let good = parse(botocore)?.as_slice() >= BOTOCORE && aws_cli_is_new_enough(&aws);
    let aws = aws.split_whitespace().next()?;
    good.then(|| format!("{aws} boto3/{boto3} botocore/{botocore}"))
}

/// Judges what `aws --version` prints: `aws-cli/1.45.11 Python/3.11.7 …`.
fn aws_cli_is_new_enough(text: &str) -> bool {
    let version = text.split_whitespace().next().and_then(|word| word.strip_prefix("aws-cli/"));
    let Some(version) = version.and_then(parse) else { return false };
    let least = if version.first() == Some(&1) { AWS_CLI_1 } else { AWS_CLI_2 };
    version.as_slice() >= least
}

/// The numbers of a version.
fn parse(version: &str) -> Option<Vec<u32>> {
    version.trim().split('.').map(|part| part.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_that_know_endpoint_variables_are_told_from_older_ones() {
        for (text, good) in [
            ("aws-cli/1.45.11 Python/3.11.7 Linux/6.1 botocore/1.43.11", true),
            ("aws-cli/1.29.0 Python/3.11.7", true),
            ("aws-cli/1.24.12 Python/3.10.6", false),
            ("aws-cli/2.9.19 Python/3.11.2", false),
            ("aws-cli/2.13.0 Python/3.11.4", true),
            ("aws: command not found", false),
            ("", false),
        ] {
            assert_eq!(aws_cli_is_new_enough(text), good, "{text}");
        }
        assert!(parse("1.9.0").unwrap() < parse("1.31.0").unwrap());
        assert_eq!(parse("1.x"), None);
    }
}
