//! What reconcilers make of a state that a crash left. Real crashes are tried end to end.

use std::sync::Arc;

use jiff::SignedDuration;
use provault_domain::*;
use provault_engine::Clock;
use provault_repository::{LocalStorage, Options, Password, Repository};

use crate::care::files_below;
use crate::support::World;

#[tokio::test(flavor = "multi_thread")]
async fn a_job_without_a_worker_is_run_again() {
    let world = World::new("2026-03-01T12:00:00Z").await;
    let job = world.backup_job();
    let catalog = world.engine.catalog();
    catalog.insert_job(&job).await.unwrap();
    let now = world.clock.now();
    let until = now + SignedDuration::from_mins(1);
    let claimed = catalog.claim_job::<BackupJob>("dead", now, until).await.unwrap().unwrap();
    let started = BackupJobEvent::Started;
    catalog
        .step_job::<BackupJob>(&world.account, &job.id, Some(&claimed.claim), started, now, vec![])
        .await
        .unwrap();
    let running = world.start().await;
    let job: BackupJob = world.end_of(&job.id).await;
    assert_eq!(job.state, BackupJobState::Completed, "{job:?}");
    assert_eq!((job.interruptions, job.started_at), (1, Some(now)));
    world.assert_restores(&world.point_of(&job).await, "out").await;
    running.stop("test over").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_an_unused_repository_that_no_vault_names_is_removed() {
    let world = World::new("2026-03-01T12:00:00Z").await;
    let vaults = world.directory.path().join("vaults");
    let make = |path: &str| {
        let path = vaults.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "somebody's").unwrap();
    };
    make("unused-1/config");
    make("unused-1/keys/aa");
    let storage = LocalStorage::local(&vaults.join("unused-2")).unwrap();
    Repository::init(Arc::new(storage), &Password::generate(), Options::default()).unwrap();
    make(".deleted-old/data/00/aa");
    let foreign = [
        "used/config",
        "used/snapshots/aa",
        "packs/config",
        "packs/data/00/aa",
        "pruned/config",
        "pruned/provault/prune/aa",
    ];
    let own = ["archive/letter.txt", "restored/config", "restored/etc/passwd", "lost+found/x"];
    for path in foreign.iter().chain(&own) {
        make(path);
    }
    std::fs::create_dir(vaults.join("empty")).unwrap();
    let running = world.start().await;
    assert!(!vaults.join("unused-1").exists());
    assert!(!vaults.join("unused-2").exists());
    assert!(!vaults.join(".deleted-old").exists());
    for path in foreign.iter().chain(&own) {
        assert!(vaults.join(path).exists(), "{path} is nobody's to delete");
    }
    assert!(vaults.join("empty").exists());
    assert!(world.directory.path().join(&world.vault.location).exists());
    running.stop("test over").await;
}

/// A snapshot that is there counts only if all that it needs can be found by the index, which a
/// prune beside the backup may have kept from being so.
#[tokio::test(flavor = "multi_thread")]
async fn an_adopted_snapshot_is_made_whole_or_is_no_recovery_point() {
    for lost in [false, true] {
        let world = World::new("2026-03-01T12:00:00Z").await;
        let running = world.start().await;
        world.back_up().await;
        let [index, packs] =
            ["index", "data"].map(|name| files_below(&world.repository().join(name)));
        running.stop("restart").await;
        std::fs::write(world.source().join("data/new.txt"), "new").unwrap();
        let job = world.backup_job();
        let catalog = world.engine.catalog();
        catalog.insert_job(&job).await.unwrap();
        let before = world.directory.path().join("before.db");
        catalog.copy_to(&before).await.unwrap();
        let world = world.restarted().await;
        let running = world.start().await;
        let done: BackupJob = world.end_of(&job.id).await;
        assert_eq!(done.state, BackupJobState::Completed);
        running.stop("restart").await;

        // As if the server had died before it entered the recovery point.
        world.bring_back_catalog(&before).await;
        let world = world.restarted().await;
        let now = world.clock.now();
        let until = now + SignedDuration::from_mins(1);
        let catalog = world.engine.catalog();
        let claimed = catalog.claim_job::<BackupJob>("dead", now, until).await.unwrap().unwrap();
        let (claim, event) = (Some(&claimed.claim), BackupJobEvent::Started);
        catalog
            .step_job::<BackupJob>(&world.account, &job.id, claim, event, now, vec![])
            .await
            .unwrap();
        for file in index.iter().chain(packs.iter().filter(|_| lost)) {
            std::fs::remove_file(file).unwrap();
        }
        let running = world.start().await;
        let job: BackupJob = world.end_of(&job.id).await;
        if lost {
            assert_eq!(job.state, BackupJobState::Failed);
            assert!(job.status_message.unwrap().contains("is not whole"));
            assert!(job.recovery_point_arn.is_none());
        } else {
            assert_eq!(job.state, BackupJobState::Completed, "{job:?}");
            world.assert_restores(&world.point_of(&job).await, "out").await;
        }
        running.stop("test over").await;
    }
}

/// Whether an interrupted backup is stored already is asked again as long as the vault does not say: a snapshot
/// that is whole is adopted, however late that is known.
#[tokio::test(flavor = "multi_thread")]
async fn a_storage_that_does_not_answer_costs_no_stored_backup() {
    let world = World::new("2026-03-01T12:00:00Z").await;
    let job = world.backup_job();
    let catalog = world.engine.catalog();
    catalog.insert_job(&job).await.unwrap();
    let before = world.directory.path().join("before.db");
    catalog.copy_to(&before).await.unwrap();
    let running = world.start().await;
    let done: BackupJob = world.end_of(&job.id).await;
    assert_eq!(done.state, BackupJobState::Completed, "{done:?}");
    running.stop("restart").await;

    // As if it had been interrupted before it entered the recovery point.
    world.bring_back_catalog(&before).await;
    let world = world.restarted().await;
    let now = world.clock.now();
    let until = now + SignedDuration::from_mins(1);
    let catalog = world.engine.catalog();
    let claimed = catalog.claim_job::<BackupJob>("dead", now, until).await.unwrap().unwrap();
    let reason = "down.".to_owned();
    for event in [BackupJobEvent::Started, BackupJobEvent::Interrupted { reason }] {
        let claim = Some(&claimed.claim);
        let step =
            catalog.step_job::<BackupJob>(&world.account, &job.id, claim, event, now, vec![]);
        step.await.unwrap();
    }
    let (snapshots, away) =
        (world.repository().join("snapshots"), world.repository().join("snapshots.away"));
    std::fs::rename(&snapshots, &away).unwrap();
    // Read as neither there nor gone: a link to itself.
    std::os::unix::fs::symlink("snapshots", &snapshots).unwrap();
    let running = world.start().await;
    loop {
        let job: BackupJob = catalog.job(&world.account, &job.id).await.unwrap().unwrap();
        assert_eq!(job.state, BackupJobState::Created, "{job:?}");
        if job.status_message.is_some_and(|told| told.starts_with("It cannot go on yet")) {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    std::fs::remove_file(&snapshots).unwrap();
    std::fs::rename(&away, &snapshots).unwrap();
    world.clock.advance(SignedDuration::from_mins(11));
    world.engine.wake();
    let adopted: BackupJob = world.end_of(&job.id).await;
    assert_eq!(adopted.state, BackupJobState::Completed, "{adopted:?}");
    assert_eq!(files_below(&snapshots).len(), 1, "it was not stored a second time");
    running.stop("test over").await;
}

/// A vault that does not answer is asked again, but not for ever: the job holds its resource meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_without_a_worker_ends_when_its_vault_is_gone_for_good() {
    let world = World::new("2026-03-01T12:00:00Z").await;
    let job = world.backup_job();
    let catalog = world.engine.catalog();
    catalog.insert_job(&job).await.unwrap();
    let now = world.clock.now();
    let until = now + SignedDuration::from_mins(1);
    let claimed = catalog.claim_job::<BackupJob>("dead", now, until).await.unwrap().unwrap();
    let (claim, started) = (Some(&claimed.claim), BackupJobEvent::Started);
    let step = catalog.step_job::<BackupJob>(&world.account, &job.id, claim, started, now, vec![]);
    step.await.unwrap();
    std::fs::remove_dir_all(world.repository()).unwrap();
    let running = world.start().await;
    running.stop("restart").await;
    let waiting: BackupJob = catalog.job(&world.account, &job.id).await.unwrap().unwrap();
    assert_eq!(waiting.state, BackupJobState::Running, "the vault may come back");

    world.clock.advance(SignedDuration::from_hours(11));
    let world = world.restarted().await;
    let running = world.start().await;
    let ended: BackupJob = world.end_of(&job.id).await;
    assert_eq!(ended.state, BackupJobState::Failed, "{ended:?}");
    assert!(ended.status_message.unwrap().contains("cannot be found out"));
    running.stop("test over").await;
}

/// The catalog may name a vault through a link, as one does that a recovery kit brought back.
#[tokio::test(flavor = "multi_thread")]
async fn an_empty_vault_under_another_spelling_is_not_removed() {
    let world = World::new("2026-03-01T12:00:00Z").await;
    let real = world.directory.path().join(&world.vault.location);
    let link = world.directory.path().join("link");
    std::os::unix::fs::symlink(world.directory.path(), &link).unwrap();
    let location = link.join(&world.vault.location).to_str().unwrap().to_owned();
    let vault = BackupVault { location, ..world.vault.clone() };
    world.engine.catalog().update_vault(&vault).await.unwrap();
    let running = world.start().await;
    assert!(real.join("config").exists());
    assert!(world.back_up().await.recovery_point_arn.is_some());
    running.stop("test over").await;
}

/// What was being made or removed when a server stopped goes, unless somebody needs it.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_noted_is_cleared_away_unless_it_is_in_use() {
    let world = World::new("2026-03-01T12:00:00Z").await;
    let catalog = world.engine.catalog();
    let root = world.directory.path();
    let mut made = Vec::new();
    for name in ["removed", "foreign", "begun", "broken-off"] {
        let vault = BackupVault {
            name: name.into(),
            arn: Arn::backup_vault(&world.region, &world.account, name),
            location: String::new(),
            ..world.vault.clone()
        };
        made.push(world.engine.create_vault(vault, &Tags::new()).await.unwrap());
        assert!(root.join(&made.last().unwrap().location).join("config").exists());
        catalog.delete_vault(&world.account, name).await.unwrap();
    }
    let [removed, foreign, begun, broken_off] = made.as_slice() else { unreachable!() };
    let snapshot = root.join(&foreign.location).join("snapshots").join("00".repeat(32));
    std::fs::create_dir_all(snapshot.parent().unwrap()).unwrap();
    std::fs::write(&snapshot, "not readable by us").unwrap();
    // It never got so far as to have a config.
    catalog.begin_vault(begun).await.unwrap();
    std::fs::remove_file(root.join(&begun.location).join("config")).unwrap();
    // The name said that it was garbage when the server died.
    let (name, path) = (&broken_off.location["vaults/".len()..], root.join(&broken_off.location));
    std::fs::rename(&path, path.with_file_name(format!(".deleted-{name}"))).unwrap();
    // A copy of the catalog of a time when a vault was being made that has been in use since.
    catalog.begin_vault(&world.vault).await.unwrap();

    let running = world.start().await;
    assert_eq!(catalog.unsettled_vaults().await.unwrap(), []);
    for vault in [removed, begun, broken_off] {
        assert!(!root.join(&vault.location).exists(), "{}", vault.name);
    }
    assert!(!path.with_file_name(format!(".deleted-{name}")).exists());
    assert!(snapshot.exists(), "somebody's backup is nobody's to delete");
    assert!(root.join(&world.vault.location).join("config").exists());
    running.stop("test over").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vault_with_somebody_elses_snapshot_is_not_deleted() {
    let world = World::new("2026-03-01T12:00:00Z").await;
    let running = world.start().await;
    let snapshots = world.directory.path().join(&world.vault.location).join("snapshots");
    let foreign = snapshots.join("00".repeat(32));
    std::fs::create_dir_all(&snapshots).unwrap();
    std::fs::write(&foreign, "not readable by us").unwrap();
    let refused = world.engine.delete_vault(&world.account, "lab").await.unwrap_err();
    assert!(refused.to_string().contains("no recovery point names"), "{refused}");
    assert!(foreign.exists());
    let vault = world.engine.catalog().vault(&world.account, "lab").await.unwrap();
    assert!(vault.is_some());
    running.stop("test over").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_cannot_be_ended_holds_up_no_other() {
    let world = World::new("2026-03-01T12:00:00Z").await;
    let catalog = world.engine.catalog();
    let lost = BackupVault {
        name: "lost".into(),
        arn: Arn::backup_vault(&world.region, &world.account, "lost"),
        location: String::new(),
        ..world.vault.clone()
    };
    let lost = world.engine.create_vault(lost, &Tags::new()).await.unwrap();
    std::fs::remove_dir_all(world.directory.path().join(&lost.location)).unwrap();
    let other = Resource {
        arn: Arn::resource_of(Kind::Filesystem, &world.region, &world.account, "1"),
        name: "other".into(),
        ..world.resource.clone()
    };
    catalog.insert_resource(&other, "/elsewhere").await.unwrap();
    let first = BackupJob { vault_name: lost.name, vault_arn: lost.arn, ..world.backup_job() };
    let mut second = BackupJob { resource_arn: other.arn, ..world.backup_job() };
    // It comes behind the one that cannot be ended.
    second.created_at += SignedDuration::from_secs(1);
    let now = world.clock.now();
    for job in [&first, &second] {
        catalog.insert_job(job).await.unwrap();
        let until = now + SignedDuration::from_mins(1);
        let claimed = catalog.claim_job::<BackupJob>("dead", now, until).await.unwrap().unwrap();
        let event = BackupJobEvent::Started;
        catalog
            .step_job::<BackupJob>(
                &world.account,
                &job.id,
                Some(&claimed.claim),
                event,
                now,
                vec![],
            )
            .await
            .unwrap();
    }
    let running = world.start().await;
    let second: BackupJob = world.end_of(&second.id).await;
    assert_eq!(second.state, BackupJobState::Completed, "{second:?}");
    let first = catalog.job::<BackupJob>(&world.account, &first.id).await.unwrap().unwrap();
    assert_eq!(first.state, BackupJobState::Running, "nobody can know yet what became of it");
    running.stop("test over").await;
}
