//! Every way in which a transaction can fail to come to a clean end. The next one must not notice.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use tokio::sync::Notify;

use super::*;

/// Pages a file may grow to while there is room.
const ROOM: i64 = 100_000;

struct Fixture {
    catalog: Catalog,
    dir: tempfile::TempDir,
}

impl Fixture {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}/catalog.db", dir.path().display());
        Self { catalog: Catalog::open(&url).await.unwrap(), dir }
    }

    /// Leaves something on the writer's connection that lasts as long as that connection.
    async fn mark(&self) {
        let mut writer = self.catalog.write.acquire().await.unwrap();
        let sql = "CREATE TEMP TABLE IF NOT EXISTS mark (x BIGINT)";
        sqlx::raw_sql(sql).execute(&mut *writer).await.unwrap();
    }

    async fn marked(&self) -> bool {
        let mut writer = self.catalog.write.acquire().await.unwrap();
        any(&mut writer, "SELECT 1 FROM sqlite_temp_master WHERE name = $1", &["mark"])
            .await
            .unwrap()
    }

    /// What the failed transaction wrote is not there, and writing works.
    async fn assert_whole(&self, case: &str) {
        assert_eq!(self.catalog.setting("half").await.unwrap(), None, "{case}");
        self.catalog.put_setting("last", case).await.unwrap_or_else(|e| panic!("{case}: {e}"));
        assert_eq!(self.catalog.setting("last").await.unwrap().as_deref(), Some(case));
    }

    async fn assert_replaced(&self, case: &str) {
        self.assert_whole(case).await;
        assert!(!self.marked().await, "after {case} the same connection is used");
        self.mark().await;
    }
}

async fn half(tx: &mut AnyConnection) -> Result<()> {
    sqlx::raw_sql("INSERT INTO settings (key, value) VALUES ('half', 'written')")
        .execute(tx)
        .await?;
    Ok(())
}

async fn run(tx: &mut AnyConnection, sql: &'static str) -> Result<()> {
    sqlx::raw_sql(sql).execute(tx).await?;
    Ok(())
}

#[tokio::test]
async fn a_clean_end_keeps_the_connection() {
    let f = Fixture::new().await;
    f.mark().await;
    f.catalog.put_setting("a", "b").await.unwrap();
    let refused: Result<()> = transact!(&f.catalog, |tx| {
        half(&mut *tx).await?;
        Err(CatalogError::not_found("x"))
    });
    assert_eq!(refused.unwrap_err(), CatalogError::not_found("x"));
    f.assert_whole("a refusal").await;
    let wrong: Result<()> = transact!(&f.catalog, |tx| {
        half(&mut *tx).await?;
        run(&mut *tx, "INSERT INTO nowhere VALUES (1)").await
    });
    assert!(matches!(wrong, Err(CatalogError::Database { .. })), "{wrong:?}");
    f.assert_whole("a statement that fails").await;
    let case = "a refused commit that left the transaction open";
    let mut tries = 0;
    let refused: Result<()> = transact!(&f.catalog, |tx| {
        tries += 1;
        if tries > 1 {
            return Err(CatalogError::not_found("a second try"));
        }
        half(&mut *tx).await?;
        run(&mut *tx, "CREATE TABLE parents (id BIGINT PRIMARY KEY)").await?;
        run(
            &mut *tx,
            "CREATE TABLE children (id BIGINT REFERENCES parents DEFERRABLE INITIALLY DEFERRED)",
        )
        .await?;
        run(&mut *tx, "INSERT INTO children VALUES (1)").await
    });
    assert_eq!(refused.unwrap_err(), CatalogError::not_found("a second try"));
    f.assert_whole(case).await;
    let tables = "SELECT 1 FROM sqlite_master WHERE name = $1";
    let mut reader = f.catalog.read.acquire().await.unwrap();
    assert!(!any(&mut reader, tables, &["children"]).await.unwrap());
    assert!(f.marked().await, "a connection was thrown away without need");
}

#[tokio::test]
async fn an_unclean_end_replaces_the_connection() {
    let f = Fixture::new().await;
    f.mark().await;

    let case = "a transaction that ended by itself, then a failed statement";
    let ended: Result<()> = transact!(&f.catalog, |tx| {
        half(&mut *tx).await?;
        run(&mut *tx, "ROLLBACK").await?;
        run(&mut *tx, "INSERT INTO nowhere VALUES (1)").await
    });
    assert!(matches!(ended, Err(CatalogError::Database { .. })), "{ended:?}");
    f.assert_replaced(case).await;

    let case = "a commit without a transaction";
    let ended: Result<()> = transact!(&f.catalog, |tx| {
        half(&mut *tx).await?;
        run(&mut *tx, "ROLLBACK").await
    });
    assert!(matches!(ended, Err(CatalogError::Database { .. })), "{ended:?}");
    f.assert_replaced(case).await;
}

#[tokio::test]
async fn a_dropped_or_panicking_operation_replaces_the_connection() {
    let f = Fixture::new().await;
    f.mark().await;
    let half_done = Notify::new();
    let operation = async {
        let never: Result<()> = transact!(&f.catalog, |tx| {
            half(&mut *tx).await?;
            half_done.notify_one();
            std::future::pending::<()>().await;
            Ok(())
        });
        never
    };
    tokio::select! {
        () = half_done.notified() => {}
        ended = operation => panic!("ended: {ended:?}"),
    }
    f.assert_replaced("a dropped future").await;

    let catalog = f.catalog.clone();
    let panicking = tokio::spawn(async move {
        let _: Result<()> = transact!(&catalog, |tx| {
            half(&mut *tx).await?;
            panic!("on purpose")
        });
    });
    assert!(panicking.await.unwrap_err().is_panic());
    f.assert_replaced("a panic").await;
}

/// `max_page_count` is SQLite's own limit: reaching it is its real answer to a full disk, with all
/// that happens to the transaction. Here it holds for every connection the pool ever opens.
#[tokio::test]
async fn writes_work_again_when_a_full_disk_has_room() {
    let mut f = Fixture::new().await;
    let limit = Arc::new(AtomicI64::new(ROOM));
    let (opened, lent) = (Arc::clone(&limit), Arc::clone(&limit));
    f.catalog.write.close().await;
    f.catalog.write = AnyPoolOptions::new()
        .max_connections(1)
        .after_connect(move |connection, _| Box::pin(limit_pages(connection, Arc::clone(&opened))))
        .before_acquire(move |connection, _| {
            let lent = Arc::clone(&lent);
            Box::pin(async move { limit_pages(connection, lent).await.map(|()| true) })
        })
        .connect(&format!("sqlite:{}/catalog.db?mode=rw", f.dir.path().display()))
        .await
        .unwrap();

    let large = "x".repeat(1 << 20);
    for round in 0..3 {
        limit.store(1, Ordering::SeqCst);
        for _ in 0..3 {
            let full: Result<()> = transact!(&f.catalog, |tx| {
                half(&mut *tx).await?;
                sqlx::query("INSERT INTO settings (key, value) VALUES ($1, $2)")
                    .bind(format!("large {round}"))
                    .bind(large.clone())
                    .execute(&mut *tx)
                    .await?;
                Ok(())
            });
            let Err(CatalogError::Database { message, retryable: true }) = full else {
                panic!("round {round}: {full:?}");
            };
            assert!(message.contains("disk is full: free space"), "{message}");
            // Reading goes on.
            assert_eq!(f.catalog.setting("half").await.unwrap(), None);
        }
        limit.store(ROOM, Ordering::SeqCst);
        f.assert_whole("a full disk").await;
        let key = format!("large {round}");
        assert_eq!(f.catalog.setting(&key).await.unwrap(), None);
        f.catalog.put_setting(&key, &large).await.unwrap();
        assert_eq!(f.catalog.setting(&key).await.unwrap().as_deref(), Some(&*large));
    }
}

/// SQLite does not go below the pages there are.
async fn limit_pages(
    connection: &mut AnyConnection,
    limit: Arc<AtomicI64>,
) -> std::result::Result<(), sqlx::Error> {
    let sql = format!("PRAGMA max_page_count = {}", limit.load(Ordering::SeqCst));
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(connection).await?;
    Ok(())
}
