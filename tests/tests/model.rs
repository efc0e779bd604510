//! Many jobs in one repository, chosen at random, against a model that knows what must be there.
//!
//! Several opened repositories in this process, the real program in others, and stock restic
//! beside them: they back up, forget, check, restore and prune at a time, out of one small pool of
//! content, so that what one job forgets is what another just relies on. Whoever is refused by a
//! lock is refused; but whatever was said to be committed has to be there, whole, until it is
//! forgotten, and no check may ever see damage.
#![allow(clippy::unwrap_used, reason = "a test panics where an error surprises it")]

use std::collections::BTreeMap;
use std::fs;
use std::io::Cursor;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use provault_repository::{
    BackupOptions, CancelFlag, CheckLevel, Error, MaxUnused, Metadata, ObjectStorage, Options,
    Password, PruneOptions, Repository, Storage,
};
use provault_tests::restic::Vault;
use provault_tests::{Finished, Random, Sandbox, clean_command, executable};

const SECRET: &str = "the password of a crowded repository";
/// Pieces of content that snapshots are made of.
const PIECES: usize = 10;
/// Operations of each worker.
const OPERATIONS: usize = 14;
const WORKERS: usize = 4;

/// A snapshot that has to be there.
#[derive(Clone)]
struct Wanted {
    /// Where its files lie in it.
    directory: String,
    pieces: Vec<usize>,
    /// Workers that read it; nobody forgets it meanwhile.
    readers: usize,
}

struct Crowd {
    sandbox: Sandbox,
    opened: Vec<Repository>,
    pieces: Vec<Vec<u8>>,
    /// By the tag.
    model: Mutex<BTreeMap<String, Wanted>>,
    numbers: AtomicU64,
    counts: Mutex<BTreeMap<String, u64>>,
}

/// Leaves nothing that is not needed.
fn everything() -> PruneOptions {
    // At times all that there was is forgotten.
    PruneOptions { max_unused: MaxUnused::Bytes(0), allow_empty: true, ..PruneOptions::default() }
}

fn open(sandbox: &Sandbox) -> Repository {
    let storage: Arc<dyn Storage> = Arc::new(ObjectStorage::local(&sandbox.path("repo")).unwrap());
    let options = Options {
        pack_size: 300_000,
        lock_settle: Duration::from_millis(20),
        ..Options::default()
    };
    let password = Password::from_text(SECRET);
    if Repository::exists(storage.as_ref()).unwrap() {
        Repository::open(storage, &password, options).unwrap()
    } else {
        Repository::init(storage, &password, options).unwrap()
    }
}

impl Crowd {
    fn new(seed: u64) -> Self {
        let sandbox = Sandbox::new();
        let mut random = Random(seed);
        fs::write(sandbox.path("password"), SECRET).unwrap();
        let opened = (0..3).map(|_| open(&sandbox)).collect();
        let pieces = (0..PIECES).map(|_| {
            let length = 20_000 + random.below(300_000);
            random.bytes(length)
        });
        let pieces = pieces.collect();
        let (model, counts) = (Mutex::default(), Mutex::default());
        Self { sandbox, opened, pieces, model, numbers: AtomicU64::new(0), counts }
    }

    fn count(&self, what: &str, good: bool) {
        let what = format!("{what}{}", if good { "" } else { " refused" });
        *self.counts.lock().unwrap().entry(what).or_default() += 1;
    }

    fn work(&self, worker: usize, random: &mut Random) {
        for _ in 0..OPERATIONS {
            let repository = &self.opened[worker % self.opened.len()];
            match random.below(24) {
                0..8 => self.back_up(repository, random),
                8 | 9 => self.program_backs_up(random),
                10 | 11 => self.restic_backs_up(random),
                12..14 => self.forget(repository, random),
                14 => self.restic_forgets(random),
                15 => self.check(repository),
                16 => self.program_checks(),
                17 | 18 => self.prune(repository),
                19 | 20 => self.program_prunes(),
                _ => self.read(repository, random),
            }
        }
    }

    fn choose(&self, random: &mut Random) -> (String, Vec<usize>) {
        let number = self.numbers.fetch_add(1, Ordering::SeqCst);
        let mut pieces: Vec<_> = (0..3).map(|_| random.below(PIECES)).collect();
        pieces.sort_unstable();
        pieces.dedup();
        (format!("number-{number}"), pieces)
    }

    fn committed(&self, tag: String, directory: String, pieces: Vec<usize>) {
        let wanted = Wanted { directory, pieces, readers: 0 };
        assert!(self.model.lock().unwrap().insert(tag, wanted).is_none());
    }

    fn back_up(&self, repository: &Repository, random: &mut Random) {
        let (tag, pieces) = self.choose(random);
        let options = BackupOptions {
            paths: vec!["/crowd".to_owned()],
            tags: vec![tag.clone()],
            time: jiff::Timestamp::now(),
            ..BackupOptions::default()
        };
        let mut pause = || thread::sleep(Duration::from_millis(random.below(60) as u64));
        let done = repository.backup(options).and_then(|mut writer| {
            for piece in &pieces {
                let content = self.pieces[*piece].clone();
                let size = content.len() as u64;
                let metadata = Metadata { mode: 0o644, size, links: 1, ..Metadata::default() };
                let name = format!("piece-{piece}");
                writer.add_file(name.as_bytes(), &metadata, &mut || {
                    Ok(Box::new(Cursor::new(content.clone())))
                })?;
                pause();
            }
            pause();
            writer.finish(None)
        });
        match done {
            Ok(_) => {
                self.count("backup", true);
                self.committed(tag, String::new(), pieces);
            }
            Err(Error::Locked { .. }) => self.count("backup", false),
            Err(error) => panic!("a backup failed: {error}"),
        }
    }

    fn source(&self, tag: &str, pieces: &[usize]) -> PathBuf {
        let source = self.sandbox.directory(&format!("source-{tag}"));
        for piece in pieces {
            fs::write(source.join(format!("piece-{piece}")), &self.pieces[*piece]).unwrap();
        }
        source
    }

    fn program(&self, args: &[&str]) -> Finished {
        let mut command = clean_command(executable());
        command.args(["repository", "--quiet", "--repo"]).arg(self.sandbox.path("repo"));
        command.arg("--password-file").arg(self.sandbox.path("password")).args(args);
        command.env("XDG_CACHE_HOME", self.sandbox.path("cache"));
        Finished::of(&mut command, "it was just there")
    }

    fn program_backs_up(&self, random: &mut Random) {
        let (tag, pieces) = self.choose(random);
        let source = self.source(&tag, &pieces);
        let source = source.to_str().unwrap();
        let ended = self.program(&["backup", "--tag", &tag, source]);
        match ended.code {
            Some(0) => self.committed(tag, source.to_owned(), pieces),
            Some(11) => {}
            _ => panic!("{ended}"),
        }
        self.count("program backup", ended.code == Some(0));
    }

    fn restic(&self, args: &[&str]) -> Finished {
        let mut command = clean_command("restic");
        command.args(["--no-cache", "--repo"]).arg(self.sandbox.path("repo")).args(args);
        Finished::of(command.env("RESTIC_PASSWORD", SECRET), "install Debian's package restic")
    }

    fn restic_backs_up(&self, random: &mut Random) {
        let (tag, pieces) = self.choose(random);
        let source = self.source(&tag, &pieces);
        let source = source.to_str().unwrap();
        let ended = self.restic(&["backup", "--tag", &tag, source]);
        match ended.code {
            Some(0) => self.committed(tag, source.to_owned(), pieces),
            _ => assert!(ended.stderr.contains("lock"), "{ended}"),
        }
        self.count("restic backup", ended.code == Some(0));
    }

    /// Takes a snapshot that nobody reads out of the model: it may be gone from now on.
    fn take(&self, random: &mut Random) -> Option<(String, Wanted)> {
        let mut model = self.model.lock().unwrap();
        let free: Vec<_> = model.iter().filter(|(_, wanted)| wanted.readers == 0).collect();
        // Some always stay.
        if free.len() < 3 {
            return None;
        }
        let tag = free[random.below(free.len())].0.clone();
        let wanted = model.remove(&tag)?;
        Some((tag, wanted))
    }

    fn forget(&self, repository: &Repository, random: &mut Random) {
        let Some((tag, wanted)) = self.take(random) else { return };
        let snapshot = repository.find_snapshot_by_tag(&tag).unwrap().unwrap();
        match repository.forget(&[snapshot.id]) {
            Ok(()) => self.count("forget", true),
            Err(Error::Locked { .. }) => {
                self.count("forget", false);
                self.model.lock().unwrap().insert(tag, wanted);
            }
            Err(error) => panic!("a forget failed: {error}"),
        }
    }

    fn restic_forgets(&self, random: &mut Random) {
        let Some((tag, wanted)) = self.take(random) else { return };
        let snapshot = self.opened[0].find_snapshot_by_tag(&tag).unwrap().unwrap();
        let ended = self.restic(&["forget", &snapshot.id.to_string()]);
        if ended.code != Some(0) {
            assert!(ended.stderr.contains("lock"), "{ended}");
            self.model.lock().unwrap().insert(tag, wanted);
        }
        self.count("restic forget", ended.code == Some(0));
    }

    fn check(&self, repository: &Repository) {
        match repository.check(CheckLevel::ReadData, &CancelFlag::new()) {
            Ok(report) => {
                assert!(report.is_clean(), "{:?}", report.problems);
                self.count("check", true);
            }
            Err(Error::Locked { .. }) => self.count("check", false),
            Err(error) => panic!("a check failed: {error}"),
        }
    }

    fn program_checks(&self) {
        let ended = self.program(&["check", "--read-data"]);
        assert!(matches!(ended.code, Some(0 | 11)), "{ended}");
        self.count("program check", ended.code == Some(0));
    }

    fn prune(&self, repository: &Repository) {
        match repository.prune(&everything()) {
            Ok(report) => {
                assert!(report.damaged.is_empty() && !report.out_of_space, "{report:?}");
                self.count("prune", report.postponed.is_empty());
                if report.deleted_packs > 0 {
                    self.count("prune that deletes", true);
                }
                if report.waiting_packs > 0 {
                    self.count("prune that waits", true);
                }
            }
            Err(Error::Locked { .. }) => self.count("prune", false),
            Err(error) => panic!("a prune failed: {error}"),
        }
    }

    fn program_prunes(&self) {
        let ended = self.program(&["prune", "--max-unused", "0", "--allow-empty"]);
        assert!(matches!(ended.code, Some(0 | 11)), "{ended}");
        self.count("program prune", ended.code == Some(0));
    }

    fn read(&self, repository: &Repository, random: &mut Random) {
        let mut model = self.model.lock().unwrap();
        if model.is_empty() {
            return;
        }
        let number = random.below(model.len());
        let Some((tag, wanted)) = model.iter_mut().nth(number) else { return };
        wanted.readers += 1;
        let (tag, wanted) = (tag.clone(), wanted.clone());
        drop(model);
        let good = self.whole(repository, &tag, &wanted);
        self.count("restore", good);
        if let Some(wanted) = self.model.lock().unwrap().get_mut(&tag) {
            wanted.readers -= 1;
        }
    }

    /// Reads a snapshot and compares it; `false` if a lock forbids it.
    fn whole(&self, repository: &Repository, tag: &str, wanted: &Wanted) -> bool {
        let snapshot = repository.find_snapshot_by_tag(tag).unwrap();
        let snapshot = snapshot.unwrap_or_else(|| panic!("{tag} is gone"));
        let reader = match repository.reader() {
            Err(Error::Locked { .. }) => return false,
            other => other.unwrap(),
        };
        for piece in &wanted.pieces {
            let path = format!("{}/piece-{piece}", wanted.directory);
            let entry = reader.entry(&snapshot, path.as_bytes()).unwrap();
            let mut content = Vec::new();
            let read = reader.read_file(&entry, &mut |_, bytes| {
                content.extend_from_slice(bytes);
                Ok(())
            });
            match read {
                Err(Error::Locked { .. }) => return false,
                other => other.unwrap_or_else(|error| panic!("{tag} {path}: {error}")),
            }
            assert!(content == self.pieces[*piece], "{tag}: {path} differs");
        }
        true
    }

    /// Exactly what the model says is there, and all of it whole.
    fn agrees_with_the_model(&self) {
        let fresh = open(&self.sandbox);
        let model = self.model.lock().unwrap().clone();
        let listed = fresh.snapshots().unwrap().snapshots;
        let mut tags: Vec<_> = listed.iter().flat_map(|snapshot| snapshot.tags.clone()).collect();
        tags.sort();
        let mut expected: Vec<_> = model.keys().cloned().collect();
        expected.sort();
        assert_eq!(tags, expected);
        for (tag, wanted) in &model {
            assert!(self.whole(&fresh, tag, wanted));
        }
        let report = fresh.check(CheckLevel::ReadData, &CancelFlag::new()).unwrap();
        assert!(report.is_clean(), "{:?}", report.problems);
        // Nobody is at work any more: what nobody needs goes at once.
        let pruned = fresh.prune(&everything()).unwrap();
        assert!(pruned.waiting_packs == 0 && pruned.postponed.is_empty(), "{pruned:?}");
        assert_eq!(fresh.plan_prune(&everything()).unwrap().unused_bytes, 0);
        for (tag, wanted) in &model {
            assert!(self.whole(&fresh, tag, wanted));
        }
        let locks = fs::read_dir(self.sandbox.path("repo/locks")).unwrap().count();
        assert_eq!(locks, 0, "locks are left");
        Vault::at(self.sandbox.path("repo").to_str().unwrap(), SECRET).check();
    }
}

#[test]
fn a_crowd_in_one_repository() {
    let seed = Random::seed();
    let crowd = Crowd::new(seed);
    thread::scope(|scope| {
        for worker in 0..WORKERS {
            let crowd = &crowd;
            scope.spawn(move || {
                crowd.work(worker, &mut Random(seed.wrapping_mul(31).wrapping_add(worker as u64)));
            });
        }
    });
    println!("seed {seed}: {:?}", crowd.counts.lock().unwrap());
    crowd.agrees_with_the_model();
}
