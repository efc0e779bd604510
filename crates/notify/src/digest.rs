//! Several messages as one.

use jiff::Timestamp;
use provault_domain::Subscription;
use sha2::{Digest as _, Sha256};

use crate::Message;
use crate::message::iso_millis;

/// One message of a digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DigestPart {
    /// Id of the delivery that goes out with it.
    pub delivery_id: String,
    /// When the event happened.
    pub at: Timestamp,
    /// The message it would be by itself.
    pub message: Message,
}

/// One message that holds all of `parts`, and the id to deliver it under.
///
/// The id is made of the parts' ids: the same parts sent again have the same one, others have
/// another, so that a receiver that drops repetitions drops nothing it was not told. `EventType` and
/// `State` are `DIGEST`, `StartTime` is the first event's.
pub fn digest(subscription: &Subscription, parts: &[DigestPart]) -> (String, Message) {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part.delivery_id.as_bytes());
        hash.update(b"\n");
    }
    let id = hex::encode(&hash.finalize()[..16]);
    let topic = subscription.topic_arn.as_str().rsplit(':').next().unwrap_or_default();
    let subject = format!("{} notifications of topic {topic}", parts.len());
    let told = parts.iter().map(|part| {
        let Message { subject, text, .. } = &part.message;
        format!("{} {subject}\n{text}", iso_millis(part.at))
    });
    let text = told.collect::<Vec<_>>().join("\n\n");
    let first = parts.iter().map(|part| part.at).min().unwrap_or(Timestamp::UNIX_EPOCH);
    let attributes = [
        ("EventType", "DIGEST".to_owned()),
        ("State", "DIGEST".to_owned()),
        ("AccountId", subscription.account.to_string()),
        ("Id", id.clone()),
        ("StartTime", iso_millis(first)),
    ];
    let attributes = attributes.into_iter().map(|(k, v)| (k.to_owned(), v)).collect();
    (id, Message { subject, text, attributes })
}

#[cfg(test)]
mod tests {
    use provault_domain::SubscriptionTarget;

    use super::*;

    fn part(id: &str, at: &str) -> DigestPart {
        let message = Message {
            subject: format!("Subject of {id}"),
            text: format!("Text of {id}."),
            attributes: [].into(),
        };
        DigestPart { delivery_id: id.to_owned(), at: at.parse().unwrap(), message }
    }

    #[test]
    fn the_same_parts_have_the_same_id_and_others_another() {
        let subscription = Subscription {
            id: "s".to_owned(),
            account: "111122223333".parse().unwrap(),
            topic_arn: "arn:aws:sns:us-east-1:111122223333:ops".parse().unwrap(),
            target: SubscriptionTarget::Webhook { url: "http://127.0.0.1/".to_owned() },
            events: Vec::new(),
            digest_minutes: Some(5),
            sealed_secret: None,
            created_at: Timestamp::UNIX_EPOCH,
        };
        let parts = [part("a", "2026-01-01T00:00:00Z"), part("b", "2026-01-01T00:01:00Z")];
        let (id, message) = digest(&subscription, &parts);
        assert_eq!(digest(&subscription, &parts), (id.clone(), message.clone()));
        assert_ne!(digest(&subscription, &parts[..1]).0, id);
        assert_eq!(message.subject, "2 notifications of topic ops");
        assert_eq!(
            message.text,
            "2026-01-01T00:00:00.000Z Subject of a\nText of a.\n\n\
             2026-01-01T00:01:00.000Z Subject of b\nText of b."
        );
        assert_eq!(message.attributes["StartTime"], "2026-01-01T00:00:00.000Z");
        assert_eq!(message.attributes["Id"], id);
    }
}
