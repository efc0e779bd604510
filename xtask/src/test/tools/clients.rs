//! The AWS clients that drive Provault in tests, the aws CLI, boto3 and botocore, and moto, the S3
//! server that its repositories lie on in tests.

use super::super::command::{Environment, run};
use super::debian::install_packages;

/// The first versions that know `AWS_ENDPOINT_URL_BACKUP`.
const BOTOCORE: &[u32] = &[1, 31, 0];
const AWS_CLI_1: &[u32] = &[1, 29, 0];
const AWS_CLI_2: &[u32] = &[2, 13, 0];
const MOTO_5_1: &[u32] = &[5, 1, 0];
/// What pip is asked for.
const REQUIREMENTS: &[&str] = &["awscli>=1.29.0", "boto3>=1.28.0", "botocore>=1.31.0"];
/// The first versions of moto 5 do not refuse to overwrite when they are told to.
const MOTO: &str = "moto[s3,server]>=5.1.0";

/// Uses the programs that are there when they are new enough, else installs them in `.tools/venv`.
pub fn install(environment: &Environment) -> Result<(), String> {
    let found = if let Some(found) = usable(environment) {
        found
    } else {
        make_venv(environment, true)?;
        pip_install(environment, REQUIREMENTS)?;
        usable(environment).ok_or_else(|| broken(environment, "the AWS clients"))?
    };
    let moto = if let Some(moto) = moto(environment) {
        moto
    } else {
        make_venv(environment, false)?;
        pip_install(environment, &[MOTO])?;
        moto(environment).ok_or_else(|| broken(environment, "moto_server"))?
    };
    println!("{found} {moto}");
    Ok(())
}

fn broken(environment: &Environment, what: &str) -> String {
    let venv = environment.tools.join("venv");
    format!("{what} in {} cannot be used; delete it and start again", venv.display())
}

/// Makes the virtual environment, anew or unless it is there.
fn make_venv(environment: &Environment, anew: bool) -> Result<(), String> {
    let venv = environment.tools.join("venv");
    if !anew && venv.join("bin/python").exists() {
        return Ok(());
    }
    // `ensurepip` is what Debian splits off into python3-venv.
    if environment.output("python3", &["-c", "import venv, ensurepip"]).is_none() {
        install_packages(environment, &["python3-venv", "python3-pip"])?;
    }
    run(environment.command("python3").args(["-m", "venv", "--clear"]).arg(&venv))
}

fn pip_install(environment: &Environment, requirements: &[&str]) -> Result<(), String> {
    let options = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
    let python = environment.tools.join("venv/bin/python");
    run(environment.command(python).args(options).args(requirements))
}

/// The version of moto when its server is there and new enough: `moto/5.2.1`.
fn moto(environment: &Environment) -> Option<String> {
    environment.find("moto_server")?;
    let version = "import flask, moto; print(moto.__version__)";
    let version = environment.output("python3", &["-c", version])?;
    let version = version.trim();
    (parse(version)?.as_slice() >= MOTO_5_1).then(|| format!("moto/{version}"))
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
