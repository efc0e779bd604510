//! Keeping a lease while a job's work blocks elsewhere: renewal, progress, and the news that the
//! job is to stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use provault_catalog::{CatalogError, Claim, Job};
use provault_domain::{
    AccountId, BackupJob, BackupJobEvent, BackupJobState, CareEvent, CareRun, RestoreJob,
    RestoreJobEvent,
};
use provault_driver::CancelFlag;
use tokio::task::JoinHandle;

use crate::shared::Shared;

const BEAT: Duration = Duration::from_secs(1);
/// A lease is renewed every so many beats, well within its length.
const RENEW_EVERY: u32 = 10;

/// Bytes done and bytes there are, written by the worker and read by the heartbeat.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    done: AtomicU64,
    /// 0 for unknown.
    total: AtomicU64,
}

impl Progress {
    pub(crate) fn set(&self, done: u64, total: Option<u64>) {
        self.done.store(done, Ordering::Relaxed);
        if let Some(total) = total {
            self.total.store(total, Ordering::Relaxed);
        }
    }

    pub(crate) fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    fn total(&self) -> Option<u64> {
        Some(self.total.load(Ordering::Relaxed)).filter(|total| *total > 0)
    }
}

/// A job that tells its progress to the catalog.
pub(crate) trait Reporting: Job {
    /// The event for so much progress.
    fn progressed(done: u64, total: Option<u64>) -> Option<Self::Event>;
    /// Whether the row says that the job is to stop.
    fn asked_to_stop(&self) -> bool;
}

impl Reporting for BackupJob {
    fn progressed(bytes_transferred: u64, bytes_expected: Option<u64>) -> Option<BackupJobEvent> {
        Some(BackupJobEvent::Progressed { bytes_transferred, bytes_expected })
    }
    fn asked_to_stop(&self) -> bool {
        self.state == BackupJobState::Aborting
    }
}

impl Reporting for RestoreJob {
    fn progressed(bytes_restored: u64, _: Option<u64>) -> Option<RestoreJobEvent> {
        Some(RestoreJobEvent::Progressed { bytes_restored })
    }
    fn asked_to_stop(&self) -> bool {
        self.stop_requested.is_some() || self.state.is_final()
    }
}

impl Reporting for CareRun {
    fn progressed(done: u64, total: Option<u64>) -> Option<CareEvent> {
        Some(CareEvent::Progressed { done, total })
    }
    fn asked_to_stop(&self) -> bool {
        self.stop_requested.is_some() || self.state.is_final()
    }
}

impl Reporting for provault_domain::RestoreTest {
    fn progressed(_: u64, _: Option<u64>) -> Option<Self::Event> {
        None
    }
    fn asked_to_stop(&self) -> bool {
        false
    }
}

/// Beats until it is dropped.
pub(crate) struct Heartbeat(JoinHandle<()>);

impl Drop for Heartbeat {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Heartbeat {
    pub(crate) fn start<J: Reporting>(
        shared: &Arc<Shared>,
        account: &AccountId,
        claim: &Claim,
        cancel: &CancelFlag,
        progress: &Arc<Progress>,
    ) -> Self {
        let (shared, account, claim) = (Arc::clone(shared), account.clone(), claim.clone());
        let (cancel, progress) = (cancel.clone(), Arc::clone(progress));
        Self(tokio::spawn(async move {
            let mut told = 0;
            for beat in 1_u32.. {
                tokio::time::sleep(BEAT).await;
                if beat % RENEW_EVERY == 0 {
                    let renewed = shared
                        .catalog
                        .renew_lease(&claim, shared.now(), shared.lease_until())
                        .await;
                    if let Err(CatalogError::Fenced { .. }) = renewed {
                        // Somebody else holds the job now: what is done here from now on is
                        // refused by the catalog, so stop doing it.
                        shared.interrupt(&claim.job_id, "its lease was lost to another worker");
                        return;
                    }
                }
                let done = progress.done();
                if done != told
                    && let Some(event) = J::progressed(done, progress.total())
                {
                    told = done;
                    let stepped = shared
                        .catalog
                        .step_job::<J>(
                            &account,
                            &claim.job_id,
                            Some(&claim),
                            event,
                            shared.now(),
                            Vec::new(),
                        )
                        .await;
                    if let Err(error) = stepped {
                        tracing::debug!(job = claim.job_id, %error, "progress was not recorded");
                    }
                }
                if !cancel.is_raised()
                    && let Ok(Some(job)) = shared.catalog.job::<J>(&account, &claim.job_id).await
                    && job.asked_to_stop()
                {
                    shared.cancel(&claim.job_id, "it was asked to stop");
                }
            }
        }))
    }
}
