//! Whether the time of day may delete.
//!
//! A clock that is ahead for a moment would end the retention of everything at once. So the time of day
//! is watched against the monotonic clock while the server runs, and against the last moment that the
//! catalog knows of when it starts. What leaps is not believed until the server has run steadily for a
//! day, over its stops and starts, or somebody says that it is right.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::clock::Clock;
use crate::shared::Shared;
use crate::{Engine, Result};

/// A jump of the time of day by more than this, while the machine ran, is no correction.
const JUMP: SignedDuration = SignedDuration::from_hours(1);
/// A gap between two runs of the server by more than this may be a jump. A machine that is switched
/// off over night has none.
const GAP: SignedDuration = SignedDuration::from_hours(24);
/// How long the clock has to run steadily before a jump is believed.
const STEADY: Duration = Duration::from_hours(24);
/// How often what is known of the clock is written down.
const NOTE_EVERY: Duration = Duration::from_mins(5);
/// Where it is written down.
const SETTING: &str = "clock";

/// What outlives the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Note {
    /// The time of day when it was written.
    seen: Timestamp,
    /// Seconds of steady running that are still wanted before anything expires.
    owed_seconds: u64,
}

/// Watches the time of day.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    last: Option<(Timestamp, Duration)>,
    /// How long the clock still has to run steadily.
    owed: Duration,
    /// When a note was last written.
    noted: Option<Duration>,
}

impl Watch {
    /// Begins where an earlier process ended.
    fn begin(&mut self, clock: &dyn Clock, note: Option<Note>) {
        let now = clock.now();
        self.last = Some((now, clock.monotonic()));
        let Some(note) = note else { return };
        self.owed = Duration::from_secs(note.owed_seconds);
        if now.duration_since(note.seen) > GAP {
            tracing::warn!(
                last = %note.seen, %now,
                "more than a day has passed since this server last ran, or the clock is ahead: nothing \
                 expires until it has run for a day; `provault doctor` says how to let it go on at once"
            );
            self.owed = STEADY;
        }
    }

    /// Looks at the clock.
    fn look(&mut self, clock: &dyn Clock) {
        let (wall, monotonic) = (clock.now(), clock.monotonic());
        let Some((last_wall, last_monotonic)) = self.last.replace((wall, monotonic)) else {
            return;
        };
        let ran = monotonic.saturating_sub(last_monotonic);
        self.owed = self.owed.saturating_sub(ran);
        let ran = SignedDuration::try_from(ran).unwrap_or(SignedDuration::MAX);
        if wall.duration_since(last_wall).saturating_sub(ran) > JUMP {
            tracing::error!(
                from = %last_wall, to = %wall,
                "the clock jumped ahead; nothing expires until it has been steady for a day"
            );
            self.owed = STEADY;
        }
    }

    /// What is to be written down now, if anything is.
    fn note(&mut self, clock: &dyn Clock) -> Option<Note> {
        let monotonic = clock.monotonic();
        if self.noted.is_some_and(|noted| monotonic.saturating_sub(noted) < NOTE_EVERY) {
            return None;
        }
        self.noted = Some(monotonic);
        Some(Note { seen: clock.now(), owed_seconds: self.owed.as_secs() })
    }
}

impl Engine {
    /// Somebody says that the time of day is right: what it ends may expire at once, though it leapt.
    pub async fn trust_the_clock(&self) -> Result<()> {
        self.shared.trust_the_clock().await
    }
}

impl Shared {
    /// Whether the time of day has run steadily enough to delete by it.
    pub(crate) async fn trusts_the_clock(&self) -> Result<bool> {
        Ok(self.clock_is_owed().await?.is_zero())
    }

    /// How long the time of day has to run steadily before anything is deleted by it; nothing when it
    /// is trusted.
    pub(crate) async fn clock_is_owed(&self) -> Result<Duration> {
        let mut watch = self.watch.lock().await;
        if watch.last.is_none() {
            // What cannot be read is no reason to delete by a clock that nobody knows.
            let text = self.catalog.setting(SETTING).await?;
            watch.begin(self.clock.as_ref(), text.as_deref().map(|t| read(t, self.now())));
        }
        watch.look(self.clock.as_ref());
        let owed = watch.owed;
        if let Some(note) = watch.note(self.clock.as_ref()) {
            self.write(note).await?;
        }
        Ok(owed)
    }

    /// Somebody says that the clock is right.
    pub(crate) async fn trust_the_clock(&self) -> Result<()> {
        let mut watch = self.watch.lock().await;
        *watch = Watch::default();
        watch.begin(self.clock.as_ref(), None);
        self.write(Note { seen: self.now(), owed_seconds: 0 }).await
    }

    async fn write(&self, note: Note) -> Result<()> {
        let text = serde_json::to_string(&note)
            .map_err(|error| crate::EngineError::Internal(format!("the clock's note: {error}")))?;
        Ok(self.catalog.put_setting(SETTING, &text).await?)
    }
}

/// A note that cannot be read wants a steady day.
fn read(text: &str, now: Timestamp) -> Note {
    let steady = Note { seen: now, owed_seconds: STEADY.as_secs() };
    serde_json::from_str(text).unwrap_or(steady)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    struct Hands(Mutex<(Timestamp, Duration)>);

    impl Hands {
        fn new() -> Self {
            Self(Mutex::new((Timestamp::UNIX_EPOCH, Duration::ZERO)))
        }
        fn advance(&self, wall_hours: i64, monotonic_hours: u64) {
            let mut hands = self.0.lock().unwrap();
            hands.0 += SignedDuration::from_hours(wall_hours);
            hands.1 += Duration::from_hours(monotonic_hours);
        }
    }

    impl Clock for Hands {
        fn now(&self) -> Timestamp {
            self.0.lock().unwrap().0
        }
        fn monotonic(&self) -> Duration {
            self.0.lock().unwrap().1
        }
    }

    impl Watch {
        fn trusts(&mut self, clock: &dyn Clock) -> bool {
            self.look(clock);
            self.owed.is_zero()
        }
    }

    #[test]
    fn a_jump_ahead_is_not_believed_for_a_day() {
        let clock = Hands::new();
        let mut watch = Watch::default();
        assert!(watch.trusts(&clock));
        clock.advance(48, 48);
        assert!(watch.trusts(&clock), "two quiet days are no jump");
        clock.advance(-30, 1);
        assert!(watch.trusts(&clock), "back is harmless: nothing is due earlier");
        clock.advance(960, 1);
        assert!(!watch.trusts(&clock));
        clock.advance(23, 23);
        assert!(!watch.trusts(&clock));
        clock.advance(1, 1);
        assert!(watch.trusts(&clock));
    }

    #[test]
    fn a_jump_across_a_restart_is_not_believed_either() {
        let clock = Hands::new();
        let restart = |note| {
            let mut watch = Watch::default();
            watch.begin(&clock, Some(note));
            watch
        };
        let note = Watch::default().note(&clock).unwrap();
        clock.advance(24, 0);
        assert!(restart(note).trusts(&clock), "off for a night");
        clock.advance(1, 0);
        let mut watch = restart(note);
        assert!(!watch.trusts(&clock));
        clock.advance(10, 10);
        assert!(!watch.trusts(&clock));
        // A stop and a start neither end the day nor begin it anew: else a machine that is switched off
        // every night would never let anything expire.
        let note = watch.note(&clock).unwrap();
        assert_eq!(note.owed_seconds, 14 * 3600);
        clock.advance(14, 0);
        let mut watch = restart(note);
        clock.advance(13, 13);
        assert!(!watch.trusts(&clock));
        clock.advance(1, 1);
        assert!(watch.trusts(&clock));
        // Time goes on from a note that is in the future.
        let note = watch.note(&clock).unwrap();
        clock.advance(-1000, 0);
        assert!(restart(note).trusts(&clock));
    }

    #[test]
    fn a_note_that_cannot_be_read_wants_a_day() {
        let now = Timestamp::UNIX_EPOCH;
        assert_eq!(read("{", now).owed_seconds, 86_400);
        let note = Note { seen: now, owed_seconds: 5 };
        assert_eq!(read(&serde_json::to_string(&note).unwrap(), now), note);
    }
}
