//! The audit trail: who changed what, and who was refused.

use std::future::Future;

use jiff::Timestamp;
use provault_catalog::AuditRecord;

use crate::{App, AppError, Caller, ErrorKind, Result};

impl App {
    /// Runs a change and records it when it was made or denied. What was refused for another
    /// reason changed nothing and leaves no record.
    pub(crate) async fn audited<T>(
        &self,
        caller: &Caller,
        action: &str,
        resource: impl AsRef<str> + Send,
        work: impl Future<Output = Result<T>> + Send,
    ) -> Result<T>
    where
        T: Send,
    {
        let result = work.await;
        let outcome = match &result {
            Ok(_) => "done",
            Err(error) if error.kind == ErrorKind::AccessDenied => error.kind.name(),
            Err(_) => return result,
        };
        if let Err(error) = self.record(caller, action, resource.as_ref(), outcome).await {
            // The change is made and cannot be taken back for want of a record; saying that it
            // failed would be untrue.
            tracing::error!(
                %error, action, resource = resource.as_ref(), outcome,
                "a change could not be recorded in the audit trail"
            );
        }
        result
    }

    /// `provault:ListAuditRecords`: the newest first.
    pub async fn list_audit_records(
        &self,
        caller: &Caller,
        since: Option<Timestamp>,
        limit: u32,
    ) -> Result<Vec<AuditRecord>> {
        self.permit(caller, "provault:ListAuditRecords", "*")?;
        if !(1..=10_000).contains(&limit) {
            return Err(AppError::invalid("limit", format!("{limit} is not from 1 to 10000.")));
        }
        Ok(self.catalog().newest_audit(caller.account(), since, limit).await?)
    }

    /// Writes one record of the audit trail.
    pub(crate) async fn record(
        &self,
        caller: &Caller,
        action: &str,
        resource: &str,
        outcome: &str,
    ) -> Result<()> {
        let record = AuditRecord {
            at: self.now(),
            account: caller.account().clone(),
            principal: caller.principal().arn().to_owned(),
            action: action.to_owned(),
            resource: resource.to_owned(),
            outcome: outcome.to_owned(),
        };
        Ok(self.catalog().audit(&record).await?)
    }
}
