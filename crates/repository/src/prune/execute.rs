//! Doing it: the switch of the index, the marks, and the sweep.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread;

use crate::error::{Error, Result};
use crate::id::Id;
use crate::index_files::INDEX_FILE_BLOBS;
use crate::lock::{Holder, JobGuard};
use crate::pack::PackedBlob;
use crate::pause::pause;
use crate::planted::{Bug, is_planted};
use crate::prune::decide::{Decided, decide};
use crate::prune::ledger::IndexRow;
use crate::prune::mark::{Mark, Marks};
use crate::prune::repack::repack;
use crate::prune::survey::{Survey, workers};
use crate::prune::{PruneOptions, PrunePhase, PruneReport};
use crate::repository::{FileKind, Inner};
use crate::reserve;

/// Index files that list less than this are merged when they are many.
const SMALL_INDEX_FILE: u64 = INDEX_FILE_BLOBS as u64 / 4;
const MANY_SMALL: usize = 8;

/// One prune; on a full disk it may have to be followed by another.
pub(crate) fn round(
    inner: &Arc<Inner>,
    job: &JobGuard,
    options: &PruneOptions,
) -> Result<PruneReport> {
    // First of all: who is gone now has left everything to be seen.
    let alive = job.others()?;
    let survey = Survey::new(inner, job, options)?;
    let marks = Marks::load(inner, &alive)?;
    let decided = decide(survey, &marks, &alive)?;
    let Decided { survey, plan, delete, repack: mut sources, unmarked, sweep } = decided;
    let report = PruneReport {
        waiting_packs: plan.waiting.len() as u64,
        waiting_bytes: plan.waiting.iter().map(|pack| pack.size).sum(),
        waiting_for: plan.waiting_for.clone(),
        postponed: plan.foreign.clone(),
        plan,
        ..PruneReport::default()
    };
    let mut work = Work { inner, job, survey, report };
    work.take_back(&work.survey.unlisted.clone())?;
    work.delete(&sweep)?;
    for (mark, _) in &marks.free {
        work.delete_mark(mark)?;
    }
    if work.report.postponed.is_empty() {
        let before = work.survey.ledger.packs.len();
        // Without a reserve what is left of the room is for the mark and the index.
        let tight = reserve::ensure(inner.storage.as_ref(), reserve::SMALLEST) == 0;
        if tight && !sources.is_empty() {
            work.report.out_of_space = true;
            sources.clear();
        }
        work.copy_and_drop(delete, &sources)?;
        pause("prune:copied");
        work.keep_what_only_seems_to_be_twice(before)?;
        work.retire(&MarkedBefore { unmarked, unfinished: &marks.unfinished }, true)?;
    }
    let largest = work.survey.ledger.files.iter().map(|file| file.size).max().unwrap_or(0);
    work.report.reserve = reserve::ensure(inner.storage.as_ref(), 2 * largest);
    Ok(work.report)
}

/// Takes packs out of the index that are damaged, and marks them; a later prune deletes them.
pub(crate) fn retire(
    inner: &Arc<Inner>,
    job: &JobGuard,
    mut survey: Survey<'_>,
    packs: &HashSet<u32>,
) -> Result<PruneReport> {
    for pack in packs {
        survey.ledger.packs[*pack as usize].dropped = true;
    }
    let mut work = Work { inner, job, survey, report: PruneReport::default() };
    work.retire(&MarkedBefore { unmarked: HashSet::new(), unfinished: &[] }, false)?;
    Ok(work.report)
}

/// What earlier prunes and crashed jobs have left to be marked.
struct MarkedBefore<'a> {
    /// Packs in no index, and in no mark that has names.
    unmarked: HashSet<Id>,
    /// Marks whose place the new one takes.
    unfinished: &'a [Id],
}

struct Work<'a> {
    inner: &'a Arc<Inner>,
    job: &'a JobGuard,
    survey: Survey<'a>,
    report: PruneReport,
}

impl Work<'_> {
    fn copy_and_drop(
        &mut self,
        delete: HashSet<u32>,
        sources: &[(u32, Vec<PackedBlob>)],
    ) -> Result<()> {
        let mut drop = delete;
        if !sources.is_empty() {
            let copied = repack(&mut self.survey, sources)?;
            self.report.repacked_packs = copied.done.len() as u64;
            self.report.repacked_bytes = copied.bytes;
            self.report.out_of_space |= copied.out_of_space;
            self.report.damaged.extend(copied.damaged);
            drop.extend(copied.done);
        }
        for pack in &drop {
            self.survey.ledger.packs[*pack as usize].dropped = true;
        }
        Ok(())
    }

    /// Takes what is dropped out of the index, beside running jobs, and marks it; deletes it at
    /// once if nobody is at work and `sweep` says so.
    fn retire(&mut self, old: &MarkedBefore<'_>, sweep: bool) -> Result<()> {
        for needed in self.survey.look_again()? {
            self.survey.ledger.packs[needed as usize].dropped = false;
        }
        let foreign = programs(&self.job.others()?);
        if !foreign.is_empty() {
            self.report.postponed = foreign;
            return Ok(());
        }
        let packs = self.to_mark(old);
        let intent = self.with_room(|inner| Mark::save(inner, &packs, None))?;
        pause("retire:marked");
        for mark in old.unfinished {
            self.delete_mark(mark)?;
        }
        self.switch()?;
        pause("retire:switched");
        // From here on nobody who begins can rely on what was dropped.
        let holders = self.job.others()?;
        let foreign = programs(&holders);
        if !foreign.is_empty() {
            // It may rely on the dropped packs, and would not list them again.
            let dropped = self.dropped();
            self.list(&dropped)?;
            self.report.postponed = foreign;
        }
        let needed = self.survey.look_again()?;
        self.take_back(&needed)?;
        let packs = self.to_mark(old);
        let mark = self.with_room(|inner| Mark::save(inner, &packs, Some(&holders)))?;
        if let Some(intent) = intent {
            self.delete_mark(&intent)?;
        }
        pause("retire:named");
        let sizes = |id: &Id| (*id, self.survey.stored.get(id).copied().unwrap_or(0));
        let packs: Vec<_> = packs.iter().map(sizes).collect();
        let nobody = holders.is_empty() || is_planted(Bug::PruneWithoutWaiting);
        if sweep && nobody {
            self.delete(&packs)?;
            if let Some(mark) = mark {
                self.delete_mark(&mark)?;
            }
        } else if !packs.is_empty() {
            self.report.waiting_packs += packs.len() as u64;
            self.report.waiting_bytes += packs.iter().map(|(_, size)| size).sum::<u64>();
            self.report.waiting_for.extend(holders.into_iter().map(|holder| holder.who));
            self.report.waiting_for.sort();
            self.report.waiting_for.dedup();
        }
        Ok(())
    }

    fn dropped(&self) -> HashSet<u32> {
        let packs = (0u32..).zip(&self.survey.ledger.packs);
        packs.filter(|(_, pack)| pack.dropped).map(|(number, _)| number).collect()
    }

    /// What goes into the mark: what is dropped, and what no index lists. Only packs that were
    /// there at first: whoever stores one later is not named in the mark.
    fn to_mark(&self, old: &MarkedBefore<'_>) -> HashSet<Id> {
        let ledger = &self.survey.ledger;
        let dropped = ledger.packs.iter().filter(|pack| pack.dropped).map(|pack| pack.id);
        let unlisted = old.unmarked.iter().filter(|id| ledger.pack(id).is_none());
        dropped.chain(unlisted.copied()).collect()
    }

    /// A pack may be dropped because all that is needed of it lies in others too. Then the other
    /// copies are read first, for if one is damaged, this pack has the last good one. Packs from
    /// number `new` on were just written, of verified blobs.
    fn keep_what_only_seems_to_be_twice(&mut self, new: usize) -> Result<()> {
        for (kept, dropped) in self.survey.ledger.twins(new) {
            if dropped.iter().all(|pack| !self.survey.ledger.packs[*pack as usize].dropped) {
                continue;
            }
            self.survey.go_on()?;
            let mut good = false;
            for place in &kept {
                match self.inner.load_from(place) {
                    Ok(_) => {
                        good = true;
                        break;
                    }
                    Err(error) if error.is_damage() => {
                        self.report.damaged.push((place.pack, error));
                    }
                    Err(error) => return Err(error),
                }
            }
            if !good {
                for pack in dropped {
                    self.survey.ledger.packs[pack as usize].dropped = false;
                }
            }
        }
        Ok(())
    }

    /// Lists packs again that a snapshot needs.
    fn take_back(&mut self, packs: &HashSet<u32>) -> Result<()> {
        self.report.taken_back += packs.len() as u64;
        self.list(packs)
    }

    fn list(&mut self, packs: &HashSet<u32>) -> Result<()> {
        let listed = self.survey.ledger.index_packs(packs);
        let listed: Vec<_> = listed.iter().collect();
        self.with_room(|inner| inner.save_index(self.job, &listed))?;
        for pack in packs {
            self.survey.ledger.packs[*pack as usize].dropped = false;
        }
        Ok(())
    }

    /// Gives up the reserve if the storage is full.
    fn with_room<T>(&self, write: impl Fn(&Inner) -> Result<T>) -> Result<T> {
        match write(self.inner) {
            Err(error) if error.is_no_space() && reserve::release(self.inner)? => write(self.inner),
            other => other,
        }
    }

    /// Writes those index files anew that list something that is dropped, and many small ones in
    /// few. Each new file is there before the old ones go, so every step leaves a whole index.
    fn switch(&mut self) -> Result<()> {
        let ledger = &self.survey.ledger;
        let (mut files, mut small) = (Vec::new(), Vec::new());
        for file in &ledger.files {
            let kept = self.kept_blobs(file);
            let all = file.packs.iter().map(|pack| &ledger.packs[*pack as usize]);
            if all.clone().any(|pack| pack.dropped) {
                files.push((kept, file.clone()));
            } else if kept < SMALL_INDEX_FILE {
                small.push((kept, file.clone()));
            }
        }
        if small.len() >= MANY_SMALL {
            files.append(&mut small);
        }
        // Those that shrink to nothing first: they make room for the others.
        files.sort_by_key(|(kept, file)| (*kept, file.id));
        let total = files.len() as u64;
        let (mut group, mut blobs, mut done) = (Vec::new(), 0, 0);
        let mut files = files.into_iter().peekable();
        while let Some((kept, file)) = files.next() {
            group.push(file);
            blobs += kept;
            let more = files.peek().is_some_and(|(next, _)| {
                blobs + next <= INDEX_FILE_BLOBS as u64 && (blobs > 0) == (*next > 0)
            });
            if more {
                continue;
            }
            self.survey.go_on()?;
            self.replace(&group)?;
            done += group.len() as u64;
            self.survey.options.report(PrunePhase::SwitchIndex, done, total);
            group.clear();
            blobs = 0;
        }
        Ok(())
    }

    fn kept_blobs(&self, file: &IndexRow) -> u64 {
        let packs = file.packs.iter().map(|pack| &self.survey.ledger.packs[*pack as usize]);
        packs.filter(|pack| !pack.dropped).map(|pack| u64::from(pack.blobs)).sum()
    }

    /// Puts new index files in the place of these. When there is no room, one by one; and a file
    /// for which there is none stays, with the packs that it lists.
    fn replace(&mut self, group: &[IndexRow]) -> Result<()> {
        let kept: HashSet<u32> = group
            .iter()
            .flat_map(|file| &file.packs)
            .filter(|pack| !self.survey.ledger.packs[**pack as usize].dropped)
            .copied()
            .collect();
        let listed = self.survey.ledger.index_packs(&kept);
        let listed: Vec<_> = listed.iter().collect();
        let written = self.with_room(|inner| inner.save_index(self.job, &listed));
        match written {
            Ok(_) => {}
            Err(error) if error.is_no_space() && group.len() > 1 => {
                return group.iter().try_for_each(|file| self.replace(std::slice::from_ref(file)));
            }
            Err(error) if error.is_no_space() => {
                self.report.out_of_space = true;
                for pack in group.iter().flat_map(|file| &file.packs) {
                    self.survey.ledger.packs[*pack as usize].dropped = false;
                }
                return Ok(());
            }
            Err(error) => return Err(error),
        }
        pause("retire:replacing");
        self.job.holds()?;
        for file in group {
            self.remove(&FileKind::Index.name(&file.id))?;
        }
        Ok(())
    }

    fn remove(&self, name: &str) -> Result<()> {
        match self.inner.storage.delete(name) {
            Err(error) if !error.is_not_found() => Err(error.into()),
            _ => Ok(()),
        }
    }

    fn delete_mark(&self, mark: &Id) -> Result<()> {
        self.remove(&FileKind::Mark.name(mark))
    }

    /// Deletes packs, a few at a time: a storage behind a network takes its time for each.
    fn delete(&mut self, packs: &[(Id, u64)]) -> Result<()> {
        // Who slept since it looked knows nothing of what others have done meanwhile.
        self.job.holds()?;
        let (next, done, bytes) = (AtomicUsize::new(0), AtomicU64::new(0), AtomicU64::new(0));
        let failed = AtomicBool::new(false);
        let work = &*self;
        let worker = || {
            while let Some((id, size)) = packs.get(next.fetch_add(1, Ordering::Relaxed)) {
                if failed.load(Ordering::Relaxed) {
                    break;
                }
                let deleted =
                    work.survey.go_on().and_then(|()| work.remove(&FileKind::Pack.name(id)));
                if let Err(error) = deleted {
                    failed.store(true, Ordering::Relaxed);
                    return Err(error);
                }
                pause("prune:sweeping");
                bytes.fetch_add(*size, Ordering::Relaxed);
                let done = done.fetch_add(1, Ordering::Relaxed) + 1;
                work.survey.options.report(PrunePhase::Delete, done, packs.len() as u64);
            }
            Ok(())
        };
        let results: Vec<Result<()>> = thread::scope(|scope| {
            let threads: Vec<_> =
                (0..workers().min(packs.len())).map(|_| scope.spawn(worker)).collect();
            let died = || Error::Internal("a thread that deletes packs died".to_owned());
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap_or_else(|_| Err(died())))
                .collect()
        });
        self.report.deleted_packs += done.into_inner();
        self.report.deleted_bytes += bytes.into_inner();
        results.into_iter().collect()
    }
}

/// The other programs among the holders: stock restic, or a Provault of before prune.
fn programs(holders: &[Holder]) -> Vec<String> {
    let foreign = holders.iter().filter(|holder| holder.job.is_none());
    let named: BTreeSet<&str> = foreign.map(|holder| holder.who.as_str()).collect();
    named.into_iter().map(str::to_owned).collect()
}
