//! One server to a catalog, as PostgreSQL sees to it.
#![allow(clippy::unwrap_used)] // A test's helper panics, too.

use std::time::Duration;

use provault_catalog::{Catalog, CatalogError};
use provault_testkit::PostgresServer;

/// Long enough on any machine for what is bound to happen; its length decides nothing.
const LIMIT: Duration = Duration::from_mins(2);

#[tokio::test(flavor = "multi_thread")]
async fn a_second_server_is_refused_until_the_first_is_gone() {
    let server = PostgresServer::start().unwrap_or_else(|error| panic!("{error}"));
    let url = server.create_database().unwrap();
    let other = server.create_database().unwrap();
    let first = Catalog::claim_sole_use(&url).await.unwrap();
    assert_eq!(Catalog::claim_sole_use(&url).await.unwrap_err(), CatalogError::InUse);
    // Another database is another catalog.
    drop(Catalog::claim_sole_use(&other).await.unwrap());
    drop(first);
    // PostgreSQL hears of the closed connection a moment later.
    let second = async {
        loop {
            match Catalog::claim_sole_use(&url).await {
                Ok(second) => break second,
                Err(error) => assert_eq!(error, CatalogError::InUse),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let second = tokio::time::timeout(LIMIT, second).await.unwrap();

    // Whoever loses the session takes it anew, as long as nobody else has.
    let end_sessions = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
                        WHERE application_name = 'provault (sole use)'";
    let lost = tokio::spawn(second.lost());
    server.psql("postgres", end_sessions).unwrap();
    let anew = async {
        while Catalog::claim_sole_use(&url).await.is_ok() {
            // Dropped at once, so that the other can have it.
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    tokio::time::timeout(LIMIT, anew).await.unwrap();
    assert!(!lost.is_finished(), "it was taken anew");

    // And ends when somebody else was faster.
    let third = async {
        loop {
            server.psql("postgres", end_sessions).unwrap();
            if let Ok(third) = Catalog::claim_sole_use(&url).await {
                break third;
            }
        }
    };
    let third = tokio::time::timeout(LIMIT, third).await.unwrap();
    tokio::time::timeout(LIMIT, lost).await.unwrap().unwrap();
    drop(third);
}

#[tokio::test]
async fn a_catalog_in_a_file_has_its_directory_for_that() {
    let directory = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", directory.path().join("catalog.db").display());
    let first = Catalog::claim_sole_use(&url).await.unwrap();
    let lost = tokio::spawn(first.lost());
    drop(Catalog::claim_sole_use(&url).await.unwrap());
    assert!(!lost.is_finished());
    lost.abort();
}

#[tokio::test]
async fn a_database_that_is_not_there_is_told_of_without_its_password() {
    let url = "postgres://provault:hush@127.0.0.1:1/provault";
    let error = Catalog::claim_sole_use(url).await.unwrap_err().to_string();
    assert!(error.contains("127.0.0.1:1") && !error.contains("hush"), "{error}");
}
