//! The audit trail: who changed what, and who was refused.
//!
//! A change is recorded in the transaction of its first write ([`Catalog::recording`]), as `began`, and
//! what came of it afterwards: a crash in between leaves a record that says so, never a change without
//! one. Changes are kept for ever. Denials, which anybody who may sign can cause without end, are joined
//! when they repeat, and only the newest [`MAX_DENIALS`] are kept.

use std::cell::RefCell;
use std::future::Future;

use jiff::{SignedDuration, Timestamp};
use provault_domain::AccountId;
use serde::{Deserialize, Serialize};
use sqlx::{AnyConnection, Row};

use crate::error::Result;
use crate::page::{Select, body, micros, to_body};
use crate::pool::{Catalog, Writer, transact};

/// Denials an account keeps.
pub const MAX_DENIALS: u32 = 10_000;
/// Bytes of a resource's name that are kept: longer than any ARN that there can be.
const LONGEST_RESOURCE: usize = 512;
/// Within so long a denial that repeats is counted.
const JOINED_WITHIN: SignedDuration = SignedDuration::from_hours(1);
/// The outcome of a change that has been made, or begun, and of which nothing more is known yet.
const BEGAN: &str = "began";

/// One change, or one refusal and its repetitions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditRecord {
    /// When; of refusals the first time.
    pub at: Timestamp,
    /// Tenant.
    pub account: AccountId,
    /// Who: a principal's ARN, or `provault` for what the server does by itself.
    pub principal: String,
    /// The access key that signed, if any did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_key_id: Option<String>,
    /// What: `backup:StartBackupJob`, …
    pub action: String,
    /// On what: an ARN, a name or `*`; a long one is cut short.
    pub resource: String,
    /// What came of it: `done`, the error's name, or `began` where the server ended before it knew.
    pub outcome: String,
    /// How often, when it is a refusal that repeated.
    #[serde(default = "once", skip_serializing_if = "is_once")]
    pub count: u64,
    /// The last time, when it repeated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_at: Option<Timestamp>,
}

fn once() -> u64 {
    1
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's form")]
fn is_once(count: &u64) -> bool {
    *count == 1
}

impl AuditRecord {
    /// Something that the server did by itself.
    pub fn by_server(account: &AccountId, action: &str, resource: &str, at: Timestamp) -> Self {
        Self {
            at,
            account: account.clone(),
            principal: "provault".to_owned(),
            access_key_id: None,
            action: action.to_owned(),
            resource: resource.to_owned(),
            outcome: "done".to_owned(),
            count: 1,
            last_at: None,
        }
    }

    /// One that fits: the resource is what a caller wrote.
    fn bounded(mut self) -> Self {
        if self.resource.len() > LONGEST_RESOURCE {
            let fits = |end: &usize| self.resource.is_char_boundary(*end);
            let end = (0..=LONGEST_RESOURCE).rev().find(fits).unwrap_or_default();
            self.resource.truncate(end);
            self.resource.push('…');
        }
        self
    }
}

/// What came of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It was made; in one word.
    Made(&'static str),
    /// It broke down or was refused; under which name. It is recorded when something had changed before.
    Broke(&'static str),
}

/// The record of the change that the task works on.
struct Open {
    id: String,
    record: AuditRecord,
    stage: Stage,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Nothing was written yet.
    Nothing,
    /// It stands in a transaction that is not committed.
    InTransaction,
    /// It is in the trail, as begun.
    Recorded,
}

tokio::task_local! {
    static OPEN: RefCell<Open>;
}

/// Whether the task works on a change that has no record yet.
pub(crate) fn is_due() -> bool {
    OPEN.try_with(|open| open.borrow().stage != Stage::Recorded).unwrap_or(false)
}

/// Puts the record of the task's change, if it has none yet, into the transaction that ends well and
/// has changed something.
pub(crate) async fn with_change<T>(writer: &mut Writer, outcome: Result<T>) -> Result<T> {
    let value = outcome?;
    if !is_due() || !writer.has_changed().await? {
        return Ok(value);
    }
    let due = OPEN.try_with(|open| {
        let mut open = open.borrow_mut();
        open.stage = Stage::InTransaction;
        let record = AuditRecord { outcome: BEGAN.to_owned(), ..open.record.clone() };
        (open.id.clone(), record)
    });
    if let Ok((id, record)) = due {
        insert_as(writer.connection(), &id, &record, None).await?;
    }
    Ok(value)
}

/// The transaction was committed.
pub(crate) fn committed() {
    // Outside of a change there is nothing to note.
    let _ = OPEN.try_with(|open| {
        let mut open = open.borrow_mut();
        if open.stage == Stage::InTransaction {
            open.stage = Stage::Recorded;
        }
    });
}

/// Adds the record of a change to the transaction that makes it.
pub(crate) async fn insert(tx: &mut AnyConnection, record: &AuditRecord) -> Result<()> {
    insert_as(tx, &uuid::Uuid::new_v4().to_string(), record, None).await
}

async fn insert_as(
    tx: &mut AnyConnection,
    id: &str,
    record: &AuditRecord,
    denial: Option<String>,
) -> Result<()> {
    sqlx::query("INSERT INTO audit (id, account, at, body, denial) VALUES ($1, $2, $3, $4, $5)")
        .bind(id.to_owned())
        .bind(record.account.to_string())
        .bind(micros(record.at))
        .bind(to_body(record)?)
        .bind(denial)
        .execute(tx)
        .await?;
    Ok(())
}

async fn set(tx: &mut AnyConnection, id: &str, record: &AuditRecord) -> Result<()> {
    sqlx::query("UPDATE audit SET body = $1 WHERE id = $2")
        .bind(to_body(record)?)
        .bind(id.to_owned())
        .execute(tx)
        .await?;
    Ok(())
}

impl Catalog {
    /// Does `work`, a change. Its first transaction that changes a row carries `record`, as `began`; afterwards `outcome`
    /// says what came of it. What the work does in tasks of its own is recorded afterwards alone.
    ///
    /// The second value is whether the trail holds what came of it.
    pub async fn recording<T>(
        &self,
        record: AuditRecord,
        work: impl Future<Output = T> + Send,
        outcome: impl FnOnce(&T) -> Outcome + Send,
    ) -> (T, Result<()>)
    where
        T: Send,
    {
        let record = record.bounded();
        let open = Open {
            id: uuid::Uuid::new_v4().to_string(),
            record: record.clone(),
            stage: Stage::Nothing,
        };
        let id = open.id.clone();
        let (result, stage) = OPEN
            .scope(RefCell::new(open), async {
                let result = work.await;
                (result, OPEN.with(|open| open.borrow().stage))
            })
            .await;
        let named = |outcome: &str| AuditRecord { outcome: outcome.to_owned(), ..record };
        let recorded = match (outcome(&result), stage) {
            (Outcome::Made(name) | Outcome::Broke(name), Stage::Recorded) => {
                self.complete(&id, &named(name)).await
            }
            (Outcome::Made(name), _) => self.audit(&named(name)).await,
            (Outcome::Broke(_), _) => Ok(()),
        };
        (result, recorded)
    }

    async fn complete(&self, id: &str, record: &AuditRecord) -> Result<()> {
        transact!(self, |tx| { set(tx, id, record).await })
    }

    /// Adds a record.
    pub async fn audit(&self, record: &AuditRecord) -> Result<()> {
        let record = record.clone().bounded();
        transact!(self, |tx| { insert(tx, &record).await })
    }

    /// Records a refusal. One that repeats within an hour is counted with the first; of an account the
    /// newest [`MAX_DENIALS`] are kept.
    pub async fn audit_denial(&self, record: &AuditRecord) -> Result<()> {
        let id = uuid::Uuid::new_v4().to_string();
        let record = record.clone().bounded();
        let what = to_body(&(
            &record.principal,
            &record.access_key_id,
            &record.action,
            &record.resource,
            &record.outcome,
        ))?;
        let since = record.at.checked_sub(JOINED_WITHIN).unwrap_or(Timestamp::MIN);
        transact!(self, |tx| {
            let known = Select::new("SELECT id, body FROM audit")
                .and("account =", &record.account)
                .and("denial =", what.as_str())
                .and("at >=", since)
                .then("ORDER BY at DESC LIMIT 1")
                .row(&mut *tx)
                .await?;
            if let Some(row) = known {
                let mut first: AuditRecord = body(&row)?;
                first.count += 1;
                first.last_at = Some(record.at);
                let id: String = row.try_get("id")?;
                return set(tx, &id, &first).await;
            }
            insert_as(tx, &id, &record, Some(what.clone())).await?;
            sqlx::query(
                "DELETE FROM audit WHERE account = $1 AND denial IS NOT NULL AND at < (\
                 SELECT at FROM audit WHERE account = $2 AND denial IS NOT NULL \
                 ORDER BY at DESC LIMIT 1 OFFSET $3)",
            )
            .bind(record.account.to_string())
            .bind(record.account.to_string())
            .bind(i64::from(MAX_DENIALS) - 1)
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
        Select::new("SELECT body FROM audit")
            .and("account =", account)
            .and_if("at >=", since)
            .then("ORDER BY at DESC, id DESC")
            .at_most(limit)
            .all(&self.read)
            .await
    }
}
