//! What is absent: alarms about resources, and the exemptions of those that need no backup.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use jiff::Timestamp;
use provault_domain::{
    AccountId, Arn, Exemption, Notification, NotificationEvent, Resource, ResourceTrouble,
};
use sqlx::{AnyConnection, Row};

use crate::delivery;
use crate::error::{CatalogError, Result};
use crate::page::{Select, micros, to_body};
use crate::pool::{Catalog, any, transact};

impl Catalog {
    /// Every account that has a registered resource.
    pub async fn accounts_with_resources(&self) -> Result<Vec<AccountId>> {
        let rows = Select::new("SELECT DISTINCT account FROM resources")
            .then("ORDER BY account")
            .rows(&self.read)
            .await?;
        let account = |row: &sqlx::any::AnyRow| {
            let text: String = row.try_get("account")?;
            text.parse().map_err(|why: provault_domain::Invalid| CatalogError::Corrupt {
                what: "the account of a resource".to_owned(),
                message: why.message,
            })
        };
        rows.iter().map(account).collect()
    }

    /// The account's exemptions.
    pub async fn list_exemptions(&self, account: &AccountId) -> Result<Vec<Exemption>> {
        Select::new("SELECT body FROM exemptions")
            .and("account =", account)
            .then("ORDER BY resource_arn")
            .all(&self.read)
            .await
    }

    /// Exempts a resource, in place of an exemption it has.
    pub async fn put_exemption(&self, exemption: &Exemption) -> Result<()> {
        transact!(self, |tx| { exempt(tx, exemption).await })
    }

    /// Ends an exemption. `false` when there is none.
    pub async fn delete_exemption(&self, resource: &Arn) -> Result<bool> {
        transact!(self, |tx| {
            let gone = sqlx::query("DELETE FROM exemptions WHERE resource_arn = $1")
                .bind(resource.to_string())
                .execute(&mut *tx)
                .await?;
            Ok(gone.rows_affected() == 1)
        })
    }

    /// Lets the alarms about a resource be these, each with its reason. Those that newly stand are told to the
    /// topics of `vaults`, each topic once; answers with them. One that nobody was there to hear of is told as
    /// soon as somebody is.
    pub async fn set_resource_alarms(
        &self,
        resource: &Resource,
        troubles: &[(ResourceTrouble, String)],
        vaults: &[String],
        now: Timestamp,
    ) -> Result<Vec<ResourceTrouble>> {
        // Mostly nothing changes, and then no writer need be held up.
        let stood = alarms_of(&self.read, &resource.arn).await?;
        let same = stood.len() == troubles.len()
            && troubles.iter().all(|(trouble, _)| stood.contains_key(trouble.as_str()));
        if same {
            let untold = |(trouble, _): &&(ResourceTrouble, String)| {
                stood.get(trouble.as_str()) == Some(&false)
            };
            let mut heard = false;
            for (trouble, why) in troubles.iter().filter(untold) {
                for vault in vaults {
                    let news = notification(resource, *trouble, why, vault, now);
                    heard = heard || delivery::is_heard(self, &news).await?;
                }
            }
            if !heard {
                return Ok(Vec::new());
            }
        }
        transact!(self, |tx| {
            let stood = alarms_of(&mut *tx, &resource.arn).await?;
            for gone in stood.keys().filter(|s| !troubles.iter().any(|(t, _)| t.as_str() == *s)) {
                sqlx::query("DELETE FROM resource_alarms WHERE resource_arn = $1 AND trouble = $2")
                    .bind(resource.arn.to_string())
                    .bind(gone.clone())
                    .execute(&mut *tx)
                    .await?;
            }
            let mut raised = Vec::new();
            for (trouble, why) in troubles {
                let before = stood.get(trouble.as_str());
                if before == Some(&true) {
                    continue;
                }
                let (mut topics, mut told) = (BTreeSet::new(), 0);
                for vault in vaults {
                    let news = notification(resource, *trouble, why, vault, now);
                    told += delivery::enqueue_once(tx, &news, now, &mut topics).await?;
                }
                if before.is_some() && told == 0 {
                    continue;
                }
                sqlx::query(
                    "INSERT INTO resource_alarms (resource_arn, trouble, since, told) \
                     VALUES ($1, $2, $3, $4) \
                     ON CONFLICT (resource_arn, trouble) DO UPDATE SET told = excluded.told",
                )
                .bind(resource.arn.to_string())
                .bind(trouble.as_str())
                .bind(micros(now))
                .bind(i64::from(told > 0))
                .execute(&mut *tx)
                .await?;
                raised.push(*trouble);
            }
            Ok(raised)
        })
    }
}

/// The alarms about resources, by resource, and whether anybody was told of each.
pub(crate) async fn alarms<'e, E>(
    executor: E,
    resources: &[String],
) -> Result<HashMap<String, BTreeMap<String, bool>>>
where
    E: sqlx::Executor<'e, Database = sqlx::Any>,
{
    let rows = Select::new("SELECT resource_arn, trouble, told FROM resource_alarms")
        .and_in("resource_arn", resources)
        .rows(executor)
        .await?;
    let mut all = HashMap::<String, BTreeMap<String, bool>>::new();
    for row in &rows {
        let told = row.try_get::<i64, _>("told")? != 0;
        all.entry(row.try_get("resource_arn")?).or_default().insert(row.try_get("trouble")?, told);
    }
    Ok(all)
}

/// The alarms about one resource.
async fn alarms_of<'e, E>(executor: E, resource: &Arn) -> Result<BTreeMap<String, bool>>
where
    E: sqlx::Executor<'e, Database = sqlx::Any>,
{
    let mut all = alarms(executor, &[resource.to_string()]).await?;
    Ok(all.remove(resource.as_str()).unwrap_or_default())
}

/// Enters an exemption.
pub(crate) async fn exempt(tx: &mut AnyConnection, exemption: &Exemption) -> Result<()> {
    let arn = exemption.resource_arn.as_str();
    if !any(tx, "SELECT 1 FROM resources WHERE arn = $1", &[arn]).await? {
        return Err(CatalogError::not_found(format!("resource {arn}")));
    }
    sqlx::query(
        "INSERT INTO exemptions (resource_arn, account, body) VALUES ($1, $2, $3) \
         ON CONFLICT (resource_arn) DO UPDATE SET body = excluded.body",
    )
    .bind(arn.to_owned())
    .bind(exemption.account.to_string())
    .bind(to_body(exemption)?)
    .execute(&mut *tx)
    .await?;
    Ok(())
}

/// What is forgotten together with a resource.
pub(crate) async fn forget(tx: &mut AnyConnection, resource: &Arn) -> Result<()> {
    for sql in [
        "DELETE FROM exemptions WHERE resource_arn = $1",
        "DELETE FROM resource_alarms WHERE resource_arn = $1",
    ] {
        sqlx::query(sql).bind(resource.to_string()).execute(&mut *tx).await?;
    }
    Ok(())
}

fn notification(
    resource: &Resource,
    trouble: ResourceTrouble,
    why: &str,
    vault: &str,
    now: Timestamp,
) -> Notification {
    Notification {
        event: NotificationEvent::ResourceAlarm(trouble),
        account: resource.account.clone(),
        region: resource.region.clone(),
        vault_name: vault.to_owned(),
        at: now,
        job_id: resource.name.clone(),
        started_at: now,
        resource_arn: Some(resource.arn.clone()),
        recovery_point_arn: None,
        created_resource_arn: None,
        reason: Some(why.to_owned()),
    }
}
