//! The loops that look at something again and again, each with a pause of its own.

use std::sync::Arc;
use std::time::Duration;

use crate::shared::Shared;
use crate::{
    Result, absence, care_schedule, expiry, reconcile, schedule, test_queue, testing_schedule,
    validation,
};

const SCHEDULE_EVERY: Duration = Duration::from_secs(15);
const RECONCILE_EVERY: Duration = Duration::from_mins(1);
/// How often vaults are looked after; what is due then is read, within its rate.
const CARE_EVERY: Duration = Duration::from_secs(10);
/// What waits since before the server was started comes first.
const CARE_AFTER_START: Duration = Duration::from_mins(1);
/// How often every resource is asked for what it should have by now.
const ABSENCE_EVERY: Duration = Duration::from_mins(1);

/// Does a round again and again, `every` so often, and beats before each: a loop that does not is taken
/// for stuck.
async fn rounds<F: Future<Output = ()>>(
    beat: impl Fn(),
    after: Duration,
    every: Duration,
    round: impl Fn() -> F,
) {
    tokio::time::sleep(after).await;
    loop {
        beat();
        round().await;
        tokio::time::sleep(every).await;
    }
}

pub(crate) async fn time_loop(shared: Arc<Shared>) {
    let round = || async {
        let rounds: [(&str, Result<()>); 6] = [
            ("schedule", schedule::tick(&shared).await),
            ("windows", schedule::close_windows(&shared).await),
            ("restore testing plans", testing_schedule::tick(&shared).await),
            ("start windows of restore tests", testing_schedule::close_windows(&shared).await),
            ("restore tests that wait", test_queue::tidy(&shared).await),
            ("validation windows", validation::close_windows(&shared).await),
        ];
        for (what, outcome) in rounds {
            if let Err(error) = outcome {
                tracing::error!(%error, "{what} could not be looked after; trying again");
            }
        }
    };
    rounds(|| shared.beat("time"), Duration::ZERO, SCHEDULE_EVERY, round).await;
}

pub(crate) async fn absence_loop(shared: Arc<Shared>) {
    let round = || async {
        if let Err(error) = absence::tick(&shared).await {
            tracing::error!(%error, "what is absent could not be looked for; trying again");
        }
    };
    // After a start the schedule comes first: what was missed is made up for before it is complained of.
    rounds(|| shared.beat("absence"), ABSENCE_EVERY, ABSENCE_EVERY, round).await;
}

/// Apart from the schedule: a vault that does not answer holds up what expires in it, and must not
/// hold up backups.
pub(crate) async fn retention_loop(shared: Arc<Shared>) {
    let round = || async {
        if let Err(error) = expiry::tick(&shared).await {
            tracing::error!(%error, "retention could not be looked after; trying again");
        }
    };
    rounds(|| shared.beat("retention"), Duration::ZERO, SCHEDULE_EVERY, round).await;
}

pub(crate) async fn care_loop(shared: Arc<Shared>) {
    let round = || care_schedule::tick(&shared);
    rounds(|| shared.beat("care of vaults"), CARE_AFTER_START, CARE_EVERY, round).await;
}

pub(crate) async fn reconcile_loop(shared: Arc<Shared>) {
    let round = || reconcile::tick(&shared);
    rounds(|| shared.beat("reconcilers"), RECONCILE_EVERY, RECONCILE_EVERY, round).await;
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test]
    async fn every_round_beats_before_it_begins() {
        let (beats, begun) = (AtomicU32::new(0), AtomicU32::new(0));
        let (told, mut heard) = tokio::sync::mpsc::channel(1);
        let beat = || {
            beats.fetch_add(1, Ordering::SeqCst);
        };
        let round = || {
            let (beats, begun) = (beats.load(Ordering::SeqCst), &begun);
            let told = told.clone();
            async move {
                assert_eq!(beats, begun.fetch_add(1, Ordering::SeqCst) + 1);
                if beats == 3 {
                    let _ = told.send(()).await;
                    std::future::pending::<()>().await;
                }
            }
        };
        tokio::select! {
            () = rounds(beat, Duration::ZERO, Duration::ZERO, round) => unreachable!("it has no end"),
            third = heard.recv() => third.unwrap(),
        }
    }
}
