//! The audit trail: who changed what, and who was refused.

use std::future::Future;

use jiff::Timestamp;
use provault_catalog::{AuditRecord, Outcome};

use crate::{App, AppError, Caller, ErrorKind, Result};

impl App {
    /// Runs a change and records it: made, in the transaction of its first write, or denied. What was
    /// refused for another reason leaves a record only when something had changed before.
    pub(crate) fn audited<'a, T>(
        &'a self,
        caller: &'a Caller,
        action: &'a str,
        resource: impl AsRef<str> + Send + 'a,
        work: impl Future<Output = Result<T>> + Send + 'a,
    ) -> impl Future<Output = Result<T>> + Send + 'a
    where
        T: Send + 'a,
    {
        // Boxed: what awaits a change is not to be as large as all that one needs.
        let work = Box::pin(work);
        async move { self.recorded(caller, action, resource.as_ref(), work).await }
    }

    async fn recorded<T: Send>(
        &self,
        caller: &Caller,
        action: &str,
        resource: &str,
        work: impl Future<Output = Result<T>> + Send,
    ) -> Result<T> {
        let record = self.audit_record(caller, action, resource, "done");
        let outcome = |result: &Result<T>| match result {
            Ok(_) => Outcome::Made("done"),
            Err(error) => Outcome::Broke(error.kind.name()),
        };
        let (result, mut recorded) = self.catalog().recording(record.clone(), work, outcome).await;
        if let Err(error) = &result
            && error.kind == ErrorKind::AccessDenied
        {
            let denial = AuditRecord { outcome: error.kind.name().to_owned(), ..record };
            recorded = recorded.and(self.catalog().audit_denial(&denial).await);
        }
        if let Err(error) = recorded {
            // The change is made and cannot be taken back for want of a record; saying that it
            // failed would be untrue.
            tracing::error!(
                %error, action, resource,
                "what came of a change could not be recorded in the audit trail"
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
        let record = self.audit_record(caller, action, resource, outcome);
        if outcome == ErrorKind::AccessDenied.name() {
            return Ok(self.catalog().audit_denial(&record).await?);
        }
        Ok(self.catalog().audit(&record).await?)
    }

    fn audit_record(
        &self,
        caller: &Caller,
        action: &str,
        resource: &str,
        outcome: &str,
    ) -> AuditRecord {
        AuditRecord {
            at: self.now(),
            account: caller.account().clone(),
            principal: caller.principal().arn().to_owned(),
            access_key_id: caller.access_key_id().map(str::to_owned),
            action: action.to_owned(),
            resource: resource.to_owned(),
            outcome: outcome.to_owned(),
            count: 1,
            last_at: None,
        }
    }
}
