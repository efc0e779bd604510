//! Care of vaults: marks of what is scheduled, alarms that stand, and when each pack was verified.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use jiff::Timestamp;
use provault_domain::care::{AlarmNote, CareRun, VaultAlarm, VaultCare};
use provault_domain::recovery_point::PointCondition;
use provault_domain::verification::VerifiedPack;
use provault_domain::{
    Arn, BackupVault, Notification, NotificationEvent, RecoveryPoint, Resource, Tags,
};
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row};

use crate::error::{CatalogError, Result};
use crate::page::{Select, micros, moment, to_body};
use crate::pool::{Catalog, SQLITE_BEGIN, any, transact};
use crate::{delivery, job_store, recovery_point, resource};

/// What reading one pack showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackRead {
    /// Hexadecimal id.
    pub pack: String,
    /// What is wrong with it, if anything is.
    pub damage: Option<String>,
}

impl Catalog {
    /// What is known of the care of a vault.
    pub async fn vault_care(&self, vault_arn: &Arn) -> Result<VaultCare> {
        Ok(care_query(vault_arn).one(&self.read).await?.unwrap_or_default())
    }

    /// Inserts a run that the vault's settings ask for, and moves the operation's mark to its
    /// creation. `false`, and nothing done, when the mark is no longer at `from`: another server
    /// was faster.
    pub async fn schedule_care(&self, from: Option<Timestamp>, run: &CareRun) -> Result<bool> {
        transact!(self, |tx| {
            let mut care = read_care(tx, &run.vault_arn).await?;
            if care.last_scheduled.get(&run.operation).copied() != from {
                return Ok(false);
            }
            care.last_scheduled.insert(run.operation, run.created_at);
            write_care(tx, &run.vault_arn, &care).await?;
            job_store::insert(tx, run).await?;
            Ok(true)
        })
    }

    /// Raises an alarm about a vault, or changes what a standing one says; whoever wants to hear
    /// of it is told when it is raised. Answers whether it was raised now.
    pub async fn raise_alarm(
        &self,
        vault: &BackupVault,
        alarm: VaultAlarm,
        message: &str,
        now: Timestamp,
    ) -> Result<bool> {
        transact!(self, |tx| {
            let mut care = read_care(tx, &vault.arn).await?;
            let raised = raise(&mut care, alarm, message, now);
            write_care(tx, &vault.arn, &care).await?;
            if raised {
                delivery::enqueue(tx, &alarm_of(vault, alarm, message, now), now).await?;
            }
            Ok(raised)
        })
    }

    /// Takes an alarm away: what it told of is put right. Answers whether one stood.
    pub async fn clear_alarm(&self, vault_arn: &Arn, alarm: VaultAlarm) -> Result<bool> {
        if !self.vault_care(vault_arn).await?.alarms.contains_key(&alarm) {
            return Ok(false);
        }
        transact!(self, |tx| {
            let mut care = read_care(tx, vault_arn).await?;
            let stood = care.alarms.remove(&alarm).is_some();
            write_care(tx, vault_arn, &care).await?;
            Ok(stood)
        })
    }

    /// Notes what is wrong with recovery points, or that nothing is any more, together with the
    /// alarm that it amounts to. Points that are gone by now are passed over.
    pub async fn set_point_conditions(
        &self,
        vault: &BackupVault,
        conditions: &[(Arn, Option<PointCondition>)],
        alarm: Option<(VaultAlarm, String)>,
        now: Timestamp,
    ) -> Result<()> {
        transact!(self, |tx| {
            for (arn, condition) in conditions {
                recovery_point::alter(tx, arn, |point| point.condition.clone_from(condition))
                    .await?;
            }
            if let Some((alarm, message)) = &alarm {
                let mut care = read_care(tx, &vault.arn).await?;
                raise(&mut care, *alarm, message, now);
                write_care(tx, &vault.arn, &care).await?;
                delivery::enqueue(tx, &alarm_of(vault, *alarm, message, now), now).await?;
            }
            Ok(())
        })
    }

    /// Every pack of a vault that verification knows.
    pub async fn verified_packs(&self, vault_arn: &Arn) -> Result<Vec<VerifiedPack>> {
        packs_query(vault_arn).rows(&self.read).await?.iter().map(pack).collect()
    }

    /// Makes the packs known to verification those that there are: new ones are seen now, those
    /// that are gone are forgotten.
    pub async fn sync_packs(
        &self,
        vault_arn: &Arn,
        there: &[(String, u64)],
        now: Timestamp,
    ) -> Result<()> {
        transact!(self, |tx| {
            let rows = packs_query(vault_arn).rows(&mut *tx).await?;
            let known: Vec<VerifiedPack> = rows.iter().map(pack).collect::<Result<_>>()?;
            let known: HashMap<&str, u64> = known.iter().map(|p| (p.id.as_str(), p.size)).collect();
            for (id, size) in there.iter().filter(|(id, _)| !known.contains_key(id.as_str())) {
                sqlx::query(
                    "INSERT INTO verified_packs (vault_arn, pack, size, seen_at, verified_at, damage) \
                     VALUES ($1, $2, $3, $4, NULL, NULL)",
                )
                .bind(vault_arn.to_string())
                .bind(id.clone())
                .bind(i64::try_from(*size).unwrap_or(i64::MAX))
                .bind(micros(now))
                .execute(&mut *tx)
                .await?;
            }
            let there: HashSet<&str> = there.iter().map(|(id, _)| id.as_str()).collect();
            for id in known.keys().filter(|id| !there.contains(*id)) {
                sqlx::query("DELETE FROM verified_packs WHERE vault_arn = $1 AND pack = $2")
                    .bind(vault_arn.to_string())
                    .bind((*id).to_owned())
                    .execute(&mut *tx)
                    .await?;
            }
            Ok(())
        })
    }

    /// Notes packs as read, and until when that has used up the rate. With damage among them, the
    /// alarm is raised and `check` inserted in the same transaction, so that it cannot be lost.
    pub async fn packs_read(
        &self,
        vault: &BackupVault,
        read: &[PackRead],
        next_at: Option<Timestamp>,
        damage: Option<(&str, Option<&CareRun>)>,
        now: Timestamp,
    ) -> Result<()> {
        transact!(self, |tx| {
            for PackRead { pack, damage } in read {
                sqlx::query(
                    "UPDATE verified_packs SET verified_at = $1, damage = $2 \
                     WHERE vault_arn = $3 AND pack = $4",
                )
                .bind(micros(now))
                .bind(damage.clone())
                .bind(vault.arn.to_string())
                .bind(pack.clone())
                .execute(&mut *tx)
                .await?;
            }
            let mut care = read_care(tx, &vault.arn).await?;
            if next_at.is_some() {
                care.verify_next_at = next_at;
            }
            if let Some((message, _)) = damage {
                raise(&mut care, VaultAlarm::Damaged, message, now);
            }
            write_care(tx, &vault.arn, &care).await?;
            if let Some((message, check)) = damage {
                let notification = alarm_of(vault, VaultAlarm::Damaged, message, now);
                delivery::enqueue(tx, &notification, now).await?;
                if let Some(check) = check {
                    job_store::insert(tx, check).await?;
                }
            }
            Ok(())
        })
    }
}

/// What [`Catalog::enter_imported`] entered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EnteredImport {
    /// Whether the recovery point was new.
    pub point: bool,
    /// Whether the resource was.
    pub resource: bool,
}

impl Catalog {
    /// Enters a recovery point that a vault turned out to hold, and the resource that it is of
    /// where that is not registered, together. What is there already stays as it is.
    pub async fn enter_imported(
        &self,
        point: &RecoveryPoint,
        tags: &Tags,
        resource: Option<&(Resource, String)>,
    ) -> Result<EnteredImport> {
        transact!(self, |tx| {
            let mut entered = EnteredImport { point: false, resource: false };
            let there = "SELECT 1 FROM recovery_points WHERE arn = $1";
            if !any(tx, there, &[point.arn.as_str()]).await? {
                recovery_point::insert(tx, point, tags).await?;
                entered.point = true;
            }
            if let Some((new, identity)) = resource {
                let known = "SELECT 1 FROM resources WHERE arn = $1 \
                             OR (account = $2 AND kind = $3 AND identity = $4)";
                let args = [new.arn.as_str(), new.account.as_str(), new.kind.as_str(), identity];
                if !any(tx, known, &args).await? {
                    resource::insert(tx, new, identity).await?;
                    entered.resource = true;
                }
            }
            Ok(entered)
        })
    }

    /// Writes a copy of the catalog to `target`, which must not exist: one consistent state, in a
    /// file that opens as a catalog. Only of an SQLite catalog; PostgreSQL has `pg_dump`.
    pub async fn copy_to(&self, target: &Path) -> Result<()> {
        let place = target.display().to_string();
        if !self.is_a_file() {
            return Err(CatalogError::Address {
                url: place,
                why: "only an SQLite catalog is copied; back PostgreSQL up with pg_dump."
                    .to_owned(),
            });
        }
        let Some(path) = target.to_str() else {
            return Err(CatalogError::Address {
                url: place,
                why: "the path must be UTF-8.".to_owned(),
            });
        };
        // Not in a transaction; SQLite takes no parameter here in every version.
        let sql = format!("VACUUM INTO '{}'", path.replace('\'', "''"));
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&self.read).await?;
        Ok(())
    }

    /// Whether the catalog is an SQLite file.
    pub fn is_a_file(&self) -> bool {
        self.begin == SQLITE_BEGIN
    }
}

/// What a deleted vault leaves of these.
pub(crate) async fn remove_all(tx: &mut AnyConnection, vault_arn: &Arn) -> Result<()> {
    for sql in [
        "DELETE FROM vault_care WHERE vault_arn = $1",
        "DELETE FROM verified_packs WHERE vault_arn = $1",
    ] {
        sqlx::query(sql).bind(vault_arn.to_string()).execute(&mut *tx).await?;
    }
    Ok(())
}

fn care_query(vault_arn: &Arn) -> Select {
    Select::new("SELECT body FROM vault_care").and("vault_arn =", vault_arn)
}

fn packs_query(vault_arn: &Arn) -> Select {
    Select::new("SELECT pack, size, seen_at, verified_at, damage FROM verified_packs")
        .and("vault_arn =", vault_arn)
        .then("ORDER BY pack")
}

fn pack(row: &AnyRow) -> Result<VerifiedPack> {
    Ok(VerifiedPack {
        id: row.try_get("pack")?,
        size: row.try_get::<i64, _>("size")?.unsigned_abs(),
        seen_at: moment(row.try_get("seen_at")?)?,
        verified_at: row.try_get::<Option<i64>, _>("verified_at")?.map(moment).transpose()?,
        damage: row.try_get("damage")?,
    })
}

async fn read_care(tx: &mut AnyConnection, vault_arn: &Arn) -> Result<VaultCare> {
    Ok(care_query(vault_arn).one(tx).await?.unwrap_or_default())
}

async fn write_care(tx: &mut AnyConnection, vault_arn: &Arn, care: &VaultCare) -> Result<()> {
    sqlx::query(
        "INSERT INTO vault_care (vault_arn, body) VALUES ($1, $2) \
         ON CONFLICT (vault_arn) DO UPDATE SET body = excluded.body",
    )
    .bind(vault_arn.to_string())
    .bind(to_body(care)?)
    .execute(tx)
    .await?;
    Ok(())
}

/// Sets or takes away an alarm, without telling anybody.
pub(crate) async fn set_alarm(
    tx: &mut AnyConnection,
    vault_arn: &Arn,
    alarm: VaultAlarm,
    message: Option<&str>,
    now: Timestamp,
) -> Result<()> {
    let mut care = read_care(tx, vault_arn).await?;
    match message {
        Some(message) => {
            raise(&mut care, alarm, message, now);
        }
        None if !care.alarms.contains_key(&alarm) => return Ok(()),
        None => {
            care.alarms.remove(&alarm);
        }
    }
    write_care(tx, vault_arn, &care).await
}

/// Whether the alarm did not stand before.
fn raise(care: &mut VaultCare, alarm: VaultAlarm, message: &str, now: Timestamp) -> bool {
    let since = care.alarms.get(&alarm).map(|note| note.since);
    let note = AlarmNote { since: since.unwrap_or(now), message: message.to_owned() };
    care.alarms.insert(alarm, note);
    since.is_none()
}

fn alarm_of(vault: &BackupVault, alarm: VaultAlarm, message: &str, now: Timestamp) -> Notification {
    Notification {
        event: NotificationEvent::VaultAlarm(alarm),
        account: vault.account.clone(),
        region: vault.region.clone(),
        vault_name: vault.name.clone(),
        at: now,
        job_id: vault.name.clone(),
        started_at: now,
        resource_arn: Some(vault.arn.clone()),
        recovery_point_arn: None,
        created_resource_arn: None,
        reason: Some(message.to_owned()),
    }
}
