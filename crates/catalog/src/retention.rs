//! Retention: which recovery points go, which one stays, and which are marked as shrunk.
//!
//! The domain decides, over all points of a resource at once, and what it decides is written in the
//! transaction that read them. So of two that decide at the same moment, or of an expiry and a
//! deletion by hand, the second sees what the first did: no two can each take the other's reason to
//! keep something.

use jiff::Timestamp;
use provault_domain::retention::{self, Hold, RetentionSettings};
use provault_domain::{
    AccountId, Arn, Invalid, Notification, NotificationEvent, RecoveryPoint, RecoveryPointStatus,
    Resource, Tags,
};
use sqlx::{AnyConnection, Row};

use crate::error::{CatalogError, Result};
use crate::page::{Select, to_body};
use crate::pool::{Catalog, any, transact};
use crate::{AuditRecord, audit, delivery, protected_resource, recovery_point};

/// What the audit trail calls a deletion by retention.
const EXPIRE: &str = "provault:ExpireRecoveryPoint";

/// What [`Catalog::expire_points`] did with the points of a resource.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Expired {
    /// These are DELETING now; their snapshots are to be forgotten.
    pub going: Vec<RecoveryPoint>,
    /// This one would go and stays, as of now: nothing newer is as good.
    pub held: Option<RecoveryPoint>,
}

impl Catalog {
    /// Every account's resources of which a recovery point is overdue at `now`, or that have more
    /// points than they are to keep.
    pub async fn resources_with_due_points(&self, now: Timestamp) -> Result<Vec<(AccountId, Arn)>> {
        let overdue = Select::new("SELECT DISTINCT account, resource_arn FROM recovery_points")
            .and("delete_at <=", now)
            .only("status <> 'DELETING'")
            .rows(&self.read)
            .await?;
        let too_many = Select::new("SELECT account, arn AS resource_arn FROM resources")
            .only("keep_at_most IS NOT NULL")
            .only(
                "keep_at_most < (SELECT COUNT(*) FROM recovery_points p \
                 WHERE p.account = resources.account AND p.resource_arn = resources.arn \
                 AND p.status <> 'DELETING')",
            )
            .rows(&self.read)
            .await?;
        let mut due = Vec::new();
        for row in overdue.iter().chain(&too_many) {
            let account: String = row.try_get("account")?;
            let arn: String = row.try_get("resource_arn")?;
            due.push((parsed(&account)?, parsed(&arn)?));
        }
        due.sort();
        due.dedup();
        Ok(due)
    }

    /// Carries out at `now` what retention says about the points of a resource: those that go become
    /// DELETING, and the one that stays says why, and whoever wants to hear of that is told once. A
    /// point that an unfinished restore or restore test reads is left as it is.
    pub async fn expire_points(
        &self,
        account: &AccountId,
        resource_arn: &Arn,
        now: Timestamp,
    ) -> Result<Expired> {
        // Mostly nothing changes, and then no writer need be held up.
        let points = recovery_point::of_resource(&self.read, account, resource_arn).await?;
        let settings = settings(&self.read, resource_arn).await?;
        if retention::expire(&points, &settings, now).is_empty() {
            return Ok(Expired::default());
        }
        transact!(self, |tx| {
            let points = recovery_point::of_resource(&mut *tx, account, resource_arn).await?;
            let settings = settings_in(tx, resource_arn).await?;
            let mut expired = Expired::default();
            for point in retention::expire(&points, &settings, now) {
                let goes = point.status == RecoveryPointStatus::Deleting;
                if goes && is_read(tx, account, &point.arn).await? {
                    continue;
                }
                recovery_point::write(tx, &point).await?;
                if goes {
                    let record = AuditRecord::by_server(account, EXPIRE, point.arn.as_str(), now);
                    audit::insert(tx, &record).await?;
                    expired.going.push(point);
                } else if points.iter().any(|old| old.arn == point.arn && old.hold.is_none()) {
                    let why = point.hold.as_ref().map(|hold| hold.message.clone());
                    let held = told(NotificationEvent::RecoveryPointHeld, &point, why, now);
                    delivery::enqueue(tx, &held, now).await?;
                    expired.held = Some(point);
                }
            }
            protected_resource::refresh(tx, account, resource_arn).await?;
            Ok(expired)
        })
    }

    /// Lets a point be DELETING because somebody asked, unless an unfinished restore or restore test
    /// reads it: then [`CatalogError::NotEmpty`].
    pub async fn begin_deletion(&self, account: &AccountId, arn: &Arn) -> Result<()> {
        transact!(self, |tx| {
            let what = format!("recovery point {arn}");
            if is_read(tx, account, arn).await? {
                return Err(CatalogError::in_use(what, "a restore or a restore test reads it."));
            }
            let changed = recovery_point::alter(tx, arn, |point| {
                point.status = RecoveryPointStatus::Deleting;
                point.status_message = None;
                point.hold = None;
            });
            let Some(point) = changed.await? else { return Err(CatalogError::not_found(what)) };
            protected_resource::refresh(tx, &point.account, &point.resource_arn).await
        })
    }

    /// Notes that the snapshot of a DELETING point could not be deleted. Answers whether that is
    /// news; a point that is gone or not DELETING is passed over.
    pub async fn deletion_failed(&self, arn: &Arn, why: &str, now: Timestamp) -> Result<bool> {
        transact!(self, |tx| {
            let mut news = false;
            recovery_point::alter(tx, arn, |point| {
                if point.status != RecoveryPointStatus::Deleting {
                    return;
                }
                let since = point.hold.as_ref().map(|hold| hold.since);
                news = since.is_none();
                let message = format!(
                    "It is to be deleted, and its snapshot could not be: {why} This is tried again \
                     until it succeeds."
                );
                point.hold = Some(Hold { since: since.unwrap_or(now), message });
            })
            .await?;
            Ok(news)
        })
    }

    /// An operator says that a shrunk point is right. The later points of the resource are compared
    /// anew. A point that is not marked is given back as it is.
    pub async fn accept_point(
        &self,
        account: &AccountId,
        arn: &Arn,
        now: Timestamp,
    ) -> Result<RecoveryPoint> {
        transact!(self, |tx| {
            let query = Select::new("SELECT body FROM recovery_points")
                .and("arn =", arn)
                .and("account =", account);
            let Some(mut point): Option<RecoveryPoint> = query.one(&mut *tx).await? else {
                return Err(CatalogError::not_found(format!("recovery point {arn}")));
            };
            match &mut point.shrunk {
                Some(shrunk) if shrunk.accepted_at.is_none() => shrunk.accepted_at = Some(now),
                _ => return Ok(point),
            }
            recovery_point::write(tx, &point).await?;
            let settings = settings_in(tx, &point.resource_arn).await?;
            judge_anew(tx, account, &point.resource_arn, &settings, false).await?;
            Ok(point)
        })
    }

    /// Marks what is shrunk among the points of a resource that were entered without being compared,
    /// as by an import. Nobody is told: they are no news.
    pub async fn judge_points(&self, account: &AccountId, resource_arn: &Arn) -> Result<()> {
        transact!(self, |tx| {
            let settings = settings_in(tx, resource_arn).await?;
            judge_anew(tx, account, resource_arn, &settings, true).await
        })
    }

    /// Changes how the points of a resource are kept, from what it is to what `change` says, in one
    /// transaction: of two that change different settings at once neither undoes the other. What
    /// `change` refuses is not written. Points that are marked as shrunk are compared anew.
    pub async fn set_retention(
        &self,
        resource_arn: &Arn,
        change: impl Fn(RetentionSettings) -> std::result::Result<RetentionSettings, Invalid>
        + Send
        + Sync,
    ) -> Result<std::result::Result<Resource, Invalid>> {
        transact!(self, |tx| {
            let query = Select::new("SELECT body FROM resources").and("arn =", resource_arn);
            let Some(mut resource): Option<Resource> = query.one(&mut *tx).await? else {
                return Err(CatalogError::not_found(format!("resource {resource_arn}")));
            };
            let settings = match change(resource.retention) {
                Ok(settings) => settings,
                Err(invalid) => return Ok(Err(invalid)),
            };
            resource.retention = settings;
            sqlx::query(
                "UPDATE resources SET keep_at_most = $1, body = $2, version = version + 1 \
                 WHERE arn = $3",
            )
            .bind(settings.keep_at_most.map(i64::from))
            .bind(to_body(&resource)?)
            .bind(resource_arn.to_string())
            .execute(&mut *tx)
            .await?;
            let account = &resource.account;
            judge_anew(tx, account, resource_arn, &settings, false).await?;
            // Why a point stays may have changed, or it may no longer be to go. If it still is, the
            // next look says so again.
            for point in recovery_point::of_resource(&mut *tx, account, resource_arn).await? {
                if point.is_restorable() && point.hold.is_some() {
                    recovery_point::write(tx, &RecoveryPoint { hold: None, ..point }).await?;
                }
            }
            Ok(Ok(resource))
        })
    }
}

/// Adds a recovery point that a backup made: it is compared with those before it, and whoever wants
/// to hear of it is told when it holds much less.
pub(crate) async fn insert_judged(
    tx: &mut AnyConnection,
    point: &RecoveryPoint,
    tags: &Tags,
    now: Timestamp,
) -> Result<()> {
    let settings = settings_in(tx, &point.resource_arn).await?;
    let others = recovery_point::of_resource(&mut *tx, &point.account, &point.resource_arn).await?;
    let mut point = point.clone();
    point.shrunk = retention::judge(&others, &point, settings.shrink_alarm_percent);
    recovery_point::insert(tx, &point, tags).await?;
    if retention::is_news(&others, &point) {
        let why = point.shrunk_message();
        let shrunk = told(NotificationEvent::RecoveryPointShrunk, &point, why, now);
        delivery::enqueue(tx, &shrunk, now).await?;
    }
    Ok(())
}

fn told(
    event: NotificationEvent,
    point: &RecoveryPoint,
    reason: Option<String>,
    now: Timestamp,
) -> Notification {
    Notification {
        event,
        account: point.account.clone(),
        region: point.region.clone(),
        vault_name: point.vault_name.clone(),
        at: now,
        job_id: point.backup_job_id.clone(),
        started_at: point.created_at,
        resource_arn: Some(point.resource_arn.clone()),
        recovery_point_arn: Some(point.arn.clone()),
        created_resource_arn: None,
        reason,
    }
}

async fn judge_anew(
    tx: &mut AnyConnection,
    account: &AccountId,
    resource_arn: &Arn,
    settings: &RetentionSettings,
    also_unmarked: bool,
) -> Result<()> {
    let mut points = recovery_point::of_resource(&mut *tx, account, resource_arn).await?;
    let percent = settings.shrink_alarm_percent;
    for place in retention::judge_anew(&mut points, percent, also_unmarked) {
        recovery_point::write(tx, &points[place]).await?;
    }
    Ok(())
}

/// How the points of a resource are kept; by default where it is no longer registered.
async fn settings<'e, E>(executor: E, resource_arn: &Arn) -> Result<RetentionSettings>
where
    E: sqlx::Executor<'e, Database = sqlx::Any>,
{
    let query = Select::new("SELECT body FROM resources").and("arn =", resource_arn);
    let resource: Option<Resource> = query.one(executor).await?;
    Ok(resource.map(|resource| resource.retention).unwrap_or_default())
}

async fn settings_in(tx: &mut AnyConnection, resource_arn: &Arn) -> Result<RetentionSettings> {
    settings(tx, resource_arn).await
}

/// Whether an unfinished restore or restore test reads the point.
async fn is_read(tx: &mut AnyConnection, account: &AccountId, arn: &Arn) -> Result<bool> {
    let reader = "SELECT 1 FROM jobs WHERE type IN ('RESTORE', 'RESTORE_TEST') AND account = $1 \
                  AND recovery_point_arn = $2 AND done = 0 LIMIT 1";
    any(tx, reader, &[account.as_str(), arn.as_str()]).await
}

fn parsed<T: std::str::FromStr>(text: &str) -> Result<T>
where
    T::Err: std::fmt::Display,
{
    text.parse().map_err(|error: T::Err| CatalogError::Corrupt {
        what: format!("the name {text}"),
        message: error.to_string(),
    })
}
