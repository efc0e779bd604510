//! Faults that the conformance suite puts into the calls of the port.

use std::io::{self, Read};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::{
    BlockRange, BlockSink, BlockSource, CancelFlag, ContentSink, DriverError, Entry, FileOutcome,
    Lineage, Metadata, NodeKind, Sink, SinkError, Source, SourceError, StoredVolume, VolumeOutcome,
};

/// What happens at the chosen call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Injection {
    /// The vault refuses.
    Fail,
    /// The flag is raised; the call itself succeeds.
    Cancel,
    /// The same, for work that is to be taken up again.
    Suspend,
    /// A file cannot be read; only calls of `add_file` count.
    Unreadable,
    /// The process dies: a panic.
    Die,
}

/// Counts the calls and acts at one of them.
pub(crate) struct Trigger {
    at: u64,
    seen: AtomicU64,
    injection: Injection,
    pub(crate) cancel: CancelFlag,
}

impl Trigger {
    pub(crate) fn new(at: u64, injection: Injection) -> Self {
        Self { at, seen: AtomicU64::new(0), injection, cancel: CancelFlag::new() }
    }

    pub(crate) fn calls(&self) -> u64 {
        self.seen.load(Ordering::SeqCst)
    }

    pub(crate) fn has_fired(&self) -> bool {
        self.calls() >= self.at
    }

    /// Counts a call; true when it is to fail.
    fn hit(&self) -> bool {
        if self.seen.fetch_add(1, Ordering::SeqCst) + 1 != self.at {
            return false;
        }
        match self.injection {
            Injection::Fail | Injection::Unreadable => true,
            Injection::Cancel => {
                self.cancel.raise();
                false
            }
            Injection::Suspend => {
                self.cancel.raise_to_resume();
                false
            }
            Injection::Die => std::panic::resume_unwind(Box::new("injected death")),
        }
    }
}

/// A sink with faults.
pub(crate) struct FaultySink<'a> {
    pub(crate) inner: &'a mut dyn Sink,
    pub(crate) trigger: &'a Trigger,
}

impl FaultySink<'_> {
    fn hit(&self) -> Result<(), SinkError> {
        if self.trigger.injection != Injection::Unreadable && self.trigger.hit() {
            return Err(SinkError::Store("injected".into()));
        }
        Ok(())
    }
}

impl Sink for FaultySink<'_> {
    fn begin_dir(&mut self, name: &[u8], metadata: &Metadata) -> Result<(), SinkError> {
        self.hit()?;
        self.inner.begin_dir(name, metadata)
    }

    fn end_dir(&mut self) -> Result<(), SinkError> {
        self.hit()?;
        self.inner.end_dir()
    }

    fn add_node(
        &mut self,
        name: &[u8],
        metadata: &Metadata,
        kind: &NodeKind,
    ) -> Result<(), SinkError> {
        self.hit()?;
        self.inner.add_node(name, metadata, kind)
    }

    fn add_file(
        &mut self,
        name: &[u8],
        metadata: &Metadata,
        open: &mut dyn FnMut() -> io::Result<Box<dyn Read + Send>>,
    ) -> Result<FileOutcome, SinkError> {
        self.hit()?;
        if self.trigger.injection == Injection::Unreadable && self.trigger.hit() {
            return Err(SinkError::Read(io::Error::from(io::ErrorKind::PermissionDenied)));
        }
        self.inner.add_file(name, metadata, open)
    }

    fn lineage(&self) -> Lineage {
        self.inner.lineage()
    }

    fn add_volume(
        &mut self,
        name: &[u8],
        blocks: &dyn BlockSource,
        changed: Option<&[BlockRange]>,
    ) -> Result<VolumeOutcome, SinkError> {
        self.hit()?;
        if self.trigger.injection == Injection::Unreadable && self.trigger.hit() {
            return Err(SinkError::Read(io::Error::other("injected")));
        }
        self.inner.add_volume(name, blocks, changed)
    }
}

/// A source with faults.
pub(crate) struct FaultySource<'a> {
    pub(crate) inner: &'a dyn Source,
    pub(crate) trigger: &'a Trigger,
}

impl FaultySource<'_> {
    fn hit(&self) -> Result<(), SourceError> {
        if self.trigger.hit() {
            return Err(SourceError::Unavailable("injected".to_owned()));
        }
        Ok(())
    }
}

impl Source for FaultySource<'_> {
    fn entries(
        &self,
    ) -> Result<Box<dyn Iterator<Item = Result<Entry, SourceError>> + '_>, SourceError> {
        self.hit()?;
        let inner = self.inner.entries()?;
        Ok(Box::new(inner.map(|entry| self.hit().and(entry))))
    }

    fn copy_contents(&self, files: &[Entry], out: &dyn ContentSink) -> Result<(), DriverError> {
        self.hit()?;
        self.inner.copy_contents(files, &FaultyOut { inner: out, source: self })
    }

    fn volume(&self, name: &[u8]) -> Result<Box<dyn StoredVolume + '_>, SourceError> {
        self.hit()?;
        Ok(Box::new(FaultyVolume { inner: self.inner.volume(name)?, source: self }))
    }
}

struct FaultyVolume<'a> {
    inner: Box<dyn StoredVolume + 'a>,
    source: &'a FaultySource<'a>,
}

impl StoredVolume for FaultyVolume<'_> {
    fn size(&self) -> u64 {
        self.inner.size()
    }

    fn block_size(&self) -> u32 {
        self.inner.block_size()
    }

    fn block_hash(&self, number: u64) -> Result<[u8; 32], SourceError> {
        self.source.hit()?;
        self.inner.block_hash(number)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), SourceError> {
        self.source.hit()?;
        self.inner.read_at(offset, buffer)
    }

    fn copy_to(
        &self,
        out: &dyn BlockSink,
        progress: &(dyn Fn(u64) + Sync),
    ) -> Result<(), DriverError> {
        self.source.hit()?;
        self.inner.copy_to(&FaultyBlocks { inner: out, source: self.source }, progress)
    }
}

struct FaultyBlocks<'a> {
    inner: &'a dyn BlockSink,
    source: &'a FaultySource<'a>,
}

impl BlockSink for FaultyBlocks<'_> {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), DriverError> {
        self.source.hit()?;
        self.inner.write_at(offset, bytes)
    }

    fn write_zeros(&self, range: BlockRange) -> Result<(), DriverError> {
        self.source.hit()?;
        self.inner.write_zeros(range)
    }
}

struct FaultyOut<'a> {
    inner: &'a dyn ContentSink,
    source: &'a FaultySource<'a>,
}

impl ContentSink for FaultyOut<'_> {
    fn write_at(&self, index: usize, offset: u64, bytes: &[u8]) -> Result<(), DriverError> {
        self.source.hit()?;
        self.inner.write_at(index, offset, bytes)
    }
}
