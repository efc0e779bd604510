//! Registering resources: what comes from files.

use serde_json::json;

use super::commands::{basics, run};
use super::server::Server;
use crate::exit::Exit;

#[test]
fn secrets_of_an_application_come_from_a_file() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("env");
    std::fs::write(&file, "# of the copy\nTOKEN=hush\nURL=postgres://u:p@h/d?a=b\n").unwrap();
    let server = Server::start(basics);
    let add = |more: &[&str]| {
        let line = ["resource", "add", "filesystem", "/srv/docs", "--name", "docs"];
        run(&server, &[&line[..], &["--service", "./app"], more].concat())
    };
    let file = ["--service-env-file", file.to_str().unwrap()];
    let ran = add(&[&file[..], &["--service-env", "MODE=test"]].concat());
    assert_eq!(ran.exit, Exit::Done, "{}", ran.err);
    assert_eq!(
        server.requests()[0].json()["Service"]["Environment"],
        json!({ "TOKEN": "hush", "URL": "postgres://u:p@h/d?a=b", "MODE": "test" })
    );
    let before = server.requests().len();
    let ran = add(&[&file[..], &["--service-env", "TOKEN=other"]].concat());
    assert_eq!(ran.exit, Exit::Usage);
    assert!(ran.err.contains("TOKEN is given twice") && !ran.err.contains("hush"), "{}", ran.err);
    assert_eq!(add(&["--service-env-file", "/nowhere"]).exit, Exit::Usage);
    assert_eq!(server.requests().len(), before);
}
