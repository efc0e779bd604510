//! Topics and their subscriptions.

use provault_domain::{AccountId, Arn, Subscription, Topic};
use sqlx::AnyConnection;

use crate::delivery;
use crate::error::{CatalogError, Result};
use crate::page::{Select, micros, to_body};
use crate::pool::{Catalog, any, transact};

impl Catalog {
    /// Adds a topic; its ARN, and its name in the account, must be new.
    pub async fn insert_topic(&self, topic: &Topic) -> Result<()> {
        transact!(self, |tx| {
            let args = [topic.arn.as_str(), topic.account.as_str(), &topic.name];
            let taken = "SELECT 1 FROM topics WHERE arn = $1 OR (account = $2 AND name = $3)";
            if any(tx, taken, &args).await? {
                return Err(CatalogError::exists(format!("topic {}", topic.name)));
            }
            sqlx::query(
                "INSERT INTO topics (arn, account, name, created_at, body) \
                 VALUES ($1, $2, $3, $4, $5)",
            )
            .bind(topic.arn.to_string())
            .bind(topic.account.to_string())
            .bind(topic.name.clone())
            .bind(micros(topic.created_at))
            .bind(to_body(topic)?)
            .execute(&mut *tx)
            .await?;
            Ok(())
        })
    }

    /// The topic with this ARN.
    pub async fn topic(&self, arn: &Arn) -> Result<Option<Topic>> {
        Select::new("SELECT body FROM topics").and("arn =", arn).one(&self.read).await
    }

    /// Every topic of an account, by name.
    pub async fn list_topics(&self, account: &AccountId) -> Result<Vec<Topic>> {
        Select::new("SELECT body FROM topics")
            .and("account =", account)
            .then("ORDER BY created_at, name")
            .all(&self.read)
            .await
    }

    /// Removes a topic that no vault sends to, with its subscriptions. What is still waiting to
    /// be delivered to them is given up, and says so.
    pub async fn delete_topic(&self, arn: &Arn) -> Result<()> {
        transact!(self, |tx| {
            let what = format!("topic {arn}");
            let used = "SELECT 1 FROM vaults WHERE topic_arn = $1 LIMIT 1";
            if any(tx, used, &[arn.as_str()]).await? {
                return Err(CatalogError::in_use(what, "a backup vault sends its events there."));
            }
            for subscription in subscriptions(&mut *tx, arn).await? {
                remove_subscription(tx, &subscription.id).await?;
            }
            let deleted = sqlx::query("DELETE FROM topics WHERE arn = $1")
                .bind(arn.to_string())
                .execute(&mut *tx)
                .await?;
            if deleted.rows_affected() == 0 {
                return Err(CatalogError::not_found(what));
            }
            Ok(())
        })
    }

    /// Adds a receiver to a topic that exists.
    pub async fn insert_subscription(&self, subscription: &Subscription) -> Result<()> {
        transact!(self, |tx| {
            let topic = &subscription.topic_arn;
            let args = [topic.as_str(), subscription.account.as_str()];
            if !any(tx, "SELECT 1 FROM topics WHERE arn = $1 AND account = $2", &args).await? {
                return Err(CatalogError::not_found(format!("topic {topic}")));
            }
            let id = subscription.id.as_str();
            if any(tx, "SELECT 1 FROM subscriptions WHERE id = $1", &[id]).await? {
                return Err(CatalogError::exists(format!("subscription {id}")));
            }
            sqlx::query(
                "INSERT INTO subscriptions (id, account, topic_arn, created_at, body) \
                 VALUES ($1, $2, $3, $4, $5)",
            )
            .bind(subscription.id.clone())
            .bind(subscription.account.to_string())
            .bind(topic.to_string())
            .bind(micros(subscription.created_at))
            .bind(to_body(subscription)?)
            .execute(&mut *tx)
            .await?;
            Ok(())
        })
    }

    /// The receiver with this id.
    pub async fn subscription(&self, id: &str) -> Result<Option<Subscription>> {
        Select::new("SELECT body FROM subscriptions").and("id =", id).one(&self.read).await
    }

    /// A topic's receivers, oldest first.
    pub async fn list_subscriptions(&self, topic_arn: &Arn) -> Result<Vec<Subscription>> {
        subscriptions(&self.read, topic_arn).await
    }

    /// Removes a receiver. What is still waiting to be delivered to it is given up, and says so.
    pub async fn delete_subscription(&self, account: &AccountId, id: &str) -> Result<()> {
        transact!(self, |tx| {
            let mine = "SELECT 1 FROM subscriptions WHERE id = $1 AND account = $2";
            if !any(tx, mine, &[id, account.as_str()]).await? {
                return Err(CatalogError::not_found(format!("subscription {id}")));
            }
            remove_subscription(tx, id).await
        })
    }
}

async fn remove_subscription(tx: &mut AnyConnection, id: &str) -> Result<()> {
    delivery::give_up(tx, id, "the subscription was deleted").await?;
    sqlx::query("DELETE FROM subscriptions WHERE id = $1").bind(id.to_owned()).execute(tx).await?;
    Ok(())
}

/// A topic's receivers, in or outside a transaction.
pub(crate) async fn subscriptions<'e, E>(executor: E, topic_arn: &Arn) -> Result<Vec<Subscription>>
where
    E: sqlx::Executor<'e, Database = sqlx::Any>,
{
    Select::new("SELECT body FROM subscriptions")
        .and("topic_arn =", topic_arn)
        .then("ORDER BY created_at, id")
        .all(executor)
        .await
}
