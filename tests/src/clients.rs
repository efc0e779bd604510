//! AWS's own clients: the aws CLI and boto3.

use std::path::Path;

use crate::{Finished, REGION, Sandbox, TestServer, clean_command};

const INSTALL: &str = "the AWS clients are missing. `cargo xtask test` installs them into \
                       .tools/venv; by hand: pip install awscli boto3";

fn point_at(command: &mut std::process::Command, server: &TestServer) {
    command
        .env("AWS_ENDPOINT_URL_BACKUP", server.endpoint())
        .env("AWS_SHARED_CREDENTIALS_FILE", server.data_dir().join("credentials"))
        .env("AWS_CONFIG_FILE", server.data_dir().join("no-such-file"))
        .env("AWS_REGION", REGION)
        .env("AWS_DEFAULT_REGION", REGION)
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env("AWS_MAX_ATTEMPTS", "1")
        .env("AWS_PAGER", "");
    let authority = server.data_dir().join("tls/authority.pem");
    if authority.exists() {
        command.env("AWS_CA_BUNDLE", authority);
    }
}

/// Runs `aws backup ARGS`, which must succeed, and gives the JSON it prints; null when it prints
/// nothing.
pub fn aws(server: &TestServer, args: &[&str]) -> serde_json::Value {
    let finished = aws_run(server, args).expect(0);
    if finished.stdout.trim().is_empty() { serde_json::Value::Null } else { finished.json() }
}

/// Runs `aws backup ARGS`.
pub fn aws_run(server: &TestServer, args: &[&str]) -> Finished {
    let mut command = clean_command("aws");
    point_at(&mut command, server);
    command.arg("backup").args(args).args(["--output", "json"]);
    Finished::of(&mut command, INSTALL)
}

/// Runs a script of `tests/python` with boto3, which must succeed. It finds the server as AWS's
/// clients do, a directory for its files in `PROVAULT_TEST_DIR`, and the address for calls of our
/// own operations in `PROVAULT_TEST_ENDPOINT`.
pub fn python(server: &TestServer, sandbox: &Sandbox, script: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("python").join(script);
    let mut command = clean_command("python3");
    point_at(&mut command, server);
    command
        .arg(path)
        .env("PROVAULT_TEST_DIR", sandbox.directory("python"))
        .env("PROVAULT_TEST_ENDPOINT", server.endpoint())
        .env("PROVAULT_TEST_DATA_DIR", server.data_dir());
    let finished = Finished::of(&mut command, INSTALL);
    assert!(!finished.stderr.contains("No module named 'boto"), "{INSTALL}\n{finished}");
    let finished = finished.expect(0);
    assert!(finished.stdout.contains("all checks held"), "the script ended early: {finished}");
}
