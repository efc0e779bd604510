//! The client: signatures, retries, errors, pages, broken connections.

use std::net::TcpListener;
use std::time::Duration;

use provault_wire::types::{
    CreateBackupVaultInput, DescribeRecoveryPointInput, ListBackupJobsInput,
};
use serde_json::{Value, json};

use super::server::{REGION, Reply, Server, credentials, error, ok};
use crate::client::{Client, segment};
use crate::error::CliError;
use crate::exit::Exit;

fn client(endpoint: &str) -> Client {
    Client::new(endpoint, credentials(), REGION).unwrap().with_first_wait(Duration::ZERO)
}

#[test]
fn what_is_sent_is_what_was_signed() {
    let server = Server::start(|_| ok(&json!({})));
    let client = client(&server.endpoint);
    let odd = "a b/ü:%2F+&=?#*~'(";
    let nothing: Value =
        client.call("GET", &format!("/x/{}", segment(odd)), &[(odd, odd)], None).unwrap();
    assert_eq!(nothing, json!({}));
    client.call::<Value>("POST", "/empty", &[], None).unwrap();
    client.call::<Value>("PUT", "/empty", &[], None).unwrap();
    client.call::<Value>("DELETE", "/empty", &[("a", "")], None).unwrap();
    client.call::<Value>("POST", "/body", &[], Some(&json!({ "ü": odd }))).unwrap();
    let point = DescribeRecoveryPointInput {
        backup_vault_name: Some("v".into()),
        recovery_point_arn: Some("arn:aws:backup:r:1:recovery-point:x/y".into()),
        ..DescribeRecoveryPointInput::default()
    };
    client.ask(&point).unwrap();
    assert_eq!(server.requests().len(), 6);
    assert_eq!(server.requests()[4].json(), json!({ "ü": odd }));
    assert!(server.lines()[5].ends_with("recovery-point%3Ax%2Fy"), "{:?}", server.lines());
}

#[test]
fn an_endpoint_may_have_a_path_and_a_slash_at_its_end() {
    let server = Server::start(|_| ok(&json!({})));
    for suffix in ["/", "/below/", "/below"] {
        client(&format!("{}{suffix}", server.endpoint))
            .call::<Value>("GET", "/x", &[], None)
            .unwrap();
    }
    assert_eq!(server.lines(), ["GET /x", "GET /below/x", "GET /below/x"]);
    for wrong in [
        "127.0.0.1:7070",
        "ftp://h",
        "http://",
        "http://u:p@h",
        "http://h/?a=b",
        "x y",
        "http://h",
        "http://192.0.2.1:7070",
        "http://localhost.example.org",
        "http://0.0.0.0:7070",
    ] {
        let error = Client::new(wrong, credentials(), REGION).unwrap_err();
        assert_eq!(error.exit(), Exit::Usage, "{wrong}: {error}");
    }
    for fine in ["http://localhost:1", "http://127.0.0.2:1", "http://[::1]:1", "https://h"] {
        Client::new(fine, credentials(), REGION).unwrap();
    }
}

#[test]
fn what_was_not_carried_out_is_sent_again_and_no_more_than_3_times() {
    for busy in [
        error(503, "ServiceUnavailableException", "later"),
        error(429, "ThrottlingException", "slower"),
        error(400, "ThrottlingException", "slower"),
    ] {
        let mut script = vec![busy.clone(); 3];
        script.push(ok(&json!({ "n": 1 })));
        let server = Server::script(script);
        let answer: Value = client(&server.endpoint).call("PUT", "/x", &[], None).unwrap();
        assert_eq!((answer, server.requests().len()), (json!({ "n": 1 }), 4));

        let server = Server::script(vec![busy; 9]);
        let error = client(&server.endpoint).call::<Value>("PUT", "/x", &[], None).unwrap_err();
        assert!(matches!(error, CliError::Api(_)), "{error}");
        assert_eq!((error.exit(), server.requests().len()), (Exit::Failed, 4));
    }
}

#[test]
fn a_refusal_is_told_once_and_in_full() {
    let message = "the vault 'v' is not empty; delete its recovery points first";
    let server = Server::script(vec![error(400, "InvalidRequestException", message)]);
    let CliError::Api(error) =
        client(&server.endpoint).call::<Value>("DELETE", "/x", &[], None).unwrap_err()
    else {
        panic!("no API error")
    };
    assert_eq!(server.requests().len(), 1);
    assert_eq!((error.status, error.name.as_str()), (400, "InvalidRequestException"));
    assert_eq!(error.request_id.as_deref(), Some("req-1"));
    assert_eq!(
        error.to_string(),
        format!("{message} (InvalidRequestException, HTTP 400, request req-1)")
    );
}

#[test]
fn nobody_listens() {
    // The port is free again when the listener is dropped.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let error = client(&format!("http://127.0.0.1:{port}"))
        .call::<Value>("PUT", "/x", &[], None)
        .unwrap_err();
    assert!(matches!(&error, CliError::Unreachable { why, .. } if why == "connection refused"));
    assert_eq!(error.exit(), Exit::Unreachable);
}

#[test]
fn a_torn_connection_is_tried_again_only_where_nothing_can_have_been_done() {
    for torn in [Reply::Hangup, Reply::Half] {
        let server = Server::script(vec![torn.clone(), torn.clone(), ok(&json!({ "n": 1 }))]);
        let answer: Value = client(&server.endpoint).call("GET", "/x", &[], None).unwrap();
        assert_eq!((answer, server.requests().len()), (json!({ "n": 1 }), 3));

        let server = Server::script(vec![torn, ok(&json!({}))]);
        let input = CreateBackupVaultInput {
            backup_vault_name: Some("v".into()),
            ..CreateBackupVaultInput::default()
        };
        let error = client(&server.endpoint).ask(&input).unwrap_err();
        assert!(error.to_string().contains("Whether it was done is unknown"), "{error}");
        assert_eq!((error.exit(), server.requests().len()), (Exit::Unreachable, 1));
    }
}

#[test]
fn a_connection_that_was_closed_meanwhile_is_not_taken_for_a_torn_one() {
    let server = Server::start(|_| Reply::AnswerThenClose);
    let client = client(&server.endpoint);
    for count in 1..=3 {
        client.call::<Value>("PUT", "/x", &[], None).unwrap();
        server.wait_until_closed(count);
    }
    assert_eq!(server.requests().len(), 3);
}

#[test]
fn an_answer_that_is_not_the_api_says_so() {
    for body in ["<html>", "[1]", "{\"BackupJobs\": 7}"] {
        let reply = Reply::Answer { status: 200, headers: Vec::new(), body: body.into() };
        let server = Server::script(vec![reply]);
        let error = client(&server.endpoint).ask_all(&ListBackupJobsInput::default()).unwrap_err();
        assert!(matches!(error, CliError::Answer { .. }), "{body}: {error}");
    }
    // A redirection is not followed: the signature would be for another place.
    let headers = vec![("location", "http://127.0.0.1:1/".to_owned())];
    let server = Server::script(vec![Reply::Answer { status: 302, headers, body: String::new() }]);
    let error = client(&server.endpoint).call::<Value>("GET", "/x", &[], None).unwrap_err();
    assert!(matches!(error, CliError::Api(ref e) if e.status == 302), "{error}");
}

#[test]
fn pages_are_put_together() {
    let page = |ids: &[&str], next: Option<&str>| {
        let jobs: Vec<Value> =
            ids.iter().map(|id| json!({ "BackupJobId": id, "New": 1 })).collect();
        ok(&json!({ "BackupJobs": jobs, "NextToken": next }))
    };
    let server = Server::script(vec![
        page(&["1", "2"], Some("t/1=")),
        page(&[], Some("t2")),
        page(&["3"], None),
    ]);
    let input = ListBackupJobsInput { by_resource_arn: Some("arn:x".into()), ..Default::default() };
    let all = client(&server.endpoint).ask_all(&input).unwrap();
    let ids: Vec<_> =
        all.typed.backup_jobs.unwrap().into_iter().filter_map(|job| job.backup_job_id).collect();
    assert_eq!(ids, ["1", "2", "3"]);
    // What this program does not know is still there; the token is not.
    assert_eq!(all.json["BackupJobs"][2], json!({ "BackupJobId": "3", "New": 1 }));
    assert_eq!(all.json.get("NextToken"), None);
    let lines = server.lines();
    assert_eq!(lines.len(), 3);
    assert!(lines.iter().all(|line| line.contains("resourceArn=arn%3Ax")), "{lines:?}");
    assert!(lines[1].contains("nextToken=t%2F1%3D") && lines[2].contains("nextToken=t2"));

    let server = Server::start(move |_| page(&["1"], Some("same")));
    let error = client(&server.endpoint).ask_all(&input).unwrap_err();
    assert!(error.to_string().contains("pages do not end"), "{error}");
}

#[test]
fn temporary_credentials_send_their_token() {
    let server = Server::start(|_| ok(&json!({})));
    let mut credentials = credentials();
    credentials.session_token = Some(provault_iam::Secret::new("token"));
    let client = Client::new(&server.endpoint, credentials, REGION).unwrap();
    client.call::<Value>("GET", "/x", &[], None).unwrap();
    assert!(!format!("{client:?}").contains("a/secret"), "the secret is in the debug form");
}
