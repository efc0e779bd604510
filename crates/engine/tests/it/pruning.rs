//! Prunes of vaults from which snapshots are missing.

use std::path::PathBuf;

use provault_domain::care::CareOptions;
use provault_domain::*;

use crate::care::files_below;
use crate::support::World;

impl World {
    fn packs(&self) -> Vec<PathBuf> {
        let mut packs = files_below(&self.repository().join("data"));
        packs.sort();
        packs
    }

    async fn prune(&self) -> CareRun {
        let dry = CareOptions { dry_run: true, ..CareOptions::default() };
        let planned = self.care(CareOperation::Prune, dry).await;
        let run = self.care(CareOperation::Prune, CareOptions::default()).await;
        assert_eq!(planned.state, run.state, "{planned:?}");
        run
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_data_of_a_point_whose_snapshot_is_missing_is_not_pruned() {
    let world = World::new("2026-03-01T12:00:00Z").await;
    let running = world.start().await;
    std::fs::write(world.source().join("data/b.bin"), vec![8; 2 << 20]).unwrap();
    let gone = world.point_of(&world.back_up().await).await;
    std::fs::write(world.source().join("data/b.bin"), vec![9; 2 << 20]).unwrap();
    let kept = world.point_of(&world.back_up().await).await;
    let Payload::Stored { snapshot_id, .. } = &kept.payload;
    let file = world.repository().join("snapshots").join(snapshot_id);
    let aside = world.directory.path().join("aside");
    let before = world.packs();

    // One of two, and then all of them: a directory that is not mounted.
    let snapshots = world.repository().join("snapshots");
    for (from, number) in [(&file, "1 recovery point"), (&snapshots, "2 recovery points")] {
        std::fs::rename(from, &aside).unwrap();
        let run = world.prune().await;
        assert_eq!(run.state, CareState::Failed, "{run:?}");
        let message = run.status_message.unwrap();
        assert!(message.contains(number) && message.contains("Put their files back"), "{message}");
        assert_eq!(world.packs(), before, "nothing was deleted");
        if from.exists() {
            std::fs::remove_dir(from).unwrap();
        }
        std::fs::rename(&aside, from).unwrap();
    }
    assert_eq!(world.prune().await.state, CareState::Completed);
    world.assert_restores(&kept, "out").await;

    // A recovery point that is deleted is expected no longer, whether its snapshot is there or not.
    let Payload::Stored { snapshot_id, .. } = &gone.payload;
    std::fs::remove_file(snapshots.join(snapshot_id)).unwrap();
    assert_eq!(world.prune().await.state, CareState::Failed);
    world.engine.delete_recovery_point(&world.account, &gone.arn).await.unwrap();
    assert_eq!(world.prune().await.state, CareState::Completed);
    assert_ne!(world.packs(), before);
    world.assert_restores(&kept, "again").await;

    // The last one goes as well, if this server has made it.
    world.engine.delete_recovery_point(&world.account, &kept.arn).await.unwrap();
    assert_eq!(world.prune().await.state, CareState::Completed);
    assert!(world.packs().is_empty());
    running.stop("test over").await;
}

/// A catalog that was made anew may not know what lies in a vault whose snapshots are not mounted.
#[tokio::test(flavor = "multi_thread")]
async fn a_vault_that_the_catalog_knows_nothing_of_is_not_emptied() {
    let world = World::new("2026-03-01T12:00:00Z").await;
    let pack = world.repository().join("data/ab").join(format!("ab{}", "0".repeat(62)));
    std::fs::create_dir_all(pack.parent().unwrap()).unwrap();
    std::fs::write(&pack, "somebody's").unwrap();
    let running = world.start().await;
    let run = world.prune().await;
    assert_eq!(run.state, CareState::Failed, "{run:?}");
    assert!(run.status_message.unwrap().contains("--allow-empty"));
    assert!(pack.exists());
    running.stop("test over").await;
}
