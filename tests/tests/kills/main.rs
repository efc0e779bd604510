//! SIGKILL at every transaction boundary of every kind of work, enumerated: right before and right
//! after each commit that the server makes. What comes after the next start is looked at by
//! `provault_tests::kill`; what each kind has to hold besides, here.
#![allow(clippy::unwrap_used, reason = "a test panics where an error surprises it")]

mod care;
mod jobs;
mod proof;
mod starts;
mod vaults;

use std::path::Path;

use jiff::{SignedDuration, Timestamp, Zoned};
use provault_catalog::Catalog;
use provault_tests::kill::{Seen, Stage};
use provault_tests::{Api, Finished, TestServer, VAULT, encode, until};
use serde_json::Value;

/// A resource with its first recovery point, and somebody who is told of everything; gives the
/// resource's ARN.
fn protected(server: &TestServer, stage: &Stage) -> String {
    server.notify(&stage.receiver);
    let resource = server.add_directory("source", &stage.source);
    server.back_up(&resource);
    settled(server);
    resource
}

fn settled(server: &TestServer) -> Seen {
    until("quiet", || Seen::of(server.api()).filter(Seen::is_quiet))
}

/// Sends a request and does not care what becomes of it.
fn ask(api: &Api, method: &str, path: &str, body: &Value) {
    let body = body.to_string();
    let body = (method != "DELETE").then_some(body.as_bytes());
    drop(api.send(method, path, body));
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("no {key} in {value}"))
}

fn point_path(arn: &str) -> String {
    format!("/backup-vaults/{VAULT}/recovery-points/{}", encode(arn))
}

/// A daily schedule that was due some minutes ago, and a moment before that.
fn just_missed() -> (String, Timestamp) {
    let now = Timestamp::now();
    let due = now - SignedDuration::from_mins(10);
    let zoned: Zoned = due.to_zoned(jiff::tz::TimeZone::UTC);
    let cron = format!("cron({} {} * * ? *)", zoned.minute(), zoned.hour());
    (cron, now - SignedDuration::from_mins(20))
}

/// Works on the catalog of a server that does not run.
fn in_catalog(data_dir: &Path, work: impl AsyncFnOnce(Catalog)) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let url = format!("sqlite:{}", data_dir.join("catalog.db").display());
        let catalog = Catalog::open(&url).await.unwrap();
        work(catalog.clone()).await;
        catalog.close().await;
    });
}

/// A server on a copy of the template, to look at.
fn fresh(stage: &Stage) -> TestServer {
    let mut copy = std::process::Command::new("cp");
    copy.arg("-a").arg(stage.template()).arg(stage.data_dir());
    let _ = Finished::of(&mut copy, "install coreutils").expect(0);
    TestServer::start(&stage.data_dir())
}
