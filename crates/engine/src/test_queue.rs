//! Which restore test begins next, and why the others wait.
//!
//! Tests begin in the order they were asked for, except those that may not yet: it is not the time of day
//! for them, as many of their setting run as may, or the disk has no room beside what is to stay free and
//! what running tests still need. Such a test says so in its row and is passed by. One whose time is over
//! ends INCONCLUSIVE; one whose time of day has not come yet when a newer recovery point of its resource comes
//! up is passed over in favour of that. Once it has come the test stays, so that it is told of if it cannot
//! begin: passed over again and again, none would ever be missed.

use std::num::NonZeroUsize;
use std::str::FromStr;
use std::sync::Arc;

use jiff::Timestamp;
use provault_catalog::{CatalogError, Change, Claimed, JobFilter};
use provault_domain::backup_testing::{Obstacle, Waiting};
use provault_domain::restore_test::step;
use provault_domain::{RecoveryPoint, RestoreJob, RestoreTest, RestoreTestEvent, RestoreTestState};

use crate::shared::{Entered, Shared, blocking};
use crate::test_share::{NoPlace, Place};
use crate::trial::LARGEST_SCORED_BYTES;
use crate::{EngineError, Result, restore_test};

/// What restore tests may take of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TestLimits {
    /// How many run at a time.
    pub at_once: NonZeroUsize,
    /// What they leave free of the disk they restore to.
    pub reserve: DiskReserve,
}

impl Default for TestLimits {
    fn default() -> Self {
        Self { at_once: NonZeroUsize::MIN, reserve: DiskReserve::Default }
    }
}

/// What must stay free of a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DiskReserve {
    /// A tenth of the disk, 1 GiB at most and 128 MiB at least: the catalog lies on it too, and a test must
    /// not be what stops the backups.
    #[default]
    Default,
    /// So many bytes.
    Bytes(u64),
    /// So many percent of the disk, 0 to 99.
    Percent(u8),
}

impl DiskReserve {
    /// In bytes, of a disk of this size.
    pub fn of(self, total: u64) -> u64 {
        match self {
            Self::Default => (total / 10).clamp(128 << 20, 1 << 30),
            Self::Bytes(bytes) => bytes,
            // By hundredths: the product might not fit.
            Self::Percent(percent) => (total / 100).saturating_mul(u64::from(percent)),
        }
    }
}

impl FromStr for DiskReserve {
    type Err = String;

    /// `10%`, `500MiB`, `20GiB`, `1TiB`, or a number of bytes.
    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let wrong = || {
            format!(
                "'{text}' is no share and no size; write 10%, 500MiB, 20GiB or a number of bytes"
            )
        };
        let number = |digits: &str| {
            let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
            digits.parse::<u64>().ok().filter(|_| plain).ok_or_else(wrong)
        };
        if let Some(digits) = text.strip_suffix('%') {
            return match u8::try_from(number(digits)?) {
                Ok(percent) if percent < 100 => Ok(Self::Percent(percent)),
                _ => Err(format!("'{text}' would leave no test any room; use 0% to 99%")),
            };
        }
        for (unit, shift) in [("MiB", 20_u32), ("GiB", 30), ("TiB", 40), ("", 0)] {
            if let Some(digits) = text.strip_suffix(unit) {
                let bytes = number(digits)?.checked_mul(1 << shift).ok_or_else(wrong)?;
                return Ok(Self::Bytes(bytes));
            }
        }
        Err(wrong())
    }
}

/// The test that begins now: claimed, and entered among those running here.
pub(crate) async fn next(shared: &Arc<Shared>) -> Result<Option<(Claimed<RestoreTest>, Entered)>> {
    // Before the room is looked at: what begins elsewhere after this is not in it.
    let begun = shared.at_work.begun();
    let (now, mut open) = (shared.now(), open(shared).await?);
    end_what_is_over(shared, &mut open, now).await;
    let running: Vec<RestoreTest> =
        open.iter().filter(|test| is_begun(shared, test)).cloned().collect();
    let mut disk: Option<Disk> = None;
    for test in open.iter().filter(|test| !is_begun(shared, test)) {
        match judged(shared, test, &running, &mut disk, now).await {
            // It must not hold up the others.
            Err(error) => {
                tracing::error!(test = test.id, %error, "it is not known whether a restore test may begin");
            }
            Ok(false) => {}
            Ok(true) => {
                let Some(place) = place(shared, test, begun, now).await? else { return Ok(None) };
                // Entered first: from the claim on, whoever wants to stop it has to find it here.
                let mut entered = shared.enter(&test.id);
                entered.place = Some(place);
                let (owner, until) = (&shared.owner, shared.lease_until());
                let claimed = shared.catalog.claim_job_by_id(&test.id, owner, now, until).await?;
                if let Some(claimed) = claimed {
                    return Ok(Some((claimed, entered)));
                }
            }
        }
    }
    shared.at_work.leave_queue(&shared.owner);
    Ok(None)
}

/// A test's place among those of all engines of this server. One that has none has it noted why.
async fn place(
    shared: &Shared,
    test: &RestoreTest,
    begun: u64,
    now: Timestamp,
) -> Result<Option<Place>> {
    let point = point_of(shared, test).await?;
    let bytes = point.map_or(0, |point| most_on_disk(point.backup_size_bytes));
    let at_once = shared.tests.at_once.get();
    match shared.at_work.take(&shared.owner, at_once, begun, &test.id, bytes) {
        Ok(place) => Ok(Some(place)),
        Err(NoPlace::LookAgain) => Ok(None),
        Err(NoPlace::Taken) => {
            let reason = format!(
                "It waits for its turn: the server lets {at_once} restore test{} run at a time, those of \
                 all its regions together.",
                if at_once == 1 { "" } else { "s" }
            );
            wait(shared, test, Obstacle::Turn, reason, now).await?;
            Ok(None)
        }
    }
}

/// Whether a test may begin now. One that may not has it noted why.
async fn judged(
    shared: &Shared,
    test: &RestoreTest,
    running: &[RestoreTest],
    disk: &mut Option<Disk>,
    now: Timestamp,
) -> Result<bool> {
    match obstacle(shared, test, running, disk, now).await? {
        None => Ok(true),
        Some((obstacle, reason)) => {
            wait(shared, test, obstacle, reason, now).await?;
            Ok(false)
        }
    }
}

/// Ends tests whose time is over, and passes over those that a newer recovery point has overtaken.
pub(crate) async fn tidy(shared: &Arc<Shared>) -> Result<()> {
    let mut open = open(shared).await?;
    end_what_is_over(shared, &mut open, shared.now()).await;
    Ok(())
}

/// All tests that have not ended, oldest first.
async fn open(shared: &Shared) -> Result<Vec<RestoreTest>> {
    let filter = JobFilter { unfinished_only: true, ..JobFilter::default() };
    Ok(shared.catalog.readable_jobs(&filter).await?)
}

fn is_begun(shared: &Shared, test: &RestoreTest) -> bool {
    test.state != RestoreTestState::Pending || shared.is_running(&test.id)
}

/// Removes from `open` what it ended. What could not be ended is told of and tried again.
async fn end_what_is_over(shared: &Arc<Shared>, open: &mut Vec<RestoreTest>, now: Timestamp) {
    let mut over = Vec::new();
    for (at, test) in open.iter().enumerate().filter(|(_, test)| !is_begun(shared, test)) {
        let newer = |other: &RestoreTest| {
            other.resource_arn == test.resource_arn
                && !is_begun(shared, other)
                && is_windowed(other)
        };
        let outcome = if has_still_to_open(test, now) && open[at + 1..].iter().any(newer) {
            pass_over(shared, test, now).await
        } else if let Some(why) = test.given_up(now) {
            give_up(shared, test, &why, now).await
        } else {
            continue;
        };
        if let Err(error) = outcome {
            tracing::error!(test = test.id, %error, "a restore test that waits in vain could not be ended");
        }
        over.push(test.id.clone());
    }
    open.retain(|test| !over.contains(&test.id));
}

/// Whether it follows a backup and waits for a time of day.
fn is_windowed(test: &RestoreTest) -> bool {
    test.budget.as_ref().is_some_and(|budget| budget.window.is_some())
}

/// Whether no window has opened yet since it was made.
fn has_still_to_open(test: &RestoreTest, now: Timestamp) -> bool {
    let opens = test.budget.as_ref().and_then(|budget| budget.opens_at(test.created_at));
    opens.is_some_and(|opens| now < opens)
}

async fn pass_over(shared: &Shared, test: &RestoreTest, now: Timestamp) -> Result<()> {
    let (owner, until) = (&shared.owner, shared.lease_until());
    // Else it was taken in this very moment.
    let Some(Claimed { job, claim }) =
        shared.catalog.claim_job_by_id::<RestoreTest>(&test.id, owner, now, until).await?
    else {
        return Ok(());
    };
    let reason =
        "a newer recovery point of the resource took its place before its daily window opened."
            .to_owned();
    let event = RestoreTestEvent::PassedOver { reason };
    // The evidence is the test as it will stand after this very step.
    let (passed, _) = step(&job, event.clone(), now).map_err(CatalogError::Illegal)?;
    let changes = vec![Change::PassedOver(Box::new(passed))];
    let stepped = shared.catalog.step_job::<RestoreTest>(
        &job.account,
        &job.id,
        Some(&claim),
        event,
        now,
        changes,
    );
    stepped.await?;
    Ok(())
}

async fn give_up(
    shared: &Arc<Shared>,
    test: &RestoreTest,
    why: &str,
    now: Timestamp,
) -> Result<()> {
    let (owner, until) = (&shared.owner, shared.lease_until());
    match shared.catalog.claim_job_by_id(&test.id, owner, now, until).await? {
        Some(claimed) => restore_test::end_stopped(shared, claimed, why).await,
        None => Ok(()),
    }
}

/// Notes why a test waits, when that is news.
async fn wait(
    shared: &Shared,
    test: &RestoreTest,
    obstacle: Obstacle,
    reason: String,
    now: Timestamp,
) -> Result<()> {
    // Bytes and counts change at every look; only the next window is worth another line.
    let known = |known: &Waiting| {
        known.obstacle == obstacle && (obstacle != Obstacle::Window || known.reason == reason)
    };
    if test.waiting.as_ref().is_some_and(known) {
        return Ok(());
    }
    tracing::info!(test = test.id, %obstacle, reason, "a restore test waits");
    let event = RestoreTestEvent::Waits { obstacle, reason };
    let noted = shared.catalog.step_job::<RestoreTest>(
        &test.account,
        &test.id,
        None,
        event,
        now,
        Vec::new(),
    );
    match noted.await {
        // Illegal: it was stopped in this very moment.
        Ok(_) | Err(CatalogError::Illegal(_)) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// What keeps a test from beginning now, if anything does.
async fn obstacle(
    shared: &Shared,
    test: &RestoreTest,
    running: &[RestoreTest],
    disk: &mut Option<Disk>,
    now: Timestamp,
) -> Result<Option<(Obstacle, String)>> {
    if let Some(budget) = &test.budget {
        if let (Some(opens), Some(window)) = (budget.opens_at(now), &budget.window) {
            let reason =
                format!("It waits for its daily window ({window}), which opens at {opens}.");
            return Ok(Some((Obstacle::Window, reason)));
        }
        let same = |other: &&RestoreTest| {
            other.budget.as_ref().is_some_and(|other| other.scope == budget.scope)
        };
        let busy = running.iter().filter(same).count();
        if let Some(limit) = budget.at_once
            && u32::try_from(busy).is_ok_and(|busy| busy >= limit)
        {
            let reason = format!(
                "It waits for its turn: {} lets {limit} run at a time, and {busy} do.",
                budget.said_by
            );
            return Ok(Some((Obstacle::Turn, reason)));
        }
    }
    // Who asks by hand is told at once that there is no room.
    if test.budget.is_none() && test.planned.is_none() {
        return Ok(None);
    }
    let Some(point) = point_of(shared, test).await? else { return Ok(None) };
    let disk = match disk {
        Some(disk) => disk,
        None => disk.insert(Disk::look(shared, running).await?),
    };
    Ok(disk.lacks(most_on_disk(point.backup_size_bytes)).map(|reason| (Obstacle::Room, reason)))
}

/// The point that a test restores, as far as that can be known.
async fn point_of(shared: &Shared, test: &RestoreTest) -> Result<Option<RecoveryPoint>> {
    let arn = test.recovery_point_arn.as_ref().or(test.requested_point.as_ref());
    Ok(match arn {
        Some(arn) => shared.catalog.recovery_point(&test.account, arn).await?,
        None if test.planned.is_some() => None,
        None => {
            let (account, arn) = (&test.account, &test.resource_arn);
            shared.catalog.newest_recovery_point(account, arn, shared.now()).await?
        }
    })
}

/// The room there is for copies.
struct Disk {
    place: String,
    free: u64,
    reserve: u64,
    /// What running tests have still to write, those of other regions among them.
    promised: u64,
}

impl Disk {
    async fn look(shared: &Shared, running: &[RestoreTest]) -> Result<Self> {
        let place = shared.restore_tests_root();
        let room = blocking(move || provault_proof::room(&place))
            .await?
            .map_err(|error| EngineError::Refused(error.to_string()))?;
        let own = |id: &str| running.iter().any(|test| test.id == id);
        let mut promised = shared.at_work.promised_to_others(own);
        for test in running {
            promised = promised.saturating_add(still_to_write(shared, test).await?);
        }
        Ok(Self {
            place: shared.data_dir.display().to_string(),
            free: room.free,
            reserve: shared.tests.reserve.of(room.total),
            promised,
        })
    }

    /// Why there is no room for a test that takes so many bytes at its most.
    fn lacks(&self, needed: u64) -> Option<String> {
        let taken = needed.saturating_add(self.promised).saturating_add(self.reserve);
        (self.free < taken).then(|| {
            format!(
                "There is no room for it: it needs {needed} bytes, running tests may still take {}, {} \
                 are to stay free, and {} has {} free. Make room there, or lower --test-disk-reserve.",
                self.promised, self.reserve, self.place, self.free
            )
        })
    }
}

/// What a test of a point of this size takes at its most: the copy and, beside it, one that is broken on
/// purpose, where such are made.
fn most_on_disk(size: u64) -> u64 {
    if size > LARGEST_SCORED_BYTES { size } else { size.saturating_mul(2) }
}

async fn still_to_write(shared: &Shared, test: &RestoreTest) -> Result<u64> {
    use RestoreTestState as S;
    // The copy that is kept for somebody outside is written: it is missing from what is free.
    if matches!(test.state, S::Validating | S::Reaping | S::Finished) {
        return Ok(0);
    }
    let Some(point) = point_of(shared, test).await? else { return Ok(0) };
    let size = point.backup_size_bytes;
    let written = match (test.state, &test.restore_job_id) {
        (S::Testing | S::Controlling, _) => size,
        (S::Restoring, Some(id)) => {
            let job = shared.catalog.job::<RestoreJob>(&test.account, id).await?;
            job.map_or(0, |job| job.bytes_restored.min(size))
        }
        _ => 0,
    };
    Ok(most_on_disk(size) - written)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reserve_is_a_share_or_a_size() {
        for (text, reserve) in [
            ("10%", DiskReserve::Percent(10)),
            ("0%", DiskReserve::Percent(0)),
            ("500MiB", DiskReserve::Bytes(500 << 20)),
            ("20GiB", DiskReserve::Bytes(20 << 30)),
            ("1TiB", DiskReserve::Bytes(1 << 40)),
            ("4096", DiskReserve::Bytes(4096)),
        ] {
            assert_eq!(text.parse(), Ok(reserve), "{text}");
        }
        for text in ["", "%", "100%", "300%", "-1", "+1", "1.5GiB", "20GB", "GiB", "99999999TiB"] {
            assert!(text.parse::<DiskReserve>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_reserve_follows_the_size_of_the_disk() {
        const GIB: u64 = 1 << 30;
        assert_eq!(DiskReserve::Default.of(100 << 20), 128 << 20);
        assert_eq!(DiskReserve::Default.of(5 * GIB), GIB / 2);
        assert_eq!(DiskReserve::Default.of(1000 * GIB), GIB);
        assert_eq!(DiskReserve::Percent(50).of(1000), 500);
        assert!(DiskReserve::Percent(99).of(u64::MAX) < u64::MAX);
        assert_eq!(DiskReserve::Bytes(7).of(1), 7);
    }

    #[test]
    fn what_running_tests_still_need_is_not_given_away() {
        let disk = Disk { place: "/d".to_owned(), free: 1000, reserve: 100, promised: 300 };
        assert_eq!(most_on_disk(300), 600);
        assert_eq!(most_on_disk(LARGEST_SCORED_BYTES + 1), LARGEST_SCORED_BYTES + 1);
        assert_eq!(disk.lacks(600), None);
        let text = disk.lacks(602).unwrap();
        assert!(text.contains("602") && text.contains("--test-disk-reserve"), "{text}");
    }
}
