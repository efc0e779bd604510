//! How the service does with much of everything; `docs/benchmarks-service.md` has what it printed.
//!
//! * `service_scale match DIRECTORY RESOURCES PLANS`: which resources each plan selects;
//! * `service_scale page DIRECTORY JOBS`: pages of the list of backup jobs, by HTTP;
//! * `service_scale year DIRECTORY RESOURCES DAYS`: a year of schedules, retention and absence, with
//!   downtimes, in simulated time. Nothing but the reading of data is left out. It fails when an occurrence
//!   is neither carried out nor told.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::error::Error;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use provault_app::{App, Settings, Setup};
use provault_catalog::{Catalog, Change, DueJob, JobFilter, Page, PointFilter};
use provault_domain::backup_job::{BackupResult, CreatedBy};
use provault_domain::{
    Arn, Assignment, BackupJob, BackupJobEvent, BackupJobState, BackupPlan, BackupRule,
    BackupSelection, BackupVault, Kind, Lifecycle, Payload, RecoveryPoint, RecoveryPointStatus,
    Resource, RetentionSettings, Tags, cron, role, selection, vault,
};
use provault_driver_filesystem::FilesystemDriver;
use provault_engine::{Clock, Engine, Parts, StorageOptions};
use provault_iam::{CredentialsFile, SignedRequest, sign};
use provault_proof::HelperCommand;
use provault_server::{Server, ServerOptions};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

type Done<T = ()> = Result<T, Box<dyn Error>>;

fn main() -> Done {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        match args.as_slice() {
            ["match", directory, resources, plans] => {
                matching(Path::new(directory), resources.parse()?, plans.parse()?).await
            }
            ["page", directory, jobs] => paging(Path::new(directory), jobs.parse()?).await,
            ["year", directory, resources, days] => {
                year(Path::new(directory), resources.parse()?, days.parse()?).await
            }
            _ => Err("match DIRECTORY RESOURCES PLANS | page DIRECTORY JOBS | year DIRECTORY RESOURCES DAYS".into()),
        }
    })
}

/// A clock that stands until it is moved, at the present when nothing is said.
struct StandingClock(Mutex<(Timestamp, Duration)>);

impl StandingClock {
    fn at(now: Timestamp) -> Arc<Self> {
        Arc::new(Self(Mutex::new((now, Duration::ZERO))))
    }

    fn advance(&self, by: SignedDuration) {
        let mut time = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        time.0 += by;
        time.1 += by.unsigned_abs();
    }
}

impl Clock for StandingClock {
    fn now(&self) -> Timestamp {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).0
    }
    fn monotonic(&self) -> Duration {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).1
    }
}

struct World {
    app: App,
    clock: Arc<StandingClock>,
    vault: BackupVault,
}

impl World {
    async fn new(directory: &Path, now: Timestamp) -> Done<Self> {
        let clock = StandingClock::at(now);
        let url = format!("sqlite:{}", directory.join("catalog.db").display());
        let engine = Engine::new(Parts {
            catalog: Catalog::open(&url).await?,
            data_dir: directory.to_owned(),
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            drivers: vec![Arc::new(FilesystemDriver::new())],
            helper: HelperCommand::new("/nonexistent", ["none"]),
            hostname: "scale".to_owned(),
            storage: StorageOptions::default(),
            vault_storage: None,
            command_subscriptions: false,
            tests: provault_engine::TestLimits::default(),
            at_work: Arc::default(),
        })?;
        let setup = Setup {
            engine,
            data_dir: directory.to_owned(),
            account: None,
            region: None,
            settings: Settings::default(),
        };
        let app = App::open(setup).await?;
        let vault = app.engine().catalog().vault(app.account(), vault::DEFAULT_VAULT).await?;
        Ok(Self { vault: vault.ok_or("no default vault")?, app, clock })
    }

    fn catalog(&self) -> &Catalog {
        self.app.engine().catalog()
    }

    /// A resource that nobody reads.
    async fn resource(&self, n: usize, tags: Tags) -> Done<Resource> {
        let (region, account) = (self.app.region(), self.app.account());
        let resource = Resource {
            arn: Arn::resource_of(Kind::Filesystem, region, account, &format!("{n:017x}")),
            account: account.clone(),
            region: region.clone(),
            kind: Kind::Filesystem,
            name: format!("resource-{n}"),
            config: serde_json::json!({ "path": format!("/srv/resource-{n}") }),
            tags,
            service: None,
            probes: Vec::new(),
            rpo_seconds: None,
            rto_seconds: None,
            testing: None,
            retention: RetentionSettings::default(),
            created_at: self.clock.now(),
            imported: false,
        };
        self.catalog().insert_resource(&resource, &format!("/srv/resource-{n}")).await?;
        Ok(resource)
    }

    /// A plan of one rule for the resources with the tag `group = NAME`.
    async fn plan(
        &self,
        name: &str,
        schedule: &str,
        days: i64,
    ) -> Done<(BackupPlan, BackupSelection)> {
        let (region, account) = (self.app.region(), self.app.account());
        let id = uuid::Uuid::new_v4().to_string();
        let plan = BackupPlan {
            arn: Arn::backup_plan(region, account, &id),
            id: id.clone(),
            account: account.clone(),
            name: name.to_owned(),
            version_id: "v1".to_owned(),
            rules: vec![BackupRule {
                id: format!("rule-{id}"),
                name: name.to_owned(),
                target_vault: self.vault.name.clone(),
                schedule: cron::CronExpression::parse(schedule)?,
                timezone: "Etc/UTC".to_owned(),
                start_window_minutes: 60,
                completion_window_minutes: 180,
                lifecycle: Lifecycle { delete_after_days: Some(days), ..Lifecycle::default() },
                recovery_point_tags: Tags::new(),
                since: None,
            }],
            creator_request_id: None,
            created_at: self.clock.now(),
            deleted_at: None,
            last_execution_at: None,
        };
        self.catalog().insert_plan(&plan, &Tags::new()).await?;
        let selection = BackupSelection {
            id: uuid::Uuid::new_v4().to_string(),
            account: account.clone(),
            plan_id: id,
            name: name.to_owned(),
            role_arn: Arn::role(account, role::DEFAULT_ROLE),
            resources: Vec::new(),
            not_resources: Vec::new(),
            list_of_tags: vec![selection::TagCondition { key: "group".into(), value: name.into() }],
            conditions: selection::Conditions::default(),
            creator_request_id: None,
            created_at: self.clock.now(),
        };
        self.catalog().insert_selection(&selection).await?;
        Ok((plan, selection))
    }

    fn job(&self, plan: &BackupPlan, resource: &Resource, at: Timestamp) -> BackupJob {
        BackupJob {
            id: uuid::Uuid::new_v4().to_string(),
            account: plan.account.clone(),
            region: resource.region.clone(),
            vault_name: self.vault.name.clone(),
            vault_arn: self.vault.arn.clone(),
            resource_arn: resource.arn.clone(),
            resource_name: resource.name.clone(),
            kind: resource.kind,
            role_arn: Arn::role(&plan.account, role::DEFAULT_ROLE),
            lifecycle: Lifecycle::default(),
            recovery_point_tags: Tags::new(),
            created_by: Some(CreatedBy {
                plan_id: plan.id.clone(),
                plan_arn: plan.arn.clone(),
                plan_name: plan.name.clone(),
                plan_version: plan.version_id.clone(),
                rule_id: plan.rules[0].id.clone(),
                rule_name: plan.rules[0].name.clone(),
                rule_cron: plan.rules[0].schedule.to_string(),
                rule_timezone: "Etc/UTC".to_owned(),
                selection_id: None,
            }),
            idempotency_token: None,
            created_at: at,
            start_by: at,
            completion_window_minutes: 180,
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
}

fn group(name: &str) -> Tags {
    [("group".to_owned(), name.to_owned()), ("owner".to_owned(), "team".to_owned())].into()
}

/// Memory of this process, in MiB.
fn resident() -> Done<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").trim().parse::<u64>()? / 1024)
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

/// What the scheduler does when all plans are due at once: read everything, and match.
async fn matching(directory: &Path, resources: usize, plans: usize) -> Done {
    let world = World::new(directory, "2026-01-01T00:00:00Z".parse()?).await?;
    for n in 0..resources {
        world.resource(n, group(&format!("group-{}", n % plans))).await?;
    }
    let mut made = Vec::new();
    for n in 0..plans {
        made.push(world.plan(&format!("group-{n}"), "cron(0 5 ? * * *)", 7).await?);
    }
    let mut times = Vec::new();
    for _ in 0..5 {
        let began = Instant::now();
        let all = world.catalog().assignable_resources(world.app.account()).await?;
        let read = began.elapsed();
        let all = Assignment::of(all);
        let mut matched = 0;
        for (plan, _) in &made {
            let page =
                world.catalog().list_selections(&plan.account, &plan.id, Page::all()).await?;
            matched += all.matched(&page.items).len();
        }
        if matched != resources {
            return Err(format!("{matched} of {resources} were matched").into());
        }
        println!(
            "{resources} resources, {plans} plans: {:?}, of which reading {read:?}",
            began.elapsed()
        );
        times.push(began.elapsed());
    }
    println!("median {:?}, {} MiB resident", median(times), resident()?);
    Ok(())
}

async fn paging(directory: &Path, jobs: usize) -> Done {
    const AT_ONCE: usize = 2000;
    let start: Timestamp = "2026-01-01T00:00:00Z".parse()?;
    let world = World::new(directory, start).await?;
    let (plan, _) = world.plan("all", "cron(0 5 ? * * *)", 7).await?;
    let mut resources = Vec::new();
    for n in 0..100 {
        resources.push(world.resource(n, group("none")).await?);
    }
    // Making a plan sets its mark.
    let mut mark = start;
    for batch in 0..jobs / AT_ONCE {
        let due: Vec<DueJob> = (0..AT_ONCE)
            .map(|n| {
                let n = batch * AT_ONCE + n;
                let at = start + SignedDuration::from_secs(i64::try_from(n)?);
                let closed = Some(BackupJobEvent::StartWindowClosed);
                Ok((world.job(&plan, &resources[n % 100], at), closed))
            })
            .collect::<Done<_>>()?;
        let now = start + SignedDuration::from_secs(i64::try_from(batch + 1)?);
        if !world
            .catalog()
            .advance_schedule(&plan, &plan.rules[0].id, Some(mark), now, &due)
            .await?
        {
            return Err("somebody else moved the mark".into());
        }
        mark = now;
    }
    let server =
        Server::bind(world.app.clone(), "127.0.0.1:0".parse()?, ServerOptions::default()).await?;
    let address = server.local_addr();
    tokio::spawn(server.serve(std::future::pending()));
    let credentials = CredentialsFile::load(world.app.credentials_path())?.profile("default")?;
    let ask = async |target: &str| -> Done<(Duration, serde_json::Value)> {
        let (raw_path, raw_query) = target.split_once('?').unwrap_or((target, ""));
        let mut headers = http::HeaderMap::new();
        headers.insert("host", address.to_string().parse()?);
        let method = http::Method::GET;
        let request =
            SignedRequest { method: &method, raw_path, raw_query, headers: &headers, body: b"" };
        // The server's clock stands.
        let signed = sign(&request, &credentials, world.app.region().as_str(), world.clock.now())?;
        headers.extend(signed);
        let mut head = format!("GET {target} HTTP/1.1\r\nconnection: close\r\n");
        for (name, value) in &headers {
            write!(head, "{name}: {}\r\n", value.to_str()?)?;
        }
        head += "\r\n";
        let began = Instant::now();
        let mut stream = tokio::net::TcpStream::connect(address).await?;
        stream.write_all(head.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        let took = began.elapsed();
        let text = String::from_utf8(answer)?;
        let (head, body) = text.split_once("\r\n\r\n").ok_or("no body")?;
        if !head.starts_with("HTTP/1.1 200") {
            return Err(format!("{head}\n{body}").into());
        }
        Ok((took, serde_json::from_str(body)?))
    };
    let middle = start + SignedDuration::from_secs(i64::try_from(jobs / 2)?);
    let (_, first) = ask("/backup-jobs/?maxResults=1000").await?;
    let token = first["NextToken"].as_str().ok_or("no further page")?;
    for (what, target) in [
        ("first page of 1000", "/backup-jobs/?maxResults=1000".to_owned()),
        ("second page of 1000", format!("/backup-jobs/?maxResults=1000&nextToken={token}")),
        (
            "page of 1000 in the middle",
            format!(
                "/backup-jobs/?createdAfter={}&maxResults=1000",
                middle.to_string().replace(':', "%3A")
            ),
        ),
        ("page of 100", "/backup-jobs/?maxResults=100".to_owned()),
        ("page of 1000 of a state", "/backup-jobs/?maxResults=1000&state=EXPIRED".to_owned()),
        ("page of a state that none has", "/backup-jobs/?state=COMPLETED".to_owned()),
        (
            "page of 1000 of a resource",
            format!(
                "/backup-jobs/?maxResults=1000&resourceArn={}",
                resources[7].arn.as_str().replace(':', "%3A").replace('/', "%2F")
            ),
        ),
    ] {
        let mut times = Vec::new();
        let mut rows = 0;
        for _ in 0..15 {
            let (took, answer) = ask(&target).await?;
            rows = answer["BackupJobs"].as_array().map_or(0, Vec::len);
            times.push(took);
        }
        println!("{what}: {rows} rows, median {:?}", median(times));
    }
    println!("{} MiB resident", resident()?);
    Ok(())
}

async fn year(directory: &Path, resources: usize, days: i64) -> Done {
    let start: Timestamp = "2026-01-01T00:00:00Z".parse()?;
    let world = World::new(directory, start).await?;
    // One in ten every six hours, half every day, the others every week.
    let rules = [
        ("often", "cron(0 0/6 ? * * *)", 2),
        ("daily", "cron(0 5 ? * * *)", 7),
        ("weekly", "cron(0 3 ? * 1 *)", 30),
    ];
    let mut plans = BTreeMap::new();
    for (name, schedule, kept) in rules {
        plans.insert(name, world.plan(name, schedule, kept).await?.0);
    }
    let mut of: HashMap<Arn, (u32, &str)> = HashMap::new();
    for n in 0..resources {
        let name = match n % 10 {
            0 => "often",
            1..=5 => "daily",
            _ => "weekly",
        };
        of.insert(world.resource(n, group(name)).await?.arn, (u32::try_from(n)?, name));
    }
    let began = Instant::now();
    let (mut hour, mut peak, mut first) = (0, 0, None);
    let mut done = HashSet::new();
    let mut missed = 0_u64;
    while hour < days * 24 {
        // Off for nine days in spring, for a weekend in autumn, and for five hours every thirtieth day.
        let by = match hour {
            h if h == 100 * 24 => 9 * 24,
            h if h == 250 * 24 + 5 => 2 * 24,
            h if h % (30 * 24) == 3 => 5,
            _ => 1,
        };
        hour += by;
        let since = world.clock.now();
        world.clock.advance(SignedDuration::from_hours(by));
        world.app.engine().look_at_the_time().await?;
        missed += run_jobs(&world, &mut done, since, &of).await?;
        world.app.engine().look_for_absence().await?;
        if hour % (24 * 30) < by {
            let points =
                world.catalog().list_recovery_points(&PointFilter::default(), Page::all()).await?;
            let now = resident()?;
            first.get_or_insert(now);
            peak = peak.max(now);
            println!(
                "day {:3}: {} occurrences accounted for, {} recovery points, {now} MiB, {:?}",
                hour / 24,
                done.len(),
                points.items.len(),
                began.elapsed()
            );
        }
    }
    // Every occurrence of every resource's rule.
    let now = start + SignedDuration::from_hours(hour);
    let (mut unreported, mut expected) = (0_u64, 0_u64);
    for (n, name) in of.values() {
        let rule = &plans[name].rules[0];
        let zone = jiff::tz::TimeZone::UTC;
        for at in rule.schedule.occurrences_between(start, now, &zone) {
            expected += 1;
            unreported += u64::from(!done.contains(&(*n, at.as_second())));
        }
    }
    // Those that a job tells of by their number have none of their own.
    println!(
        "{expected} occurrences, {} with a job, {missed} told of by another's job",
        expected - unreported
    );
    println!(
        "memory: {} MiB after a month, {peak} MiB at most; {:?} in all",
        first.unwrap_or_default(),
        began.elapsed()
    );
    if unreported != missed {
        return Err(
            format!("{unreported} occurrences have no job, and {missed} are told of").into()
        );
    }
    Ok(())
}

/// Completes every job that waits, notes those of the occurrences since then, and says how many
/// occurrences without a job of their own they tell of.
async fn run_jobs(
    world: &World,
    done: &mut HashSet<(u32, i64)>,
    since: Timestamp,
    of: &HashMap<Arn, (u32, &str)>,
) -> Done<u64> {
    let (catalog, now) = (world.catalog(), world.clock.now());
    let mut missed = 0;
    let open = JobFilter { unfinished_only: true, ..JobFilter::default() };
    for job in catalog.list_jobs::<BackupJob>(&open, Page::all()).await?.items {
        let point = point(world, &job, now);
        let result = BackupResult {
            recovery_point_arn: point.arn.clone(),
            backup_size_bytes: 1000,
            bytes_transferred: 1000,
            bytes_stored: 10,
            skipped: Vec::new(),
            message: None,
        };
        let enter = vec![Change::InsertRecoveryPoint(Box::new(point), Tags::new())];
        let started = BackupJobEvent::Started;
        catalog
            .step_job::<BackupJob>(&job.account, &job.id, None, started, now, Vec::new())
            .await?;
        let completed = BackupJobEvent::Completed(Box::new(result));
        catalog.step_job::<BackupJob>(&job.account, &job.id, None, completed, now, enter).await?;
    }
    let after = since + SignedDuration::from_micros(1);
    let new = JobFilter { created_after: Some(after), ..JobFilter::default() };
    for job in catalog.list_jobs::<BackupJob>(&new, Page::all()).await?.items {
        if !job.state.is_final() {
            return Err(format!("{} is {}", job.id, job.state).into());
        }
        let told =
            job.status_message.as_deref().and_then(|text| text.split_once(" scheduled backups"));
        if let Some((number, _)) = told {
            // It stands for itself and those before it.
            missed += number.parse::<u64>()? - 1;
        }
        if !done.insert((of[&job.resource_arn].0, job.created_at.as_second())) {
            return Err(
                format!("{} at {} was done twice", job.resource_name, job.created_at).into()
            );
        }
    }
    Ok(missed)
}

fn point(world: &World, job: &BackupJob, now: Timestamp) -> RecoveryPoint {
    RecoveryPoint {
        arn: Arn::recovery_point(&job.region, &job.account, &job.id),
        account: job.account.clone(),
        region: job.region.clone(),
        vault_name: job.vault_name.clone(),
        vault_arn: job.vault_arn.clone(),
        resource_arn: job.resource_arn.clone(),
        resource_name: job.resource_name.clone(),
        kind: job.kind,
        backup_job_id: job.id.clone(),
        role_arn: job.role_arn.clone(),
        created_by: job.created_by.clone(),
        encryption_key_arn: world.vault.encryption_key_arn.clone(),
        status: RecoveryPointStatus::Completed,
        status_message: None,
        captured_at: now,
        created_at: job.created_at.max(now),
        completed_at: now,
        backup_size_bytes: 1000,
        lifecycle: job.lifecycle,
        payload: Payload::Stored {
            snapshot_id: job.id.replace('-', "").repeat(2),
            tree_path: "source".to_owned(),
            bytes_stored: 10,
            files: 10,
        },
        restore_metadata: BTreeMap::new(),
        last_restore_at: None,
        last_verdict: None,
        condition: None,
        shrunk: None,
        hold: None,
    }
}
