//! From blobs to durable packs, shared by all jobs of a repository.
//!
//! Every blob is stored once, also when several jobs meet it at a time: the second job then
//! depends on a pack that the first one fills. A *ticket* stands for a pack until it is durable;
//! a job commits only after all its tickets have come good, and fails if one of them failed,
//! whichever job was writing it. A pack does not belong to the job that began it, so a job that is
//! dropped takes nothing away from the others.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;

use crate::cancel::CancelFlag;
use crate::error::{Error, Result};
use crate::id::Id;
use crate::pack::{BlobKind, PackBuilder};
use crate::planted::{Bug, is_planted};
use crate::repository::{FileKind, Inner};
use crate::storage::StorageError;

/// How often a waiting job looks at its cancel flag.
const LOOK_UP: Duration = Duration::from_millis(100);
/// So many buffers of stored packs are kept for the next ones.
const SPARE: usize = 4;

#[derive(Default)]
pub(crate) struct Packer {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    open: HashMap<BlobKind, OpenPack>,
    /// Blobs in packs that are not durable yet.
    in_flight: HashMap<(BlobKind, Id), Arc<Ticket>>,
    next_ticket: u64,
    /// Memory of packs that are stored.
    spare: Vec<Vec<u8>>,
}

/// A pack that is being filled, or waits to be stored.
pub(crate) struct OpenPack {
    ticket: Arc<Ticket>,
    builder: PackBuilder,
}

/// A pack that is on its way to the storage.
pub(crate) struct Ticket {
    number: u64,
    progress: Mutex<Progress>,
    changed: Condvar,
}

#[derive(Clone)]
enum Progress {
    Pending,
    Durable,
    Failed(StorageError),
}

impl Ticket {
    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn finish(&self, end: Progress) {
        let mut progress = self.progress();
        if matches!(*progress, Progress::Pending) {
            *progress = end;
        }
        drop(progress);
        self.changed.notify_all();
    }

    fn wait(&self, cancel: &CancelFlag) -> Result<()> {
        let mut progress = self.progress();
        loop {
            match &*progress {
                Progress::Durable => return Ok(()),
                Progress::Failed(error) => return Err(Error::PackNotStored(error.clone())),
                Progress::Pending => cancel.check()?,
            }
            progress = self
                .changed
                .wait_timeout(progress, LOOK_UP)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }
}

/// The packs that one job depends on and that are not known to be durable yet. Those that were there
/// before need no account: see [`relist`](crate::relist).
#[derive(Default)]
pub(crate) struct Dependencies {
    pending: HashMap<u64, Arc<Ticket>>,
}

impl Dependencies {
    fn add(&mut self, ticket: &Arc<Ticket>) {
        self.pending.entry(ticket.number).or_insert_with(|| Arc::clone(ticket));
        if self.pending.len() > 64 {
            self.pending.retain(|_, ticket| !matches!(*ticket.progress(), Progress::Durable));
        }
    }
}

/// A sealed blob on its way into a pack.
pub(crate) struct SealedBlob<'a> {
    pub(crate) kind: BlobKind,
    pub(crate) id: Id,
    pub(crate) sealed: &'a [u8],
    pub(crate) uncompressed: Option<u32>,
}

/// What became of a blob handed to the packer.
pub(crate) enum Added {
    /// Another job was faster.
    Known,
    /// It is in a pack.
    New,
    /// It is in a pack that is full now and has to be given to [`store`].
    Full(OpenPack),
}

/// Finishes the ticket whatever happens, so that nobody waits for a thread that has panicked.
struct FinishOnDrop<'a> {
    packer: &'a Packer,
    ticket: Arc<Ticket>,
    blobs: Vec<(BlobKind, Id)>,
    end: Progress,
}

impl Drop for FinishOnDrop<'_> {
    fn drop(&mut self) {
        let mut state = self.packer.state();
        for blob in &self.blobs {
            state.in_flight.remove(blob);
        }
        drop(state);
        self.ticket.finish(self.end.clone());
    }
}

impl Packer {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the blob is stored or being stored; the job depends on its pack then.
    pub(crate) fn knows(
        inner: &Inner,
        kind: BlobKind,
        id: &Id,
        dependencies: &Mutex<Dependencies>,
    ) -> bool {
        let depend = || dependencies.lock().unwrap_or_else(PoisonError::into_inner);
        // In flight first: a blob leaves there only once it is in the index.
        let in_flight = inner.packer.state().in_flight.get(&(kind, *id)).cloned();
        if let Some(ticket) = in_flight {
            depend().add(&ticket);
            return true;
        }
        inner.index().memory.contains(kind, id)
    }

    /// Adds a blob to the open pack of its kind.
    pub(crate) fn add(
        inner: &Inner,
        blob: &SealedBlob<'_>,
        dependencies: &Mutex<Dependencies>,
    ) -> Result<Added> {
        let depend = || dependencies.lock().unwrap_or_else(PoisonError::into_inner);
        let mut guard = inner.packer.state();
        let state = &mut *guard;
        if let Some(ticket) = state.in_flight.get(&(blob.kind, blob.id)) {
            depend().add(ticket);
            return Ok(Added::Known);
        }
        if inner.index().memory.contains(blob.kind, &blob.id) {
            return Ok(Added::Known);
        }
        let open = state.open.entry(blob.kind).or_insert_with(|| {
            state.next_ticket += 1;
            let (number, progress) = (state.next_ticket, Mutex::new(Progress::Pending));
            let ticket = Arc::new(Ticket { number, progress, changed: Condvar::new() });
            // Rarely more than a chunk over; growing step by step would copy it all and keep twice.
            let room = inner.options.pack_size + (2 << 20);
            let buffer = state.spare.pop().unwrap_or_else(|| Vec::with_capacity(room));
            OpenPack { ticket, builder: PackBuilder::new(buffer) }
        });
        open.builder.add(blob.kind, blob.id, blob.sealed, blob.uncompressed)?;
        depend().add(&open.ticket);
        state.in_flight.insert((blob.kind, blob.id), Arc::clone(&open.ticket));
        if open.builder.len() >= inner.options.pack_size
            && let Some(full) = state.open.remove(&blob.kind)
        {
            return Ok(Added::Full(full));
        }
        Ok(Added::New)
    }

    /// Stores the open packs that the job depends on, and waits until all its packs are durable.
    pub(crate) fn commit(
        inner: &Inner,
        dependencies: &Mutex<Dependencies>,
        cancel: &CancelFlag,
    ) -> Result<()> {
        // First what it depends on, then the open packs among these: chunks of a file that broke off
        // may still be arriving, and nobody would ever fill and store the pack that they open.
        let pending = {
            let mut depend = dependencies.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut depend.pending)
        };
        for kind in [BlobKind::Data, BlobKind::Tree] {
            let mut state = inner.packer.state();
            let needed = |open: &OpenPack| pending.contains_key(&open.ticket.number);
            let needed = state.open.get(&kind).is_some_and(needed);
            let open = if needed { state.open.remove(&kind) } else { None };
            drop(state);
            if let Some(open) = open {
                store(inner, open)?;
            }
        }
        pending.values().try_for_each(|ticket| ticket.wait(cancel))
    }

    /// Keeps a pack's memory for the next one: fresh buffers of this size cost page faults, and
    /// the allocator keeps freed ones in ways that double the peak.
    fn keep(&self, mut buffer: Vec<u8>) {
        buffer.clear();
        let mut state = self.state();
        if state.spare.len() < SPARE {
            state.spare.push(buffer);
        }
    }

    /// Drops unfinished packs; a job that depends on one fails. Returns whether there were any.
    pub(crate) fn discard(&self) -> bool {
        let mut state = self.state();
        let any = !state.in_flight.is_empty();
        for (_, open) in state.open.drain() {
            let why = "no job was left that holds its lock";
            open.ticket.finish(Progress::Failed(StorageError::other("put", "pack", why)));
        }
        state.in_flight.clear();
        state.spare.clear();
        any
    }
}

/// Makes a pack durable and known. Its ticket comes good or fails, whatever happens.
pub(crate) fn store(inner: &Inner, open: OpenPack) -> Result<()> {
    let OpenPack { ticket, builder } = open;
    let mut finish = FinishOnDrop {
        packer: &inner.packer,
        ticket,
        blobs: builder.blobs().iter().map(|blob| (blob.kind, blob.id)).collect(),
        end: Progress::Failed(StorageError::other("put", "pack", "the writing thread died")),
    };
    let epoch = inner.epoch();
    let (id, bytes, blobs) = match builder.finish(&inner.key) {
        Ok(finished) => finished,
        Err(error) => {
            finish.end = Progress::Failed(StorageError::other("build", "pack", &error));
            return Err(error);
        }
    };
    if is_planted(Bug::IndexBeforePack) {
        let listed = crate::index::IndexPack::new(id, &blobs);
        inner.save_unpacked(FileKind::Index, &crate::index::to_json(&[&listed])?)?;
    }
    let bytes = Bytes::from(bytes);
    let put = inner.storage.put(&FileKind::Pack.name(&id), bytes.clone());
    if let Ok(buffer) = bytes.try_into_mut() {
        inner.packer.keep(buffer.into());
    }
    if let Err(error) = put {
        finish.end = Progress::Failed(error.clone());
        return Err(Error::PackNotStored(error));
    }
    let Some(waiting) = inner.publish(id, &blobs, epoch) else {
        let why = "the lock was lost while it was being stored";
        let error = StorageError::other("put", &FileKind::Pack.name(&id), why);
        finish.end = Progress::Failed(error.clone());
        return Err(Error::PackNotStored(error));
    };
    finish.end = Progress::Durable;
    drop(finish);
    // A long job leaves index files as it goes, so that a crash does not cost all its work.
    if Inner::index_batch_is_full(waiting)
        && inner.lock.is_settled()
        && let Err(error) = inner.flush_index()
    {
        tracing::warn!(%error, "cannot write an index file yet; the end of the job tries again");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::sync::{OnceLock, Weak};
    use std::thread;

    use super::*;
    use crate::{ObjectStorage, Options, Password, Repository, Storage, StoredObject};

    type Stored<T> = std::result::Result<T, StorageError>;
    type Hook = Box<dyn Fn() + Send + Sync>;

    /// Calls a hook before the first pack is stored.
    struct Hooked {
        below: ObjectStorage,
        hook: Mutex<Option<Hook>>,
    }

    impl std::fmt::Debug for Hooked {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            self.below.fmt(f)
        }
    }

    impl Storage for Hooked {
        fn get(&self, name: &str) -> Stored<Bytes> {
            self.below.get(name)
        }
        fn get_range(&self, name: &str, offset: u64, length: u64) -> Stored<Bytes> {
            self.below.get_range(name, offset, length)
        }
        fn put(&self, name: &str, content: Bytes) -> Stored<()> {
            if name.starts_with("data/")
                && let Some(hook) = self.hook.lock().unwrap().take()
            {
                hook();
            }
            self.below.put(name, content)
        }
        fn list(&self, prefix: &str) -> Stored<Vec<StoredObject>> {
            self.below.list(prefix)
        }
        fn size(&self, name: &str) -> Stored<u64> {
            self.below.size(name)
        }
        fn delete(&self, name: &str) -> Stored<()> {
            self.below.delete(name)
        }
    }

    fn add(inner: &Inner, dependencies: &Mutex<Dependencies>, content: &[u8]) {
        let sealed = inner.key.seal(content);
        let id = Id::hash(content);
        let blob = SealedBlob { kind: BlobKind::Data, id, sealed: &sealed, uncompressed: None };
        assert!(matches!(Packer::add(inner, &blob, dependencies), Ok(Added::New)));
    }

    /// A chunk of a file that broke off arrives while the commit stores the open packs, and opens a
    /// new one. Nobody fills that, so a commit that waited for it would wait for ever.
    #[test]
    fn a_commit_does_not_wait_for_late_chunks() {
        let directory = tempfile::tempdir().unwrap();
        let below = ObjectStorage::local(directory.path()).unwrap();
        let storage = Arc::new(Hooked { below, hook: Mutex::default() });
        let password = Password::from_text("a password".to_owned());
        let shared = Arc::clone(&storage) as Arc<dyn Storage>;
        let repository = Repository::init(shared, &password, Options::default()).unwrap();
        let inner = Arc::clone(&repository.inner);
        let dependencies: Arc<Mutex<Dependencies>> = Arc::default();
        add(&inner, &dependencies, b"in time");
        let came: Arc<OnceLock<()>> = Arc::default();
        let hook = {
            let (weak, came): (Weak<Inner>, _) = (Arc::downgrade(&inner), Arc::clone(&came));
            let dependencies = Arc::clone(&dependencies);
            move || {
                add(&weak.upgrade().unwrap(), &dependencies, b"too late");
                came.set(()).unwrap();
            }
        };
        *storage.hook.lock().unwrap() = Some(Box::new(hook));

        // A wait for ever fails by being cancelled.
        let cancel = CancelFlag::new();
        let (done, ended) = mpsc::channel::<()>();
        let watchdog = {
            let cancel = cancel.clone();
            thread::spawn(move || {
                if ended.recv_timeout(Duration::from_secs(30)).is_err() {
                    cancel.cancel();
                }
            })
        };
        let committed = Packer::commit(&inner, &dependencies, &cancel);
        let _ = done.send(());
        watchdog.join().unwrap();
        committed.unwrap();
        assert!(came.get().is_some());
        assert!(inner.index().memory.contains(BlobKind::Data, &Id::hash(b"in time")));
        assert!(!inner.index().memory.contains(BlobKind::Data, &Id::hash(b"too late")));
        // Whoever comes next and needs it stores it.
        Packer::commit(&inner, &dependencies, &cancel).unwrap();
        assert!(inner.index().memory.contains(BlobKind::Data, &Id::hash(b"too late")));
    }
}
