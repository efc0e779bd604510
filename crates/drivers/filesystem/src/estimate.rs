//! How much a capture will read, as far as that can be told quickly. It is counted beside the capture.

use std::fs::File;

use nix::sys::stat::SFlag;
use provault_driver::CancelFlag;

use crate::at::{self, Stat};
use crate::config::Config;
use crate::inodes::{Content, Inodes};
use crate::reserved::Fence;
use crate::rules::Rules;

/// Beyond so many entries counting would cost more than the percentage is worth.
const MAX_ENTRIES: usize = 100_000;

/// Bytes of content below `root`; `None` when the tree is too large or too deep to count, or when
/// `over` is raised. What cannot be read counts nothing: the walk itself lists it.
pub(crate) fn size(
    root: &File,
    config: &Config,
    rules: &Rules,
    fence: &Fence,
    over: &CancelFlag,
) -> Option<u64> {
    let root_device = Stat::of(root).ok()?.device;
    let device = config.one_file_system.then_some(root_device);
    let mut count = Count {
        rules,
        fence,
        device,
        over,
        entries: 0,
        bytes: 0,
        inodes: Inodes::default(),
        path: Vec::new(),
        depth: 0,
    };
    count.directory(root, rules.include_all()).then_some(count.bytes)
}

struct Count<'a> {
    rules: &'a Rules,
    fence: &'a Fence,
    device: Option<u64>,
    over: &'a CancelFlag,
    entries: usize,
    bytes: u64,
    inodes: Inodes,
    path: Vec<u8>,
    depth: usize,
}

impl Count<'_> {
    /// False when it was given up.
    fn directory(&mut self, dir: &File, wanted: bool) -> bool {
        let Ok(names) = at::names(dir) else { return true };
        let length = self.path.len();
        for name in names {
            self.entries += 1;
            if self.entries > MAX_ENTRIES || self.depth > 64 || self.over.is_raised() {
                return false;
            }
            self.path.truncate(length);
            if length > 0 {
                self.path.push(b'/');
            }
            self.path.extend_from_slice(&name);
            if self.rules.excludes(&self.path) {
                continue;
            }
            let wanted = wanted || self.rules.includes(&self.path);
            let Ok(stat) = Stat::at(dir, &name) else { continue };
            if stat.kind == SFlag::S_IFREG && wanted {
                self.bytes = self.bytes.saturating_add(self.inodes.add(Content::from(&stat)));
            } else if stat.is_dir()
                && self.device.is_none_or(|d| d == stat.device)
                && !self.fence.encloses(&self.path, &stat)
            {
                let Ok(below) = at::open_dir(dir, &name) else { continue };
                self.depth += 1;
                if !self.directory(&below, wanted) {
                    return false;
                }
                self.depth -= 1;
            }
        }
        self.path.truncate(length);
        true
    }
}
