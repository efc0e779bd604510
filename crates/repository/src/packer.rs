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

    /// Drops unfinished packs. Only when no job is left that could depend on them.
    pub(crate) fn discard(&self) {
        let mut state = self.state();
        state.open.clear();
        state.in_flight.clear();
        state.spare.clear();
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
    let (id, bytes, blobs) = match builder.finish(&inner.key) {
        Ok(finished) => finished,
        Err(error) => {
            finish.end = Progress::Failed(StorageError::other("build", "pack", &error));
            return Err(error);
        }
    };
    if is_planted(Bug::IndexBeforePack) {
        inner.publish(id, &blobs);
        inner.flush_index()?;
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
    let waiting = inner.publish(id, &blobs);
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
