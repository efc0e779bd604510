//! The lab's story: every step over the HTTP API, as any client would do it.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use provault_cli::{Client, GlobalOptions};
use provault_wire::provault as wire;
use serde_json::{Value, json};

use crate::instance::Instance;
use crate::receiver::Receiver;
use crate::sample_app;

const VAULT: &str = "BACKUP-LAB-VAULT";
const PLAN: &str = "BACKUP-LAB";
const RULE: &str = "BACKUP-LAB-RULE";
const SELECTION: &str = "BACKUP-LAB-SELECTION";
const TOPIC: &str = "BACKUP-LAB-TOPIC";
/// Nothing in the lab takes this long; a story that hangs must end.
const PATIENCE: Duration = Duration::from_hours(6);
const GLANCE: Duration = Duration::from_millis(25);

type Told<T> = Result<T, String>;

/// What the story is about.
pub enum Subject {
    /// The sample application, yet to be written.
    Sample,
    /// A directory of the user's own.
    Own {
        /// Where it is.
        path: PathBuf,
        /// How to start its application.
        service: Option<wire::Service>,
        /// What to ask.
        probes: Vec<wire::Probe>,
    },
}

/// The resource as it will be registered.
pub struct Application {
    name: String,
    path: PathBuf,
    service: Option<wire::Service>,
    probes: Vec<wire::Probe>,
    /// Whether it is the lab's own, and may be moved away while its copy is tested.
    movable: bool,
}

/// How the story ended.
pub struct Outcome {
    test: Value,
    backup_job: Value,
    evidence: Value,
    log: Value,
    notification: Value,
}

impl Outcome {
    /// Whether the verdict is PASSED.
    pub fn passed(&self) -> bool {
        self.test["Verdict"] == "PASSED"
    }
}

/// A story being told.
pub struct Story {
    directory: PathBuf,
    json: bool,
    began: Instant,
    steps: Vec<(String, f64)>,
}

impl Story {
    /// Opens the story.
    pub fn begin(directory: PathBuf, json: bool) -> Self {
        let story = Self { directory, json, began: Instant::now(), steps: Vec::new() };
        story.say("Provault lab: back up, restore in isolation, prove.\n");
        story
    }

    fn say(&self, line: &str) {
        // With --json standard output holds one object and nothing else.
        if self.json { eprintln!("{line}") } else { println!("{line}") }
    }

    fn done(&mut self, name: &str, began: Instant, detail: &str) {
        let seconds = began.elapsed().as_secs_f64();
        self.say(&format!(
            "[{:6.2} s] {name:<28} {detail} ({seconds:.2} s)",
            self.began.elapsed().as_secs_f64()
        ));
        self.steps.push((name.to_owned(), seconds));
    }

    /// Writes the sample application, unless the story is about the user's own directory.
    pub fn application(&mut self, subject: Subject) -> Told<Application> {
        let began = Instant::now();
        let path = match subject {
            Subject::Own { path, service, probes } => {
                let name = resource_name(&path);
                self.done("source", began, &format!("{}, only read", path.display()));
                return Ok(Application { name, path, service, probes, movable: false });
            }
            Subject::Sample => self.directory.join("myapp"),
        };
        let away = moved_away(&path);
        if away.exists() {
            // An earlier lab died while its copy was tested.
            std::fs::rename(&away, &path).map_err(|e| format!("{}: {e}", away.display()))?;
        }
        sample_app::write(&path, jiff::Timestamp::now())
            .map_err(|error| format!("the sample application: {error}"))?;
        self.done("sample application", began, &format!("written to {}", path.display()));
        let assertion =
            |kind: &str| wire::Assertion { kind: kind.to_owned(), ..wire::Assertion::default() };
        let http = |path: &str, assertions| wire::Probe {
            kind: "Http".to_owned(),
            port: Some(sample_app::PORT),
            path: Some(path.to_owned()),
            assertions,
            ..wire::Probe::default()
        };
        Ok(Application {
            name: "myapp".to_owned(),
            path,
            service: Some(wire::Service {
                command: vec![sample_app::PROGRAM.to_owned(), "__sample-app".to_owned()],
                environment: std::collections::BTreeMap::new(),
                start_timeout_seconds: Some(20),
            }),
            probes: vec![
                http("/", vec![wire::Assertion { equals: Some(200), ..assertion("Status") }]),
                http(
                    "/health",
                    vec![
                        wire::Assertion {
                            pointer: Some("/notes".to_owned()),
                            minimum: Some(25),
                            ..assertion("JsonAtLeast")
                        },
                        wire::Assertion {
                            pointer: Some("/newest".to_owned()),
                            max_age_seconds: Some(24 * 3600),
                            ..assertion("JsonNewerThan")
                        },
                    ],
                ),
            ],
            movable: true,
        })
    }

    /// Starts the server.
    pub fn server(&mut self, start: impl FnOnce() -> Told<Instance>) -> Told<Instance> {
        let began = Instant::now();
        let instance = start()?;
        self.done("server", began, &format!("{}, SQLite and local vaults", instance.endpoint()));
        Ok(instance)
    }

    /// From the registration to the verdict.
    pub fn play(&mut self, instance: &Instance, app: &Application) -> Told<Outcome> {
        let options = GlobalOptions {
            data_dir: Some(instance.data_dir().to_owned()),
            ..GlobalOptions::default()
        };
        let client = Api(Client::discover(&options).map_err(|error| error.to_string())?);
        let resource_arn = self.register(&client, app)?;
        self.vault_and_plan(&client)?;
        let receiver = self.notifications(&client)?;
        let job = self.back_up(&client, instance, &resource_arn)?;
        let job_id = text(&job, "BackupJobId");

        let away = moved_away(&app.path);
        if app.movable {
            let began = Instant::now();
            std::fs::rename(&app.path, &away)
                .map_err(|e| format!("{}: {e}", app.path.display()))?;
            self.done("source moved away", began, "the copy has to stand alone");
        }
        instance.engine().release_restore_tests();
        let test = self.follow_test(&client, &resource_arn, &job_id);
        if app.movable {
            std::fs::rename(&away, &app.path).map_err(|e| format!("{}: {e}", away.display()))?;
        }
        let test = test?;
        let notification = self.await_notification(&client, &receiver, &test)?;
        let log = client.get(&format!("/provault/v1/jobs/{}/log", text(&test, "RestoreTestId")))?;
        let chain = client.query("/provault/v1/evidence", "resourceArn", &resource_arn)?;
        let evidence = list(&chain, "Records").last().cloned().unwrap_or_default();
        Ok(Outcome { test, backup_job: job, evidence, log, notification })
    }

    fn register(&mut self, client: &Api, app: &Application) -> Told<String> {
        let began = Instant::now();
        let input = wire::AddResourceInput {
            kind: "filesystem".to_owned(),
            name: app.name.clone(),
            config: json!({ "path": app.path }),
            tags: [("workload".to_owned(), "myapp".to_owned())].into(),
            service: app.service.clone(),
            probes: app.probes.clone(),
            rpo_seconds: Some(24 * 3600),
            rto_seconds: Some(3600),
            test_after_backup: Some(true),
            shrink_alarm_percent: None,
            keep_at_most: None,
        };
        let wanted = serde_json::to_value(&input).map_err(|error| error.to_string())?;
        let path = format!("/provault/v1/resources/{}", app.name);
        if let Some(found) = client.find(&path)? {
            let same = ["Service", "Probes"].iter().all(|key| found[key] == wanted[key])
                && found["Config"]["path"] == wanted["Config"]["path"];
            if same {
                let arn = text(&found, "ResourceArn");
                self.done("resource", began, &format!("{arn}, as before"));
                return Ok(arn);
            }
            client.delete(&path)?;
        }
        let added = client.post("/provault/v1/resources", &wanted)?;
        let arn = text(&added, "ResourceArn");
        self.done("resource", began, &format!("{arn}, tagged workload=myapp"));
        Ok(arn)
    }

    fn vault_and_plan(&mut self, client: &Api) -> Told<()> {
        let began = Instant::now();
        let vaults = client.get("/backup-vaults/")?;
        if !list(&vaults, "BackupVaultList").iter().any(|v| v["BackupVaultName"] == VAULT) {
            client.put(&format!("/backup-vaults/{VAULT}"), &json!({}))?;
        }
        self.done("vault", began, VAULT);

        let began = Instant::now();
        let plans = client.get("/backup/plans/")?;
        let known = list(&plans, "BackupPlansList").iter().find(|p| p["BackupPlanName"] == PLAN);
        let plan_id = if let Some(plan) = known {
            text(plan, "BackupPlanId")
        } else {
            let plan = json!({ "BackupPlan": {
                "BackupPlanName": PLAN,
                "Rules": [{
                    "RuleName": RULE,
                    "TargetBackupVaultName": VAULT,
                    "ScheduleExpression": "cron(0 5 ? * * *)",
                    "Lifecycle": { "DeleteAfterDays": 35 },
                }],
            }});
            text(&client.put("/backup/plans/", &plan)?, "BackupPlanId")
        };
        self.done("plan", began, &format!("{PLAN}, daily at 05:00, kept 35 days"));

        let began = Instant::now();
        let selections = client.get(&format!("/backup/plans/{plan_id}/selections/"))?;
        if list(&selections, "BackupSelectionsList").is_empty() {
            let roles = client.get("/provault/v1/roles")?;
            let role = list(&roles, "Items").first().map(|r| text(r, "Arn")).unwrap_or_default();
            let selection = json!({ "BackupSelection": {
                "SelectionName": SELECTION,
                "IamRoleArn": role,
                "ListOfTags": [{
                    "ConditionType": "STRINGEQUALS",
                    "ConditionKey": "workload",
                    "ConditionValue": "myapp",
                }],
            }});
            client.put(&format!("/backup/plans/{plan_id}/selections/"), &selection)?;
        }
        self.done("selection", began, "every resource tagged workload=myapp");
        Ok(())
    }

    fn notifications(&mut self, client: &Api) -> Told<Receiver> {
        let began = Instant::now();
        let receiver = Receiver::start().map_err(|error| format!("the webhook: {error}"))?;
        let topics = client.get("/provault/v1/topics")?;
        let topic = match list(&topics, "Items").iter().find(|topic| topic["Name"] == TOPIC) {
            Some(topic) => topic.clone(),
            None => client.post("/provault/v1/topics", &json!({ "Name": TOPIC }))?,
        };
        let subscriptions = format!("/provault/v1/topics/{TOPIC}/subscriptions");
        for old in list(&client.get(&subscriptions)?, "Subscriptions") {
            client
                .delete(&format!("/provault/v1/subscriptions/{}", text(old, "SubscriptionId")))?;
        }
        client.post(&subscriptions, &json!({ "Webhook": receiver.url() }))?;
        let mail = self.mail_directory();
        client.post(
            &subscriptions,
            &json!({ "MailFile": { "Directory": mail, "To": "operator@example.org" } }),
        )?;
        client.put(
            &format!("/backup-vaults/{VAULT}/notification-configuration"),
            &json!({
                "SNSTopicArn": text(&topic, "Arn"),
                "BackupVaultEvents": ["BACKUP_JOB_COMPLETED", "RESTORE_JOB_COMPLETED"],
            }),
        )?;
        self.done(
            "notifications",
            began,
            &format!("{TOPIC}: a webhook, and mail into {}", mail.display()),
        );
        Ok(receiver)
    }

    fn back_up(&mut self, client: &Api, instance: &Instance, resource_arn: &str) -> Told<Value> {
        let began = Instant::now();
        // The test follows by itself; it is held until the source is out of its way.
        instance.engine().hold_restore_tests();
        let roles = client.get("/provault/v1/roles")?;
        let role = list(&roles, "Items").first().map(|r| text(r, "Arn")).unwrap_or_default();
        let started = client.put(
            "/backup-jobs",
            &json!({
                "BackupVaultName": VAULT,
                "ResourceArn": resource_arn,
                "IamRoleArn": role,
                "Lifecycle": { "DeleteAfterDays": 1 },
            }),
        )?;
        let id = text(&started, "BackupJobId");
        let job = until(&format!("backup job {id}"), || {
            let job = client.get(&format!("/backup-jobs/{id}"))?;
            let state = text(&job, "State");
            Ok(["COMPLETED", "PARTIAL", "FAILED", "ABORTED", "EXPIRED"]
                .contains(&state.as_str())
                .then_some(job))
        })?;
        let state = text(&job, "State");
        if state != "COMPLETED" && state != "PARTIAL" {
            return Err(format!("the backup is {state}: {}", text(&job, "StatusMessage")));
        }
        self.done(
            "backup, kept 1 day",
            began,
            &format!("{state}, {}", bytes(job["BackupSizeInBytes"].as_u64().unwrap_or(0))),
        );
        Ok(job)
    }

    fn follow_test(&mut self, client: &Api, resource_arn: &str, job_id: &str) -> Told<Value> {
        let mut shown = 0;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let tests = client.query("/provault/v1/restore-tests", "resourceArn", resource_arn)?;
            let test = list(&tests, "RestoreTests").iter().find(|t| t["BackupJobId"] == job_id);
            if let Some(test) = test {
                let finished = test["State"] == "FINISHED";
                for step in list(test, "Steps").iter().skip(shown) {
                    shown += 1;
                    let seconds = step["Seconds"].as_f64().unwrap_or(0.0);
                    let name = format!("  test: {}", text(step, "Name"));
                    self.say(&format!(
                        "[{:6.2} s] {name:<28} {} ({seconds:.2} s)",
                        self.began.elapsed().as_secs_f64(),
                        text(step, "Detail"),
                    ));
                    self.steps.push((name.trim().to_owned(), seconds));
                }
                if finished {
                    return Ok(test.clone());
                }
            }
            if Instant::now() > deadline {
                return Err("the restore test did not come to its end".to_owned());
            }
            std::thread::sleep(GLANCE);
        }
    }

    fn await_notification(
        &mut self,
        client: &Api,
        receiver: &Receiver,
        test: &Value,
    ) -> Told<Value> {
        let began = Instant::now();
        let subject = "Restore Test Status";
        let point = text(test, "RecoveryPointArn");
        let message =
            until("the notification 'Restore Test Status'", || Ok(receiver.find(subject, &point)))?;
        let id = text(test, "RestoreTestId");
        let delivered = until("the mail 'Restore Test Status'", || {
            let found = client.query("/provault/v1/deliveries", "jobId", &id)?;
            let all = list(&found, "Deliveries");
            let done = !all.is_empty() && all.iter().all(|d| d["State"] == "DELIVERED");
            Ok(done.then_some(all.len()))
        })?;
        self.done(
            "notification",
            began,
            &format!("'{subject}' received by {delivered} subscribers"),
        );
        Ok(message)
    }

    fn mail_directory(&self) -> PathBuf {
        self.directory.join("mail")
    }

    /// Prints the verdict: for people, or as one JSON object.
    pub fn show(&self, outcome: &Outcome, app: &Application) {
        let (test, job) = (&outcome.test, &outcome.backup_job);
        let size = job["BackupSizeInBytes"].as_u64().unwrap_or(0);
        let stored = stored(&self.directory);
        if self.json {
            let steps: Vec<Value> = self
                .steps
                .iter()
                .map(|(name, seconds)| json!({ "Name": name, "Seconds": seconds }))
                .collect();
            let object = json!({
                "Verdict": test["Verdict"],
                "Reason": test["Reason"],
                "Evidence": outcome.evidence,
                "RestoreTest": test,
                "RecoveryPointArn": test["RecoveryPointArn"],
                "BackupJobId": job["BackupJobId"],
                "RestoreJobId": test["RestoreJobId"],
                "RestoreTestId": test["RestoreTestId"],
                "RecoverySeconds": test["RecoverySeconds"],
                "SourceBytes": size,
                "StoredBytes": stored,
                "Steps": steps,
                "Log": outcome.log["Entries"],
                "Notification": outcome.notification,
                "TotalSeconds": self.began.elapsed().as_secs_f64(),
            });
            println!("{object:#}");
            return;
        }
        let probes = list(test, "Probes");
        let passed = probes.iter().filter(|p| p["Passed"] == true).count();
        let killed = |required: bool| {
            let all: Vec<_> = list(test, "Mutants")
                .iter()
                .filter(|m| m["Required"] == required && m["Killed"].is_boolean())
                .collect();
            let dead = all.iter().filter(|m| m["Killed"] == true).count();
            format!("{dead} of {}", all.len())
        };
        println!("\n  {}  {}\n", text(test, "Verdict"), text(test, "Reason"));
        println!("  Recovery point     {}", text(test, "RecoveryPointArn"));
        println!(
            "  Recovery time      {:.2} s measured",
            test["RecoverySeconds"].as_f64().unwrap_or(f64::NAN)
        );
        println!(
            "  Stored             {} in the vault for {} of {}",
            bytes(stored),
            bytes(size),
            app.path.display()
        );
        println!(
            "  Evidence           record {}, {}",
            outcome.evidence["Sequence"],
            text(&outcome.evidence, "Hash")
        );
        println!("  Isolation          {}", text(test, "Isolation"));
        println!("  Probes             {passed} of {} passed", probes.len());
        println!(
            "  Negative control   {} required and {} other broken copies were noticed",
            killed(true),
            killed(false)
        );
        println!("  In all             {:.1} s", self.began.elapsed().as_secs_f64());
    }

    /// What to try while the server runs.
    pub fn what_next(&self, instance: &Instance, app: &Application) {
        let directory = instance.data_dir().display();
        self.say(&format!(
            "\nThe server runs at {endpoint} until Ctrl-C. In another terminal:\n\n  \
             export PROVAULT_DATA_DIR={directory}\n  \
             provault jobs list\n  \
             provault restore-test {name} --watch\n  \
             provault restore --resource {name} --to /tmp/{name}-restored --watch\n  \
             provault evidence list\n\n\
             or with the aws CLI:\n\n  \
             export AWS_ENDPOINT_URL_BACKUP={endpoint} AWS_DEFAULT_REGION=us-east-1 \\\n         \
             AWS_SHARED_CREDENTIALS_FILE={directory}/credentials\n  \
             aws backup list-backup-jobs\n\n\
             'provault lab --destroy' removes everything the lab made.",
            endpoint = instance.endpoint(),
            name = app.name,
        ));
    }
}

/// Bytes that the vault's repository takes on disk.
fn stored(directory: &Path) -> u64 {
    fn below(path: &Path) -> u64 {
        let Ok(entries) = std::fs::read_dir(path) else { return 0 };
        entries
            .flatten()
            .map(|entry| match entry.metadata() {
                Ok(meta) if meta.is_dir() => below(&entry.path()),
                Ok(meta) => meta.len(),
                Err(_) => 0,
            })
            .sum()
    }
    let Ok(entries) = std::fs::read_dir(directory.join("server/vaults")) else { return 0 };
    entries
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(VAULT))
        .map(|entry| below(&entry.path()))
        .sum()
}

/// The API as the story uses it.
struct Api(Client);

impl Api {
    fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Told<Value> {
        self.0.call(method, path, &[], body).map_err(|error| format!("{method} {path}: {error}"))
    }
    fn get(&self, path: &str) -> Told<Value> {
        self.call("GET", path, None)
    }
    fn query(&self, path: &str, key: &str, value: &str) -> Told<Value> {
        self.0
            .call("GET", path, &[(key, value)], None)
            .map_err(|error| format!("GET {path}: {error}"))
    }
    fn put(&self, path: &str, body: &Value) -> Told<Value> {
        self.call("PUT", path, Some(body))
    }
    fn post(&self, path: &str, body: &Value) -> Told<Value> {
        self.call("POST", path, Some(body))
    }
    fn delete(&self, path: &str) -> Told<Value> {
        self.call("DELETE", path, None)
    }
    /// `None` where there is nothing at this path.
    fn find(&self, path: &str) -> Told<Option<Value>> {
        match self.0.call("GET", path, &[], None) {
            Ok(found) => Ok(Some(found)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(format!("GET {path}: {error}")),
        }
    }
}

/// Looks again and again until there is something to see.
fn until<T>(what: &str, mut look: impl FnMut() -> Told<Option<T>>) -> Told<T> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look()? {
            return Ok(found);
        }
        if Instant::now() > deadline {
            return Err(format!("{what} did not come to its end"));
        }
        std::thread::sleep(GLANCE);
    }
}

fn text(value: &Value, key: &str) -> String {
    value[key].as_str().unwrap_or_default().to_owned()
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map_or(&[], Vec::as_slice)
}

fn bytes(count: u64) -> String {
    provault_cli::size(i64::try_from(count).unwrap_or(i64::MAX))
}

/// A resource's name for a directory: its own name, as far as names may be.
fn resource_name(path: &Path) -> String {
    let name: String = path
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' })
        .take(56)
        .collect();
    format!("source-{name}")
}

fn moved_away(path: &Path) -> PathBuf {
    path.with_extension("moved-away")
}
