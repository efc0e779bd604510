//! A server of its own for each test, and a client that signs.

use std::fmt::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use provault_app::{App, Settings, Setup};
use provault_catalog::{Catalog, JobFilter, Page, PointFilter};
use provault_domain::{BackupJob, RestoreJob, RestoreTest};
use provault_driver_filesystem::FilesystemDriver;
use provault_engine::{Clock, Engine, Parts, Running, StorageOptions};
use provault_iam::{Credentials, CredentialsFile, Secret, SignedRequest, sign};
use provault_proof::HelperCommand;
use provault_server::{Server, ServerOptions};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub const ACCOUNT: &str = "123456789012";
pub const REGION: &str = "us-east-1";
pub const ROLE: &str = "arn:aws:iam::123456789012:role/service-role/AWSBackupDefaultServiceRole";

struct SystemClock(Instant);

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
    fn monotonic(&self) -> Duration {
        self.0.elapsed()
    }
}

/// An engine over a directory; the helper cannot start anything, no test here needs it to.
pub async fn engine(directory: &Path) -> Engine {
    engine_that(directory, false).await
}

/// A driver that takes the directory `host` for the host, and keeps out of `host/srv/server`.
fn driver(directory: &Path) -> FilesystemDriver {
    let host = directory.join("host");
    let mounts = directory.join("no mounts");
    FilesystemDriver::reserving(vec![host.join("srv/server")]).discovering(host, mounts)
}

/// The same; whether subscriptions may run commands.
async fn engine_that(directory: &Path, command_subscriptions: bool) -> Engine {
    let url = format!("sqlite:{}", directory.join("catalog.db").display());
    Engine::new(Parts {
        catalog: Catalog::open(&url).await.unwrap(),
        data_dir: directory.to_owned(),
        clock: Arc::new(SystemClock(Instant::now())),
        drivers: vec![Arc::new(driver(directory))],
        helper: HelperCommand::new("/nonexistent/helper", ["none"]),
        hostname: "test".to_owned(),
        storage: StorageOptions::default(),
        vault_storage: None,
        command_subscriptions,
        tests: provault_engine::TestLimits::default(),
        at_work: Arc::default(),
    })
    .unwrap()
}

pub fn setup(engine: Engine, directory: &Path, settings: Settings) -> Setup {
    Setup { engine, data_dir: directory.to_owned(), account: None, region: None, settings }
}

/// A running server.
pub struct World {
    pub directory: tempfile::TempDir,
    pub app: App,
    pub addr: SocketAddr,
    pub credentials: Credentials,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    server: tokio::task::JoinHandle<()>,
}

impl World {
    pub async fn new() -> Self {
        Self::with(Settings::default()).await
    }

    pub async fn with(settings: Settings) -> Self {
        Self::build(settings, false).await
    }

    /// A server whose subscriptions may run commands.
    pub async fn that_runs_commands() -> Self {
        Self::build(Settings::default(), true).await
    }

    async fn build(settings: Settings, command_subscriptions: bool) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let engine = engine_that(directory.path(), command_subscriptions).await;
        let app = App::open(setup(engine, directory.path(), settings)).await.unwrap();
        let options = ServerOptions { max_body_bytes: 64 << 10, ..ServerOptions::default() };
        let any = "127.0.0.1:0".parse().unwrap();
        let server = Server::bind(app.clone(), any, options).await.unwrap();
        let addr = server.local_addr();
        let credentials =
            CredentialsFile::load(app.credentials_path()).unwrap().profile("default").unwrap();
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let server = tokio::spawn(server.serve(async move {
            // An error only says that the test is over.
            let _ = stopped.await;
        }));
        Self { directory, app, addr, credentials, stop: Some(stop), server }
    }

    /// Lets jobs run.
    pub async fn start(&self) -> Running {
        self.app.engine().start(true).await.unwrap()
    }

    /// Stops the server and waits until it has.
    pub async fn stop(mut self) -> tempfile::TempDir {
        drop(self.stop.take());
        self.server.await.unwrap();
        self.app.engine().catalog().close().await;
        self.directory
    }

    /// A signed request with a JSON body, none when null.
    pub async fn call(&self, method: &str, target: &str, body: &Value) -> Reply {
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        self.call_raw(method, target, &body).await
    }

    /// A signed request with any body.
    pub async fn call_raw(&self, method: &str, target: &str, body: &[u8]) -> Reply {
        let headers = self.sign(method, target, body, REGION, Timestamp::now());
        self.send(method, target, &headers, body).await
    }

    /// The headers of a signed request.
    pub fn sign(
        &self,
        method: &str,
        target: &str,
        body: &[u8],
        region: &str,
        now: Timestamp,
    ) -> http::HeaderMap {
        let (raw_path, raw_query) = target.split_once('?').unwrap_or((target, ""));
        let mut headers = http::HeaderMap::new();
        headers.insert("host", self.addr.to_string().parse().unwrap());
        headers.insert("content-type", "application/json".parse().unwrap());
        let method: http::Method = method.parse().unwrap();
        let request =
            SignedRequest { method: &method, raw_path, raw_query, headers: &headers, body };
        let signed = sign(&request, &self.credentials, region, now).unwrap();
        headers.extend(signed);
        headers
    }

    /// A request as it is, on a connection of its own.
    pub async fn send(
        &self,
        method: &str,
        target: &str,
        headers: &http::HeaderMap,
        body: &[u8],
    ) -> Reply {
        let mut head = format!("{method} {target} HTTP/1.1\r\nconnection: close\r\n");
        for (name, value) in headers {
            write!(head, "{name}: {}\r\n", value.to_str().unwrap()).unwrap();
        }
        write!(head, "content-length: {}\r\n\r\n", body.len()).unwrap();
        let mut stream = TcpStream::connect(self.addr).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(body).await.unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await.unwrap();
        Reply::parse(&bytes)
    }

    /// A request that has to be answered with 200; its output.
    pub async fn ok(&self, method: &str, target: &str, body: Value) -> Value {
        let reply = self.call(method, target, &body).await;
        assert_eq!(reply.status, 200, "{method} {target}: {reply:?}");
        reply.body
    }

    /// A request that has to be refused under this name without any change.
    pub async fn refused(&self, method: &str, target: &str, body: Value, name: &str) -> Reply {
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        self.refused_raw(method, target, &body, name).await
    }

    pub async fn refused_raw(&self, method: &str, target: &str, body: &[u8], name: &str) -> Reply {
        let before = self.state().await;
        let reply = self.call_raw(method, target, body).await;
        assert_eq!(reply.error(), name, "{method} {target}: {reply:?}");
        assert_eq!(self.state().await, before, "{method} {target} changed something");
        reply
    }

    /// Makes a user with a managed policy, named so, who signs from now on; who did before.
    pub async fn sign_as(&mut self, policy: &str) -> Credentials {
        let user = json!({ "Name": policy, "ManagedPolicies": [policy] });
        self.ok("POST", "/provault/v1/users", user).await;
        let target = format!("/provault/v1/users/{policy}/access-keys");
        let made = self.ok("POST", &target, Value::Null).await;
        let credentials = Credentials {
            access_key_id: text(&made, "AccessKeyId"),
            secret_access_key: Secret::new(text(&made, "SecretAccessKey")),
            session_token: None,
        };
        std::mem::replace(&mut self.credentials, credentials)
    }

    /// A request without a body that has to be denied.
    pub async fn denied(&self, method: &str, target: &str) {
        let reply = self.call(method, target, &Value::Null).await;
        assert_eq!(reply.error(), "AccessDeniedException", "{method} {target}: {reply:?}");
    }

    /// Everything in the catalog that a request could change, as text.
    pub async fn state(&self) -> String {
        let (catalog, account) = (self.app.engine().catalog(), self.app.account());
        let vaults = catalog.list_vaults(account, Page::all()).await.unwrap().items;
        let plans = catalog.list_plans(account, true, Page::all()).await.unwrap().items;
        let mut tags = Vec::new();
        let mut parts = Vec::new();
        for vault in &vaults {
            tags.push(catalog.tags(&vault.arn).await.unwrap());
        }
        for plan in &plans {
            tags.push(catalog.tags(&plan.arn).await.unwrap());
            let versions = catalog.list_plan_versions(account, &plan.id, Page::all()).await;
            let selections = catalog.list_selections(account, &plan.id, Page::all()).await;
            parts.push((versions.unwrap().items, selections.unwrap().items));
        }
        let testing = catalog.list_restore_testing_plans(account, Page::all()).await.unwrap().items;
        let mut tested = Vec::new();
        for plan in &testing {
            tags.push(catalog.tags(&plan.arn).await.unwrap());
            let selections = catalog.list_restore_testing_selections(&plan.arn, Page::all()).await;
            tested.push(selections.unwrap().items);
        }
        let any = JobFilter::default();
        let topics = catalog.list_topics(account).await.unwrap();
        let mut subscriptions = Vec::new();
        for topic in &topics {
            subscriptions.push(catalog.list_subscriptions(&topic.arn).await.unwrap());
        }
        let points = PointFilter::default();
        // A request that is refused was signed all the same.
        let mut keys = catalog.list_access_keys(account).await.unwrap();
        for key in &mut keys {
            key.last_used_at = None;
        }
        format!(
            "{vaults:?}{parts:?}{tags:?}{testing:?}{tested:?}{:?}{:?}{:?}{:?}{:?}{:?}{:?}{topics:?}{subscriptions:?}{:?}{:?}{:?}",
            catalog.list_jobs::<BackupJob>(&any, Page::all()).await.unwrap().items,
            catalog.list_jobs::<RestoreJob>(&any, Page::all()).await.unwrap().items,
            catalog.list_jobs::<RestoreTest>(&any, Page::all()).await.unwrap().items,
            catalog.list_recovery_points(&points, Page::all()).await.unwrap().items,
            catalog.list_resources(account, Page::all()).await.unwrap().items,
            catalog.list_roles(account).await.unwrap(),
            catalog.list_keys(account).await.unwrap(),
            catalog.list_audit(account).await.unwrap(),
            catalog.list_users(account).await.unwrap(),
            keys,
        )
    }

    /// A directory with a file in it, registered as a resource; its ARN.
    pub async fn resource(&self, name: &str) -> String {
        let path = self.directory.path().join("sources").join(name);
        std::fs::create_dir_all(&path).unwrap();
        std::fs::write(path.join("data.txt"), name).unwrap();
        let body = json!({ "Kind": "filesystem", "Name": name, "Config": { "path": path } });
        let made = self.ok("POST", "/provault/v1/resources", body).await;
        text(&made, "ResourceArn")
    }

    /// Starts a backup and waits until it is complete; the recovery point's ARN.
    pub async fn backup(&self, resource: &str, vault: &str) -> String {
        let body = json!({
            "BackupVaultName": vault, "ResourceArn": resource, "IamRoleArn": ROLE,
        });
        let job = text(&self.ok("PUT", "/backup-jobs", body).await, "BackupJobId");
        let job = self.wait(&format!("/backup-jobs/{job}"), "State", "COMPLETED").await;
        text(&job, "RecoveryPointArn")
    }

    /// Asks again and again until a member has a value.
    pub async fn wait(&self, target: &str, member: &str, wanted: &str) -> Value {
        let mut last = Value::Null;
        for _ in 0..1200 {
            last = self.ok("GET", target, Value::Null).await;
            if last[member] == wanted {
                return last;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{target} never reached {member} {wanted}: {last}");
    }
}

/// A member that has to be text.
pub fn text(value: &Value, member: &str) -> String {
    value[member].as_str().unwrap_or_else(|| panic!("{member} in {value}")).to_owned()
}

/// A path segment.
pub fn segment(text: &str) -> String {
    text.replace('%', "%25").replace(':', "%3A").replace('/', "%2F")
}

/// An answer.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Value,
}

impl Reply {
    fn parse(bytes: &[u8]) -> Self {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").expect("a head");
        let head = std::str::from_utf8(&bytes[..end]).unwrap();
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers = lines.map(|line| {
            let (name, value) = line.split_once(": ").unwrap();
            (name.to_lowercase(), value.to_owned())
        });
        let body = &bytes[end + 4..];
        let headers: Vec<(String, String)> = headers.collect();
        let is_json = headers.contains(&("content-type".to_owned(), "application/json".to_owned()));
        let body = match body {
            [] => Value::Null,
            _ if is_json => serde_json::from_slice(body).unwrap(),
            text => Value::String(String::from_utf8(text.to_vec()).unwrap()),
        };
        Self { status, headers, body }
    }

    pub fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(key, _)| key == name);
        found.map_or("", |(_, value)| value.as_str())
    }

    /// The name of the error, which header and body must agree about.
    pub fn error(&self) -> &str {
        let name = self.header("x-amzn-errortype");
        assert_eq!(self.body["Code"], name, "{self:?}");
        assert!(!self.header("x-amzn-requestid").is_empty(), "{self:?}");
        assert_eq!(self.header("content-type"), "application/json", "{self:?}");
        name
    }

    pub fn message(&self) -> &str {
        self.body["Message"].as_str().unwrap_or_default()
    }
}
