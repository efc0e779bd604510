//! Notifications on their way out: how an event is worded, and how it reaches a subscription.
//!
//! The room has three parts and no state: [`render`] words a [`Notification`], [`deliver`] carries
//! a [`Message`] to one [`SubscriptionTarget`], and [`retry_at`] says when to try again. Whoever
//! keeps the outbox calls them; they block and belong on a thread that may block.
//!
//! Invariants:
//!
//! * **Nothing is claimed that is not known.** A message says what the notification says: no HTTP
//!   status, no resource and no cleanup appears in a text unless it was recorded.
//! * **First AWS's line, then ours.** The first line of a message about a backup or restore job has
//!   the form AWS Backup documents for its SNS messages, so that whatever parses those goes on
//!   working. What AWS leaves out (the reason) follows on lines of its own, only when there is one.
//! * **A delivery can be repeated.** Its id is the SNS `MessageId`, the name of the mail file and
//!   the mail's `Message-ID`: a receiver that was told twice can see it, and a mail file is written
//!   once.
//! * **Every wait has a limit**, named by the [`DeliveryContext`].
//! * **Errors do not repeat secrets.** The path and the user part of a webhook's address often are
//!   credentials, so messages name only its scheme, host and port. What a mail server says while
//!   somebody signs in is not repeated.
//! * **Nothing stays behind.** A command that is late is killed with all it started.
//!
//! What differs from SNS: envelopes are not signed as SNS does (`SignatureVersion`, `Signature` and
//! `SigningCertURL` are left out, as is `UnsubscribeURL`), so a receiver that insists on checking
//! those signatures refuses them; a subscription with a secret has a signature of its own in the
//! request's headers. There is no subscription confirmation, since subscriptions are made by the
//! operator of this server and not by strangers.
//!
//! [`Notification`]: provault_domain::Notification
//! [`SubscriptionTarget`]: provault_domain::SubscriptionTarget

mod command;
mod delivery;
mod digest;
mod envelope;
mod mail;
mod mail_file;
mod message;
mod quote;
mod retry;
mod smtp;
mod sns;
mod webhook;

pub use delivery::{
    DEFAULT_TIME_LIMIT, DeliveryContext, DeliveryError, Receipt, deliver, time_limit,
};
pub use digest::{DigestPart, digest};
pub use message::{Message, render, test_message};
pub use retry::{MAX_ATTEMPTS, retry_at};
