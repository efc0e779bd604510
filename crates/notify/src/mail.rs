//! How a message becomes an e-mail.

use std::time::SystemTime;

use jiff::Timestamp;
use lettre::Address;
use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::message::{Mailbox, Message as Mail};

use crate::{DeliveryContext, DeliveryError, Message};

/// The whole RFC 5322 message; the same bytes every time for the same delivery.
pub(crate) fn compose(
    from: &str,
    to: &str,
    message: &Message,
    context: &DeliveryContext,
) -> Result<Mail, DeliveryError> {
    let address = |text: &str| {
        text.parse::<Address>().map(|address| Mailbox::new(None, address)).map_err(|error| {
            DeliveryError::never(format!(
                "'{}' is not an e-mail address ({error}): change the subscription.",
                text.escape_debug()
            ))
        })
    };
    // A mail's date cannot lie before 1970; an event's can only by a broken clock.
    let date = SystemTime::from(context.at.max(Timestamp::UNIX_EPOCH));
    let account = HeaderName::new_from_ascii_str("X-Provault-Account");
    Mail::builder()
        .from(address(from)?)
        .to(address(to)?)
        .subject(message.subject.replace(char::is_control, " "))
        .date(date)
        .message_id(Some(format!("<{}@provault.localhost>", context.delivery_id)))
        .raw_header(HeaderValue::new(account, context.account.to_string()))
        .header(ContentType::TEXT_PLAIN)
        .body(message.text.clone() + "\n")
        .map_err(|error| DeliveryError::never(format!("the e-mail cannot be composed: {error}.")))
}
