//! How much of the line, and how many operations at a time, a storage may take.

use std::num::{NonZeroU64, NonZeroUsize};

use provault_repository::{Bounds, LiveBounds, StorageOptions};

/// Limits that a command or a server is given.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::Args)]
pub(crate) struct StorageLimits {
    /// Write at most so many KiB per second on average, over all jobs [default: as fast as it goes]
    #[arg(long, value_name = "KIB", global = true)]
    limit_upload: Option<NonZeroU64>,
    /// Read at most so many KiB per second on average, over all jobs [default: as fast as it goes]
    #[arg(long, value_name = "KIB", global = true)]
    limit_download: Option<NonZeroU64>,
    /// Do at most so many operations at a time, over all jobs [default: as many as the jobs ask for]
    #[arg(long, value_name = "N", global = true)]
    connections: Option<NonZeroUsize>,
}

impl StorageLimits {
    /// The options with these limits.
    pub(crate) fn applied_to(self, options: StorageOptions) -> StorageOptions {
        StorageOptions { bounds: LiveBounds::new(self.bounds()), ..options }
    }

    pub(crate) fn bounds(self) -> Bounds {
        let bytes = |kib: NonZeroU64| kib.saturating_mul(NonZeroU64::new(1024).unwrap_or(kib));
        Bounds {
            upload: self.limit_upload.map(bytes),
            download: self.limit_download.map(bytes),
            concurrency: self.connections,
        }
    }

    /// What was given, by the names of the options.
    pub(crate) fn given(self) -> [(&'static str, Option<String>); 3] {
        [
            ("limit-upload", self.limit_upload.map(|kib| kib.to_string())),
            ("limit-download", self.limit_download.map(|kib| kib.to_string())),
            ("connections", self.connections.map(|number| number.to_string())),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kibibytes_become_bytes() {
        let limits = StorageLimits {
            limit_upload: NonZeroU64::new(3),
            limit_download: None,
            connections: NonZeroUsize::new(2),
        };
        let bounds = limits.applied_to(StorageOptions::default()).bounds.get();
        assert_eq!(bounds.upload.map(NonZeroU64::get), Some(3072));
        assert_eq!(bounds.download, None);
        assert_eq!(bounds.concurrency.map(NonZeroUsize::get), Some(2));
    }
}
