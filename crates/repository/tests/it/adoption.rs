//! Repositories that restic began, as we go on with them; and what a catalog is told of them.

use std::fs;
use std::sync::{Arc, Mutex};

use provault_repository::{CancelFlag, Password, Repository};

use crate::hook::hooked;
use crate::support::{Sandbox, backup_options, noise, options, small_tree, walk};

/// Files of every length around the borders of chunks, and runs that make the fingerprint hit its
/// extremes.
fn large_files(root: &std::path::Path) {
    fs::write(root.join("twenty"), noise(21, 20 << 20)).unwrap();
    for (name, length) in
        [("below", (512 << 10) - 1), ("at", 512 << 10), ("above", (512 << 10) + 1)]
    {
        fs::write(root.join(name), noise(22, length)).unwrap();
    }
    fs::write(root.join("zeros"), vec![0; 9 << 20]).unwrap();
    fs::write(root.join("ones"), vec![1; (8 << 20) + 5]).unwrap();
    let mut mixed = noise(23, 3 << 20);
    mixed[700_000..1_900_000].fill(0);
    fs::write(root.join("mixed"), mixed).unwrap();
}

/// Chunks that a backup of ours adds. Without a record, which would be one more.
fn new_data_blobs(sandbox: &Sandbox) -> u64 {
    let mut writer = sandbox.open().backup(backup_options(&sandbox.source(), None)).unwrap();
    walk(&mut writer, &sandbox.source()).unwrap();
    writer.finish(None).unwrap().stats.data_blobs
}

/// What restic has cut we cut at the same places, with whatever polynomial it has drawn.
#[test]
fn files_are_cut_as_restic_cut_them() {
    let sandbox = Sandbox::new();
    large_files(&sandbox.source());
    sandbox.restic(&["init"]);
    sandbox.restic(&["backup", sandbox.source().to_str().unwrap()]);
    assert_eq!(sandbox.open().config().provault_chunker, None);
    assert_eq!(new_data_blobs(&sandbox), 0);
    // And the other way round: nothing of ours is new to restic.
    fs::write(sandbox.source().join("later"), noise(24, 6 << 20)).unwrap();
    assert!(new_data_blobs(&sandbox) > 0);
    let told = sandbox.restic(&["backup", "--force", "--json", sandbox.source().to_str().unwrap()]);
    let summary = told.lines().find(|line| line.contains("\"summary\"")).unwrap();
    assert!(summary.contains("\"data_blobs\":0,"), "{summary}");
    // A generated password is stretched here: its key must not make the repository look like ours.
    let another = Password::generate();
    sandbox.open().add_key(&another).unwrap();
    fs::write(sandbox.source().join("later"), noise(25, 6 << 20)).unwrap();
    sandbox.restic(&["backup", sandbox.source().to_str().unwrap()]);
    assert_eq!(new_data_blobs(&sandbox), 0);
    sandbox.assert_clean();
}

/// Where we began we cut in our own way.
#[test]
fn our_own_repositories_keep_their_chunker() {
    let sandbox = Sandbox::new();
    let ours = sandbox.init();
    assert_eq!(ours.config().provault_chunker.as_deref(), Some("fastcdc"));
    fs::write(sandbox.source().join("large"), noise(26, 12 << 20)).unwrap();
    assert!(sandbox.backup(&ours).stats.data_blobs > 1);
    assert_eq!(new_data_blobs(&sandbox), 0);
    let told = sandbox.restic(&["backup", "--force", "--json", sandbox.source().to_str().unwrap()]);
    assert!(!told.contains("\"data_blobs\":0,"), "restic would cut the same way: {told}");
}

#[test]
fn a_survey_tells_what_a_catalog_needs() {
    let sandbox = Sandbox::new();
    small_tree(&sandbox.source());
    sandbox.restic(&["init"]);
    sandbox.restic(&[
        "backup",
        "--tag",
        "a,b",
        "--host",
        "there",
        sandbox.source().to_str().unwrap(),
    ]);
    let repository = sandbox.open();
    let files = |root: &std::path::Path| {
        let all = crate::support::describe(root);
        let regular = all.keys().map(|path| {
            use std::os::unix::ffi::OsStrExt;
            fs::symlink_metadata(root.join(std::ffi::OsStr::from_bytes(path))).unwrap()
        });
        let regular: Vec<_> = regular.filter(fs::Metadata::is_file).collect();
        (regular.len() as u64, regular.iter().map(fs::Metadata::len).sum::<u64>())
    };
    let before = files(&sandbox.source());
    fs::write(sandbox.source().join("added"), "12345").unwrap();
    let mut writer = repository.backup(backup_options(&sandbox.source(), None)).unwrap();
    walk(&mut writer, &sandbox.source()).unwrap();
    writer.finish(Some(b"{\"the\":\"record\"}")).unwrap();

    let survey = repository.survey(&CancelFlag::new()).unwrap();
    assert!(survey.damaged.is_empty());
    let [theirs, ours] = &survey.snapshots[..] else { panic!("{survey:?}") };
    let (theirs, ours) = if theirs.record.is_none() { (theirs, ours) } else { (ours, theirs) };
    assert_eq!((theirs.files, theirs.bytes), before);
    assert_eq!(theirs.record, None);
    assert_eq!(theirs.snapshot.hostname, "there");
    assert_eq!(theirs.snapshot.tags, ["a", "b"]);
    assert_eq!((ours.files, ours.bytes), (before.0 + 1, before.1 + 5), "the record counts nothing");
    assert_eq!(ours.record.as_deref(), Some(&b"{\"the\":\"record\"}"[..]));
    let measured = repository.measure(&ours.snapshot, &CancelFlag::new()).unwrap();
    assert_eq!(measured, (ours.files, ours.bytes));
    let usage = repository.usage().unwrap();
    assert_eq!(usage.snapshots, 2);
    assert!(usage.packs > 1 && usage.pack_bytes > 0 && usage.blobs > 5, "{usage:?}");

    // A tree that is gone is told of, for each snapshot that has it, and hides nothing else.
    let packs = sandbox.path("repo/data");
    for directory in fs::read_dir(packs).unwrap() {
        for pack in fs::read_dir(directory.unwrap().path()).unwrap() {
            fs::write(pack.unwrap().path(), "damaged").unwrap();
        }
    }
    let survey = sandbox.open().survey(&CancelFlag::new()).unwrap();
    assert_eq!(survey.snapshots.len(), 2);
    assert!(survey.snapshots.iter().all(|s| s.trouble.is_some() && s.files == 0));
}

#[test]
fn keys_are_listed_changed_and_removed() {
    let sandbox = Sandbox::new();
    let repository = sandbox.init();
    let first = repository.key_of(&sandbox.password).unwrap();
    let second = Password::from_text("second");
    let id = repository.add_key(&second).unwrap();
    let mut ids = vec![first, id];
    ids.sort();
    let listed = repository.keys().unwrap();
    assert_eq!(listed.iter().map(|key| key.id).collect::<Vec<_>>(), ids);
    assert!(listed.iter().all(|key| !key.created.is_empty()));
    // The one in use stays, so there is always one.
    let refused = repository.remove_key(&id, &second);
    assert!(matches!(refused, Err(provault_repository::Error::KeyInUse(_))));
    repository.remove_key(&first, &second).unwrap();
    assert!(sandbox.try_open().is_err());
    let third = Password::from_text("third");
    repository.change_password(&second, &third).unwrap();
    let open = |password| Repository::open(sandbox.storage(), password, options());
    assert!(open(&second).is_err());
    assert_eq!(open(&third).unwrap().keys().unwrap().len(), 1);
    let wrong = repository.change_password(&second, &third);
    assert!(matches!(wrong, Err(provault_repository::Error::WrongPassword { .. })));
    // Stock restic opens what is left.
    let sandbox = Sandbox { password: third, ..sandbox };
    sandbox.restic(&["key", "list"]);
}

/// Two at a time, each of whom removes the key of the other, do not leave a repository without one.
#[test]
fn two_who_remove_each_others_key_leave_one() {
    for changes in [false, true] {
        let sandbox = Sandbox::new();
        let (one, two) = (sandbox.password.clone(), Password::from_text("two"));
        sandbox.init().add_key(&two).unwrap();
        let (storage, hook) = hooked(sandbox.storage());
        let first = Repository::open(storage, &one, options()).unwrap();
        let second = sandbox.open();
        let (ids, password) =
            ([first.key_of(&one).unwrap(), first.key_of(&two).unwrap()], two.clone());
        let removed = Arc::new(Mutex::new(None));
        let seen = Arc::clone(&removed);
        let refused = if changes {
            // The new key, which it has not told anybody of, is taken by somebody at once.
            hook.at(&format!("delete keys/{}", ids[0]), move || {
                let known: Vec<_> = ids.to_vec();
                let new = second.keys().unwrap().into_iter().find(|key| !known.contains(&key.id));
                let both = [new.unwrap().id, ids[1]];
                second.remove_key(&both[0], &password).unwrap();
                *seen.lock().unwrap() = Some(both[0]);
            });
            first.change_password(&one, &Password::from_text("three")).map(drop)
        } else {
            hook.at(&format!("delete keys/{}", ids[1]), move || {
                second.remove_key(&ids[0], &password).unwrap();
                *seen.lock().unwrap() = Some(ids[0]);
            });
            first.remove_key(&ids[1], &one)
        };
        let gone = removed.lock().unwrap().unwrap();
        let Err(provault_repository::Error::KeyGone { gone: told, kept }) = refused else {
            panic!("{refused:?}");
        };
        assert_eq!((told, kept), (gone, ids[usize::from(!changes)]));
        let opens = if changes { &one } else { &two };
        Repository::open(sandbox.storage(), opens, options()).unwrap();
    }
}

#[test]
fn stale_locks_are_removed_and_others_only_by_force() {
    let sandbox = Sandbox::new();
    let repository = sandbox.init();
    let _reader = repository.reader().unwrap();
    assert_eq!(repository.unlock(false).unwrap(), []);
    fs::write(sandbox.path("repo/locks").join("ab".repeat(32)), "no lock").unwrap();
    let locks = repository.locks().unwrap();
    assert_eq!(locks.iter().filter(|lock| lock.stale).count(), 1, "{locks:?}");
    let removed = repository.unlock(false).unwrap();
    assert_eq!(removed.len(), 1);
    assert!(removed[0].stale && removed[0].holder.starts_with("unreadable"));
    let removed = repository.unlock(true).unwrap();
    assert_eq!(removed.len(), 1, "the reader's own");
    assert_eq!(repository.locks().unwrap(), []);
}
