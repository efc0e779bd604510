//! Reading the content of a file that may change meanwhile.

use std::fs::File;
use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use provault_driver::CancelFlag;

use crate::at::Stat;

/// What a reader found out about its file, told to whoever made it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Finding(Arc<AtomicBool>);

impl Finding {
    /// The file was another at the end than at the beginning.
    pub fn has_changed(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    /// Remembers that it is not the file it was.
    pub fn mark_changed(&self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Delivers exactly as many bytes as the file had when it was looked at, or fails. What is
/// appended meanwhile is not delivered; what is cut off is a failure. Before the last bytes are
/// given out the file is looked at again: a `strict` reader fails if it changed, another one only
/// remembers.
pub(crate) struct SteadyReader {
    pub file: File,
    pub expected: Stat,
    pub left: u64,
    pub strict: bool,
    pub finding: Finding,
    pub done: Arc<AtomicU64>,
    pub cancel: CancelFlag,
}

impl SteadyReader {
    fn look_again(&mut self) -> io::Result<()> {
        if Stat::of(&self.file)?.is_same_content(&self.expected) {
            return Ok(());
        }
        self.finding.mark_changed();
        if self.strict {
            return Err(io::Error::other("it changed while it was read"));
        }
        Ok(())
    }
}

impl Read for SteadyReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.cancel.is_raised() {
            return Err(io::Error::other("stopped on request"));
        }
        let room = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        if room == 0 {
            return Ok(0);
        }
        let count = self.file.read(&mut buffer[..room])?;
        if count == 0 {
            self.finding.mark_changed();
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "it became shorter while it was read",
            ));
        }
        self.left -= count as u64;
        if self.left == 0 {
            self.look_again()?;
        }
        self.done.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}
