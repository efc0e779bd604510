//! Several servers at once, each with connections of its own. Every race is run for its outcome:
//! whoever wins, what must hold holds.

use std::collections::{BTreeMap, BTreeSet};

use provault_catalog::{Catalog, CatalogError, Change, JobFilter, Page};
use provault_domain::evidence::verify_chain;
use provault_domain::{BackupJob, BackupJobEvent, Tags};
use tokio::task::JoinSet;

use crate::fixture::*;
use crate::points::make;

/// Runs `work` on `n` servers at once and collects what they answer.
pub async fn servers<T, F, W>(w: &World, n: u32, work: W) -> Vec<T>
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
    W: Fn(u32, Catalog) -> F,
{
    let mut running = JoinSet::new();
    for server in 0..n {
        running.spawn(work(server, w.another().await));
    }
    running.join_all().await
}

pub async fn workers_claim_each_job_once(w: &World) {
    for n in 0..40 {
        w.catalog.insert_job(&backup_job(n, n, at(0))).await.unwrap();
    }
    let taken = servers(w, 8, |server, c| async move {
        let (mut mine, owner) = (Vec::new(), format!("worker-{server}"));
        while let Some(taken) = c.claim_job::<BackupJob>(&owner, at(1), at(60)).await.unwrap() {
            assert_eq!(taken.claim.generation, 1);
            mine.push(taken.job.id);
        }
        mine
    })
    .await;
    let all: Vec<String> = taken.into_iter().flatten().collect();
    assert_eq!(all.len(), 40, "each job is claimed");
    assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), 40, "and none twice");
}

/// Workers that claim, run and end jobs of few resources; a shared account of who is at work
/// says whether two ever met.
pub async fn workers_back_up_a_resource_one_at_a_time(w: &World) {
    use std::sync::{Arc, Mutex};
    const JOBS: u32 = 24;
    with_vault(&w.catalog).await;
    for n in 0..JOBS {
        w.catalog.insert_job(&backup_job(n, n % 3, at(i64::from(n)))).await.unwrap();
    }
    let at_work: Arc<Mutex<BTreeMap<String, u32>>> = Arc::default();
    let done = Arc::new(std::sync::atomic::AtomicU32::new(0));
    servers(w, 8, |server, c| {
        let (at_work, done) = (at_work.clone(), done.clone());
        async move {
            let owner = format!("worker-{server}");
            while done.load(std::sync::atomic::Ordering::SeqCst) < JOBS {
                let Some(taken) = c.claim_job::<BackupJob>(&owner, at(100), at(200)).await.unwrap()
                else {
                    tokio::task::yield_now().await;
                    continue;
                };
                let resource = taken.job.resource_arn.to_string();
                let others = at_work.lock().unwrap().insert(resource.clone(), server);
                assert_eq!(others, None, "{resource} is being backed up twice");
                let (id, claim) = (taken.job.id.clone(), Some(&taken.claim));
                let step = |event| {
                    c.step_job::<BackupJob>(&taken.job.account, &id, claim, event, at(101), vec![])
                };
                step(BackupJobEvent::Started).await.unwrap();
                tokio::task::yield_now().await;
                at_work.lock().unwrap().remove(&resource);
                step(BackupJobEvent::Failed { message: "enough".to_owned() }).await.unwrap();
                done.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            }
        }
    })
    .await;
    let left = JobFilter { unfinished_only: true, ..JobFilter::default() };
    let left = w.catalog.list_jobs::<BackupJob>(&left, Page::all()).await.unwrap();
    assert!(left.items.is_empty());
}

pub async fn evidence_stays_one_chain(w: &World) {
    with_vault(&w.catalog).await;
    servers(w, 6, |server, c| async move {
        for round in 0..5 {
            let n = 1 + server * 100 + round;
            c.insert_job(&backup_job(n, n, at(0))).await.unwrap();
            let record = serde_json::json!({ "resource_arn": resource_arn(server), "n": n });
            let changes = vec![
                Change::AppendEvidence(account(), record.clone()),
                Change::AppendEvidence(other_account(), record),
            ];
            let event = BackupJobEvent::Failed { message: "test".to_owned() };
            c.step_job::<BackupJob>(&account(), &uuid(n), None, event, at(1), changes)
                .await
                .unwrap();
        }
    })
    .await;
    for account in [account(), other_account()] {
        let chain = w.catalog.list_evidence(&account).await.unwrap();
        assert_eq!(chain.len(), 30, "no record is lost");
        verify_chain(&chain).unwrap();
        assert_eq!(w.catalog.evidence_after(&account, 0).await.unwrap(), chain);
        assert_eq!(w.catalog.evidence_after(&account, 28).await.unwrap(), chain[28..]);
        assert_eq!(w.catalog.evidence_after(&account, 30).await.unwrap(), []);
    }
    let one = w.catalog.evidence_of_resource(&account(), &resource_arn(3)).await.unwrap();
    assert_eq!(one.len(), 5);
}

pub async fn a_vault_is_deleted_or_gets_its_point(w: &World) {
    let c = &w.catalog;
    c.insert_key(&key()).await.unwrap();
    let other = w.another().await;
    let (mut deleted, mut kept) = (0, 0);
    for n in 1..=20 {
        let name = format!("v{n}");
        c.insert_vault(&vault(&name, at(0)), &Tags::new()).await.unwrap();
        // The job is in another vault, so that only the point can keep this one.
        let mut job = backup_job(n, n, at(0));
        job.vault_name = String::from("elsewhere");
        c.insert_job(&job).await.unwrap();
        let started = BackupJobEvent::Started;
        c.step_job::<BackupJob>(&account(), &uuid(n), None, started, at(1), vec![]).await.unwrap();
        let mut point = point(n, n, at(0));
        point.vault_name.clone_from(&name);
        let changes = vec![Change::InsertRecoveryPoint(Box::new(point), Tags::new())];
        let (account, id) = (account(), uuid(n));
        let (inserted, removed) = tokio::join!(
            c.step_job::<BackupJob>(&account, &id, None, completed(n), at(2), changes),
            other.delete_vault(&account, &name),
        );
        let vault = c.vault(&account, &name).await.unwrap();
        let point = c.recovery_point(&account, &point_arn(n)).await.unwrap();
        match (inserted, removed) {
            (Ok(_), Err(CatalogError::NotEmpty { .. })) => {
                assert!(vault.is_some() && point.is_some());
                kept += 1;
            }
            (Err(CatalogError::NotFound { .. }), Ok(())) => {
                assert!(vault.is_none() && point.is_none());
                deleted += 1;
            }
            (inserted, removed) => panic!("point: {inserted:?}, vault: {removed:?}"),
        }
    }
    assert_eq!(deleted + kept, 20);
}

pub async fn schedules_advance_once_among_servers(w: &World) {
    let p = plan(1, "v1");
    w.catalog.insert_plan(&p, &Tags::new()).await.unwrap();
    let rule = p.rules[0].id.clone();
    let won = servers(w, 8, |server, c| {
        let (plan, rule) = (p.clone(), rule.clone());
        async move {
            let mut won = 0;
            for round in 1..=5 {
                let from = Some(at(round));
                let n = server * 10 + u32::try_from(round).unwrap();
                let jobs = [(backup_job(n, n, at(round)), None)];
                if c.advance_schedule(&plan, &rule, from, at(round + 1), &jobs).await.unwrap() {
                    won += 1;
                }
                while c.schedule_mark(&plan.id, &rule).await.unwrap() < Some(at(round + 1)) {
                    tokio::task::yield_now().await;
                }
            }
            won
        }
    })
    .await;
    assert_eq!(won.into_iter().sum::<u32>(), 5, "each due moment is carried out once");
    let jobs = w.catalog.list_jobs::<BackupJob>(&JobFilter::default(), Page::all()).await.unwrap();
    let moments: Vec<_> = jobs.items.iter().map(|job| job.created_at).collect();
    assert_eq!(moments, [at(1), at(2), at(3), at(4), at(5)]);
}

/// Two servers that expire the same points, while somebody deletes the newest by hand.
pub async fn expiries_and_deletions_at_once_leave_what_should_stay(w: &World) {
    with_vault(&w.catalog).await;
    let now = at(200_000);
    let stands = async |n: u32| {
        let point = w.catalog.recovery_point(&account(), &point_arn(n)).await.unwrap().unwrap();
        point.is_restorable()
    };
    for round in 0..8_u32 {
        let resource = 100 + round;
        for n in 1..=3 {
            make(&w.catalog, round * 10 + n, resource, at(n.into())).await;
        }
        let expire = async |c: Catalog| {
            c.expire_points(&account(), &resource_arn(resource), now).await.unwrap().going.len()
        };
        let (one, two) = tokio::join!(expire(w.another().await), expire(w.another().await));
        assert_eq!((one.min(two), one.max(two)), (0, 2), "one of them does it");
        assert!(stands(round * 10 + 3).await, "the newest stays");

        let newer = round * 10 + 4;
        make(&w.catalog, newer, resource, at(4)).await;
        let (by_hand, other) = (w.another().await, w.another().await);
        let (account, arn) = (account(), point_arn(newer));
        let (deleted, going) = tokio::join!(by_hand.begin_deletion(&account, &arn), expire(other));
        deleted.unwrap();
        // It went only if the newer one was still there to be the reason.
        let old = round * 10 + 3;
        assert_eq!(stands(old).await, going == 0);
        let held = w.catalog.expire_points(&account, &resource_arn(resource), now).await.unwrap();
        assert_eq!(held.going.len(), 0, "what is left stays");
    }
}

pub async fn deliveries_are_claimed_once(w: &World) {
    let c = &w.catalog;
    with_vault(c).await;
    let t = topic("alerts");
    c.insert_topic(&t).await.unwrap();
    for n in 1..=5 {
        c.insert_subscription(&subscription(n, &t)).await.unwrap();
    }
    let setting = notifications(&t, &["BACKUP_JOB_STARTED"]);
    c.set_vault_notifications(&account(), "main", setting).await.unwrap();
    for n in 1..=6 {
        c.insert_job(&backup_job(n, n, at(0))).await.unwrap();
        let started = BackupJobEvent::Started;
        c.step_job::<BackupJob>(&account(), &uuid(n), None, started, at(1), vec![]).await.unwrap();
    }
    let taken = servers(w, 6, |server, c| async move {
        let (mut mine, owner) = (Vec::new(), format!("sender-{server}"));
        loop {
            let some = claim_due(&c, &owner, at(2), at(60), 4).await;
            if some.is_empty() {
                return mine;
            }
            mine.extend(some.into_iter().map(|delivery| delivery.id));
        }
    })
    .await;
    let all: Vec<String> = taken.into_iter().flatten().collect();
    assert_eq!(all.len(), 30);
    assert_eq!(all.into_iter().collect::<BTreeSet<_>>().len(), 30);
}

pub async fn updates_of_a_resource_are_not_lost(w: &World) {
    w.catalog.insert_resource(&resource(1, "notes"), "/srv/notes").await.unwrap();
    servers(w, 6, |server, c| async move {
        for round in 0..4 {
            loop {
                let tag = format!("{server}-{round}");
                let written = c
                    .update_resource(&resource_arn(1), |r| {
                        r.tags.insert(tag, String::new());
                    })
                    .await;
                match written {
                    Ok(_) => break,
                    Err(CatalogError::Conflict { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        }
    })
    .await;
    let tags = w.catalog.resource(&resource_arn(1)).await.unwrap().unwrap().tags;
    assert_eq!(tags.len(), 1 + 24);
}

pub async fn one_of_many_equal_inserts_wins(w: &World) {
    with_vault(&w.catalog).await;
    let won = servers(w, 8, |server, c| async move {
        let job = BackupJob {
            idempotency_token: Some("same".to_owned()),
            ..backup_job(server, server, at(0))
        };
        let job = c.insert_job(&job).await;
        let vault = c.insert_vault(&vault("same", at(1)), &Tags::new()).await;
        let resource = c.insert_resource(&resource(server, "same"), &format!("/{server}")).await;
        [job, vault, resource].map(|outcome| match outcome {
            Ok(()) => 1,
            Err(CatalogError::AlreadyExists { .. }) => 0,
            Err(error) => panic!("{error}"),
        })
    })
    .await;
    let sums = won.into_iter().fold([0; 3], |a, b| [a[0] + b[0], a[1] + b[1], a[2] + b[2]]);
    assert_eq!(sums, [1, 1, 1], "job, vault, resource");
}

/// Several servers start on an empty database together; one makes the schema.
pub async fn servers_may_open_a_catalog_together(w: &World) {
    let url = if let Some(file) = w.url.strip_prefix("sqlite:") {
        format!("sqlite:{file}.fresh")
    } else {
        fresh_schema(&w.url).await
    };
    let mut running = JoinSet::new();
    for n in 0..6 {
        let url = url.clone();
        running.spawn(async move {
            let c = Catalog::open(&url).await.unwrap_or_else(|error| panic!("{error}"));
            c.put_setting_if_absent("secret", &format!("from-{n}")).await.unwrap()
        });
    }
    let secrets: BTreeSet<String> = running.join_all().await.into_iter().collect();
    assert_eq!(secrets.len(), 1, "all use the same secret: {secrets:?}");
}

/// An empty schema in the same `PostgreSQL` database, as the URL of a catalog.
async fn fresh_schema(url: &str) -> String {
    let pool = sqlx::AnyPool::connect(url).await.unwrap();
    sqlx::raw_sql("CREATE SCHEMA fresh").execute(&pool).await.unwrap();
    pool.close().await;
    format!("{url}&options=-c%20search_path%3Dfresh")
}

/// Operations are futures that a server drops when its client goes away.
pub async fn dropped_operations_leave_the_catalog_usable(w: &World) {
    let c = &w.catalog;
    for n in 0..50_u32 {
        let job = backup_job(n, n, at(0));
        let (insert, setting) = (c.insert_job(&job), c.setting("x"));
        // The read ends first most of the time and the insertion is dropped wherever it is.
        tokio::select! {
            inserted = insert => inserted.unwrap(),
            read = setting => { read.unwrap(); }
        }
    }
    c.insert_job(&backup_job(1000, 1000, at(0))).await.unwrap();
    assert!(c.job::<BackupJob>(&account(), &uuid(1000)).await.unwrap().is_some());
}
