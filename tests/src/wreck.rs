//! Wrecks: the real program dies in the middle of its work, and nothing may be lost.
//!
//! The repository lies on a [`Disk`] of the tests' own. A command of `provault repository` is
//! started and killed at the n-th change of that disk, for an n drawn from a seed; perhaps the power
//! goes too. Then the machine starts again, and everything that was committed before has to be
//! there, byte for byte, for us and for stock restic; the same command has to succeed; and a prune
//! has to remove what was left.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use provault_repository::{
    CancelFlag, CheckLevel, ObjectStorage, Options, Password, Repository, SnapshotId, Storage,
};

use crate::disk::{Disk, Doom, Image, Loss};
use crate::restic::Vault;
use crate::{Finished, Manifest, Random, Sandbox, clean_command, executable};

/// What is running when the machine dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Work {
    /// The repository is made.
    Init,
    /// A backup of something new.
    Backup,
    /// Everything is checked to the last byte.
    Check,
    /// A snapshot is restored.
    Restore,
}

impl Work {
    /// All there are.
    pub const ALL: &[Self] = &[Self::Init, Self::Backup, Self::Check, Self::Restore];
}

/// The place of wrecks: a disk with a repository on it, which is put back to its beginning for
/// every wreck.
pub struct Yard {
    disk: Disk,
    sandbox: Sandbox,
    password: Password,
    /// An empty disk, and one with the repository.
    empty: Image,
    begun: Image,
    /// The snapshots that are there at the beginning, and what they are of.
    kept: BTreeMap<SnapshotId, PathBuf>,
    /// What the programs get in their environment.
    environment: Vec<(String, String)>,
    /// Changes of the disk that each work makes.
    changes: BTreeMap<Work, u64>,
}

const SECRET: &str = "the password of a repository that is wrecked";

impl Yard {
    /// Mounts the disk and makes the repository. An error means that this host does not allow it.
    pub fn open(environment: &[(&str, &str)]) -> std::io::Result<Self> {
        let sandbox = Sandbox::new();
        let disk = Disk::mount(&sandbox.directory("disk"))?;
        fs::write(sandbox.path("password"), SECRET).unwrap();
        for (number, name) in ["first", "second", "garbage", "new"].into_iter().enumerate() {
            write_source(&sandbox.directory(name), number as u64);
        }
        let mut yard = Self {
            empty: disk.image(),
            begun: disk.image(),
            disk,
            password: Password::from_text(SECRET),
            kept: BTreeMap::new(),
            environment: Vec::new(),
            changes: BTreeMap::new(),
            sandbox,
        };
        let _ = yard.run(Work::Init).expect(0);
        for name in ["first", "second", "garbage"] {
            let source = yard.sandbox.path(name);
            let before = yard.snapshots();
            let _ = yard.program(&["backup", source.to_str().unwrap()]).expect(0);
            let new: Vec<_> = yard.snapshots().difference(&before).copied().collect();
            if name == "garbage" {
                yard.repository().forget(&new).unwrap();
            } else {
                yard.kept.insert(new[0], source);
            }
        }
        yard.begun = yard.disk.image();
        let set = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        yard.environment = set.collect();
        for work in Work::ALL {
            yard.set_up(*work);
            let _ = yard.run(*work).expect(0);
            yard.changes.insert(*work, yard.disk.changes());
        }
        Ok(yard)
    }

    fn repo(&self) -> PathBuf {
        self.disk.root().join("repo")
    }

    fn storage(&self) -> Arc<dyn Storage> {
        Arc::new(ObjectStorage::local(&self.repo()).unwrap())
    }

    fn repository(&self) -> Repository {
        Repository::open(self.storage(), &self.password, Options::default()).unwrap()
    }

    fn snapshots(&self) -> BTreeSet<SnapshotId> {
        let listed = self.repository().snapshots().unwrap();
        assert!(listed.damaged.is_empty(), "{:?}", listed.damaged);
        listed.snapshots.iter().map(|snapshot| snapshot.id).collect()
    }

    fn program(&self, args: &[&str]) -> Finished {
        let mut command: Command = clean_command(executable());
        command.args(["repository", "--quiet", "--repo"]).arg(self.repo());
        command.arg("--password-file").arg(self.sandbox.path("password")).args(args);
        // The cache outlives a disk that is put back to its beginning, and may then know more than
        // the repository.
        command.env("XDG_CACHE_HOME", self.sandbox.path("cache"));
        for (name, value) in &self.environment {
            command.env(name, value);
        }
        Finished::of(&mut command, "it was just there")
    }

    fn set_up(&self, work: Work) {
        self.disk.insert(if work == Work::Init { self.empty.clone() } else { self.begun.clone() });
        let _ = fs::remove_dir_all(self.sandbox.path("restored"));
    }

    fn run(&self, work: Work) -> Finished {
        let path = |name: &str| self.sandbox.path(name).to_str().unwrap().to_owned();
        match work {
            Work::Init => self.program(&["init"]),
            Work::Backup => self.program(&["backup", &path("new")]),
            Work::Check => self.program(&["check", "--read-data"]),
            Work::Restore => self.program(&["restore", "latest", &path("restored")]),
        }
    }

    /// How many changes of the disk this work makes.
    pub fn changes(&self, work: Work) -> u64 {
        self.changes[&work]
    }

    /// One wreck. Panics where something is lost; returns a line that tells what happened.
    pub fn wreck(&self, seed: u64) -> String {
        let mut random = Random(seed);
        let work = Work::ALL[random.below(Work::ALL.len())];
        // A backup is what most can go wrong with.
        let work = if random.below(2) == 0 { Work::Backup } else { work };
        let losses = [Loss::Nothing, Loss::Everything, Loss::Content, Loss::Chance, Loss::Chance];
        let loss = losses[random.below(losses.len())];
        let total = usize::try_from(self.changes(work)).unwrap();
        let doom = Doom { at: 1 + random.below(total) as u64, after: random.below(2) == 0 };
        self.wreck_at(work, doom, loss, &mut random)
    }

    /// A wreck of a certain kind.
    pub fn wreck_at(&self, work: Work, doom: Doom, loss: Loss, random: &mut Random) -> String {
        let case = format!("{work:?} dies at change {} ({doom:?}), {loss:?} is lost", doom.at);
        println!("{case}");
        self.set_up(work);
        self.disk.doom(doom);
        let ended = self.run(work);
        assert!(ended.code.is_some() != self.disk.is_dead(), "{case}: {ended}");
        self.disk.revive(loss, random);
        if work == Work::Init {
            if ended.code.is_none() && !self.repo().join("config").exists() {
                // Not made; then it can be made.
                let _ = self.run(work).expect(0);
            }
            self.whole(&case, &BTreeMap::new(), random);
            return case;
        }
        // What is there now must be what was there before, and perhaps the new snapshot.
        let mut wanted = self.kept.clone();
        let there = self.snapshots();
        let new: Vec<_> = there.iter().filter(|id| !self.kept.contains_key(id)).collect();
        assert!(new.len() <= usize::from(work == Work::Backup), "{case}: {new:?}");
        let committed = work == Work::Backup && ended.code == Some(0);
        assert!(!committed || new.len() == 1, "{case}: the new snapshot is gone");
        wanted.extend(new.iter().map(|id| (**id, self.sandbox.path("new"))));
        self.whole(&case, &wanted, random);
        // Whoever comes next finds everything in order.
        let _ = fs::remove_dir_all(self.sandbox.path("restored"));
        let _ = self.run(work).expect(0);
        if work == Work::Backup {
            let newest = self.snapshots();
            let newest = newest.iter().filter(|id| !there.contains(id));
            wanted.extend(newest.map(|id| (*id, self.sandbox.path("new"))));
            assert_eq!(wanted.len(), there.len() + 1);
        }
        self.whole(&case, &wanted, random);
        case
    }

    /// Every snapshot is there, no other, and each gives back its source; both checks are clean.
    fn whole(&self, case: &str, wanted: &BTreeMap<SnapshotId, PathBuf>, random: &mut Random) {
        let repository = self.repository();
        let expected: Vec<_> = wanted.keys().copied().collect();
        let report = repository
            .check_expecting(CheckLevel::ReadData, &expected, &CancelFlag::new())
            .unwrap_or_else(|error| panic!("{case}: {error}"));
        assert!(report.is_clean(), "{case}: {:?}", report.problems);
        assert_eq!(report.snapshots, wanted.len() as u64, "{case}");
        for (id, source) in wanted {
            same_content(&repository, *id, source);
        }
        drop(repository);
        if let Some((id, source)) = wanted.iter().nth(random.below(wanted.len().max(1))) {
            let target = self.sandbox.path("all");
            let _ = fs::remove_dir_all(&target);
            let _ = self.program(&["restore", &id.to_string(), target.to_str().unwrap()]).expect(0);
            let restored = target.join(source.strip_prefix("/").unwrap());
            Manifest::of(source).assert_same(&Manifest::of(&restored), case);
        }
        Vault::at(self.repo().to_str().unwrap(), SECRET).check();
    }
}

/// A small tree, some of which all sources share.
fn write_source(root: &Path, number: u64) {
    fs::create_dir_all(root.join("sub/below")).unwrap();
    let mut random = Random(1000 + number);
    fs::write(root.join("own"), random.bytes(700_000)).unwrap();
    fs::write(root.join("sub/shared"), Random(7).bytes(900_000)).unwrap();
    fs::write(root.join("sub/below/text"), format!("source {number}\n").repeat(3000)).unwrap();
    fs::write(root.join("empty"), "").unwrap();
    std::os::unix::fs::symlink("sub/shared", root.join("link")).unwrap();
}

/// Reads every file of the source from the snapshot.
fn same_content(repository: &Repository, id: SnapshotId, source: &Path) {
    let snapshot = repository.snapshot(id).unwrap();
    let reader = repository.reader().unwrap();
    for name in ["own", "sub/shared", "sub/below/text", "empty"] {
        let path = source.join(name);
        let entry = reader.entry(&snapshot, path.to_str().unwrap().as_bytes()).unwrap();
        let mut content = Vec::new();
        let read = reader.read_file(&entry, &mut |_, bytes| {
            content.extend_from_slice(bytes);
            Ok(())
        });
        read.unwrap_or_else(|error| panic!("{id} {}: {error}", path.display()));
        assert!(content == fs::read(&path).unwrap(), "{id}: {} differs", path.display());
    }
}
