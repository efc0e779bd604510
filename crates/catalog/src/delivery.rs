//! The outbox: what is to be delivered to whom, and what came of it.
//!
//! Rows are made in the transaction of the event they tell of, so that an event that happened is
//! told and one that did not happen is not. A row is delivered at least once: a sender that dies
//! between sending and reporting sends again, under the same [`Delivery::id`].

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use provault_domain::{AccountId, Arn, Notification, Subscription, SubscriptionTarget};
use serde::{Deserialize, Serialize};
use sqlx::{AnyConnection, Row};

use crate::error::{CatalogError, Result};
use crate::page::{Listed, Page, Select, body, micros, moment, to_body};
use crate::pool::{Catalog, any, transact};
use crate::{topic, vault};

/// One notification for one receiver.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Delivery {
    /// UUID; the same in every attempt, so that receivers can drop repetitions.
    pub id: String,
    /// Tenant.
    pub account: AccountId,
    /// The receiver.
    pub subscription_id: String,
    /// The topic it came by.
    pub topic_arn: Arn,
    /// The receiver's address as of the event.
    pub target: SubscriptionTarget,
    /// What happened.
    pub notification: Notification,
    /// When the event happened.
    pub created_at: Timestamp,
    /// Where it stands.
    pub state: DeliveryState,
    /// Attempts that have ended.
    pub attempts: u32,
    /// When it is due next.
    pub next_attempt_at: Timestamp,
    /// Why the last attempt failed.
    pub last_error: Option<String>,
    /// When it arrived.
    pub delivered_at: Option<Timestamp>,
    /// The message that it goes out in with others, from the first time that was tried: those of one text stay
    /// together until they arrive or are given up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
}

/// Where a delivery stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum DeliveryState {
    /// To be tried, for the first time or again.
    Waiting,
    /// Arrived.
    Delivered,
    /// Given up.
    Dead,
}

impl DeliveryState {
    /// The name in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "WAITING",
            Self::Delivered => "DELIVERED",
            Self::Dead => "DEAD",
        }
    }

    /// The state with this name.
    pub fn named(name: &str) -> Option<Self> {
        [Self::Waiting, Self::Delivered, Self::Dead].into_iter().find(|s| s.as_str() == name)
    }
}

/// No delivery waits longer for its next attempt, whether after a failure or for a digest.
pub(crate) const LONGEST_WAIT: SignedDuration = SignedDuration::from_hours(7 * 24);
/// No sender holds a delivery for longer than the one who asks wants to, by more than this.
pub(crate) const LONGEST_HOLD: SignedDuration = SignedDuration::from_hours(1);

impl Catalog {
    /// The subscriptions that a delivery is due for which nobody is trying, the one that has waited
    /// longest first. What is due later, or held longer, than can be was written by a clock that was
    /// ahead: it is due now.
    pub async fn receivers_due(&self, now: Timestamp) -> Result<Vec<String>> {
        let rows = sqlx::query(
            "SELECT subscription_id FROM deliveries WHERE state = 'WAITING' \
             AND (next_attempt_at <= $1 OR next_attempt_at > $2) \
             AND (lease_until <= $3 OR lease_until > $4) \
             GROUP BY subscription_id ORDER BY MIN(next_attempt_at), subscription_id",
        )
        .bind(micros(now))
        .bind(micros(now.checked_add(LONGEST_WAIT).unwrap_or(Timestamp::MAX)))
        .bind(micros(now))
        .bind(micros(now.checked_add(LONGEST_HOLD).unwrap_or(Timestamp::MAX)))
        .fetch_all(&self.read)
        .await?;
        rows.iter().map(|row| Ok(row.try_get("subscription_id")?)).collect()
    }

    /// Takes up to `limit` deliveries that are due for a subscription and that nobody else is
    /// trying, oldest first, until `lease_until`.
    pub async fn claim_deliveries(
        &self,
        subscription: &str,
        owner: &str,
        now: Timestamp,
        lease_until: Timestamp,
        limit: u32,
    ) -> Result<Vec<Delivery>> {
        let mut taken: Vec<Delivery> = transact!(self, |tx| {
            let rows = sqlx::query(
                "UPDATE deliveries SET owner = $1, lease_until = $2 WHERE id IN (\
                 SELECT id FROM deliveries WHERE state = 'WAITING' \
                 AND (next_attempt_at <= $3 OR next_attempt_at > $4) \
                 AND (lease_until <= $5 OR lease_until > $6) AND subscription_id = $7 \
                 ORDER BY next_attempt_at, id LIMIT $8) RETURNING body",
            )
            .bind(owner.to_owned())
            .bind(micros(lease_until))
            .bind(micros(now))
            .bind(micros(now.checked_add(LONGEST_WAIT).unwrap_or(Timestamp::MAX)))
            .bind(micros(now))
            .bind(micros(now.checked_add(LONGEST_HOLD).unwrap_or(Timestamp::MAX)))
            .bind(subscription.to_owned())
            .bind(i64::from(limit))
            .fetch_all(&mut *tx)
            .await?;
            rows.iter().map(body).collect::<Result<_>>()
        })?;
        taken.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
        Ok(taken)
    }

    /// It arrived. True whatever was thought of it before, so this cannot be refused.
    pub async fn delivery_succeeded(&self, id: &str, now: Timestamp) -> Result<()> {
        self.deliveries_succeeded(&[id.to_owned()], now).await
    }

    /// The same for all that went out in one message: together or not at all.
    pub async fn deliveries_succeeded(&self, ids: &[String], now: Timestamp) -> Result<()> {
        transact!(self, |tx| {
            for id in ids {
                let mut delivery = by_id(tx, id).await?;
                if delivery.state == DeliveryState::Delivered {
                    continue;
                }
                delivery.state = DeliveryState::Delivered;
                delivery.attempts += 1;
                delivery.delivered_at = Some(now);
                write(tx, &delivery).await?;
            }
            Ok(())
        })
    }

    /// It did not arrive: tried again at `next`, or given up. One that arrived or was given up
    /// meanwhile stays so.
    pub async fn delivery_failed(
        &self,
        id: &str,
        now: Timestamp,
        next: Option<Timestamp>,
        error: &str,
    ) -> Result<()> {
        transact!(self, |tx| {
            let mut delivery = by_id(tx, id).await?;
            if delivery.state != DeliveryState::Waiting {
                return Ok(());
            }
            delivery.attempts += 1;
            delivery.last_error = Some(error.to_owned());
            if next.is_none() {
                delivery.state = DeliveryState::Dead;
            }
            delivery.next_attempt_at = next.unwrap_or(now);
            write(tx, &delivery).await
        })
    }

    /// Lets a delivery that was given up be tried again from `now` on, as often as a new one. It
    /// must be DEAD, and its receiver still be there.
    pub async fn send_delivery_again(
        &self,
        account: &AccountId,
        id: &str,
        now: Timestamp,
    ) -> Result<Delivery> {
        let again = transact!(self, |tx| {
            let mut delivery = by_id(tx, id).await?;
            if delivery.account != *account {
                return Err(CatalogError::not_found(format!("delivery {id}")));
            }
            if delivery.state != DeliveryState::Dead {
                return Ok(None);
            }
            let receiver = delivery.subscription_id.clone();
            if !any(tx, "SELECT 1 FROM subscriptions WHERE id = $1", &[&receiver]).await? {
                return Err(CatalogError::not_found(format!("subscription {receiver}")));
            }
            delivery.state = DeliveryState::Waiting;
            delivery.attempts = 0;
            delivery.digest = None;
            delivery.next_attempt_at = now;
            write(tx, &delivery).await?;
            Ok(Some(delivery))
        })?;
        again.ok_or_else(|| CatalogError::conflict(format!("delivery {id}")))
    }

    /// Removes a delivery that was given up, for good. It must be DEAD.
    pub async fn forget_delivery(&self, account: &AccountId, id: &str) -> Result<()> {
        let gone = transact!(self, |tx| {
            let gone = sqlx::query(
                "DELETE FROM deliveries WHERE id = $1 AND account = $2 AND state = 'DEAD'",
            )
            .bind(id.to_owned())
            .bind(account.to_string())
            .execute(&mut *tx)
            .await?;
            Ok(gone.rows_affected() > 0)
        })?;
        if gone { Ok(()) } else { Err(CatalogError::not_found(format!("dead delivery {id}"))) }
    }

    /// Removes deliveries from before `before` that nobody will ask for: what arrived, and what was
    /// given up for a receiver that is gone. At most `limit` of them; how many it were.
    pub async fn drop_old_deliveries(&self, before: Timestamp, limit: u32) -> Result<u64> {
        const OLD: &str = "DELETE FROM deliveries WHERE id IN (\
             SELECT id FROM deliveries WHERE created_at < $1 AND (state = 'DELIVERED' OR \
             (state = 'DEAD' AND subscription_id NOT IN (SELECT id FROM subscriptions))) LIMIT $2)";
        transact!(self, |tx| {
            let gone = sqlx::query(OLD)
                .bind(micros(before))
                .bind(i64::from(limit))
                .execute(&mut *tx)
                .await?;
            Ok(gone.rows_affected())
        })
    }

    /// How many deliveries of an account are in each state; a state without any is left out.
    pub async fn count_deliveries(&self, account: &AccountId) -> Result<Vec<(DeliveryState, u64)>> {
        let rows = sqlx::query(
            "SELECT state, COUNT(*) AS number FROM deliveries WHERE account = $1 GROUP BY state",
        )
        .bind(account.to_string())
        .fetch_all(&self.read)
        .await?;
        let mut counts = Vec::new();
        for row in rows {
            let number: i64 = row.try_get("number")?;
            let state = DeliveryState::named(row.try_get("state")?);
            counts.extend(state.map(|state| (state, u64::try_from(number).unwrap_or_default())));
        }
        Ok(counts)
    }

    /// How many deliveries were given up whose receiver is still there, so that they can be sent
    /// again.
    pub async fn count_dead_deliveries(&self, account: &AccountId) -> Result<u64> {
        let row = sqlx::query(
            "SELECT COUNT(*) AS number FROM deliveries WHERE account = $1 AND state = 'DEAD' \
             AND subscription_id IN (SELECT id FROM subscriptions)",
        )
        .bind(account.to_string())
        .fetch_one(&self.read)
        .await?;
        Ok(u64::try_from(row.try_get::<i64, _>("number")?).unwrap_or_default())
    }

    /// Why the last try failed to reach a receiver, while something that failed still waits for it.
    pub async fn waiting_error(&self, subscription: &str) -> Result<Option<String>> {
        // What failed is due later than what has not been tried.
        let waiting: Vec<Delivery> = Select::new("SELECT body FROM deliveries")
            .and("subscription_id =", subscription)
            .only("state = 'WAITING'")
            .then("ORDER BY next_attempt_at DESC LIMIT 100")
            .all(&self.read)
            .await?;
        Ok(waiting.into_iter().find_map(|delivery| delivery.last_error))
    }

    /// One delivery of an account.
    pub async fn delivery(&self, account: &AccountId, id: &str) -> Result<Option<Delivery>> {
        let query = Select::new("SELECT body FROM deliveries").and("id =", id);
        query.and("account =", account).one(&self.read).await
    }

    /// An account's deliveries in the order of their events: all, or those of one of its jobs, or
    /// those in one state.
    pub async fn list_deliveries(
        &self,
        account: &AccountId,
        job_id: Option<&str>,
        state: Option<DeliveryState>,
    ) -> Result<Vec<Delivery>> {
        Select::new("SELECT body FROM deliveries")
            .and("account =", account)
            .and_if("job_id =", job_id)
            .and_if("state =", state.map(DeliveryState::as_str))
            .then("ORDER BY created_at, id")
            .all(&self.read)
            .await
    }

    /// The same, a page of them.
    pub async fn page_of_deliveries(
        &self,
        account: &AccountId,
        job_id: Option<&str>,
        state: Option<DeliveryState>,
        page: Page,
    ) -> Result<Listed<Delivery>> {
        Select::new("SELECT created_at, id AS page_id, body FROM deliveries")
            .and("account =", account)
            .and_if("job_id =", job_id)
            .and_if("state =", state.map(DeliveryState::as_str))
            .page("id", &page)
            .listed(&self.read, &page)
            .await
    }
}

/// One row for each receiver of the vault's topic that wants to hear of the event, when the vault
/// does.
pub(crate) async fn enqueue(
    tx: &mut AnyConnection,
    notification: &Notification,
    now: Timestamp,
) -> Result<()> {
    enqueue_once(tx, notification, now, &mut BTreeSet::new()).await?;
    Ok(())
}

/// Whether [`enqueue`] would find anybody to tell.
pub(crate) async fn is_heard(catalog: &Catalog, notification: &Notification) -> Result<bool> {
    let read = &catalog.read;
    let vault = vault::by_name(read, &notification.account, &notification.vault_name).await?;
    let Some(setting) = vault.and_then(|vault| vault.notifications) else { return Ok(false) };
    if !notification.event.wanted_by(&setting.events) {
        return Ok(false);
    }
    let subscriptions = topic::subscriptions(read, &setting.topic_arn).await?;
    Ok(subscriptions.iter().any(|subscription| subscription.wants(notification.event)))
}

/// The same, but not for a topic among `told`, to which it adds the one that is told. Answers with the
/// number of those who hear of it.
pub(crate) async fn enqueue_once(
    tx: &mut AnyConnection,
    notification: &Notification,
    now: Timestamp,
    told: &mut BTreeSet<Arn>,
) -> Result<u64> {
    let vault = vault::by_name(&mut *tx, &notification.account, &notification.vault_name).await?;
    let Some(setting) = vault.and_then(|vault| vault.notifications) else { return Ok(0) };
    if !notification.event.wanted_by(&setting.events) {
        return Ok(0);
    }
    if !told.insert(setting.topic_arn.clone()) {
        return Ok(0);
    }
    let mut heard = 0;
    for subscription in topic::subscriptions(&mut *tx, &setting.topic_arn).await? {
        if !subscription.wants(notification.event) {
            continue;
        }
        let due = first_attempt(&mut *tx, &subscription, now).await?;
        let delivery = Delivery {
            id: uuid::Uuid::new_v4().to_string(),
            account: notification.account.clone(),
            subscription_id: subscription.id,
            topic_arn: setting.topic_arn.clone(),
            target: subscription.target,
            notification: notification.clone(),
            created_at: now,
            state: DeliveryState::Waiting,
            attempts: 0,
            next_attempt_at: due,
            last_error: None,
            delivered_at: None,
            digest: None,
        };
        sqlx::query(
            "INSERT INTO deliveries (id, account, job_id, subscription_id, state, created_at, \
             next_attempt_at, owner, lease_until, body) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, NULL, 0, $8)",
        )
        .bind(delivery.id.clone())
        .bind(delivery.account.to_string())
        .bind(notification.job_id.clone())
        .bind(delivery.subscription_id.clone())
        .bind(delivery.state.as_str())
        .bind(micros(delivery.created_at))
        .bind(micros(delivery.next_attempt_at))
        .bind(to_body(&delivery)?)
        .execute(&mut *tx)
        .await?;
        heard += 1;
    }
    Ok(heard)
}

/// When a new delivery is due: now, or together with what a digest has collected already.
async fn first_attempt(
    tx: &mut AnyConnection,
    subscription: &Subscription,
    now: Timestamp,
) -> Result<Timestamp> {
    let Some(minutes) = subscription.digest_minutes else { return Ok(now) };
    let latest =
        now.checked_add(SignedDuration::from_mins(i64::from(minutes))).unwrap_or(Timestamp::MAX);
    let row = sqlx::query(
        "SELECT COALESCE(MIN(next_attempt_at), $1) AS due FROM deliveries \
         WHERE subscription_id = $2 AND state = 'WAITING' AND next_attempt_at > $3",
    )
    .bind(micros(latest))
    .bind(subscription.id.clone())
    .bind(micros(now))
    .fetch_one(tx)
    .await?;
    Ok(moment(row.try_get("due")?)?.min(latest))
}

/// Gives up what waits for a receiver that goes away.
pub(crate) async fn give_up(tx: &mut AnyConnection, subscription: &str, why: &str) -> Result<()> {
    let waiting: Vec<Delivery> = Select::new("SELECT body FROM deliveries")
        .and("subscription_id =", subscription)
        .only("state = 'WAITING'")
        .all(&mut *tx)
        .await?;
    for mut delivery in waiting {
        delivery.state = DeliveryState::Dead;
        delivery.last_error = Some(why.to_owned());
        write(tx, &delivery).await?;
    }
    Ok(())
}

async fn by_id(tx: &mut AnyConnection, id: &str) -> Result<Delivery> {
    let query = Select::new("SELECT body FROM deliveries").and("id =", id);
    query.one(tx).await?.ok_or_else(|| CatalogError::not_found(format!("delivery {id}")))
}

/// Writes a delivery back; whoever held it has reported and holds it no longer.
async fn write(tx: &mut AnyConnection, delivery: &Delivery) -> Result<()> {
    sqlx::query(
        "UPDATE deliveries SET state = $1, next_attempt_at = $2, body = $3, owner = NULL, \
         lease_until = 0 WHERE id = $4",
    )
    .bind(delivery.state.as_str())
    .bind(micros(delivery.next_attempt_at))
    .bind(to_body(delivery)?)
    .bind(delivery.id.clone())
    .execute(tx)
    .await?;
    Ok(())
}
