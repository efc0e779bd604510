//! Directories known from the backup before: taken over when nothing in them changed, and never when
//! something did.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use provault_repository::{CommittedSnapshot, Id, Leaves, Options, Repository, SnapshotWriter};

use crate::support::{Sandbox, backup_options, metadata, noise, options};

/// Like a driver: tells what the leaves look like before it hands any over. Returns how many files it
/// handed over.
fn survey_and_walk(writer: &mut SnapshotWriter, directory: &Path, doubt: Option<&str>) -> u64 {
    let mut names: Vec<_> =
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    let paths: Vec<PathBuf> = names.iter().map(|name| directory.join(name)).collect();
    let (directories, files): (Vec<_>, Vec<_>) = paths.into_iter().partition(|path| path.is_dir());
    let seen: Vec<_> = files.iter().map(|path| metadata(path)).collect();
    let text = files.iter().zip(&seen).map(|(path, meta)| format!("{} {meta:?}", path.display()));
    let leaves = Leaves {
        fingerprint: Id::hash(text.collect::<String>().as_bytes()).0,
        newest: seen.iter().map(|meta| meta.mtime.max(meta.ctime)).max().unwrap_or_default(),
        files: files.len() as u64,
        others: 0,
        bytes: seen.iter().map(|meta| meta.size).sum(),
    };
    let mut handed_over = 0;
    if !writer.leaves(&leaves).unwrap() {
        for (path, meta) in files.iter().zip(&seen) {
            let name = path.file_name().unwrap().as_bytes();
            let open = &mut || Ok(Box::new(File::open(path)?) as Box<dyn Read + Send>);
            writer.add_file(name, meta, open).unwrap();
            if doubt.is_some_and(|doubt| name == doubt.as_bytes()) {
                writer.doubt_leaves();
            }
            handed_over += 1;
        }
    }
    for path in directories {
        writer.begin_dir(path.file_name().unwrap().as_bytes(), &metadata(&path)).unwrap();
        handed_over += survey_and_walk(writer, &path, doubt);
        writer.end_dir().unwrap();
    }
    handed_over
}

fn backup(
    sandbox: &Sandbox,
    repository: &Repository,
    parent: Option<&CommittedSnapshot>,
) -> (CommittedSnapshot, u64) {
    let options = backup_options(&sandbox.source(), parent.map(|parent| parent.id));
    let mut writer = repository.backup(options).unwrap();
    let handed_over = survey_and_walk(&mut writer, &sandbox.source(), None);
    (writer.finish(None).unwrap(), handed_over)
}

fn open(sandbox: &Sandbox, options: Options) -> Repository {
    let options = Options { cache_dir: Some(sandbox.path("cache")), ..options };
    Repository::open(sandbox.storage(), &sandbox.password, options).unwrap()
}

/// `a` to `c`, with three directories of two files in each.
fn tree(root: &Path) {
    for outer in ["a", "b", "c"] {
        for inner in ["x", "y", "z"] {
            let directory = root.join(outer).join(inner);
            fs::create_dir_all(&directory).unwrap();
            fs::write(directory.join("one"), format!("{outer}{inner}1")).unwrap();
            fs::write(directory.join("two"), format!("{outer}{inner}2")).unwrap();
        }
        fs::write(root.join(outer).join("file"), outer).unwrap();
    }
}

/// Whatever changes, a backup that knows directories makes the same tree as one that reads all.
#[test]
fn what_is_taken_over_is_what_would_have_been_read() {
    let seed = rand::random::<u64>();
    println!("seed {seed}");
    let sandbox = Sandbox::new();
    let root = sandbox.source();
    tree(&root);
    sandbox.init();
    let repository = open(&sandbox, options());
    let (mut last, all) = backup(&sandbox, &repository, None);
    let mut taken_over = 0;
    let mut state = seed | 1;
    let mut pick = |below: usize| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap() % below
    };
    for round in 0..40 {
        let outer = root.join(["a", "b", "c"][pick(3)]);
        let inner = outer.join(["x", "y", "z", "new"][pick(4)]);
        match pick(8) {
            // No two contents of the same length: one tick of the clock must not hide a change.
            0 | 1 if inner.is_dir() => {
                fs::write(inner.join("one"), noise(round, 10 + usize::try_from(round).unwrap()))
                    .unwrap();
            }
            2 => fs::create_dir_all(&inner).unwrap(),
            3 if inner.is_dir() => fs::remove_dir_all(&inner).unwrap(),
            4 if inner.join("two").exists() => {
                fs::rename(inner.join("two"), inner.join(format!("moved{round}"))).unwrap();
            }
            5 if inner.is_dir() => {
                use std::os::unix::fs::PermissionsExt;
                let mode = 0o700 + u32::try_from(pick(64)).unwrap();
                fs::set_permissions(&inner, fs::Permissions::from_mode(mode)).unwrap();
            }
            6 => fs::write(outer.join(format!("more{round}")), "more").unwrap(),
            7 if inner.is_dir() && !root.join("b/aside").exists() => {
                fs::rename(&inner, root.join("b/aside")).unwrap();
            }
            _ => {}
        }
        // Now and then another process, which remembers nothing but the file.
        let repository = if pick(4) == 0 { open(&sandbox, options()) } else { repository.clone() };
        let (known, handed_over) = backup(&sandbox, &repository, Some(&last));
        let (read, everything) = backup(&sandbox, &sandbox.open(), None);
        assert_eq!(known.tree, read.tree, "seed {seed}, round {round}");
        assert_eq!(known.stats.bytes_total, read.stats.bytes_total, "seed {seed}, round {round}");
        taken_over += everything - handed_over;
        last = known;
    }
    assert!(taken_over > 5 * all, "hardly anything was taken over: {taken_over}");
    sandbox.assert_clean();
}

/// What changed just before it was read, and what was not captured as announced, is read again.
#[test]
fn what_is_in_doubt_is_read_again() {
    let sandbox = Sandbox::new();
    tree(&sandbox.source());
    sandbox.init();
    let doubtful = open(&sandbox, Options { doubt: Duration::from_hours(1), ..options() });
    let (first, all) = backup(&sandbox, &doubtful, None);
    let (second, handed_over) = backup(&sandbox, &doubtful, Some(&first));
    assert_eq!((handed_over, second.tree), (all, first.tree));
    assert_eq!(second.stats.files_unchanged, 0, "their times are believed: {:?}", second.stats);

    let certain = open(&sandbox, options());
    let (third, _) = backup(&sandbox, &certain, Some(&second));
    let mut writer = certain.backup(backup_options(&sandbox.source(), Some(third.id))).unwrap();
    assert_eq!(survey_and_walk(&mut writer, &sandbox.source(), Some("file")), 0);
    let fourth = writer.finish(None).unwrap();
    fs::write(sandbox.source().join("a/file"), "another").unwrap();
    let mut writer = certain.backup(backup_options(&sandbox.source(), Some(fourth.id))).unwrap();
    assert_eq!(survey_and_walk(&mut writer, &sandbox.source(), Some("file")), 1);
    let fifth = writer.finish(None).unwrap();
    // Of `a`, the walker said that its leaves are not as announced.
    assert_eq!(backup(&sandbox, &certain, Some(&fifth)).1, 1);
}

/// Nothing is believed that is torn, forged, or about another snapshot or a pruned index.
#[test]
fn what_cannot_be_trusted_is_ignored() {
    let sandbox = Sandbox::new();
    tree(&sandbox.source());
    sandbox.init();
    let repository = open(&sandbox, options());
    let (first, all) = backup(&sandbox, &repository, None);
    let (second, none) = backup(&sandbox, &repository, Some(&first));
    assert_eq!(none, 0);
    // It is about the second snapshot now.
    assert_eq!(backup(&sandbox, &repository, Some(&first)).1, all);
    let (third, _) = backup(&sandbox, &repository, Some(&second));

    let directory = fs::read_dir(sandbox.path("cache")).unwrap().next().unwrap().unwrap().path();
    let file = fs::read_dir(directory).unwrap().next().unwrap().unwrap().path();
    let content = fs::read(&file).unwrap();
    for (what, changed) in [
        ("flipped", content.iter().enumerate().map(|(at, b)| b ^ u8::from(at == 99)).collect()),
        ("torn", content[..content.len() / 2].to_vec()),
        ("empty", Vec::new()),
    ] {
        fs::write(&file, changed).unwrap();
        let (again, handed_over) = backup(&sandbox, &repository, Some(&third));
        assert_eq!((handed_over, again.tree), (all, third.tree), "{what}");
        fs::write(&file, &content).unwrap();
    }
    for name in sandbox.repository_files().iter().filter(|name| name.starts_with("index/")) {
        fs::remove_file(sandbox.path("repo").join(name)).unwrap();
    }
    let (again, handed_over) = backup(&sandbox, &repository, Some(&third));
    assert_eq!((handed_over, again.tree), (all, third.tree));
    sandbox.assert_clean();
}
