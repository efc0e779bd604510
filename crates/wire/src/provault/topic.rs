//! Subscriptions and deliveries.

use serde::{Deserialize, Serialize};

use super::EpochSeconds;

message! {
    /// Adds a receiver to a topic; exactly one of `Webhook`, `MailFile`, `Smtp`, `Sns` and
    /// `Command`.
    SubscribeInput {
        /// `http://` or `https://` address that gets an SNS envelope by POST.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        webhook: Option<String>,
        /// E-mail written as files.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        mail_file: Option<MailFile>,
        /// E-mail handed to a mail server.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        smtp: Option<Smtp>,
        /// A topic of Amazon SNS.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        sns: Option<Sns>,
        /// Absolute path of a program on the server, and its arguments.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        command: Option<Vec<String>>,
        /// The events it wants; empty: all that come to the topic.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        events: Vec<String>,
        /// How many minutes, 1 to 1440, events are collected before they go out as one message;
        /// each by itself and at once when absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        digest_minutes: Option<u32>,
        /// What signs a webhook's messages, 16 to 1024 visible ASCII characters, the password of
        /// `Smtp.User`, or the secret access key of `Sns.AccessKeyId`. No answer has it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        secret: Option<String>,
    }
}

message! {
    /// E-mail written into a directory of the server.
    MailFile {
        /// Absolute path.
        directory: String,
        /// Address of the receiver.
        to: String,
    }
}

message! {
    /// E-mail handed to a mail server.
    Smtp {
        /// Host name or address.
        server: String,
        /// TCP port; 587, 465 or 25 by the kind of TLS when absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        port: Option<u16>,
        /// `starttls`, `implicit` or `none`; `starttls` when absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tls: Option<String>,
        /// Whom to sign in as; the password is `Secret`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        user: Option<String>,
        /// Address of the sender.
        from: String,
        /// Address of the receiver.
        to: String,
        /// PEM file on the server with the authorities to trust in place of the public ones.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ca_file: Option<String>,
    }
}

message! {
    /// A topic of Amazon SNS, or of a service that speaks its protocol.
    Sns {
        /// `arn:aws:sns:REGION:ACCOUNT:NAME`.
        topic_arn: String,
        /// Whose secret access key, the `Secret`, signs; it needs `sns:Publish`.
        access_key_id: String,
        /// Address in place of Amazon's own for the topic's region; `https://`, or `http://` on the
        /// server's own machine.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        endpoint: Option<String>,
    }
}

message! {
    /// A receiver.
    Subscription {
        /// UUID.
        subscription_id: String,
        /// Its topic.
        topic_arn: String,
        /// Where it sends.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        webhook: Option<String>,
        /// Where it writes.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        mail_file: Option<MailFile>,
        /// Through which mail server to whom.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        smtp: Option<Smtp>,
        /// To which topic of Amazon SNS it publishes.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        sns: Option<Sns>,
        /// What it runs.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        command: Option<Vec<String>>,
        /// The events it wants; empty: all that come to the topic.
        #[serde(default)]
        events: Vec<String>,
        /// How many minutes events are collected, if they are.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        digest_minutes: Option<u32>,
        /// Whether it has a secret: a webhook that signs, a mail server's user, SNS.
        #[serde(default)]
        has_secret: bool,
        /// When it was made.
        creation_date: EpochSeconds,
    }
}

message! {
    /// All receivers of a topic.
    SubscriptionList {
        /// In the order of creation.
        subscriptions: Vec<Subscription>,
    }
}

message! {
    /// What became of a test message.
    SubscriptionTest {
        /// Whether the receiver has it.
        delivered: bool,
        /// What the receiver said, or why it could not be told.
        detail: String,
    }
}

message! {
    /// One notification on its way to one receiver.
    Delivery {
        /// UUID; the same over all attempts.
        delivery_id: String,
        /// The receiver.
        subscription_id: String,
        /// The topic.
        topic_arn: String,
        /// Its subject.
        subject: String,
        /// Its text.
        message: String,
        /// The job it is about.
        job_id: String,
        /// `WAITING`, `DELIVERED` or `DEAD`.
        state: String,
        /// Attempts so far; counted anew when it is sent again.
        attempts: u32,
        /// Why the last attempt failed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        last_error: Option<String>,
        /// When it is tried next, while it waits.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        next_attempt_date: Option<EpochSeconds>,
        /// When it happened.
        creation_date: EpochSeconds,
        /// When it arrived.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        delivery_date: Option<EpochSeconds>,
    }
}

message! {
    /// A page of notifications and what became of them.
    DeliveryList {
        /// In the order they happened.
        deliveries: Vec<Delivery>,
        /// Where the next page begins.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        next_token: Option<String>,
    }
}
