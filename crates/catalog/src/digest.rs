//! What goes out in one message, written down before it does.
//!
//! A sender that dies between sending and reporting sends again. What has come up in between must not join: the
//! message would be another one, under another id, and its receiver could not drop what it was told already.

use jiff::Timestamp;

use crate::delivery::{Delivery, LONGEST_HOLD, LONGEST_WAIT};
use crate::error::Result;
use crate::page::{Select, body, micros, to_body};
use crate::pool::{Catalog, transact};

impl Catalog {
    /// Claims what goes to a receiver in one message, oldest first: what was to go out together before and did
    /// not arrive, the same deliveries; else what is due, at most `limit` of it. Nothing when nothing is due.
    pub async fn claim_digest(
        &self,
        subscription: &str,
        owner: &str,
        now: Timestamp,
        lease_until: Timestamp,
        limit: u32,
    ) -> Result<Vec<Delivery>> {
        let end = |wait| now.checked_add(wait).unwrap_or(Timestamp::MAX);
        transact!(self, |tx| {
            let rows = sqlx::query(
                "SELECT body FROM deliveries WHERE state = 'WAITING' \
                 AND (next_attempt_at <= $1 OR next_attempt_at > $2) \
                 AND (lease_until <= $3 OR lease_until > $4) AND subscription_id = $5 \
                 ORDER BY next_attempt_at, id LIMIT $6",
            )
            .bind(micros(now))
            .bind(micros(end(LONGEST_WAIT)))
            .bind(micros(now))
            .bind(micros(end(LONGEST_HOLD)))
            .bind(subscription.to_owned())
            .bind(i64::from(limit))
            .fetch_all(&mut *tx)
            .await?;
            let mut taken: Vec<Delivery> = rows.iter().map(body).collect::<Result<_>>()?;
            if let Some(begun) = taken.iter().find_map(|delivery| delivery.digest.clone()) {
                // All of it, also what is due later: the sender may have died while it reported.
                taken = Select::new("SELECT body FROM deliveries")
                    .and("subscription_id =", subscription)
                    .only("state = 'WAITING'")
                    .all(&mut *tx)
                    .await?;
                taken.retain(|delivery| delivery.digest.as_ref() == Some(&begun));
            }
            taken.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
            let new = taken.first().map(|first| format!("{}/{}", first.id, micros(now)));
            for delivery in &mut taken {
                if delivery.digest.is_none() {
                    delivery.digest.clone_from(&new);
                }
                sqlx::query(
                    "UPDATE deliveries SET owner = $1, lease_until = $2, body = $3 WHERE id = $4",
                )
                .bind(owner.to_owned())
                .bind(micros(lease_until))
                .bind(to_body(delivery)?)
                .bind(delivery.id.clone())
                .execute(&mut *tx)
                .await?;
            }
            Ok(taken)
        })
    }
}
