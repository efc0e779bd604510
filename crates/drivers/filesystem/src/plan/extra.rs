//! What goes when something extra is deleted, or a directory replaced.

use nix::sys::stat::SFlag;
use provault_domain::Invalid;
use provault_driver::entry::printable;
use provault_driver::{Counted, DriverError, PreviewFate};

use super::{Act, Survey};
use crate::at::{self, Stat};
use crate::capture::{check, io_error};
use crate::selection::Wanted;
use crate::staging::is_private;

/// Paths that go, each as it is, what is in a directory before the directory.
pub(crate) type Gone = Vec<(Vec<u8>, Stat)>;

/// What of it is to stay.
#[derive(Default)]
pub(super) struct Stays {
    /// What is excluded, or another restore's.
    pub kept: Option<Vec<u8>>,
    /// Whether anything was changed since the job began.
    pub late: bool,
}

impl Survey<'_> {
    /// What is in the target and not in the recovery point: every path of it is a deletion of its
    /// own, so that what is excluded stays, and what changes until then.
    pub(super) fn extra(&mut self, path: Vec<u8>) -> Result<(), DriverError> {
        let Some(there) = self.look(&path)? else { return Ok(()) };
        if self.is_elsewhere(&path, Some(&there)) || self.is_fenced(&path, &there) {
            return Ok(());
        }
        let (mut gone, mut stays) = (Gone::new(), Stays::default());
        self.gather(path, true, &mut gone, &mut stays)?;
        for (path, there) in gone {
            self.seq += 1;
            let bytes = if there.kind == SFlag::S_IFREG { there.size } else { 0 };
            let (fate, seq) = (PreviewFate::Delete, self.seq);
            let (metadata, there, gone, late) = (None, Some(there), Gone::new(), false);
            let below = Counted::default();
            let act = Act { path, fate, metadata, there, gone, below, bytes, seq, late };
            self.plan.acts.push(act);
        }
        Ok(())
    }

    /// What would go with the directory at `path` and lies below it, and what in it is to stay.
    pub(super) fn replaced(&mut self, path: &[u8]) -> Result<(Gone, Stays), DriverError> {
        let (mut gone, mut stays) = (Gone::new(), Stays::default());
        self.gather(path.to_vec(), false, &mut gone, &mut stays)?;
        gone.retain(|(below, _)| below != path);
        Ok((gone, stays))
    }

    fn is_fenced(&self, path: &[u8], there: &Stat) -> bool {
        there.is_dir() && self.terms.fence.encloses(path, there)
    }

    /// Collects what goes when `path` is to go; whether it goes itself, as nothing in it is to stay.
    /// Refuses to let go of what is the server's own or lies on another file system. With `note` it
    /// is entered what stays as it was changed since the job began.
    fn gather(
        &mut self,
        path: Vec<u8>,
        note: bool,
        gone: &mut Gone,
        stays: &mut Stays,
    ) -> Result<bool, DriverError> {
        check(self.context.cancel)?;
        let Some(there) = self.look(&path)? else { return Ok(true) };
        let shown = self.terms.target.join(printable(&path));
        if self.is_elsewhere(&path, Some(&there)) || self.is_fenced(&path, &there) {
            return Err(Invalid::new(
                "deleteExtra",
                format!(
                    "{} would be deleted, and another file system is mounted there, or it is this server's own data directory; leave it out with exclude.",
                    shown.display()
                ),
            )
            .into());
        }
        let mut late = self.is_late(&there);
        if there.is_dir() {
            let failed = self.failed(&path);
            let dir = self.cursor.go(&path).map_err(failed)?;
            let names = at::names(dir).map_err(io_error("reading", &shown))?;
            // It changes with what is deleted from it; an empty one may be new.
            late &= names.is_empty();
            let mut goes = true;
            for name in names {
                let below = [path.as_slice(), b"/", &name].concat();
                // What another restore is making is no part of the target.
                if is_private(&name) || self.terms.selection.wants(&below) != Wanted::Yes {
                    stays.kept.get_or_insert(below);
                    goes = false;
                } else {
                    goes &= self.gather(below, note, gone, stays)?;
                }
            }
            if !goes {
                return Ok(false);
            }
        }
        if late {
            stays.late = true;
            if note {
                self.plan.late.push(path);
            }
            return Ok(false);
        }
        gone.push((path, there));
        Ok(true)
    }
}
