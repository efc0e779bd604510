//! Jobs: found, claimed, fenced, taken over.

use provault_catalog::{Catalog, CatalogError, Claim, JobFilter, Page};
use provault_domain::{
    Arn, BackupJob, BackupJobEvent, RestoreJob, RestoreJobEvent, RestoreTest, StepRecord,
};

use crate::fixture::*;
use crate::nouns::refused;

async fn found(c: &Catalog, filter: JobFilter) -> Vec<String> {
    let listed = c.list_jobs::<BackupJob>(&filter, Page::all()).await.unwrap();
    listed.items.into_iter().map(|job| job.id).collect()
}

async fn step(c: &Catalog, n: u32, claim: Option<&Claim>, event: BackupJobEvent) -> BackupJob {
    c.step_job(&account(), &uuid(n), claim, event, at(100 + i64::from(n)), vec![]).await.unwrap()
}

fn failed() -> BackupJobEvent {
    BackupJobEvent::Failed { message: "the disk is full.".to_owned() }
}

pub async fn jobs_are_found_by_every_filter(w: &World) {
    let c = &w.catalog;
    with_vault(c).await;
    for (n, of, created) in [(1, 1, 10), (2, 2, 10), (3, 1, 5)] {
        let mut job = backup_job(n, of, at(created));
        if n == 2 {
            job.vault_name = String::from("other");
        }
        c.insert_job(&job).await.unwrap();
    }
    refused!(c.insert_job(&backup_job(1, 9, at(0))), CatalogError::AlreadyExists { .. });
    step(c, 3, None, BackupJobEvent::Started).await;
    step(c, 1, None, failed()).await;

    let mine = JobFilter { account: Some(account()), ..JobFilter::default() };
    let with = |f: &dyn Fn(&mut JobFilter)| {
        let mut filter = mine.clone();
        f(&mut filter);
        filter
    };
    let id = uuid;
    assert_eq!(found(c, mine.clone()).await, [id(3), id(1), id(2)], "by moment, then by id");
    assert_eq!(found(c, JobFilter::default()).await.len(), 3);
    let states = |names: &[&str]| names.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
    assert_eq!(found(c, with(&|f| f.states = states(&["RUNNING"]))).await, [id(3)]);
    let two = with(&|f| f.states = states(&["FAILED", "CREATED"]));
    assert_eq!(found(c, two).await, [id(1), id(2)]);
    assert_eq!(found(c, with(&|f| f.unfinished_only = true)).await, [id(3), id(2)]);
    assert_eq!(found(c, with(&|f| f.resource_arn = Some(resource_arn(1)))).await, [id(3), id(1)]);
    assert_eq!(found(c, with(&|f| f.vault_name = Some("other".to_owned()))).await, [id(2)]);
    assert_eq!(found(c, with(&|f| f.created_after = Some(at(10)))).await, [id(1), id(2)]);
    assert_eq!(found(c, with(&|f| f.created_before = Some(at(9)))).await, [id(3)]);
    assert_eq!(found(c, with(&|f| f.completed_after = Some(at(101)))).await, [id(1)]);
    assert_eq!(found(c, with(&|f| f.completed_after = Some(at(102)))).await, Vec::<String>::new());
    assert_eq!(found(c, with(&|f| f.completed_before = Some(at(101)))).await, [id(1)]);
    assert_eq!(found(c, with(&|f| f.account = Some(other_account()))).await, Vec::<String>::new());

    c.insert_job(&restore_job(4, None)).await.unwrap();
    let of_point = with(&|f| f.recovery_point_arn = Some(point_arn(1)));
    let restores = c.list_jobs::<RestoreJob>(&of_point, Page::all()).await.unwrap();
    assert_eq!(restores.items, [restore_job(4, None)]);
    assert_eq!(c.job::<BackupJob>(&account(), &id(4)).await.unwrap(), None, "types are apart");
    assert_eq!(c.job::<BackupJob>(&other_account(), &id(1)).await.unwrap(), None);
}

pub async fn tokens_are_unique_by_account_and_type(w: &World) {
    let c = &w.catalog;
    let token = Some("token".to_owned());
    let first = BackupJob { idempotency_token: token.clone(), ..backup_job(1, 1, at(0)) };
    c.insert_job(&first).await.unwrap();
    let again = BackupJob { id: uuid(2), ..first.clone() };
    refused!(c.insert_job(&again), CatalogError::AlreadyExists { .. });
    let found = c.job_by_token::<BackupJob>(&account(), "token").await.unwrap();
    assert_eq!(found, Some(first));
    assert_eq!(c.job_by_token::<RestoreJob>(&account(), "token").await.unwrap(), None);
    let restore = RestoreJob { idempotency_token: token, ..restore_job(3, None) };
    c.insert_job(&restore).await.unwrap();
    c.insert_job(&BackupJob { account: other_account(), ..again }).await.unwrap();
}

pub async fn the_oldest_waiting_job_is_claimed_first(w: &World) {
    let c = &w.catalog;
    for (n, created) in [(1, 30), (2, 10), (3, 20)] {
        c.insert_job(&backup_job(n, n, at(created))).await.unwrap();
    }
    for expected in [2, 3, 1] {
        let taken = c.claim_job::<BackupJob>("w", at(40), at(50)).await.unwrap().unwrap();
        assert_eq!(taken.job.id, uuid(expected));
        assert_eq!(taken.job.state.as_str(), "CREATED", "a claim does not change the state");
        assert_eq!((taken.claim.owner.as_str(), taken.claim.generation), ("w", 1));
    }
    assert_eq!(c.claim_job::<BackupJob>("w", at(40), at(50)).await.unwrap(), None);
    assert_eq!(c.claim_job::<RestoreTest>("w", at(40), at(50)).await.unwrap(), None);
    c.insert_job(&restore_test(9)).await.unwrap();
    let test = c.claim_job::<RestoreTest>("w", at(40), at(50)).await.unwrap().unwrap();
    assert_eq!(test.job.id, uuid(9));
}

pub async fn one_backup_of_a_resource_at_a_time(w: &World) {
    let c = &w.catalog;
    with_vault(c).await;
    for (n, of) in [(1, 1), (2, 1), (3, 2)] {
        c.insert_job(&backup_job(n, of, at(i64::from(n)))).await.unwrap();
    }
    let claim = |owner: &'static str, now| async move {
        c.claim_job::<BackupJob>(owner, at(now), at(now + 10)).await.unwrap()
    };
    let first = claim("a", 10).await.unwrap();
    assert_eq!(first.job.id, uuid(1));
    assert_eq!(claim("b", 10).await.unwrap().job.id, uuid(3), "job 2 waits for its resource");
    assert_eq!(claim("c", 10).await, None);
    let by_id = c.claim_job_by_id::<BackupJob>(&uuid(2), "c", at(10), at(20)).await.unwrap();
    assert_eq!(by_id, None);
    // Running without a live lease it still has the resource: a worker may only be slow.
    step(c, 1, Some(&first.claim), BackupJobEvent::Started).await;
    let late = c.claim_job::<BackupJob>("c", at(15), at(25)).await.unwrap();
    assert_eq!(late, None);
    refused!(
        c.step_job::<BackupJob>(
            &account(),
            &uuid(2),
            None,
            BackupJobEvent::Started,
            at(16),
            vec![],
        ),
        CatalogError::NotEmpty { .. }
    );
    assert_eq!(
        c.claim_job_by_id::<BackupJob>(&uuid(2), "c", at(500), at(600)).await.unwrap(),
        None
    );
    step(c, 1, Some(&first.claim), failed()).await;
    assert_eq!(claim("c", 17).await.unwrap().job.id, uuid(2));
}

pub async fn a_restore_of_a_test_is_claimed_by_its_test_alone(w: &World) {
    let c = &w.catalog;
    c.insert_job(&restore_job(1, Some("token"))).await.unwrap();
    c.insert_job(&restore_job(2, None)).await.unwrap();
    let taken = c.claim_job::<RestoreJob>("w", at(5), at(9)).await.unwrap().unwrap();
    assert_eq!(taken.job.id, uuid(2), "the operator's own");
    assert_eq!(c.claim_job::<RestoreJob>("w", at(5), at(9)).await.unwrap(), None);
    let own = c.claim_job_by_id::<RestoreJob>(&uuid(1), "test", at(5), at(9)).await.unwrap();
    let own = own.unwrap();
    assert_eq!(c.claim_job_by_id::<RestoreJob>(&uuid(1), "x", at(6), at(9)).await.unwrap(), None);
    // After its end the test still validates and deletes under the same claim.
    for event in [
        RestoreJobEvent::Started,
        RestoreJobEvent::Completed {
            created_resource_arn: None::<Arn>,
            bytes_restored: 10,
            message: None,
        },
        RestoreJobEvent::Validated {
            status: provault_domain::restore_job::ValidationStatus::Successful,
            message: "passed".to_owned(),
        },
    ] {
        c.step_job::<RestoreJob>(&account(), &uuid(1), Some(&own.claim), event, at(6), vec![])
            .await
            .unwrap();
    }
    refused!(c.renew_lease(&own.claim, at(7), at(20)), CatalogError::Fenced { .. });
    assert_eq!(
        c.claim_job_by_id::<RestoreJob>(&uuid(1), "x", at(99), at(100)).await.unwrap(),
        None
    );
}

pub async fn a_stale_worker_is_fenced(w: &World) {
    let c = &w.catalog;
    with_vault(c).await;
    c.insert_job(&backup_job(1, 1, at(0))).await.unwrap();
    let stale = c.claim_job::<BackupJob>("old", at(1), at(10)).await.unwrap().unwrap().claim;
    step(c, 1, Some(&stale), BackupJobEvent::Started).await;
    let fresh = c.claim_job_by_id::<BackupJob>(&uuid(1), "new", at(10), at(20)).await.unwrap();
    let fresh = fresh.unwrap();
    assert_eq!(fresh.claim.generation, stale.generation + 1);
    assert_eq!(fresh.job.state.as_str(), "RUNNING");

    let log = c.job_log(&account(), &uuid(1)).await.unwrap();
    refused!(
        c.step_job::<BackupJob>(&account(), &uuid(1), Some(&stale), failed(), at(11), vec![],),
        CatalogError::Fenced { .. }
    );
    refused!(c.renew_lease(&stale, at(11), at(30)), CatalogError::Fenced { .. });
    let record = StepRecord {
        name: "capture".to_owned(),
        started_at: at(11),
        millis: 1500,
        ok: true,
        detail: "10 files".to_owned(),
    };
    refused!(c.log_step(&uuid(1), Some(&stale), &record), CatalogError::Fenced { .. });
    // The same worker under its old claim is stale as well.
    let own = Claim { owner: "new".to_owned(), ..stale.clone() };
    refused!(c.renew_lease(&own, at(11), at(30)), CatalogError::Fenced { .. });
    assert_eq!(c.job_log(&account(), &uuid(1)).await.unwrap(), log, "nothing was written");

    c.renew_lease(&fresh.claim, at(12), at(30)).await.unwrap();
    refused!(c.renew_lease(&fresh.claim, at(12), at(12)), CatalogError::Conflict { .. });
    c.log_step(&uuid(1), Some(&fresh.claim), &record).await.unwrap();
    let log = c.job_log(&account(), &uuid(1)).await.unwrap();
    let seqs: Vec<_> = log.iter().map(|line| line.seq).collect();
    assert_eq!(seqs, [1, 2]);
    assert_eq!(log[0].state.as_deref(), Some("RUNNING"));
    assert_eq!(log[1].step.as_ref(), Some(&record));
    assert_eq!(log[1].at, at(11) + jiff::SignedDuration::from_millis(1500));
    assert_eq!(c.job_log(&other_account(), &uuid(1)).await.unwrap(), []);
    step(c, 1, Some(&fresh.claim), failed()).await;
}

pub async fn a_lease_that_ran_out_is_taken_over(w: &World) {
    let c = &w.catalog;
    with_vault(c).await;
    c.insert_job(&backup_job(1, 1, at(0))).await.unwrap();
    let dead = c.claim_job::<BackupJob>("dead", at(1), at(10)).await.unwrap().unwrap().claim;
    assert_eq!(c.claim_job::<BackupJob>("next", at(9), at(20)).await.unwrap(), None);
    assert_eq!(c.abandoned_jobs::<BackupJob>(at(50)).await.unwrap(), [], "it still waits");
    // It died before it began: the job is still waiting, so anybody may take it from the queue.
    let next = c.claim_job::<BackupJob>("next", at(10), at(20)).await.unwrap().unwrap();
    refused!(c.renew_lease(&dead, at(10), at(20)), CatalogError::Fenced { .. });
    step(c, 1, Some(&next.claim), BackupJobEvent::Started).await;
    // It died at work: the queue leaves it alone, reconcilers see it.
    assert_eq!(c.abandoned_jobs::<BackupJob>(at(19)).await.unwrap(), []);
    assert_eq!(c.claim_job::<BackupJob>("x", at(30), at(40)).await.unwrap(), None);
    let abandoned = c.abandoned_jobs::<BackupJob>(at(20)).await.unwrap();
    assert_eq!(abandoned.iter().map(|job| &*job.id).collect::<Vec<_>>(), [&*uuid(1)]);
    // Late, but nobody took it: the worker may go on.
    c.renew_lease(&next.claim, at(25), at(60)).await.unwrap();
    assert_eq!(c.abandoned_jobs::<BackupJob>(at(30)).await.unwrap(), []);
    step(c, 1, Some(&next.claim), failed()).await;
    assert_eq!(c.abandoned_jobs::<BackupJob>(at(99)).await.unwrap(), []);
    assert_eq!(c.claim_job_by_id::<BackupJob>(&uuid(1), "x", at(99), at(100)).await.unwrap(), None);
}

pub async fn leases_of_an_earlier_process_are_void(w: &World) {
    let c = &w.catalog;
    with_vault(c).await;
    for n in 1..=3 {
        c.insert_job(&backup_job(n, n, at(0))).await.unwrap();
    }
    let old = c.claim_job::<BackupJob>("before", at(1), at(1000)).await.unwrap().unwrap().claim;
    step(c, 1, Some(&old), BackupJobEvent::Started).await;
    c.claim_job::<BackupJob>("before", at(1), at(1000)).await.unwrap().unwrap();
    let mine = c.claim_job::<BackupJob>("now", at(1), at(1000)).await.unwrap().unwrap().claim;
    assert_eq!(c.release_leases_of_others("now").await.unwrap(), 2);
    c.renew_lease(&mine, at(2), at(1000)).await.unwrap();
    refused!(c.renew_lease(&old, at(2), at(1000)), CatalogError::Fenced { .. });
    let abandoned = c.abandoned_jobs::<BackupJob>(at(2)).await.unwrap();
    assert_eq!(abandoned.iter().map(|job| &*job.id).collect::<Vec<_>>(), [&*uuid(1)]);
    let again = c.claim_job::<BackupJob>("now", at(2), at(1000)).await.unwrap().unwrap();
    assert_eq!(again.job.id, uuid(2));
    assert_eq!(c.release_leases_of_others("now").await.unwrap(), 0);
}
