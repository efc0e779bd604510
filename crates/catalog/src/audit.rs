//! The audit log: who asked for what, and what came of it.

use jiff::Timestamp;
use provault_domain::AccountId;
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::page::{Select, micros, to_body};
use crate::pool::{Catalog, transact};

/// One request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditRecord {
    /// When.
    pub at: Timestamp,
    /// Tenant.
    pub account: AccountId,
    /// Who: a principal's ARN.
    pub principal: String,
    /// What: `backup:StartBackupJob`, …
    pub action: String,
    /// On what: an ARN or `*`.
    pub resource: String,
    /// What came of it: `ok`, or the error's name.
    pub outcome: String,
}

impl Catalog {
    /// Adds a record.
    pub async fn audit(&self, record: &AuditRecord) -> Result<()> {
        let id = uuid::Uuid::new_v4().to_string();
        transact!(self, |tx| {
            sqlx::query("INSERT INTO audit (id, account, at, body) VALUES ($1, $2, $3, $4)")
                .bind(id.clone())
                .bind(record.account.to_string())
                .bind(micros(record.at))
                .bind(to_body(record)?)
                .execute(&mut *tx)
                .await?;
            Ok(())
        })
    }

    /// An account's records, oldest first.
    pub async fn list_audit(&self, account: &AccountId) -> Result<Vec<AuditRecord>> {
        Select::new("SELECT body FROM audit")
            .and("account =", account)
            .then("ORDER BY at, id")
            .all(&self.read)
            .await
    }

    /// An account's records since a moment, the newest first, at most `limit`.
    pub async fn newest_audit(
        &self,
        account: &AccountId,
        since: Option<Timestamp>,
        limit: u32,
    ) -> Result<Vec<AuditRecord>> {
        let mut records: Vec<AuditRecord> = Select::new("SELECT body FROM audit")
            .and("account =", account)
            .and_if("at >=", since)
            .then("ORDER BY at DESC, id DESC LIMIT 10000")
            .all(&self.read)
            .await?;
        records.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        Ok(records)
    }
}
