//! Answers, and how refusals become them.

use axum::body::Body;
use axum::response::Response;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::{HeaderMap, StatusCode};
use provault_app::AppError;
use provault_wire::ServiceError;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-amzn-requestid");
const ERROR_TYPE: HeaderName = HeaderName::from_static("x-amzn-errortype");

/// A successful answer before it is a response.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
    pub(crate) content_type: &'static str,
}

const JSON: &str = "application/json";

impl Answer {
    /// 200 with a JSON body.
    pub(crate) fn json(value: &impl serde::Serialize) -> Result<Self, ServiceError> {
        let body = serde_json::to_vec(value).map_err(|error| unwritable(&error))?;
        Ok(Self::of_json(200, body))
    }

    /// JSON that is there already.
    pub(crate) fn of_json(status: u16, body: Vec<u8>) -> Self {
        Self { status, body, content_type: JSON }
    }

    /// 200 with text of another type.
    pub(crate) fn text(content_type: &'static str, text: String) -> Self {
        Self { status: 200, body: text.into_bytes(), content_type }
    }
}

/// The answer has no JSON form: a fault of the server.
pub(crate) fn unwritable(error: &serde_json::Error) -> ServiceError {
    tracing::error!(%error, "an answer could not be written as JSON");
    ServiceError::new(
        &provault_wire::errors::INTERNAL_FAILURE,
        "the answer could not be written; see the server's log",
    )
}

/// The refusal of a use case as clients see it.
pub(crate) fn refusal(error: AppError) -> ServiceError {
    let mut answer = ServiceError::named(error.kind.name(), error.kind.status(), error.message);
    answer.context = error.member;
    let members = [
        ("Arn", error.arn.map(|arn| arn.to_string())),
        ("CreatorRequestId", error.creator_request_id.map(String::from)),
    ];
    answer.extra =
        members.into_iter().filter_map(|(key, value)| Some((key.into(), value?))).collect();
    answer
}

/// The response to a request.
pub(crate) fn response(
    request_id: &str,
    answer: Result<Answer, ServiceError>,
    more: HeaderMap,
) -> Response {
    let (status, body, content_type, error_type) = match answer {
        Ok(answer) => (answer.status, answer.body, answer.content_type, None),
        Err(error) => (error.status, error.to_body(), JSON, Some(error.name)),
    };
    let mut response = Response::new(Body::from(body));
    *response.status_mut() =
        StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.extend(more);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    for (name, value) in [(REQUEST_ID, Some(request_id)), (ERROR_TYPE, error_type.as_deref())] {
        if let Some(value) = value.and_then(|value| HeaderValue::from_str(value).ok()) {
            headers.insert(name, value);
        }
    }
    response
}
