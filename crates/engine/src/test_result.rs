//! What the end of a restore test leaves beside its own row.

use jiff::Timestamp;
use provault_catalog::Change;
use provault_domain::recovery_point::{PointCondition, PointTrouble, PointVerdict};
use provault_domain::restore_job::DeletionStatus;
use provault_domain::verdict::Fault;
use provault_domain::{RestoreJobEvent, RestoreTest, Verdict};

use crate::EngineError;
use crate::restore_test::{Broken, Run, Step};
use crate::validation::KEEP;

impl Run {
    /// What the test says about the point itself: one that it could not read is no good point any more,
    /// whatever retention thought of it; one that passes after all is.
    pub(crate) async fn condition(
        &self,
        finished: &RestoreTest,
        now: Timestamp,
    ) -> Step<Option<Change>> {
        let Some(arn) = &finished.recovery_point_arn else { return Ok(None) };
        let point = self.shared.catalog.recovery_point(&finished.account, arn).await?;
        let Some(known) = point.map(|point| point.condition) else { return Ok(None) };
        let unread = finished.findings.failures.iter().find(|failure| {
            failure.fault == Fault::Data
                && ["restore", "compare files", KEEP].contains(&failure.step.as_str())
        });
        let condition = match (unread, known) {
            (Some(failure), None) => Some(PointCondition {
                trouble: PointTrouble::Damaged,
                since: now,
                message: format!(
                    "DAMAGED: a restore test could not read it: {} Restore another point, and check \
                     the vault with 'provault vault check {} --read-data'.",
                    failure.message,
                    finished.vault_name.as_deref().unwrap_or_default()
                ),
                restore_test_id: Some(finished.id.clone()),
            }),
            (None, Some(known))
                if known.restore_test_id.is_some() && finished.verdict == Some(Verdict::Passed) =>
            {
                None
            }
            _ => return Ok(None),
        };
        Ok(Some(Change::PointCondition(arn.clone(), condition)))
    }
}

/// What belongs into the same transaction as the verdict.
pub(crate) fn closing(
    finished: &RestoreTest,
    trouble: Option<String>,
    now: Timestamp,
) -> Step<Vec<Change>> {
    let verdict = finished.verdict.unwrap_or(Verdict::Inconclusive);
    let reason = finished.reason.clone().unwrap_or_default();
    let mut changes = Vec::new();
    if let Some(id) = &finished.restore_job_id {
        let validated =
            RestoreJobEvent::Validated { status: verdict.validation_status(), message: reason };
        let status =
            if trouble.is_none() { DeletionStatus::Successful } else { DeletionStatus::Failed };
        changes.push(Change::StepRestoreJob(id.clone(), validated));
        let deletion = RestoreJobEvent::Deletion { status, message: trouble };
        changes.push(Change::StepRestoreJob(id.clone(), deletion));
    }
    if let Some(arn) = &finished.recovery_point_arn {
        let told = PointVerdict::of(verdict, &finished.id, now);
        changes.push(Change::PointVerdict(arn.clone(), told));
    }
    let body = serde_json::to_value(finished)
        .map_err(|error| Broken::Lost(EngineError::Internal(format!("the evidence: {error}"))))?;
    changes.push(Change::AppendEvidence(finished.account.clone(), body));
    Ok(changes)
}
