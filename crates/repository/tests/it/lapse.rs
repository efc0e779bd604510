//! Jobs that were taken for dead, and live: somebody removed their locks and pruned.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use provault_repository::{
    Error, MaxUnused, ObjectStorage, Options, Password, PruneOptions, PruneReport, Repository,
    SnapshotWriter,
};

use crate::hook::{Hook, hooked};
use crate::support::{
    Sandbox, assert_same, backup_options, describe, noise, options, small_tree, walk,
};

fn everything() -> PruneOptions {
    PruneOptions { max_unused: MaxUnused::Bytes(0), allow_empty: true, ..PruneOptions::default() }
}

fn with_content() -> Sandbox {
    let sandbox = Sandbox::new();
    small_tree(&sandbox.source());
    fs::write(sandbox.source().join("large"), noise(31, 3_500_000)).unwrap();
    sandbox
}

fn files(sandbox: &Sandbox, directory: &str) -> Vec<String> {
    let mut files = sandbox.repository_files();
    files.retain(|name| name.starts_with(directory));
    files
}

/// Another machine. It knows nothing of this process.
struct Elsewhere {
    repo: PathBuf,
    password: Password,
}

impl Elsewhere {
    fn of(sandbox: &Sandbox) -> Self {
        Self { repo: sandbox.path("repo"), password: sandbox.password.clone() }
    }

    fn prune(&self) -> PruneReport {
        let storage = Arc::new(ObjectStorage::local(&self.repo).unwrap());
        let repository = Repository::open(storage, &self.password, options()).unwrap();
        repository.prune(&everything()).unwrap()
    }

    /// Believes all others dead, and prunes; tells how many packs it deleted.
    fn take_for_dead(&self) -> u64 {
        for lock in fs::read_dir(self.repo.join("locks")).unwrap() {
            // It may just have been written anew under another name.
            let _ = fs::remove_file(lock.unwrap().path());
        }
        self.prune().deleted_packs
    }

    /// The same, for a hook; how many packs it deleted comes out of the channel.
    fn taking_for_dead(self) -> (impl FnOnce() + Send + 'static, Receiver<u64>) {
        let (told, deleted) = mpsc::channel();
        (move || told.send(self.take_for_dead()).unwrap(), deleted)
    }
}

/// Reads everything, and waits until some full pack is there.
fn store(sandbox: &Sandbox, writer: &mut SnapshotWriter) {
    walk(writer, &sandbox.source()).unwrap();
    writer.settled_stats().unwrap();
    while !files(sandbox, "data/").iter().any(|name| !name.contains(".provault")) {
        thread::sleep(Duration::from_millis(5));
    }
}

/// A backup of everything is whole, whoever makes it.
fn assert_usable(sandbox: &Sandbox, repositories: &[&Repository]) {
    for (number, repository) in repositories.iter().enumerate() {
        let committed = sandbox.backup(repository);
        sandbox.assert_clean();
        let out = sandbox.restore(&sandbox.open(), committed.id, &format!("out{number}"));
        assert_same(&describe(&sandbox.source()), &describe(&out));
    }
}

fn hooked_repository(sandbox: &Sandbox) -> (Repository, Arc<Hook>) {
    sandbox.init();
    let (storage, hook) = hooked(sandbox.storage());
    (Repository::open(storage, &sandbox.password, options()).unwrap(), hook)
}

/// Whether it has noticed or not, a job commits nothing after it was taken for dead.
#[test]
fn what_others_deleted_is_not_committed() {
    for refreshed in [false, true] {
        let sandbox = with_content();
        sandbox.init();
        let pause = Duration::from_millis(if refreshed { 20 } else { 600_000 });
        let quick = Options { lock_refresh: pause, ..options() };
        let repository = Repository::open(sandbox.storage(), &sandbox.password, quick).unwrap();
        let mut writer = repository.backup(backup_options(&sandbox.source(), None)).unwrap();
        store(&sandbox, &mut writer);
        // The lock may just have been written anew, so that the prune waits for the job once.
        while Elsewhere::of(&sandbox).take_for_dead() == 0 {
            assert!(refreshed);
        }
        if refreshed {
            // Several times what it takes to be refreshed.
            thread::sleep(Duration::from_millis(200));
        }
        let ended = writer.finish(None).map(|committed| committed.id);
        assert!(matches!(ended, Err(Error::LockLost(_))), "{ended:?}");
        assert!(files(&sandbox, "snapshots/").is_empty() && files(&sandbox, "index/").is_empty());
        assert_usable(&sandbox, &[&repository, &sandbox.open()]);
    }
}

/// A job that begins later in the same process finds nothing stored that others deleted.
#[test]
fn a_job_after_a_lapse_relies_on_nothing_of_before() {
    let sandbox = with_content();
    let repository = sandbox.init();
    let mut writer = repository.backup(backup_options(&sandbox.source(), None)).unwrap();
    store(&sandbox, &mut writer);
    assert!(Elsewhere::of(&sandbox).take_for_dead() > 0);
    assert_usable(&sandbox, &[&repository]);
    let ended = writer.finish(None).map(|committed| committed.id);
    assert!(matches!(ended, Err(Error::LockLost(_))), "{ended:?}");
    sandbox.assert_clean();
}

/// Two that begin together after a lapse do not take each other for witnesses of before.
#[test]
fn jobs_that_begin_together_rely_on_nothing_of_before() {
    let sandbox = with_content();
    let (repository, hook) = hooked_repository(&sandbox);
    let mut lost = repository.backup(backup_options(&sandbox.source(), None)).unwrap();
    store(&sandbox, &mut lost);
    assert!(Elsewhere::of(&sandbox).take_for_dead() > 0);
    let (again, other) = (Arc::clone(&hook), repository.clone());
    let (began, beginning) = mpsc::channel();
    // A job lists the locks before its own is there, and after.
    hook.at("list locks", move || {
        again.at("list locks", move || began.send(other.reader().unwrap()).unwrap());
    });
    let mut writer = repository.backup(backup_options(&sandbox.source(), None)).unwrap();
    let reader = beginning.recv().unwrap();
    walk(&mut writer, &sandbox.source()).unwrap();
    let committed = writer.finish(None).unwrap();
    drop(reader);
    assert!(lost.finish(None).is_err());
    sandbox.assert_clean();
    let out = sandbox.restore(&sandbox.open(), committed.id, "out");
    assert_same(&describe(&sandbox.source()), &describe(&out));
}

/// A job that began before holds on to what the other stored, which stays while it runs.
#[test]
fn a_job_that_kept_its_lock_may_rely_on_what_another_stored() {
    let sandbox = with_content();
    let repository = sandbox.init();
    let mut lost = repository.backup(backup_options(&sandbox.source(), None)).unwrap();
    let before = files(&sandbox, "locks/");
    let mut kept = repository.backup(backup_options(&sandbox.source(), None)).unwrap();
    store(&sandbox, &mut lost);
    fs::remove_file(sandbox.path("repo").join(&before[0])).unwrap();
    let pruned = Elsewhere::of(&sandbox).prune();
    assert_eq!(pruned.deleted_packs, 0, "{pruned:?}");
    walk(&mut kept, &sandbox.source()).unwrap();
    let committed = kept.finish(None).unwrap();
    assert!(committed.stats.bytes_added < 1_000_000, "{:?}", committed.stats);
    assert!(matches!(lost.finish(None).map(|done| done.id), Err(Error::LockLost(_))));
    sandbox.assert_clean();
}

/// It is stopped just when a pack is stored and before it is known in the process.
#[test]
fn a_pack_that_was_deleted_before_it_was_known_stays_unknown() {
    let sandbox = with_content();
    let (repository, hook) = hooked_repository(&sandbox);
    let mut writer = repository.backup(backup_options(&sandbox.source(), None)).unwrap();
    let (told, ended) = mpsc::channel();
    let (elsewhere, here) = (Elsewhere::of(&sandbox), repository.clone());
    hook.at("stored data/", move || {
        let deleted = elsewhere.take_for_dead();
        // Whoever begins now.
        drop(here.reader().unwrap());
        told.send(deleted).unwrap();
    });
    let walked = walk(&mut writer, &sandbox.source()).and_then(|_| writer.settled_stats());
    assert!(ended.recv().unwrap() > 0);
    assert_usable(&sandbox, &[&repository]);
    let ended = walked.and_then(|_| writer.finish(None)).map(|committed| committed.id);
    assert!(matches!(ended, Err(Error::LockLost(_) | Error::PackNotStored(_))), "{ended:?}");
    sandbox.assert_clean();
}

/// It is stopped just before an index file is written, which then lists what is gone.
#[test]
fn an_index_file_that_was_written_too_late_is_taken_back() {
    let sandbox = with_content();
    let (repository, hook) = hooked_repository(&sandbox);
    let mut writer = repository.backup(backup_options(&sandbox.source(), None)).unwrap();
    walk(&mut writer, &sandbox.source()).unwrap();
    let (take_for_dead, ended) = Elsewhere::of(&sandbox).taking_for_dead();
    hook.at("put index/", take_for_dead);
    let lost = writer.finish(None).map(|committed| committed.id);
    assert!(matches!(lost, Err(Error::LockLost(_))), "{lost:?}");
    assert!(ended.recv().unwrap() > 0);
    assert!(files(&sandbox, "index/").is_empty() && files(&sandbox, "snapshots/").is_empty());
    assert_usable(&sandbox, &[&repository, &sandbox.open()]);
}

/// The storage does not answer just when that file is to be deleted. Nothing is written or read by
/// this process before it is gone.
#[test]
fn an_index_file_that_could_not_be_taken_back_is_taken_back_later() {
    let sandbox = with_content();
    let (repository, hook) = hooked_repository(&sandbox);
    let mut writer = repository.backup(backup_options(&sandbox.source(), None)).unwrap();
    walk(&mut writer, &sandbox.source()).unwrap();
    let (take_for_dead, ended) = Elsewhere::of(&sandbox).taking_for_dead();
    hook.at("put index/", take_for_dead);
    hook.refuse("delete index/");
    let lost = writer.finish(None).map(|committed| committed.id);
    assert!(matches!(lost, Err(Error::LockLost(_))), "{lost:?}");
    assert!(ended.recv().unwrap() > 0);
    assert_eq!(files(&sandbox, "index/").len(), 1);
    assert_usable(&sandbox, &[&repository, &sandbox.open()]);
}

/// A prune is stopped amid its switch of the index, and another prunes everything meanwhile.
#[test]
fn a_prune_that_slept_puts_nothing_back_that_is_gone() {
    for step in ["put index/", "put provault/prune", "delete index/", "delete data/"] {
        let sandbox = with_content();
        let (repository, hook) = hooked_repository(&sandbox);
        let first = sandbox.backup(&repository);
        fs::remove_file(sandbox.source().join("large")).unwrap();
        fs::write(sandbox.source().join("other"), noise(32, 600_000)).unwrap();
        sandbox.backup(&repository);
        repository.forget(&[first.id]).unwrap();
        let (take_for_dead, ended) = Elsewhere::of(&sandbox).taking_for_dead();
        hook.at(step, take_for_dead);
        let slept = repository.prune(&everything());
        assert!(ended.recv().unwrap() > 0, "{step}");
        // Once it is at deleting packs, all it would do has been done.
        if step != "delete data/" {
            assert!(matches!(slept, Err(Error::LockLost(_))), "{step}: {slept:?}");
        }
        sandbox.assert_clean();
        assert_usable(&sandbox, &[&repository, &sandbox.open()]);
    }
}

/// One job reads the index while another waits to; a prune takes a pack out in between. The first
/// one relies on the pack, so it has to hear of it.
#[test]
fn a_departure_is_noticed_whoever_reads_the_index() {
    let sandbox = with_content();
    let (repository, hook) = hooked_repository(&sandbox);
    let first = sandbox.open();
    let forgotten = sandbox.backup(&first);
    fs::write(sandbox.source().join("stays"), noise(33, 100_000)).unwrap();
    first.forget(&[forgotten.id]).unwrap();

    let (stored, all_stored) = mpsc::channel::<()>();
    let (began, beginning) = mpsc::channel();
    let (again, elsewhere) = (Arc::clone(&hook), Elsewhere::of(&sandbox));
    let waiting = repository.clone();
    hook.at("list index", move || {
        again.at("list index", move || {
            // The second one's look, when the first one has found everything stored.
            all_stored.recv().unwrap();
            let pruned = elsewhere.prune();
            assert!(pruned.waiting_packs > 0 && pruned.deleted_packs == 0, "{pruned:?}");
        });
        began.send(thread::spawn(move || drop(waiting.reader().unwrap()))).unwrap();
        // Until it waits for its turn.
        thread::sleep(Duration::from_millis(300));
    });
    let mut writer = repository.backup(backup_options(&sandbox.source(), None)).unwrap();
    walk(&mut writer, &sandbox.source()).unwrap();
    stored.send(()).unwrap();
    beginning.recv().unwrap().join().unwrap();
    let committed = writer.finish(None).unwrap();
    assert!(committed.stats.bytes_added < 1_000_000, "{:?}", committed.stats);
    sandbox.assert_clean();
}
