//! Writing a recovery point back.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::PathBuf;

use jiff::Timestamp;
use nix::unistd::{getegid, geteuid};
use provault_driver::entry::printable;
use provault_driver::{
    Counted, CreatedResource, DriverError, Entry, NodeKind, OUTSIDE_LISTED, PREVIEW_LISTED,
    PreviewChange, PreviewFate, PreviewLink, RestoreOutcome, RestorePreview, RestoreRequest,
    Source, WorkContext,
};

use crate::apply::{Tally, named};
use crate::capture::{check, io_error};
use crate::config::Config;
use crate::guard::{Guard, split};
use crate::inodes::{Content, Inodes};
use crate::order::{Order, Overwrite, job_id};
use crate::plan::{self, Plan, Terms};
use crate::reserved::Fence;
use crate::selection::{Selection, Wanted};
use crate::staging::{self, Staging};
use crate::writer::{Cursor, Writer, Written};
use crate::{at, merge, outside, verify};
use provault_driver::reserved::Reserved;

/// Whether a job is carried out for the first time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Run {
    First,
    /// What an earlier run left is built upon.
    Again,
}

/// A restore, ready to be carried out.
struct Work<'a> {
    order: Order,
    job: &'a str,
    /// When it first began, as far as that matters.
    began_at: Option<Timestamp>,
    target: PathBuf,
    /// With every pattern resolved.
    selection: Selection,
    source: &'a dyn Source,
    context: &'a WorkContext<'a>,
    reserved: &'a Reserved,
}

impl<'a> Work<'a> {
    fn new(
        request: &RestoreRequest<'a>,
        source: &'a dyn Source,
        context: &'a WorkContext<'a>,
        reserved: &'a Reserved,
    ) -> Result<Self, DriverError> {
        let order = Order::parse(request.metadata)?;
        let job = job_id(request)?;
        let target = order.target(job)?;
        check(context.cancel)?;
        let by_pattern = !order.selection.include.is_empty();
        let selection = order.selection.clone().resolved(source, context)?;
        if by_pattern {
            Order::keep_items_out_of(reserved, &target, selection.items.as_ref())?;
        }
        let began_at = request.began_at;
        Ok(Self { order, job, began_at, target, selection, source, context, reserved })
    }

    /// The directory that is restored into, when that is asked for and one is there.
    fn existing(&self) -> Result<Option<File>, DriverError> {
        if self.order.in_place { staging::existing(&self.target) } else { Ok(None) }
    }
}

/// Carries out a restore; on an error nothing is left, unless it is to be taken up again.
pub(crate) fn run(
    request: &RestoreRequest<'_>,
    source: &dyn Source,
    context: &WorkContext<'_>,
    reserved: &Reserved,
    run: Run,
) -> Result<RestoreOutcome, DriverError> {
    if run == Run::First {
        // What bears the id of a job that begins is of no use to anybody.
        let order = Order::parse(request.metadata)?;
        let job = job_id(request)?;
        let target = order.target(job)?;
        check(context.cancel)?;
        staging::discard(&target, job)?;
    }
    let work = Work::new(request, source, context, reserved)?;
    let done = match work.existing()? {
        Some(root) => in_place(&work, root, run),
        None => staged(&work, run),
    };
    done.inspect_err(|_| {
        if context.cancel.is_to_resume() {
            return;
        }
        if let Err(error) = staging::discard(&work.target, work.job) {
            tracing::error!(%error, job = work.job, "cannot remove what an unfinished restore left");
        }
    })
}

/// What a restore would do now. Writes nothing.
pub(crate) fn preview(
    request: &RestoreRequest<'_>,
    source: &dyn Source,
    context: &WorkContext<'_>,
    reserved: &Reserved,
) -> Result<RestorePreview, DriverError> {
    let work = Work::new(request, source, context, reserved)?;
    let target = work.target.to_string_lossy().into_owned();
    if let Some(root) = work.existing()? {
        let (plan, _) = planned(&work, &root, Run::First)?;
        let Plan { counts, changes, left_off, staged, .. } = plan;
        let in_place = true;
        let mut preview =
            RestorePreview { target, in_place, counts, changes, left_off, ..Default::default() };
        look_through(&work, &mut |entry| {
            if staged.wants(&entry.path) == Wanted::Yes {
                tell_of_link(&work, entry, &mut preview);
            }
        })?;
        return Ok(preview);
    }
    Staging::choose(work.target.clone(), work.job, &work.selection)?;
    let mut preview = RestorePreview { target, ..RestorePreview::default() };
    look_through(&work, &mut |entry| {
        let bytes = if entry.kind == NodeKind::File { entry.metadata.size } else { 0 };
        preview.counts.created.add(bytes);
        tell_of_link(&work, entry, &mut preview);
        if preview.changes.len() == PREVIEW_LISTED {
            preview.left_off += 1;
            return;
        }
        let path = printable(&entry.path);
        preview.changes.push(PreviewChange {
            path: if path.is_empty() { ".".to_owned() } else { path },
            fate: PreviewFate::Create,
            bytes,
            existing_mtime: None,
            stored_mtime: Some(entry.metadata.mtime),
        });
    })?;
    Ok(preview)
}

/// Tells of a link that would be made and leads out of the target. A restore makes it as it was: it follows
/// none.
fn tell_of_link(work: &Work<'_>, entry: &Entry, preview: &mut RestorePreview) {
    let NodeKind::Symlink { target } = &entry.kind else { return };
    if !outside::leads_outside(&work.target, &entry.path, target) {
        return;
    }
    preview.leads_outside += 1;
    if preview.outside.len() < OUTSIDE_LISTED {
        let (path, target) = (printable(&entry.path), printable(target));
        preview.outside.push(PreviewLink { path, target });
    }
}

/// To where nothing is: complete or not there.
fn staged(work: &Work<'_>, run: Run) -> Result<RestoreOutcome, DriverError> {
    if run == Run::Again {
        staging::undo(&work.target, work.job)?;
    }
    let choice = Staging::choose(work.target.clone(), work.job, &work.selection);
    let staging = match choice {
        Err(error @ DriverError::TargetExists { .. }) if run == Run::Again => {
            return completed_before(work)
                .map_err(|found| if found.is_cancelled() { found } else { error });
        }
        choice => choice?,
    };
    let again = run == Run::Again && staging.is_left();
    if run == Run::Again && !again {
        staging::discard(&work.target, work.job)?;
    }
    let total = look_through(work, &mut |_| {})?.bytes;
    let wants = |path: &[u8]| work.selection.wants(path);
    let root = staging.create()?;
    let written = write(work, &root, total, again, &wants, &|_| false)?;
    staging.sync(&root)?;
    let mut outcome = RestoreOutcome { notes: work.order.notes.clone(), ..of(&written) };
    verified(work, &root, &wants, &written, &mut outcome)?;
    check(work.context.cancel)?;
    // What we may not look into is taken for whole.
    if merge::names_in(&root).is_ok_and(|found| found < written.names) {
        let missing = missing_below(work, &root, vec![Vec::new()], &written.tally);
        return Err(vanished(work, &missing, false));
    }
    staging.put_in_place(&root)?;
    outcome.notes.extend(written.tally.notes());
    outcome.created = created(work)?;
    Ok(outcome)
}

/// Whether an earlier run had put everything in place before it died: then it is what the recovery
/// point holds. An error says that it is not.
fn completed_before(work: &Work<'_>) -> Result<RestoreOutcome, DriverError> {
    let root = staging::existing(&work.target)?;
    let root = root.ok_or_else(|| DriverError::TargetExists { path: work.target.clone() })?;
    let wants = |path: &[u8]| work.selection.wants(path);
    let (shown, context) = (work.target.as_path(), work.context);
    let found = verify::run(&root, shown, work.source, &wants, &Tally::default(), context)?;
    staging::discard(&work.target, work.job)?;
    let counted = look_through(work, &mut |_| {})?;
    let mut notes = work.order.notes.clone();
    notes.push(
        "It had been completed before the server stopped, and was found to be whole.".to_owned(),
    );
    notes.extend(found.note());
    Ok(RestoreOutcome {
        bytes: counted.bytes,
        files: counted.entries,
        created: created(work)?,
        notes,
        verified: Some(found.verified),
        in_place: None,
    })
}

/// Into a directory that exists.
fn in_place(work: &Work<'_>, root: File, run: Run) -> Result<RestoreOutcome, DriverError> {
    let target = work.target.as_path();
    let to = root.try_clone().map_err(io_error("opening", target))?;
    let staging = Staging::in_place(target, root, work.job);
    if run == Run::Again {
        staging.finish_exchange()?;
    }
    let (mut plan, mode) = planned(work, &to, run)?;
    if let Some(conflict) = plan.changes.iter().find(|c| c.fate == PreviewFate::Conflict) {
        let guarded = plan.guarded.iter().find(|(path, _)| printable(path) == conflict.path);
        let what = match guarded {
            Some((_, kept)) => format!(
                "would be replaced with all that is in it, and holds {}, which is excluded or another restore's; move that first",
                printable(kept)
            ),
            None => "is a directory in one of them and not in the other, the target and the recovery point".to_owned(),
        };
        let path = target.join(&conflict.path);
        return Err(DriverError::Conflict { path, what });
    }
    if plan.counts.conflicts.entries > 0 {
        let what = format!(
            "holds {} paths that are a directory in the target and not in the recovery point, or the reverse",
            plan.counts.conflicts.entries
        );
        return Err(DriverError::Conflict { path: target.to_owned(), what });
    }
    let again = run == Run::Again && staging.is_left();
    let staged = std::mem::take(&mut plan.staged);
    let wants = |path: &[u8]| work.selection.wants(path).and(staged.wants(path));
    // Of a directory above that is in place nothing is taken over.
    let moved = |path: &[u8]| match staged.wants(path) {
        Wanted::Yes => work.selection.wants(path),
        other => other,
    };
    let fresh = staging.create()?;
    // What is only passed through on the way to it is never put in place.
    let scaffold = |path: &[u8]| staged.wants(path) != Wanted::Yes;
    let mut written = write(work, &fresh, plan.bytes, again, &wants, &scaffold)?;
    written.tally.parted += plan.parted;
    staging.sync(&fresh)?;
    let mut outcome = RestoreOutcome { notes: work.order.notes.clone(), ..of(&written) };
    verified(work, &fresh, &moved, &written, &mut outcome)?;
    check(work.context.cancel)?;
    // From here on it goes through to its end: to stop between two files would help nobody.
    let private = staging.private()?;
    let places = merge::Places { private: &private, staged: &fresh, target: &to, shown: target };
    let mut undone = merge::run(&plan, mode, &places, &mut written.tally)?;
    staging.remove();
    if run == Run::Again {
        // The target may not have been there when the first run began, and made its tree beside it.
        staging::discard(target, work.job)?;
    }
    merge::settle_root(&plan, &to, target, &mut written.tally)?;
    if !undone.thinned.is_empty() {
        undone.vanished.extend(missing_below(work, &to, undone.thinned, &written.tally));
    }
    if !undone.vanished.is_empty() {
        return Err(vanished(work, &undone.vanished, true));
    }
    if again {
        outcome.notes.push(
            "An earlier run of it had begun to write; what that had put in place already is counted as it was found.".to_owned(),
        );
    }
    outcome.notes.extend(merge::note_left(&plan, &undone.left));
    outcome.notes.extend(written.tally.notes());
    outcome.notes.extend(left_alone(&plan, mode));
    plan.leave(&undone.left);
    outcome.in_place = Some(plan.counts);
    Ok(outcome)
}

/// What the recovery point has below these directories of `target` and they have not, each with all that is
/// below it; the directories themselves when that cannot be told any more.
fn missing_below(
    work: &Work<'_>,
    target: &File,
    thinned: Vec<Vec<u8>>,
    tally: &Tally,
) -> Vec<Vec<u8>> {
    let look = || -> Result<Vec<Vec<u8>>, DriverError> {
        let failed = |error| io_error::<std::io::Error>("opening", &work.target)(error);
        let mut cursor = Cursor::new(target.try_clone().map_err(failed)?);
        let mut missing: Vec<Vec<u8>> = Vec::new();
        let mut guard = Guard::default();
        for entry in work.source.entries()? {
            let entry = entry?;
            guard.check(&entry)?;
            let path = entry.path.as_slice();
            let wanted = match work.selection.wants(path) {
                Wanted::Yes => true,
                Wanted::Above => entry.kind == NodeKind::Directory,
                Wanted::No => false,
            };
            let known = missing.last().is_some_and(|above| is_below(path, above));
            let looked_for = thinned.iter().any(|dir| is_below(path, dir));
            if !wanted || known || !looked_for || tally.nodes.iter().any(|node| node == path) {
                continue;
            }
            let (parent, name) = split(path);
            if cursor.go(parent).and_then(|dir| at::Stat::at(dir, name)).is_err() {
                missing.push(entry.path);
            }
        }
        Ok(missing)
    };
    match look() {
        Ok(missing) if !missing.is_empty() => missing,
        _ => thinned,
    }
}

fn vanished(work: &Work<'_>, paths: &[Vec<u8>], others_in_place: bool) -> DriverError {
    DriverError::Vanished {
        target: work.target.clone(),
        count: paths.len() as u64,
        paths: named(paths),
        others_in_place,
    }
}

fn is_below(path: &[u8], above: &[u8]) -> bool {
    if above.is_empty() {
        return !path.is_empty();
    }
    path.strip_prefix(above).is_some_and(|rest| rest.first() == Some(&b'/'))
}

/// What stays although it differs, as sentences.
fn left_alone(plan: &Plan, mode: Overwrite) -> Vec<String> {
    let mut notes = Vec::new();
    let counts = &plan.counts;
    if counts.kept_newer.entries > 0 {
        notes.push(format!(
            "{} paths were left as they are, as what exists is newer than what was backed up.",
            counts.kept_newer.entries
        ));
    }
    if !plan.late.is_empty() {
        notes.push(format!(
            "{} paths differ and were changed since this restore first began, before the server ended, and were left as they are: {}. Restore again if they are to become what was backed up.",
            plan.late.len(),
            named(&plan.late)
        ));
    }
    if plan.elsewhere > 0 {
        notes.push(format!(
            "{} paths on other file systems that are mounted in the target differ in owner, mode, time or attributes, and were left as they are.",
            plan.elsewhere
        ));
    }
    // Of what is late, extra paths are no counted ones.
    let late = plan.acts.iter().filter(|act| act.late).count() as u64;
    let kept = counts.kept.entries.saturating_sub(plan.elsewhere + late);
    if kept > 0 {
        let why = if mode == Overwrite::Never {
            "as nothing was to be written over"
        } else {
            "as they are no older than what was backed up"
        };
        notes.push(format!("{kept} paths differ and were left, {why}."));
    }
    notes
}

/// What is to be done to a directory that exists, and by which mode.
fn planned(work: &Work<'_>, root: &File, run: Run) -> Result<(Plan, Overwrite), DriverError> {
    let target = work.target.as_path();
    let names = at::names(root).map_err(io_error("reading", target))?;
    let empty = names.iter().all(|name| staging::is_private(name));
    // It was empty or absent when the first run was let begin; what is in it is that run's.
    let mode = work.order.mode(target, empty || run == Run::Again)?;
    let real = target.canonicalize().map_err(io_error("looking up", target))?;
    let fence = Fence::of(work.reserved, &real);
    let (selection, delete_extra) = (&work.selection, work.order.delete_extra);
    let since = work.began_at.filter(|_| run == Run::Again);
    let terms = Terms { target, root, selection, mode, delete_extra, fence: &fence, since };
    Ok((plan::make(&terms, work.source, work.context)?, mode))
}

fn of(written: &Written) -> RestoreOutcome {
    let Written { bytes, files, .. } = written;
    RestoreOutcome { bytes: *bytes, files: *files, ..RestoreOutcome::default() }
}

/// Reads back what was made, unless that was not wanted.
fn verified(
    work: &Work<'_>,
    root: &File,
    wants: &dyn Fn(&[u8]) -> Wanted,
    written: &Written,
    outcome: &mut RestoreOutcome,
) -> Result<(), DriverError> {
    if !work.order.verify {
        return Ok(());
    }
    let (shown, tally) = (work.target.as_path(), &written.tally);
    let found = verify::run(root, shown, work.source, wants, tally, work.context)?;
    if found.files != written.files {
        // The recovery point was read as another tree than before: what is there is not known to be it.
        return Err(DriverError::Unverified {
            path: ".".to_owned(),
            what: format!("holds {} files, and {} were read back", written.files, found.files),
        });
    }
    outcome.notes.extend(found.note());
    outcome.verified = Some(found.verified);
    Ok(())
}

/// The new resource: only a whole recovery point in a directory of its own is one.
fn created(work: &Work<'_>) -> Result<Option<CreatedResource>, DriverError> {
    if work.selection.is_partial() || work.order.in_place {
        return Ok(None);
    }
    let config = Config::parse(&serde_json::json!({ "path": work.target.to_string_lossy() }))?;
    let name = work.order.resource_name(work.job);
    Ok(Some(CreatedResource { name, config: config.to_value() }))
}

/// Checks every entry and that every item is there, before anything is made; hands over what is
/// wanted. Counts the files there are to write, and their bytes.
fn look_through(work: &Work<'_>, each: &mut dyn FnMut(&Entry)) -> Result<Counted, DriverError> {
    let mut guard = Guard::default();
    let mut found = BTreeSet::new();
    let mut counted = Counted::default();
    let mut inodes = Inodes::default();
    let items = work.selection.items.as_ref();
    for entry in work.source.entries()? {
        check(work.context.cancel)?;
        let entry = entry?;
        guard.check(&entry)?;
        let wanted = work.selection.wants(&entry.path);
        if wanted == Wanted::Yes {
            if entry.kind == NodeKind::File {
                counted.add(inodes.add(Content::from(&entry.metadata)));
            }
            each(&entry);
        } else if wanted == Wanted::Above && entry.kind == NodeKind::Directory {
            each(&entry);
        }
        if items.is_some_and(|items| items.asked.contains_key(&entry.path)) {
            found.insert(entry.path);
        }
    }
    guard.finish()?;
    check(work.context.cancel)?;
    let missing = items.and_then(|i| i.asked.iter().find(|(path, _)| !found.contains(*path)));
    match missing {
        None => Ok(counted),
        Some((_, asked)) => Err(DriverError::NoSuchItem { path: asked.clone() }),
    }
}

/// Writes what is wanted below `root`. Directories above get what was recorded of them, unless they are
/// mere `scaffold`.
fn write(
    work: &Work<'_>,
    root: &File,
    total: u64,
    again: bool,
    wants: &dyn Fn(&[u8]) -> Wanted,
    scaffold: &dyn Fn(&[u8]) -> bool,
) -> Result<Written, DriverError> {
    let copy = root.try_clone().map_err(io_error::<std::io::Error>("opening", &work.target))?;
    let mut writer = Writer::new(copy, &work.target, work.source, work.context, total);
    if again {
        writer.resume();
    }
    // The source is asked a second time, so it is checked a second time.
    let mut guard = Guard::default();
    for entry in work.source.entries()? {
        check(work.context.cancel)?;
        let mut entry = entry?;
        guard.check(&entry)?;
        match wants(&entry.path) {
            Wanted::Yes => writer.add(entry)?,
            Wanted::Above if entry.kind == NodeKind::Directory => {
                if scaffold(&entry.path) {
                    open_to_us(&mut entry);
                }
                writer.add(entry)?;
            }
            Wanted::Above | Wanted::No => {}
        }
    }
    writer.finish()
}

/// Makes a directory that is only passed through one that we can work in.
fn open_to_us(entry: &mut Entry) {
    entry.metadata.mode = 0o700;
    entry.metadata.uid = geteuid().as_raw();
    entry.metadata.gid = getegid().as_raw();
    entry.metadata.xattrs.clear();
}
