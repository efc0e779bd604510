//! A source that does something while it is read, and what restores in place are asked for with.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use provault_driver::conformance::Request;
use provault_driver::memory::MemorySource;
use provault_driver::{ContentSink, DriverError, Entry, Source, SourceError};

use super::request;

/// Acts when its entries are asked for the n-th time, dies when the n-th batch of content is, and
/// counts the bytes that it delivers.
pub struct Watched<'a> {
    pub inner: &'a MemorySource,
    pub listed: AtomicU64,
    pub act_at: u64,
    /// Acts when the n-th listing of its entries comes to its end.
    pub act_after: u64,
    /// The n-th listing leaves out what has this path.
    pub hides: Option<(u64, &'a [u8])>,
    pub act: &'a (dyn Fn() + Sync),
    pub die_after: u64,
    pub delivered: AtomicU64,
}

impl<'a> Watched<'a> {
    pub fn new(inner: &'a MemorySource) -> Self {
        Self {
            inner,
            listed: AtomicU64::new(0),
            act_at: u64::MAX,
            act_after: u64::MAX,
            hides: None,
            act: &|| {},
            die_after: u64::MAX,
            delivered: AtomicU64::new(0),
        }
    }
}

struct Counting<'a>(&'a Watched<'a>, &'a dyn ContentSink);

impl ContentSink for Counting<'_> {
    fn write_at(&self, index: usize, offset: u64, bytes: &[u8]) -> Result<(), DriverError> {
        let before = self.0.delivered.fetch_add(bytes.len() as u64, Ordering::SeqCst);
        if before > self.0.die_after {
            std::panic::resume_unwind(Box::new("injected death"));
        }
        self.1.write_at(index, offset, bytes)
    }
}

impl Source for Watched<'_> {
    fn entries(
        &self,
    ) -> Result<Box<dyn Iterator<Item = Result<Entry, SourceError>> + '_>, SourceError> {
        let listed = self.listed.fetch_add(1, Ordering::SeqCst) + 1;
        if listed == self.act_at {
            (self.act)();
        }
        let hidden = self.hides.filter(|(at, _)| *at == listed).map(|(_, path)| path);
        let shown = self.inner.entries()?.filter(move |entry| {
            hidden.is_none() || !entry.as_ref().is_ok_and(|entry| Some(&*entry.path) == hidden)
        });
        let last = std::iter::from_fn(move || {
            if listed == self.act_after {
                (self.act)();
            }
            None
        });
        Ok(Box::new(shown.chain(last)))
    }
    fn copy_contents(&self, files: &[Entry], out: &dyn ContentSink) -> Result<(), DriverError> {
        self.inner.copy_contents(files, &Counting(self, out))
    }
}

pub fn in_place(target: &Path, mode: &str) -> Request {
    let mut request = request(target);
    request.insert("newFileSystem".to_owned(), "false".to_owned());
    request.insert("overwrite".to_owned(), mode.to_owned());
    request
}

/// The private directory of a job, in `place`.
pub fn private(place: &Path) -> PathBuf {
    let found: Vec<_> = fs::read_dir(place)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_string_lossy().contains(".provault-"))
        .collect();
    let [one] = found.as_slice() else { panic!("{found:?}") };
    one.clone()
}
