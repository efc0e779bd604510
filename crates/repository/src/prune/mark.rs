//! Marks: packs that are out of the index, and who may still rely on them.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::id::Id;
use crate::lock::Holder;
use crate::repository::{FileKind, Inner};

/// The form that we write.
const VERSION: u32 = 1;

/// A mark file: `provault/prune/ID`, compressed and sealed like an index file.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Mark {
    version: u32,
    /// When it was written.
    time: jiff::Timestamp,
    /// The packs that are to be deleted.
    pub(crate) packs: Vec<Id>,
    /// Who held a lock after the packs had left the index: the jobs' names. Not there while the
    /// index is being switched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) holders: Option<Vec<Id>>,
}

impl Mark {
    /// Writes a mark; nothing if there are no packs.
    pub(crate) fn save(
        inner: &Inner,
        packs: &HashSet<Id>,
        holders: Option<&[Holder]>,
    ) -> Result<Option<Id>> {
        if packs.is_empty() {
            return Ok(None);
        }
        let mut packs: Vec<Id> = packs.iter().copied().collect();
        packs.sort_unstable();
        let holders =
            holders.map(|holders| holders.iter().filter_map(|holder| holder.job).collect());
        let mark = Self { version: VERSION, time: jiff::Timestamp::now(), packs, holders };
        let json = serde_json::to_vec(&mark).map_err(|error| Error::Internal(error.to_string()))?;
        inner.save_unpacked(FileKind::Mark, &json).map(Some)
    }
}

/// All marks, sorted by what can be done about them.
#[derive(Default)]
pub(crate) struct Marks {
    /// Nobody who is named in them is alive.
    pub(crate) free: Vec<(Id, Mark)>,
    /// Somebody is.
    pub(crate) waiting: Vec<(Id, Mark)>,
    /// Left by a switch that did not end, or not readable. A new mark takes their place.
    pub(crate) unfinished: Vec<Id>,
    unfinished_packs: HashSet<Id>,
    /// Packs that must not be deleted by a free mark.
    pub(crate) blocked: HashSet<Id>,
    /// Who is waited for.
    pub(crate) waiting_for: Vec<String>,
}

impl Marks {
    /// `alive` is everybody who held a lock before anything else was looked at.
    pub(crate) fn load(inner: &Inner, alive: &[Holder]) -> Result<Self> {
        let mut marks = Self::default();
        let mut unreadable = false;
        for (id, _) in inner.list(FileKind::Mark)? {
            let mark = match inner.load_unpacked(FileKind::Mark, &id) {
                Err(Error::Storage(error)) if error.is_not_found() => continue,
                Err(error) if error.is_damage() => None,
                Err(error) => return Err(error),
                Ok(json) => serde_json::from_slice::<Mark>(&json)
                    .ok()
                    .filter(|mark| mark.version == VERSION),
            };
            let Some(mark) = mark else {
                tracing::warn!(mark = %id, "a mark of a prune is not readable, it is made anew");
                unreadable = true;
                marks.unfinished.push(id);
                continue;
            };
            let Some(holders) = &mark.holders else {
                marks.blocked.extend(&mark.packs);
                marks.unfinished_packs.extend(&mark.packs);
                marks.unfinished.push(id);
                continue;
            };
            let waits: Vec<_> = alive
                .iter()
                .filter(|holder| holder.job.is_some_and(|job| holders.contains(&job)))
                .map(|holder| holder.who.clone())
                .collect();
            if waits.is_empty() {
                marks.free.push((id, mark));
            } else {
                marks.blocked.extend(&mark.packs);
                marks.waiting_for.extend(waits);
                marks.waiting.push((id, mark));
            }
        }
        if unreadable {
            // It may have named the same packs. A new mark names everybody who is there.
            for (id, mark) in marks.free.drain(..).chain(marks.waiting.drain(..)) {
                marks.blocked.extend(&mark.packs);
                marks.unfinished.push(id);
            }
        }
        marks.waiting_for.sort();
        marks.waiting_for.dedup();
        Ok(marks)
    }

    /// Packs that a mark with names holds, so that no other is needed for them. One that an
    /// unfinished switch took out of the index (again) needs a mark with the names of now.
    pub(crate) fn marked(&self) -> HashSet<Id> {
        let marks = self.free.iter().chain(&self.waiting);
        let packs = marks.flat_map(|(_, mark)| mark.packs.iter().copied());
        packs.filter(|pack| !self.unfinished_packs.contains(pack)).collect()
    }
}
