//! Whether the server can do its work: `GET /provault/v1/ready`, for probes, which do not sign.

use std::time::{Duration, Instant};

use provault_app::App;
use provault_wire::ServiceError;
use serde_json::json;
use tokio::sync::Mutex;

use crate::answer::{Answer, unwritable};

/// An answer holds for so long: anybody may ask, and to find out writes to the disk.
const HOLDS: Duration = Duration::from_secs(5);

/// What was found last.
#[derive(Debug, Default)]
pub(crate) struct Readiness {
    last: Mutex<Option<(Instant, Vec<&'static str>)>>,
}

impl Readiness {
    /// 200 when the catalog takes what is written and all loops turn; else 503 and what does not.
    pub(crate) async fn answer(&self, sites: &[App]) -> Result<Answer, ServiceError> {
        // Held while it is found out: whoever asks meanwhile gets the same answer.
        let mut last = self.last.lock().await;
        let amiss = match &*last {
            Some((at, amiss)) if at.elapsed() < HOLDS => amiss.clone(),
            _ => {
                let mut amiss = Vec::new();
                for app in sites {
                    amiss.extend(app.not_ready().await);
                }
                amiss.sort_unstable();
                amiss.dedup();
                *last = Some((Instant::now(), amiss.clone()));
                amiss
            }
        };
        let (status, word) = if amiss.is_empty() { (200, "ready") } else { (503, "not ready") };
        let body = serde_json::to_vec(&json!({ "Status": word, "Amiss": amiss }))
            .map_err(|error| unwritable(&error))?;
        Ok(Answer::of_json(status, body))
    }
}
