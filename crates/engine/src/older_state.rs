//! The negative control that is no damage: the state of an earlier recovery point.
//!
//! Whether the probes notice it says how well they tell today's data from yesterday's. It is a
//! score, not a requirement: that nothing of what they look at has changed since may be the truth.

use std::path::Path;

use provault_catalog::{Page, PointFilter};
use provault_domain::RecoveryPoint;
use provault_domain::verdict::{MutantResult, ProbeResult};
use provault_proof::TestArea;

use crate::trial::{LARGEST_SCORED_BYTES, Questions, Trial};

/// Its name in evidence.
pub(crate) const NAME: &str = "older-state";

impl Trial {
    /// The newest restorable recovery point of the same resource that is older than the tested one.
    pub(crate) async fn older_point(&self) -> crate::Result<Option<RecoveryPoint>> {
        let filter = PointFilter {
            account: Some(self.point.account.clone()),
            resource_arn: Some(self.point.resource_arn.clone()),
            restorable_only: true,
            ..PointFilter::default()
        };
        let points = self.shared.catalog.list_recovery_points(&filter, Page::all()).await?.items;
        Ok(points
            .into_iter()
            .filter(|point| point.captured_at < self.point.captured_at)
            .max_by_key(|point| point.captured_at))
    }

    /// Asks the probes about the older state; `killed` is `None` where there is none to ask about.
    pub(crate) async fn older_state(&self, area: &TestArea, questions: &Questions) -> MutantResult {
        let result = |killed, detail: String| MutantResult {
            name: NAME.to_owned(),
            required: false,
            killed,
            detail,
        };
        let older = match self.older_point().await {
            Ok(Some(older)) => older,
            Ok(None) => return result(None, "there is no older recovery point.".to_owned()),
            Err(error) => return result(None, error.to_string()),
        };
        if older.backup_size_bytes > LARGEST_SCORED_BYTES {
            return result(None, "left out: the recovery point is large".to_owned());
        }
        let copy = area.path().join(NAME);
        if let Err(failure) = self.fresh_copy(&older, &copy).await {
            return result(None, failure.message);
        }
        let answers = self.ask_about_older(&copy, questions).await;
        self.discard(area, copy).await;
        match answers {
            Ok(None) => result(None, "the older recovery point holds the same.".to_owned()),
            Ok(Some(answers)) => match answers.iter().find(|answer| !answer.passed) {
                Some(noticed) => {
                    result(Some(true), format!("{}: {}", noticed.label, noticed.detail))
                }
                None => result(Some(false), "every probe passed.".to_owned()),
            },
            Err(message) => result(None, message),
        }
    }

    /// The answers, or `None` when the two states do not differ.
    async fn ask_about_older(
        &self,
        copy: &Path,
        questions: &Questions,
    ) -> Result<Option<Vec<ProbeResult>>, String> {
        // Before the application starts: it may write.
        let files = self.compare(copy).await.map_err(|failure| failure.message)?;
        if files.passed {
            return Ok(None);
        }
        if questions.probes.is_empty() {
            return Ok(Some(vec![files]));
        }
        match self.ask(copy.to_owned(), questions).await {
            Ok(report) => Ok(Some(report.probes)),
            Err(failure) => Err(failure.message),
        }
    }
}
