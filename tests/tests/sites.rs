//! Several regions of one server.
#![allow(clippy::unwrap_used, reason = "a test panics where an error surprises it")]

use std::fs;

use provault_tests::clients::aws;
use provault_tests::{Finished, Sandbox, Start, TestServer, write_tree};

const OTHER: &str = "eu-west-1";

#[test]
fn each_region_backs_up_into_its_own_vaults() {
    let sandbox = Sandbox::new();
    let data_dir = sandbox.path("server");
    let vaults = sandbox.directory("other-site");
    let site = format!("{OTHER}={}", vaults.display());
    let start = Start { args: vec!["--site".to_owned(), site], ..Start::default() };
    let mut server = TestServer::start_with(&data_dir, &start);
    let cli = server.program();
    let source = sandbox.path("source");
    write_tree(&source);
    let add = ["resource", "add", "filesystem", source.to_str().unwrap(), "--name", "source"];
    for region in ["us-east-1", OTHER] {
        cli.run(0, &[&add[..], &["--region", region]].concat());
        let backup = ["backup", "source", "--vault", "Default", "--keep", "7d", "--watch"];
        let job = cli.json(&[&backup[..], &["--region", region]].concat());
        assert_eq!(job["State"], "COMPLETED", "{job}");
        assert!(job["RecoveryPointArn"].as_str().unwrap().contains(region), "{job}");
        let listed = aws(&server, &["list-backup-jobs", "--region", region]);
        assert_eq!(listed["BackupJobs"].as_array().unwrap().len(), 1, "{listed}");
    }
    // The other site's vault lies where it was said, and can be restored from.
    let repository = fs::read_dir(&vaults).unwrap().next().unwrap().unwrap().path();
    assert!(repository.join("snapshots").is_dir(), "{}", repository.display());
    let target = sandbox.path("restored");
    let to = target.to_str().unwrap();
    cli.run(0, &["restore", "--resource", "source", "--to", to, "--watch", "--region", OTHER]);
    assert!(target.is_dir());
    // It is nobody's to back up, in no region.
    let path = vaults.to_str().unwrap();
    cli.run(1, &["resource", "add", "filesystem", path, "--name", "vaults"]);

    // What is wrong in the other region is seen without anybody's asking for it by name.
    let second = sandbox.directory("second");
    let owes = ["resource", "add", "filesystem", second.to_str().unwrap(), "--name", "owed"];
    cli.run(0, &[&owes[..], &["--region", OTHER]].concat());
    let seen = cli.run(1, &["status", "--troubles"]);
    for wanted in ["eu-west-1: Resources", "owed", "UNPROTECTED"] {
        assert!(seen.stdout.contains(wanted), "{wanted}: {seen}");
    }
    let token = fs::read_to_string(server.data_dir().join("metrics-token")).unwrap();
    let answer = ureq::get(format!("{}/provault/v1/metrics", server.endpoint()))
        .header("authorization", format!("Bearer {}", token.trim()))
        .call();
    let metrics = answer.unwrap().into_body().read_to_string().unwrap();
    let metric = "provault_resource_protection{region=\"eu-west-1\",resource=\"owed\",protection=\"UNPROTECTED\"} 1";
    assert!(metrics.contains(metric), "{metrics}");
    assert!(metrics.contains("provault_well{region=\"us-east-1\"}"), "{metrics}");
    cli.run(0, &["doctor"]);

    // All of it is there after a crash.
    server.kill9();
    server.start_again_with(&start);
    let listed = aws(&server, &["list-backup-jobs", "--region", OTHER]);
    assert_eq!(listed["BackupJobs"][0]["State"], "COMPLETED", "{listed}");

    // A region that is forgotten is told of, and not served.
    server.restart_with(&Start::default());
    assert!(server.log_tail().contains("no --site names it"), "{}", server.log_tail());
    let refused = server.program().run(1, &["vault", "list", "--region", OTHER]);
    assert!(refused.stderr.contains("us-east-1"), "{refused}");
}

#[test]
fn a_region_is_one_site() {
    let sandbox = Sandbox::new();
    for args in [
        &["--site", "eu-west-1", "--site", "eu-west-1=/srv"][..],
        &["--site", "eu west"],
        &["--site", "eu-west-1="],
    ] {
        let mut command = TestServer::command(&sandbox.path("server"));
        let refused = Finished::of(command.args(args), "it was just there").expect(2);
        assert!(refused.stderr.contains("--site"), "{refused}");
        assert!(!sandbox.path("server").exists(), "{args:?}");
    }
    let mut command = TestServer::command(&sandbox.path("server"));
    let refused =
        Finished::of(command.args(["--site", "us-east-1"]), "it was just there").expect(1);
    assert!(refused.stderr.contains("own region already"), "{refused}");
    assert!(!sandbox.path("server/sites").exists());
}
