//! Restore tests that follow backups by themselves: who says so, and with which budgets.
//!
//! A resource, a selection and a plan may each say whether a restore test follows a completed backup. The
//! most specific that says anything is what holds, as a whole: the resource, then the selection that the
//! backup was made for, then its plan. Of an on-demand backup only the resource has a say.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Deserializer, Serialize};

use crate::daily_window::DailyWindow;
use crate::step::state_names;
use crate::{Arn, Invalid};

/// The share of recovery points that are tested where none is given, in percent.
pub const WHOLE_SHARE: u32 = 100;
/// The most tests of one setting that may be allowed to run at a time.
pub const MOST_AT_ONCE: u32 = 64;
/// How long a test that follows a backup waits for room on the disk before it is given up.
pub const LONGEST_WAIT_FOR_ROOM: SignedDuration = SignedDuration::from_hours(24);

/// What a resource, a selection or a plan says about restore tests after backups.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupTesting {
    /// Whether one follows. Without it there is nothing to budget: the other members are at their
    /// defaults.
    pub enabled: bool,
    /// Of a hundred recovery points of a resource, so many are tested: 1 to 100.
    pub share_percent: u32,
    /// The part of the day in which its tests begin; at any time when absent.
    pub window: Option<DailyWindow>,
    /// How many tests of this setting may run at a time, 1 to 64; as many as the server lets when absent.
    pub at_once: Option<u32>,
    /// When it was said. What was backed up before is not asked for a test.
    pub set_at: Timestamp,
}

impl BackupTesting {
    /// A test after every backup (or none), whenever there is time for it.
    pub fn plain(enabled: bool, set_at: Timestamp) -> Self {
        Self { enabled, share_percent: WHOLE_SHARE, window: None, at_once: None, set_at }
    }

    /// Refuses budgets that cannot be kept, and those of tests that are not made.
    pub fn validate(&self) -> Result<(), Invalid> {
        if !(1..=WHOLE_SHARE).contains(&self.share_percent) {
            return Err(Invalid::new(
                "SharePercent",
                format!(
                    "{} is not possible; use 1 to {WHOLE_SHARE}, and TestAfterBackup false for no tests.",
                    self.share_percent
                ),
            ));
        }
        if let Some(limit) = self.at_once
            && !(1..=MOST_AT_ONCE).contains(&limit)
        {
            return Err(Invalid::new(
                "TestsAtOnce",
                format!("{limit} is not possible; use 1 to {MOST_AT_ONCE}, or leave it out."),
            ));
        }
        let budgets = [
            ("SharePercent", self.share_percent != WHOLE_SHARE),
            ("Window", self.window.is_some()),
            ("TestsAtOnce", self.at_once.is_some()),
        ];
        match budgets.into_iter().find(|(_, given)| *given && !self.enabled) {
            None => Ok(()),
            Some((member, _)) => Err(Invalid::new(
                member,
                "where no test follows a backup it says nothing; leave it out.",
            )),
        }
    }
}

/// Reads what a resource says. Until it could say more it was a yes or a no, and a no meant that nothing
/// was said.
pub(crate) fn said_by_resource<'de, D>(from: D) -> Result<Option<BackupTesting>, D::Error>
where
    D: Deserializer<'de>,
{
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Said {
        Word(bool),
        Whole(BackupTesting),
    }
    Ok(match Option::<Said>::deserialize(from)? {
        Some(Said::Whole(testing)) => Some(testing),
        Some(Said::Word(true)) => Some(BackupTesting::plain(true, Timestamp::UNIX_EPOCH)),
        Some(Said::Word(false)) | None => None,
    })
}

/// Whether the next recovery point of a resource is tested, and what to remember for the one after it.
///
/// Every point adds the share to a credit, and a test takes a hundred of it: with 25 % it is every fourth
/// point, with 40 % two of five, and no point waits longer for a tested one than that. The first of all,
/// for which nothing is remembered, is tested.
pub fn take_turn(credit: Option<u32>, share_percent: u32) -> (bool, u32) {
    let share = share_percent.min(WHOLE_SHARE);
    let credit = credit.unwrap_or(WHOLE_SHARE - share).min(WHOLE_SHARE) + share;
    if credit >= WHOLE_SHARE { (true, credit - WHOLE_SHARE) } else { (false, credit) }
}

/// What said that a test follows a backup.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum TestingScope {
    /// The resource.
    Resource(Arn),
    /// A selection, by its id.
    Selection(String),
    /// A plan, by its id.
    Plan(String),
}

/// The budgets of a test that follows a backup, as they were when the backup ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TestBudget {
    /// What said so: tests of the same scope share [`Self::at_once`].
    pub scope: TestingScope,
    /// The same for people, such as `plan nightly`.
    pub said_by: String,
    /// See [`BackupTesting::share_percent`].
    pub share_percent: u32,
    /// See [`BackupTesting::window`].
    pub window: Option<DailyWindow>,
    /// See [`BackupTesting::at_once`].
    pub at_once: Option<u32>,
    /// The moment at which the second window closes since the backup, or since the test was interrupted,
    /// where there are windows: what has not begun by then never does.
    pub start_by: Option<Timestamp>,
}

impl TestBudget {
    /// The budgets of a test that `testing` asks for at `now`.
    pub fn of(
        testing: &BackupTesting,
        scope: TestingScope,
        said_by: String,
        now: Timestamp,
    ) -> Self {
        let mut budget = Self {
            scope,
            said_by,
            share_percent: testing.share_percent,
            window: testing.window.clone(),
            at_once: testing.at_once,
            start_by: None,
        };
        budget.count_from(now);
        budget
    }

    /// Lets it begin within two windows from `now` on.
    pub(crate) fn count_from(&mut self, now: Timestamp) {
        self.start_by = self.window.as_ref().and_then(|window| window.second_close(now));
    }

    /// When the window opens that the test has to wait for at `now`; `None` where it may begin.
    pub fn opens_at(&self, now: Timestamp) -> Option<Timestamp> {
        let (opens, _) = self.window.as_ref()?.at_or_after(now)?;
        (opens > now).then_some(opens)
    }
}

/// What keeps a test from beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Obstacle {
    /// It is not the time of day for it.
    Window,
    /// As many of its setting run as may.
    Turn,
    /// The disk has no room for it.
    Room,
}
state_names!(Obstacle { Window = "WINDOW", Turn = "TURN", Room = "ROOM" });

/// Why a test waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    /// Since when it is kept by this.
    pub since: Timestamp,
    /// What keeps it.
    pub obstacle: Obstacle,
    /// For people, as of `since`.
    pub reason: String,
}
