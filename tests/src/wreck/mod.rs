//! Wrecks: the real program dies in the middle of its work, and nothing may be lost.
//!
//! The repository lies on a [`Disk`] of the tests' own. A command of `provault repository` is
//! started and killed at the n-th operation on that disk, for an n drawn from a seed; perhaps the
//! power goes too. Then the machine starts again, and everything that was committed before has to
//! be there, byte for byte, for us and for stock restic; the same command has to succeed; and a
//! prune has to remove everything that was left.
//!
//! A second kind of wreck needs no death: a command stands still at its n-th operation while a
//! prune runs from its beginning to its end, or is killed itself; then it goes on (`beside`). In a
//! third the server dies while it imports a repository (`import`).

mod beside;
mod import;
mod work;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use provault_repository::{
    CancelFlag, CheckLevel, CheckOptions, MaxUnused, ObjectStorage, Options, Password,
    PruneOptions, Repository, SnapshotId, Storage,
};

use crate::disk::{Disk, Doom, Fate, Image, Loss};
use crate::restic::Vault;
use crate::{Finished, Manifest, Random, Sandbox, clean_command, executable, vault_files};
pub use work::Work;

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
    /// How much there is of what is counted in each work.
    length: BTreeMap<Work, u64>,
}

const SECRET: &str = "the password of a repository that is wrecked";

/// Begun files have these names; see the local storage.
const BEGUN: &str = ".provault-new-";

impl Yard {
    /// Mounts the disk and makes the repository. An error means that this host does not allow it.
    pub fn open(environment: &[(&str, &str)]) -> std::io::Result<Self> {
        let sandbox = Sandbox::new();
        let disk = Disk::mount(&sandbox.directory("disk"))?;
        fs::write(sandbox.path("password"), SECRET).unwrap();
        let sources = ["gone", "first", "second", "garbage", "new"];
        for (number, name) in sources.into_iter().enumerate() {
            write_source(&sandbox.directory(name), number as u64);
        }
        let mut yard = Self {
            empty: disk.image(),
            begun: disk.image(),
            disk,
            password: Password::from_text(SECRET),
            kept: BTreeMap::new(),
            environment: Vec::new(),
            length: BTreeMap::new(),
            sandbox,
        };
        let _ = yard.run(Work::Init).expect(0);
        for name in &sources[..4] {
            let source = yard.sandbox.path(name);
            let before = yard.snapshots();
            let _ = yard.program(&["backup", source.to_str().unwrap()]).expect(0);
            let new: Vec<_> = yard.snapshots().difference(&before).copied().collect();
            yard.kept.insert(new[0], source);
        }
        // The others rely on a part of what one of them stored, and on nothing of the other: there
        // is something to copy and something to delete.
        let forgotten = ["gone", "garbage"].map(|name| yard.sandbox.path(name));
        let gone = yard.kept.iter().filter(|(_, source)| forgotten.contains(source));
        let gone: Vec<_> = gone.map(|(id, _)| *id).collect();
        yard.repository().forget(&gone).unwrap();
        yard.kept.retain(|id, _| !gone.contains(id));
        yard.begun = yard.disk.image();
        // Another repository, on another disk, with something new and something forgotten.
        let other = yard.path("other");
        for args in [&["init"][..], &["backup", &yard.path("new")]] {
            let _ = Finished::of(&mut yard.command(&other, args), "it was just there").expect(0);
        }
        let set = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        yard.environment = set.collect();
        for work in Work::ALL {
            yard.set_up(*work);
            let _ = yard.run(*work).expect(0);
            yard.length.insert(*work, yard.disk.count(work.counts()));
        }
        Ok(yard)
    }

    /// A path beside the disk, as an argument.
    fn path(&self, name: &str) -> String {
        self.sandbox.path(name).to_str().unwrap().to_owned()
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

    /// A command of `provault repository`.
    fn command(&self, repo: impl AsRef<Path>, args: &[&str]) -> Command {
        let mut command: Command = clean_command(executable());
        command.args(["repository", "--quiet", "--repo"]).arg(repo.as_ref());
        command.arg("--password-file").arg(self.sandbox.path("password")).args(args);
        // The cache outlives a disk that is put back to its beginning, and may then know more than
        // the repository.
        command.env("XDG_CACHE_HOME", self.sandbox.path("cache"));
        for (name, value) in &self.environment {
            command.env(name, value);
        }
        command
    }

    fn program(&self, args: &[&str]) -> Finished {
        Finished::of(&mut self.command(self.repo(), args), "it was just there")
    }

    fn set_up(&self, work: Work) {
        self.disk.insert(if work == Work::Init { self.empty.clone() } else { self.begun.clone() });
        let _ = fs::remove_dir_all(self.sandbox.path("restored"));
    }

    fn run(&self, work: Work) -> Finished {
        let args = work.args(&self.sandbox);
        self.program(&args.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// How many operations or changes this work makes, whichever it [counts](Work::counts).
    pub fn length(&self, work: Work) -> u64 {
        self.length[&work]
    }

    /// One wreck. Panics where something is lost; returns a line that tells what happened.
    pub fn wreck(&self, seed: u64) -> String {
        let mut random = Random(seed);
        match random.below(16) {
            0..3 => return self.wreck_beside(&mut random),
            3 => return self.wreck_import(&mut random),
            _ => {}
        }
        // What makes the most changes is what most can go wrong with.
        let often = [Work::Backup, Work::Prune, Work::Copy];
        let works = if random.below(3) == 0 { Work::ALL } else { &often };
        let work = works[random.below(works.len())];
        let doom = self.doom(work, &mut random);
        self.wreck_at(work, doom, any_loss(&mut random), &mut random)
    }

    /// The end of a work at any of its operations.
    fn doom(&self, work: Work, random: &mut Random) -> Doom {
        let at = 1 + random.below(usize::try_from(self.length(work)).unwrap()) as u64;
        Doom { at, of: work.counts(), after: random.below(2) == 0, fate: Fate::Dies }
    }

    /// A wreck of a certain kind.
    pub fn wreck_at(&self, work: Work, doom: Doom, loss: Loss, random: &mut Random) -> String {
        let case = format!("{work:?} dies ({doom:?}), {loss:?} is lost");
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
        assert!(new.len() <= usize::from(work.commits()), "{case}: {new:?}");
        let committed = work.commits() && ended.code == Some(0);
        assert!(!committed || new.len() == 1, "{case}: the new snapshot is gone");
        wanted.extend(new.iter().map(|id| (**id, self.sandbox.path("new"))));
        self.whole(&case, &wanted, random);
        // Whoever comes next finds everything in order.
        let _ = fs::remove_dir_all(self.sandbox.path("restored"));
        let _ = self.run(work).expect(0);
        if work.commits() {
            let newest = self.snapshots();
            let newest = newest.iter().filter(|id| !there.contains(id));
            wanted.extend(newest.map(|id| (*id, self.sandbox.path("new"))));
            // What was copied is not copied again.
            let more = usize::from(work == Work::Backup || new.is_empty());
            assert_eq!(wanted.len(), there.len() + more, "{case}");
        }
        self.reclaimed(&case);
        self.whole(&case, &wanted, random);
        case
    }

    /// A prune frees all that is not needed, and nothing that was begun stays.
    fn reclaimed(&self, case: &str) {
        let repository = self.repository();
        let options = PruneOptions {
            max_unused: MaxUnused::Bytes(0),
            // Nobody else is alive.
            leftovers_after: Duration::ZERO,
            // What broke off may have been the first backup.
            allow_empty: true,
            ..PruneOptions::default()
        };
        let done = repository.prune(&options).unwrap_or_else(|error| panic!("{case}: {error}"));
        let stays = done.waiting_packs != 0 || !done.postponed.is_empty() || done.out_of_space;
        assert!(!stays && done.damaged.is_empty(), "{case}: {done:?}");
        let plan = repository.plan_prune(&options).unwrap();
        let left = [&plan.delete, &plan.repack, &plan.sweep, &plan.waiting];
        let nothing = left.iter().all(|packs| packs.is_empty()) && plan.take_back == 0;
        assert!(nothing && plan.unused_bytes == 0, "{case}: after a prune: {plan:?}");
        drop(repository);
        let mut files = Vec::new();
        vault_files::collect(&self.repo(), &mut files);
        let stray = files.iter().find(|file| {
            let below = |directory: &str| file.starts_with(self.repo().join(directory));
            let name = file.file_name().unwrap().to_str().unwrap();
            below("locks") || below("provault/prune") || name.starts_with(BEGUN)
        });
        assert_eq!(stray, None, "{case}: left over");
    }

    /// Every snapshot is there, no other, and each gives back its source; both checks are clean.
    fn whole(&self, case: &str, wanted: &BTreeMap<SnapshotId, PathBuf>, random: &mut Random) {
        let repository = self.repository();
        let expected: Vec<_> = wanted.keys().copied().collect();
        let level = CheckLevel::ReadData;
        let options = CheckOptions { level, expected: &expected, ..CheckOptions::default() };
        let report = repository
            .check_with(&options, &CancelFlag::new())
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

fn any_loss(random: &mut Random) -> Loss {
    let losses = [Loss::Nothing, Loss::Everything, Loss::Content, Loss::Chance, Loss::Chance];
    losses[random.below(losses.len())]
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
