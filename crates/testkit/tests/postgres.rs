//! The transient server serves, keeps databases apart, and is gone afterwards.

use std::path::Path;

use provault_testkit::PostgresServer;

#[test]
fn a_server_serves_and_is_gone_when_dropped() {
    let server = PostgresServer::start().unwrap_or_else(|error| panic!("{error}"));
    let first = server.create_database().unwrap();
    let second = server.create_database().unwrap();
    assert_ne!(first, second);
    server.psql("test_0", "CREATE TABLE t (x int); INSERT INTO t VALUES (41)").unwrap();
    assert_eq!(server.psql("test_0", "SELECT x + 1 FROM t").unwrap(), "42");
    let elsewhere = server.psql("test_1", "SELECT * FROM t").unwrap_err().to_string();
    assert!(elsewhere.contains("does not exist"), "{elsewhere}");
    let listening = server.psql("postgres", "SHOW listen_addresses").unwrap();
    assert_eq!(listening, "", "the server must not be reachable from elsewhere");

    let process = format!("/proc/{}", server.pid());
    let directory = server.psql("postgres", "SHOW data_directory").unwrap();
    assert!(Path::new(&process).exists() && Path::new(&directory).exists());
    drop(server);
    assert!(!Path::new(&process).exists(), "the process is still there");
    assert!(!Path::new(&directory).exists(), "its files are still there");
}
