//! Bringing the names of one file together, and counting what comes of the plan.

use provault_driver::entry::printable;
use provault_driver::{PREVIEW_LISTED, PreviewChange, PreviewFate};

use super::{Act, Plan, Survey};
use crate::inodes::Content;

impl Plan {
    /// Takes acts that were not done, because their paths changed meanwhile, out of what is counted as
    /// done: what is there is kept, and neither made nor gone is what would have come or gone with it.
    pub(crate) fn leave(&mut self, undone: &[usize]) {
        for act in undone.iter().filter_map(|index| self.acts.get(*index)) {
            self.counts.of(act.fate).take(1, act.bytes);
            self.counts.created.take(act.below.entries, act.below.bytes);
            self.counts.deleted.take(act.gone.len() as u64, 0);
            if act.fate != PreviewFate::Delete {
                self.counts.kept.add(act.bytes);
            }
        }
    }
}

impl Survey<'_> {
    /// A file loses a name when an earlier run puts another file in its place, which changes its time
    /// of status: where one of its names is in place already, its time of change tells.
    fn tell_apart_late(&mut self) {
        let Some(since) = self.terms.since else { return };
        for group in self.groups.values() {
            let of = |act: &usize| self.plan.acts.get(*act);
            let placed = group.acts.iter().filter_map(of).any(|act| {
                act.fate == PreviewFate::Same
                    && act.there.as_ref().is_some_and(|stat| stat.ctime >= since)
            });
            if !placed {
                continue;
            }
            for act in &group.acts {
                if let Some(act) = self.plan.acts.get_mut(*act)
                    && act.late
                    && act.there.as_ref().is_some_and(|s| !s.is_dir() && s.mtime < since)
                {
                    (act.late, act.fate) = (false, PreviewFate::Overwrite);
                }
            }
        }
    }

    /// Brings the names of one file together, and counts.
    pub(super) fn finish(mut self) -> Plan {
        use PreviewFate as F;
        self.tell_apart_late();
        for group in self.groups.values() {
            if !group.torn {
                continue;
            }
            if self.terms.mode.replaces() {
                // One file again: every name is written, but what was changed since.
                let late = |act: &usize| self.plan.acts.get(*act).is_some_and(|act| act.late);
                self.plan.parted += group.acts.iter().filter(|act| late(act)).count() as u64;
                for act in &group.acts {
                    if let Some(act) = self.plan.acts.get_mut(*act)
                        && matches!(act.fate, F::Same | F::Update)
                    {
                        act.fate = F::Overwrite;
                    }
                }
                continue;
            }
            let written = |act: &Act| matches!(act.fate, F::Create | F::Overwrite);
            let acts = || group.acts.iter().filter_map(|act| self.plan.acts.get(*act));
            let some = group.implied || acts().any(written);
            if some && acts().any(|act| !written(act)) {
                self.plan.parted += acts().filter(|act| written(act)).count().max(1) as u64;
            }
        }
        let mut changes = std::mem::take(&mut self.implied);
        for act in &self.plan.acts {
            self.plan.counts.of(act.fate).add(act.bytes);
            if matches!(act.fate, F::Create | F::Overwrite) {
                self.plan.staged.insert(&act.path, printable(&act.path));
                if let Some(metadata) = act.metadata.as_ref().filter(|_| act.bytes > 0) {
                    let bytes = self.inodes.add(Content::from(metadata));
                    self.plan.bytes = self.plan.bytes.saturating_add(bytes);
                }
            }
            if act.fate != F::Same && changes.len() < 2 * PREVIEW_LISTED {
                let change = PreviewChange {
                    path: if act.path.is_empty() { ".".to_owned() } else { printable(&act.path) },
                    fate: act.fate,
                    bytes: act.bytes,
                    existing_mtime: act.there.as_ref().map(|stat| stat.mtime),
                    stored_mtime: act.metadata.as_ref().map(|metadata| metadata.mtime),
                };
                changes.push((act.seq, change));
            }
        }
        let late = self.plan.acts.iter().filter(|act| act.late).map(|act| act.path.clone());
        self.plan.late.extend(late);
        self.plan.acts.retain(|act| act.fate != F::Same);
        changes.sort_by_key(|(seq, _)| *seq);
        changes.truncate(PREVIEW_LISTED);
        let counts = &self.plan.counts;
        let told = [
            counts.created,
            counts.overwritten,
            counts.updated,
            counts.kept_newer,
            counts.kept,
            counts.deleted,
            counts.conflicts,
        ];
        let all: u64 = told.iter().map(|counted| counted.entries).sum();
        self.plan.left_off = all.saturating_sub(changes.len() as u64);
        self.plan.changes = changes.into_iter().map(|(_, change)| change).collect();
        self.plan
    }
}
