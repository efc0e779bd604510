//! The chain of evidence, one an account: appended to, never changed.

use jiff::Timestamp;
use provault_domain::evidence::GENESIS;
use provault_domain::{AccountId, Arn, Evidence};
use sqlx::{AnyConnection, Row};

use crate::error::Result;
use crate::page::{Select, from_body, to_body};
use crate::pool::Catalog;

/// Records of a chain that are read at once: some megabytes, for each holds a whole test.
const EVIDENCE_PAGE: u32 = 200;

impl Catalog {
    /// The whole chain of an account, from its first record on.
    pub async fn list_evidence(&self, account: &AccountId) -> Result<Vec<Evidence>> {
        Select::new("SELECT body FROM evidence")
            .and("account =", account)
            .then("ORDER BY sequence")
            .all(&self.read)
            .await
    }

    /// The next records of an account's chain after the one numbered `after` (0 for none), one page
    /// of them; none at its end.
    pub async fn evidence_after(&self, account: &AccountId, after: i64) -> Result<Vec<Evidence>> {
        Select::new("SELECT body FROM evidence")
            .and("account =", account)
            .and("sequence >", after)
            .then("ORDER BY sequence")
            .at_most(EVIDENCE_PAGE)
            .all(&self.read)
            .await
    }

    /// The records about a resource (those whose body names it as `resource_arn`), oldest first.
    /// They are links of the account's chain and do not form one by themselves.
    pub async fn evidence_of_resource(
        &self,
        account: &AccountId,
        resource_arn: &Arn,
    ) -> Result<Vec<Evidence>> {
        Select::new("SELECT body FROM evidence")
            .and("account =", account)
            .and("resource_arn =", resource_arn)
            .then("ORDER BY sequence")
            .all(&self.read)
            .await
    }
}

/// Adds a record. Two that are added at once read the same predecessor; the key (account,
/// sequence) lets one in, and the other's transaction runs again.
pub(crate) async fn append(
    tx: &mut AnyConnection,
    account: &AccountId,
    record: &serde_json::Value,
    now: Timestamp,
) -> Result<()> {
    let last = Select::new("SELECT sequence, hash FROM evidence")
        .and("account =", account)
        .then("ORDER BY sequence DESC LIMIT 1")
        .row(&mut *tx)
        .await?;
    let (sequence, previous) = match last {
        Some(row) => (row.try_get::<i64, _>("sequence")? + 1, row.try_get("hash")?),
        None => (1, GENESIS.to_owned()),
    };
    // The hash must fit what is read back, to the last digit of a number.
    let record: serde_json::Value = from_body(&to_body(record)?)?;
    let resource = record.get("resource_arn").and_then(|v| v.as_str()).map(str::to_owned);
    let link = Evidence::chain(account.clone(), sequence, previous, now, record);
    sqlx::query(
        "INSERT INTO evidence (account, sequence, resource_arn, hash, body) \
         VALUES ($1, $2, $3, $4, $5)",
    )
    .bind(account.to_string())
    .bind(sequence)
    .bind(resource)
    .bind(link.hash.clone())
    .bind(to_body(&link)?)
    .execute(tx)
    .await?;
    Ok(())
}
