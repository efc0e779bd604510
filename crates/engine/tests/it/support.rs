//! A world for one test: directory, catalog, engine, clock.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use provault_catalog::{Catalog, Job, JobFilter, Page};
use provault_domain::key::KeyWrapper;
use provault_domain::*;
use provault_driver::Driver;
use provault_driver_filesystem::FilesystemDriver;
use provault_driver_volume::VolumeDriver;
use provault_engine::{Clock, Engine, Parts, Running, StorageOptions, TestLimits, TestsAtWork};
use provault_proof::HelperCommand;

/// A clock that stands until the test moves it.
pub struct TestClock {
    now: Mutex<Timestamp>,
    monotonic_millis: AtomicI64,
}

impl TestClock {
    pub fn advance(&self, by: SignedDuration) {
        *self.now.lock().unwrap() += by;
        self.monotonic_millis.fetch_add(i64::try_from(by.as_millis()).unwrap(), Ordering::SeqCst);
    }

    /// Somebody sets the time of day back; time goes on all the same.
    pub fn set_back(&self, by: SignedDuration) {
        *self.now.lock().unwrap() -= by;
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        *self.now.lock().unwrap()
    }
    fn monotonic(&self) -> Duration {
        Duration::from_millis(self.monotonic_millis.load(Ordering::SeqCst).unsigned_abs())
    }
}

/// One account with a key, a role, a vault and a directory worth protecting.
pub struct World {
    pub directory: tempfile::TempDir,
    pub clock: Arc<TestClock>,
    pub engine: Engine,
    pub account: AccountId,
    pub region: Region,
    pub vault: BackupVault,
    pub resource: Resource,
    /// Of the engine, and of those that come after it.
    pub at_work: Arc<TestsAtWork>,
}

impl World {
    pub async fn new(start: &str) -> Self {
        Self::with(start, |_| {}).await
    }

    pub async fn with(start: &str, change: impl FnOnce(&mut Resource)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let clock = Arc::new(TestClock {
            now: Mutex::new(start.parse().unwrap()),
            monotonic_millis: AtomicI64::new(0),
        });
        let account: AccountId = "123456789012".parse().unwrap();
        let region: Region = "us-east-1".parse().unwrap();
        let at_work = Arc::<TestsAtWork>::default();
        let engine = engine(directory.path(), &clock, TestLimits::default(), &at_work).await;
        let now = clock.now();
        let key = Key {
            arn: Arn::key(&region, &account, "0"),
            account: account.clone(),
            name: "default".into(),
            wrapper: KeyWrapper::LocalFile { file: "default.key".into() },
            created_at: now,
        };
        engine.create_key(key.clone()).await.unwrap();
        let role = Role {
            arn: Arn::role(&account, role::DEFAULT_ROLE),
            account: account.clone(),
            name: role::DEFAULT_ROLE.into(),
            created_at: now,
        };
        engine.catalog().insert_role(&role).await.unwrap();
        let vault = BackupVault {
            name: "lab".into(),
            arn: Arn::backup_vault(&region, &account, "lab"),
            account: account.clone(),
            region: region.clone(),
            encryption_key_arn: key.arn,
            creator_request_id: None,
            created_at: now,
            location: String::new(),
            sealed_password: String::new(),
            notifications: None,
            care: care::CareSettings::default(),
            imported: false,
        };
        let vault = engine.create_vault(vault, &Tags::new()).await.unwrap();
        let source = directory.path().join("source");
        write_tree(&source);
        let mut resource = Resource {
            arn: Arn::resource_of(Kind::Filesystem, &region, &account, "0123456789abcdef0"),
            account: account.clone(),
            region: region.clone(),
            kind: Kind::Filesystem,
            name: "source".into(),
            config: serde_json::json!({ "path": source }),
            tags: [("workload".to_owned(), "myapp".to_owned())].into(),
            service: None,
            probes: Vec::new(),
            rpo_seconds: None,
            rto_seconds: None,
            testing: None,
            retention: RetentionSettings::default(),
            created_at: now,
            imported: false,
        };
        change(&mut resource);
        let driver = engine.driver(resource.kind).unwrap();
        resource.config = driver.check_config(&resource.config).unwrap();
        let identity = driver.identity(&resource.config);
        engine.catalog().insert_resource(&resource, &identity).await.unwrap();
        Self { directory, clock, engine, account, region, vault, resource, at_work }
    }

    /// Another process on the same directory, as after a crash.
    pub async fn restarted(self) -> Self {
        self.limited(TestLimits::default()).await
    }

    /// The same, whose restore tests may take so much.
    pub async fn limited(mut self, tests: TestLimits) -> Self {
        self.engine.catalog().close().await;
        self.engine = engine(self.directory.path(), &self.clock, tests, &self.at_work).await;
        self
    }

    /// The same with a driver of the test's own.
    pub async fn restarted_with(mut self, driver: Arc<dyn Driver>) -> Self {
        self.engine.catalog().close().await;
        let tests = TestLimits::default();
        let path = self.directory.path();
        self.engine = engine_with(path, &self.clock, vec![driver], tests, &self.at_work).await;
        self
    }

    /// Puts an earlier copy of the catalog in the place of today's, which is closed.
    pub async fn bring_back_catalog(&self, copy: &Path) {
        self.engine.catalog().close().await;
        for end in ["", "-wal", "-shm"] {
            let _ = std::fs::remove_file(self.directory.path().join(format!("catalog.db{end}")));
        }
        std::fs::rename(copy, self.directory.path().join("catalog.db")).unwrap();
    }

    /// Another server on the same catalog, at the same time.
    pub async fn another(&self) -> Engine {
        let at_work = Arc::default();
        engine(self.directory.path(), &self.clock, TestLimits::default(), &at_work).await
    }

    /// A topic with one receiver, which hears of these events of the vault.
    pub async fn listen(&self, events: &[&str]) {
        let catalog = self.engine.catalog();
        let (now, name) = (self.clock.now(), "alarms".to_owned());
        let arn = Arn::topic(&self.region, &self.account, &name);
        let topic =
            Topic { arn: arn.clone(), account: self.account.clone(), name, created_at: now };
        catalog.insert_topic(&topic).await.unwrap();
        let subscription = Subscription {
            id: uuid::Uuid::new_v4().to_string(),
            account: self.account.clone(),
            topic_arn: arn.clone(),
            target: SubscriptionTarget::Webhook { url: "http://127.0.0.1:9/".into() },
            events: Vec::new(),
            digest_minutes: None,
            sealed_secret: None,
            created_at: now,
        };
        catalog.insert_subscription(&subscription).await.unwrap();
        let events = events.iter().map(|event| (*event).to_owned()).collect();
        let setting = Some(vault::VaultNotifications { topic_arn: arn, events });
        catalog.set_vault_notifications(&self.account, &self.vault.name, setting).await.unwrap();
    }

    pub fn source(&self) -> PathBuf {
        self.directory.path().join("source")
    }

    pub async fn start(&self) -> Running {
        self.engine.start(true).await.unwrap()
    }

    pub fn backup_job(&self) -> BackupJob {
        let now = self.clock.now();
        BackupJob {
            id: uuid::Uuid::new_v4().to_string(),
            account: self.account.clone(),
            region: self.region.clone(),
            vault_name: self.vault.name.clone(),
            vault_arn: self.vault.arn.clone(),
            resource_arn: self.resource.arn.clone(),
            resource_name: self.resource.name.clone(),
            kind: self.resource.kind,
            role_arn: Arn::role(&self.account, role::DEFAULT_ROLE),
            lifecycle: Lifecycle { delete_after_days: Some(1), ..Lifecycle::default() },
            recovery_point_tags: Tags::new(),
            created_by: None,
            idempotency_token: None,
            created_at: now,
            start_by: now + SignedDuration::from_hours(8),
            completion_window_minutes: 600,
            started_at: None,
            interruptions: 0,
            completed_at: None,
            state: BackupJobState::Created,
            status_message: None,
            bytes_transferred: 0,
            bytes_expected: None,
            backup_size_bytes: None,
            bytes_stored: None,
            recovery_point_arn: None,
            skipped: Vec::new(),
        }
    }

    /// Inserts an on-demand backup job and waits for its end.
    pub async fn back_up(&self) -> BackupJob {
        let job = self.backup_job();
        self.engine.catalog().insert_job(&job).await.unwrap();
        self.engine.wake();
        self.end_of::<BackupJob>(&job.id).await
    }

    pub fn restore_job(&self, point: &RecoveryPoint, target: &Path) -> RestoreJob {
        let mut metadata = point.restore_metadata.clone();
        metadata.insert("targetPath".into(), target.to_str().unwrap().into());
        RestoreJob {
            id: uuid::Uuid::new_v4().to_string(),
            account: self.account.clone(),
            region: self.region.clone(),
            recovery_point_arn: point.arn.clone(),
            vault_name: point.vault_name.clone(),
            source_resource_arn: point.resource_arn.clone(),
            kind: point.kind,
            role_arn: point.role_arn.clone(),
            metadata,
            idempotency_token: None,
            test_token: None,
            testing_plan_arn: None,
            created_at: self.clock.now(),
            started_at: None,
            completed_at: None,
            state: RestoreJobState::Pending,
            status_message: None,
            stop_requested: None,
            attempts: 0,
            backup_size_bytes: point.backup_size_bytes,
            bytes_restored: 0,
            created_resource_arn: None,
            validation: None,
            validation_message: None,
            deletion: None,
            deletion_message: None,
        }
    }

    pub async fn point_of(&self, job: &BackupJob) -> RecoveryPoint {
        let arn = job.recovery_point_arn.as_ref().unwrap_or_else(|| panic!("no point: {job:?}"));
        self.engine.catalog().recovery_point(&self.account, arn).await.unwrap().unwrap()
    }

    /// Waits until the job is over. There is no deadline: the test runner has one.
    pub async fn end_of<J: Job>(&self, id: &str) -> J {
        loop {
            let job = self.engine.catalog().job::<J>(&self.account, id).await.unwrap().unwrap();
            if job.is_final() {
                return job;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub async fn jobs<J: Job>(&self) -> Vec<J> {
        let all = JobFilter::default();
        self.engine.catalog().list_jobs::<J>(&all, Page::all()).await.unwrap().items
    }
}

async fn engine(
    directory: &Path,
    clock: &Arc<TestClock>,
    tests: TestLimits,
    at_work: &Arc<TestsAtWork>,
) -> Engine {
    let drivers: Vec<Arc<dyn Driver>> =
        vec![Arc::new(FilesystemDriver::new()), Arc::new(VolumeDriver::new())];
    engine_with(directory, clock, drivers, tests, at_work).await
}

async fn engine_with(
    directory: &Path,
    clock: &Arc<TestClock>,
    drivers: Vec<Arc<dyn Driver>>,
    tests: TestLimits,
    at_work: &Arc<TestsAtWork>,
) -> Engine {
    let url = format!("sqlite:{}", directory.join("catalog.db").display());
    Engine::new(Parts {
        catalog: Catalog::open(&url).await.unwrap(),
        data_dir: directory.to_owned(),
        clock: Arc::<TestClock>::clone(clock),
        drivers,
        // Tests of isolation start the real program; here nothing is to be isolated.
        helper: HelperCommand::new("/nonexistent", Vec::<String>::new()),
        hostname: "test".into(),
        // No test waits for a disk that it took away itself.
        storage: StorageOptions { retry_for: Duration::from_secs(1), ..StorageOptions::default() },
        vault_storage: None,
        command_subscriptions: false,
        tests,
        at_work: Arc::clone(at_work),
    })
    .unwrap()
}

pub fn write_tree(root: &Path) {
    std::fs::create_dir_all(root.join("data")).unwrap();
    std::fs::write(root.join("data/a.txt"), "alpha\n").unwrap();
    std::fs::write(root.join("data/b.bin"), vec![7; 3 << 20]).unwrap();
    std::os::unix::fs::symlink("data/a.txt", root.join("link")).unwrap();
}

/// Asserts that two trees hold the same names and contents.
pub fn assert_same(left: &Path, right: &Path) {
    let names = |dir: &Path| {
        let mut names: Vec<_> =
            std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        names
    };
    assert_eq!(names(left), names(right), "{} and {}", left.display(), right.display());
    for name in names(left) {
        let (l, r) = (left.join(&name), right.join(&name));
        let kind = l.symlink_metadata().unwrap();
        assert_eq!(kind.file_type(), r.symlink_metadata().unwrap().file_type());
        if kind.is_dir() {
            assert_same(&l, &r);
        } else if kind.is_symlink() {
            assert_eq!(std::fs::read_link(&l).unwrap(), std::fs::read_link(&r).unwrap());
        } else {
            assert!(std::fs::read(&l).unwrap() == std::fs::read(&r).unwrap(), "{}", l.display());
        }
    }
}
