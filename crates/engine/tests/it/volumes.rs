//! Volumes from backup to verdict, over a real repository.

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use jiff::SignedDuration;
use provault_domain::*;

use crate::support::World;

const START: &str = "2026-03-01T12:00:00Z";
const MIB: usize = 1 << 20;

fn run(program: &str, args: &[&str]) -> String {
    let output = Command::new(program)
        .args(args)
        .output()
        .unwrap_or_else(|error| panic!("{program} cannot be started: {error}; install qemu-utils"));
    let said = String::from_utf8_lossy(&output.stderr);
    // The end of a job may still have the image open.
    if said.contains("Failed to get") {
        std::thread::sleep(std::time::Duration::from_millis(20));
        return run(program, args);
    }
    assert!(output.status.success(), "{program} {args:?}: {said}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// 20 MiB: noise, a hole, noise.
fn content() -> Vec<u8> {
    let mut state = 7_u64;
    let mut noise = |length: usize| -> Vec<u8> {
        (0..length)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                state.to_be_bytes()[0]
            })
            .collect()
    };
    [noise(3 * MIB), vec![0; 16 * MIB], noise(MIB)].concat()
}

/// A world whose resource is a raw or qcow2 image.
async fn world(format: &str, extra: &[(&str, &str)]) -> World {
    World::with(START, |resource| {
        let source = PathBuf::from(resource.config["path"].as_str().unwrap());
        let raw = source.with_file_name("disk.img");
        std::fs::write(&raw, content()).unwrap();
        let image = if format == "raw" {
            raw
        } else {
            let image = source.with_file_name("disk.qcow2");
            let (from, to) = (raw.to_str().unwrap(), image.to_str().unwrap());
            run("qemu-img", &["convert", "-f", "raw", "-O", "qcow2", from, to]);
            std::fs::remove_file(raw).unwrap();
            image
        };
        resource.kind = Kind::Volume;
        let id = "0123456789abcdef0";
        resource.arn = Arn::resource_of(Kind::Volume, &resource.region, &resource.account, id);
        resource.config = serde_json::json!({ "path": image });
        for (key, value) in extra {
            resource.config[*key] = (*value).into();
        }
    })
    .await
}

fn image(world: &World) -> PathBuf {
    PathBuf::from(world.resource.config["path"].as_str().unwrap())
}

async fn restored(world: &World, job: &BackupJob, target: &Path) -> RestoreJob {
    let point = world.point_of(job).await;
    let restore = world.restore_job(&point, target);
    world.engine.catalog().insert_job(&restore).await.unwrap();
    world.engine.wake();
    world.end_of(&restore.id).await
}

async fn test_now(world: &World) -> RestoreTest {
    let test = world.engine.new_restore_test(&world.resource, None);
    world.engine.catalog().insert_job(&test).await.unwrap();
    world.engine.wake();
    world.end_of(&test.id).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_raw_image_comes_back_and_an_increment_stores_what_changed() {
    let world = world("raw", &[]).await;
    let running = world.start().await;
    let first = world.back_up().await;
    assert_eq!(first.state, BackupJobState::Completed, "{:?}", first.status_message);
    assert_eq!(first.backup_size_bytes, Some(20 * MIB as u64));
    let point = world.point_of(&first).await;
    assert_eq!(point.kind.resource_type(), "EBS");
    assert!(point.resource_arn.as_str().contains(":ec2:us-east-1:123456789012:volume/vol-"));
    assert_eq!(point.restore_metadata["volumeId"], "vol-0123456789abcdef0");

    let file = std::fs::OpenOptions::new().write(true).open(image(&world)).unwrap();
    file.write_all_at(&[0x5a; 4096], 2 * MIB as u64).unwrap();
    drop(file);
    let mut changed = content();
    changed[2 * MIB..2 * MIB + 4096].fill(0x5a);
    world.clock.advance(SignedDuration::from_hours(1));
    let second = world.back_up().await;
    assert_eq!(second.state, BackupJobState::Completed, "{:?}", second.status_message);
    // One block and the lists above it.
    assert!(second.bytes_stored.unwrap() < 400 << 10, "{:?}", second.bytes_stored);

    for (job, expected) in [(&second, &changed), (&first, &content())] {
        let target = world.directory.path().join(format!("{}.img", job.id));
        let restore = restored(&world, job, &target).await;
        assert_eq!(restore.state, RestoreJobState::Completed, "{:?}", restore.status_message);
        assert!(std::fs::read(&target).unwrap() == *expected, "other bytes came back");
        // What was made can be protected in its turn.
        let made = restore.created_resource_arn.unwrap();
        let made = world.engine.catalog().resource(&made).await.unwrap().unwrap();
        assert_eq!(made.config["path"], serde_json::json!(target));
    }
    running.stop("test over").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_increment_by_bitmap_reads_only_what_it_names() {
    let world = world("qcow2", &[("changedBlocks", "bitmap")]).await;
    let running = world.start().await;
    let first = world.back_up().await;
    assert_eq!(first.state, BackupJobState::Completed, "{:?}", first.status_message);
    let path = image(&world);
    let path = path.to_str().unwrap();
    run("qemu-io", &["-f", "qcow2", "-c", "write -P 0x5a 2M 4k", path]);
    world.clock.advance(SignedDuration::from_hours(1));
    let second = world.back_up().await;
    assert_eq!(second.state, BackupJobState::Completed, "{:?}", second.status_message);
    assert_eq!(second.bytes_transferred, 64 << 10, "one granule of the bitmap");
    assert_eq!(second.status_message, None);
    // The catalog knows the second point, so the bitmap of the first is gone.
    loop {
        let json = run("qemu-img", &["info", "--output=json", path]);
        assert!(json.contains(&second.id), "{json}");
        if !json.contains(&first.id) {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let mut changed = content();
    changed[2 * MIB..2 * MIB + 4096].fill(0x5a);
    let target = world.directory.path().join("restored.img");
    let restore = restored(&world, &second, &target).await;
    assert_eq!(restore.state, RestoreJobState::Completed, "{:?}", restore.status_message);
    assert!(std::fs::read(&target).unwrap() == changed, "other bytes came back");

    // Without its base in the vault, everything is read again.
    run("qemu-img", &["bitmap", "--remove", path, &format!("provault-{}", second.id)]);
    world.clock.advance(SignedDuration::from_hours(1));
    let third = world.back_up().await;
    assert!(third.bytes_transferred >= 4 * MIB as u64, "{}", third.bytes_transferred);
    assert!(third.status_message.unwrap().contains("lacks the bitmap"));
    running.stop("test over").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_passes_its_restore_test_and_a_damaged_one_does_not() {
    let world = world("raw", &[]).await;
    let running = world.start().await;
    world.back_up().await;
    let test = test_now(&world).await;
    assert_eq!(test.verdict, Some(Verdict::Passed), "{:?}", test.reason);
    assert_eq!(test.findings.probes[0].label, "blocks");
    assert!(test.findings.probes[0].detail.contains("20971520 bytes are as captured"));
    let required: Vec<_> = test.findings.mutants.iter().filter(|m| m.required).collect();
    assert_eq!(required.len(), 3, "{required:?}");
    assert!(required.iter().all(|m| m.killed == Some(true)), "{required:?}");
    assert_eq!(test.cleaned_up, Some(true));
    let left = world.directory.path().join("restore-tests");
    assert_eq!(std::fs::read_dir(left).map_or(0, Iterator::count), 0);

    let data = world.directory.path().join(&world.vault.location).join("data");
    for shard in std::fs::read_dir(data).unwrap() {
        for pack in std::fs::read_dir(shard.unwrap().path()).unwrap() {
            use std::os::unix::fs::PermissionsExt;
            let pack = pack.unwrap().path();
            let mut bytes = std::fs::read(&pack).unwrap();
            bytes[20] ^= 1;
            std::fs::set_permissions(&pack, std::fs::Permissions::from_mode(0o600)).unwrap();
            std::fs::write(&pack, bytes).unwrap();
        }
    }
    let test = test_now(&world).await;
    assert_eq!(test.verdict, Some(Verdict::Failed), "{:?}", test.reason);
    running.stop("test over").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_that_is_gone_or_in_use_fails_and_says_so() {
    let world = world("raw", &[]).await;
    let running = world.start().await;
    let path = image(&world);
    let mut writer = Command::new("sh")
        .args(["-c", "exec 3<>\"$0\"; echo open; read -r _", path.to_str().unwrap()])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut open = [0; 5];
    std::io::Read::read_exact(writer.stdout.as_mut().unwrap(), &mut open).unwrap();
    let busy = world.back_up().await;
    writer.kill().unwrap();
    writer.wait().unwrap();
    assert_eq!(busy.state, BackupJobState::Failed);
    assert!(busy.status_message.unwrap().contains("in use"));
    std::fs::remove_file(&path).unwrap();
    let missing = world.back_up().await;
    assert_eq!(missing.state, BackupJobState::Failed);
    assert!(missing.status_message.unwrap().contains("is not there"));
    running.stop("test over").await;
}
