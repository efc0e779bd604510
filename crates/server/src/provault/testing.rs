//! Restore tests after backups.

use provault_app::{TestingDocument, TestingOf, WindowDocument};
use provault_domain::BackupTesting;
use provault_wire::provault as wire;

use super::{Answered, Call};
use crate::answer::Answer;
use crate::convert::epoch;

pub(super) async fn describe(call: &Call<'_>, of: TestingOf<'_>) -> Answered {
    let said = Call::done(call.app.backup_testing(call.caller, of).await)?;
    Answer::json(&said.as_ref().map_or(wire::Testing::NOTHING, testing))
}

pub(super) async fn put(call: &Call<'_>, of: TestingOf<'_>) -> Answered {
    let input: wire::PutTestingInput = call.input()?;
    let document = TestingDocument {
        test_after_backup: input.test_after_backup,
        share_percent: input.share_percent,
        window: input.window.map(|window| WindowDocument {
            from: window.from,
            to: window.to,
            timezone: window.timezone,
        }),
        tests_at_once: input.tests_at_once,
    };
    let said = Call::done(call.app.put_backup_testing(call.caller, of, document).await)?;
    Answer::json(&testing(&said))
}

pub(super) async fn delete(call: &Call<'_>, of: TestingOf<'_>) -> Answered {
    Call::nothing(call.app.delete_backup_testing(call.caller, of).await)
}

pub(super) fn testing(said: &BackupTesting) -> wire::Testing {
    wire::Testing {
        test_after_backup: Some(said.enabled),
        share_percent: said.enabled.then_some(said.share_percent),
        window: said.window.as_ref().map(|window| wire::TestWindow {
            from: window.from(),
            to: window.to(),
            timezone: Some(window.timezone().to_owned()),
        }),
        tests_at_once: said.at_once,
        change_date: Some(epoch(said.set_at)),
    }
}
