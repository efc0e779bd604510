//! HTTPS: a certificate that the server makes, one that it is given, and who believes which.
#![allow(clippy::unwrap_used, reason = "a test panics where an error surprises it")]

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use provault_tests::clients::{aws, aws_run};
use provault_tests::{Finished, Sandbox, Start, TestServer};

fn start(args: &[&str]) -> Start {
    Start { args: args.iter().map(|&arg| arg.to_owned()).collect(), environment: Vec::new() }
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn a_certificate_that_the_server_makes_is_believed_through_its_authority() {
    let sandbox = Sandbox::new();
    let generate = start(&["--tls-generate"]);
    let mut server = TestServer::start_with(&sandbox.path("server"), &generate);
    assert!(server.endpoint().starts_with("https://127.0.0.1:"), "{}", server.endpoint());
    let tls = server.data_dir().join("tls");
    for name in ["authority.pem", "authority.key", "server.pem", "server.key"] {
        let mode = fs::metadata(tls.join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{name}");
    }
    // The command line finds the authority where it finds the address; AWS's clients are told.
    assert!(server.program().json(&["vault", "list"]).to_string().contains("Default"));
    assert_eq!(
        aws(&server, &["list-backup-vaults"])["BackupVaultList"][0]["BackupVaultName"],
        "Default"
    );
    // Another name of this machine.
    let port = server.endpoint().rsplit_once(':').unwrap().1.to_owned();
    let by_name = format!("https://localhost:{port}");
    let authority = tls.join("authority.pem");
    let believing = ["vault", "list", "--endpoint", &by_name, "--ca-bundle"];
    let mut args = believing.to_vec();
    args.push(authority.to_str().unwrap());
    server.program().run(0, &args);
    // The public authorities do not know it.
    let stranger = sandbox.path("stranger.pem");
    fs::copy(&authority, &stranger).unwrap();
    let refused = server.program().run(5, &["vault", "list", "--endpoint", &by_name]);
    assert!(refused.stderr.contains("certificate"), "{refused}");

    // What is plain gets no answer, and hurts nobody.
    let mut plain = TcpStream::connect(format!("127.0.0.1:{port}")).unwrap();
    plain.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
    plain.write_all(b"GET /provault/v1/health HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    // The server may have reset the connection.
    let _ = plain.read_to_end(&mut answer);
    assert!(!String::from_utf8_lossy(&answer).contains("HTTP/1.1"), "{answer:?}");
    server.program().run(0, &["vault", "list"]);

    // The next start shows the same certificate; other names make another one of the same authority.
    let (before, by) = (read(&tls.join("server.pem")), read(&authority));
    server.restart_with(&generate);
    assert_eq!(read(&tls.join("server.pem")), before);
    server.restart_with(&start(&["--tls-generate", "--tls-name", "backup.example.org"]));
    assert_ne!(read(&tls.join("server.pem")), before);
    assert_eq!(read(&authority), by);
    server.program().run(0, &["vault", "list"]);
    // A server that listens everywhere is called by a name that holds.
    server.restart_with(&start(&["--tls-generate", "--listen", "0.0.0.0:0"]));
    assert!(server.endpoint().starts_with("https://localhost:"), "{}", server.endpoint());
    server.program().run(0, &["vault", "list"]);
}

#[test]
fn a_certificate_that_is_given_is_used_and_a_wrong_one_refused() {
    let sandbox = Sandbox::new();
    // Somebody's certificate: made by another server.
    let maker = TestServer::start_with(&sandbox.path("maker"), &start(&["--tls-generate"]));
    let made = maker.data_dir().join("tls");
    let text = |name: &str| made.join(name).to_str().unwrap().to_owned();
    let (certificate, key, authority) =
        (text("server.pem"), text("server.key"), text("authority.pem"));
    let given =
        start(&["--tls-certificate", &certificate, "--tls-key", &key, "--tls-name", "localhost"]);
    let server = TestServer::start_with(&sandbox.path("server"), &given);
    assert!(server.endpoint().starts_with("https://localhost:"), "{}", server.endpoint());
    assert!(!server.data_dir().join("tls").exists());
    let believed = server.program().json(&["vault", "list", "--ca-bundle", &authority]);
    assert!(believed.to_string().contains("Default"));
    let refused = server.program().run(5, &["vault", "list"]);
    assert!(refused.stderr.contains("certificate"), "{refused}");
    assert_ne!(aws_run(&server, &["list-backup-vaults"]).code, Some(0));
    // A file of authorities that holds none is the user's mistake.
    let no_authority = server.program().run(2, &["vault", "list", "--ca-bundle", &key]);
    assert!(no_authority.stderr.contains("no certificate"), "{no_authority}");

    let refused = |code: i32, args: &[&str], words: &[&str]| {
        let mut command = TestServer::command(&sandbox.path("third"));
        command.args(args);
        let finished = Finished::of(&mut command, "it was just there").expect(code);
        for word in words {
            assert!(finished.stderr.contains(word), "{word}: {finished}");
        }
        // A key never stands in a message.
        assert!(!finished.stderr.contains("PRIVATE KEY"), "{finished}");
    };
    let other = text("authority.key");
    refused(
        1,
        &["--tls-certificate", &certificate, "--tls-key", &other],
        &["server.pem", "authority.key"],
    );
    refused(1, &["--tls-certificate", &key, "--tls-key", &key], &["server.key", "no certificate"]);
    refused(
        1,
        &["--tls-certificate", "/nowhere.pem", "--tls-key", &key],
        &["/nowhere.pem", "does not exist"],
    );
    refused(2, &["--tls-certificate", &certificate], &["--tls-key"]);
    refused(
        2,
        &["--tls-generate", "--tls-certificate", &certificate, "--tls-key", &key],
        &["--tls-generate"],
    );
    refused(2, &["--tls-name", "x"], &["--tls-generate"]);
}
