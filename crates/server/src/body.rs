//! Reading a request's body.

use std::future::poll_fn;
use std::pin::Pin;
use std::time::Duration;

use axum::body::{Body, HttpBody};
use provault_wire::{ServiceError, errors};

/// How much of a body that is too long is read and thrown away before it is refused: a client that
/// is cut off while it sends sees a broken connection instead of the error.
const DRAINED: usize = 16 << 20;

/// The whole body, at most `limit` bytes.
pub(crate) async fn read(
    body: Body,
    limit: usize,
    time: Duration,
) -> Result<Vec<u8>, ServiceError> {
    tokio::time::timeout(time, collect(body, limit)).await.unwrap_or_else(|_| {
        Err(ServiceError::named(
            "RequestTimeoutException",
            408,
            format!("the body did not arrive within {} seconds; send it again", time.as_secs()),
        ))
    })
}

async fn collect(mut body: Body, limit: usize) -> Result<Vec<u8>, ServiceError> {
    let mut bytes = Vec::new();
    let mut total = 0_usize;
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        let frame = frame.map_err(|error| {
            ServiceError::new(&errors::SERIALIZATION, format!("the body broke off: {error}"))
        })?;
        let Ok(data) = frame.into_data() else { continue };
        total = total.saturating_add(data.len());
        if total <= limit {
            bytes.extend_from_slice(&data);
        } else if total > limit.saturating_add(DRAINED) {
            break;
        }
    }
    if total > limit {
        return Err(ServiceError::new(
            &errors::REQUEST_TOO_LARGE,
            format!("the body is longer than {limit} bytes, and nothing was changed; send less"),
        ));
    }
    Ok(bytes)
}
