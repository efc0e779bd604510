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
use crate::repository::{FileKind, Inner};
use crate::storage::StorageError;

/// How often a waiting job looks at its cancel flag.
const LOOK_UP: Duration = Duration::from_millis(100);

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
}

struct OpenPack {
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

/// The packs that one job depends on and that are not known to be durable.
#[derive(Default)]
pub(crate) struct Dependencies(HashMap<u64, Arc<Ticket>>);

impl Dependencies {
    fn add(&mut self, ticket: &Arc<Ticket>) {
        self.0.entry(ticket.number).or_insert_with(|| Arc::clone(ticket));
        if self.0.len() > 64 {
            self.0.retain(|_, ticket| !matches!(*ticket.progress(), Progress::Durable));
        }
    }
}

/// A sealed blob on its way into a pack.
pub(crate) struct SealedBlob {
    pub(crate) kind: BlobKind,
    pub(crate) id: Id,
    pub(crate) sealed: Vec<u8>,
    pub(crate) uncompressed: Option<u32>,
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

    /// Whether the blob is stored or being stored; in the latter case the job depends on that.
    pub(crate) fn knows(
        inner: &Inner,
        kind: BlobKind,
        id: &Id,
        dependencies: &mut Dependencies,
    ) -> bool {
        // In flight first: a blob leaves there only once it is in the index.
        if let Some(ticket) = inner.packer.state().in_flight.get(&(kind, *id)) {
            dependencies.add(ticket);
            return true;
        }
        inner.index().memory.contains(kind, id)
    }

    /// Adds a blob to the open pack of its kind, and stores that pack when it is full. Returns
    /// whether the blob was new; another job may have been faster.
    pub(crate) fn add(
        inner: &Inner,
        blob: &SealedBlob,
        dependencies: &mut Dependencies,
    ) -> Result<bool> {
        let mut guard = inner.packer.state();
        let state = &mut *guard;
        if let Some(ticket) = state.in_flight.get(&(blob.kind, blob.id)) {
            dependencies.add(ticket);
            return Ok(false);
        }
        if inner.index().memory.contains(blob.kind, &blob.id) {
            return Ok(false);
        }
        let open = state.open.entry(blob.kind).or_insert_with(|| {
            state.next_ticket += 1;
            let (number, progress) = (state.next_ticket, Mutex::new(Progress::Pending));
            let ticket = Arc::new(Ticket { number, progress, changed: Condvar::new() });
            OpenPack { ticket, builder: PackBuilder::default() }
        });
        open.builder.add(blob.kind, blob.id, &blob.sealed, blob.uncompressed)?;
        dependencies.add(&open.ticket);
        state.in_flight.insert((blob.kind, blob.id), Arc::clone(&open.ticket));
        if open.builder.len() >= inner.options.pack_size {
            let full = state.open.remove(&blob.kind);
            drop(guard);
            if let Some(full) = full {
                store(inner, full)?;
            }
        }
        Ok(true)
    }

    /// Stores the open packs that the job depends on, and waits until all its packs are durable.
    pub(crate) fn commit(
        inner: &Inner,
        dependencies: &mut Dependencies,
        cancel: &CancelFlag,
    ) -> Result<()> {
        for kind in [BlobKind::Data, BlobKind::Tree] {
            let mut state = inner.packer.state();
            let needed = state
                .open
                .get(&kind)
                .is_some_and(|open| dependencies.0.contains_key(&open.ticket.number));
            let open = if needed { state.open.remove(&kind) } else { None };
            drop(state);
            if let Some(open) = open {
                store(inner, open)?;
            }
        }
        for ticket in dependencies.0.values() {
            ticket.wait(cancel)?;
        }
        dependencies.0.clear();
        Ok(())
    }

    /// Drops unfinished packs. Only when no job is left that could depend on them.
    pub(crate) fn discard(&self) {
        let mut state = self.state();
        state.open.clear();
        state.in_flight.clear();
    }
}

fn store(inner: &Inner, open: OpenPack) -> Result<()> {
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
    if let Err(error) = inner.storage.put(&FileKind::Pack.name(&id), Bytes::from(bytes)) {
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
