//! One request, from head to answer.

use std::future::Future;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::Request;
use axum::response::Response;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, header};
use provault_app::{App, Caller};
use provault_iam::{AuthError, SignedRequest, normalize_path, verify};
use provault_wire::{RouteError, ServiceError, errors, match_route};
use tracing::Instrument;
use tracing::field::Empty;

use crate::answer::{Answer, refusal, response};
use crate::serve::Shared;
use crate::strangers::Stranger;
use crate::{body, dispatch, metrics, provault, refusals};

/// What may be asked without a signature.
const HEALTH: &str = "/provault/v1/health";
/// Our own operations, described for tools; asked without a signature, since it is no secret.
const OPEN_API: &str = "/provault/v1/openapi.json";
const DESCRIPTION: &[u8] = include_bytes!("../../../docs/openapi.json");
/// The same, and says whether the server can work.
const READY: &str = "/provault/v1/ready";
/// What is asked with a token of its own, because no collector signs.
const METRICS: &str = "/provault/v1/metrics";

/// Answers a request, whatever happens while it is handled.
pub(crate) async fn request(shared: Shared, request: Request) -> Response {
    let request_id = uuid::Uuid::new_v4().to_string();
    let span = tracing::info_span!(
        "request",
        request_id,
        method = %request.method(),
        operation = Empty,
        status = Empty,
        error = Empty,
    );
    let id = request_id.clone();
    let work = async move {
        let mut more = HeaderMap::new();
        let answer = answer(&shared, request, &mut more).await;
        let span = tracing::Span::current();
        match &answer {
            Ok(answer) => {
                span.record("status", answer.status);
            }
            Err(error) => {
                span.record("status", error.status).record("error", error.name.as_ref());
            }
        }
        tracing::debug!("answered");
        response(&id, answer, more)
    };
    guarded(&request_id, span, work).await
}

/// Runs a handler as a task of its own: it ends even when its client goes away, and its panic ends
/// nothing else.
async fn guarded(
    request_id: &str,
    span: tracing::Span,
    work: impl Future<Output = Response> + Send + 'static,
) -> Response {
    match tokio::spawn(work.instrument(span.clone())).await {
        Ok(response) => response,
        Err(error) => {
            let _entered = span.enter();
            tracing::error!(%error, "a request's handler broke down");
            let error = ServiceError::new(
                &errors::SERVICE_UNAVAILABLE,
                format!(
                    "the server failed while handling the request {request_id}; its log says why. \
                     Look at what is there before you try again."
                ),
            );
            response(request_id, Err(error), HeaderMap::new())
        }
    }
}

async fn answer(
    shared: &Shared,
    request: Request,
    more: &mut HeaderMap,
) -> Result<Answer, ServiceError> {
    let (parts, body) = request.into_parts();
    if parts.method == Method::GET && parts.uri.path() == HEALTH {
        return Answer::json(&serde_json::json!({ "Status": "ok" }));
    }
    if parts.method == Method::GET && parts.uri.path() == OPEN_API {
        return Ok(Answer::of_json(200, DESCRIPTION.to_vec()));
    }
    if parts.method == Method::GET && parts.uri.path() == READY {
        return shared.readiness.answer(&shared.sites).await;
    }
    let options = &shared.options;
    if parts.uri.path() == METRICS {
        return metrics::answer(&shared.sites, options, &parts).await;
    }
    let body = body::read(body, options.max_body_bytes, options.body_timeout).await?;
    let (app, caller) = authenticate(shared, &parts, &body)?;
    let raw_path = parts.uri.path();
    let raw_query = parts.uri.query().unwrap_or_default();
    // The signature covers the normal form of the path. What is routed must be what was signed.
    if normalize_path(raw_path) != raw_path {
        return Err(ServiceError::new(
            &errors::UNKNOWN_OPERATION,
            "the path holds empty or dot segments; send it in its normal form",
        ));
    }
    let method = parts.method.as_str();
    if let Some(path) = raw_path.strip_prefix(provault_wire::provault::PREFIX)
        && (path.is_empty() || path.starts_with('/'))
    {
        let asked = provault::Asked { method, path, raw_query, body: &body };
        return provault::answer(app, options.tls.as_ref(), &caller, asked).await;
    }
    let route = match_route(method, raw_path, raw_query).map_err(|error| {
        if let RouteError::WrongMethod { allowed, .. } = &error
            && let Ok(value) = HeaderValue::from_str(&allowed.join(", "))
        {
            more.insert(header::ALLOW, value);
        }
        ServiceError::from(error)
    })?;
    tracing::Span::current().record("operation", route.operation.name());
    let call = dispatch::Call { app, caller: &caller, route, raw_query, body: &body };
    dispatch::dispatch(call).await
}

/// The region that the request was signed for, and who signed it.
fn authenticate<'a>(
    shared: &'a Shared,
    parts: &Parts,
    body: &[u8],
) -> Result<(&'a App, Caller), ServiceError> {
    let sites = shared.sites.as_slice();
    let home = home(sites)?;
    let signed = SignedRequest {
        method: &parts.method,
        raw_path: parts.uri.path(),
        raw_query: parts.uri.query().unwrap_or_default(),
        headers: &parts.headers,
        body,
    };
    let stranger = parts.extensions.get::<Arc<Stranger>>();
    let verified = verify(&signed, |id| home.access_key(id), home.now()).map_err(|error| {
        let key_id = refusals::key_id(parts);
        if let Some(since) = shared.refusals.note(&key_id, Instant::now()) {
            tracing::warn!(
                key_id,
                from = stranger.map(|stranger| stranger.address().to_string()),
                %error,
                refused_since_last_told = since,
                "a request was refused: its signature is not good"
            );
        }
        denied(&error)
    })?;
    if let Some(stranger) = stranger {
        stranger.is_known();
    }
    home.access_key_was_used(&verified.access_key_id);
    let Some(app) = sites.iter().find(|app| app.region().as_str() == verified.region) else {
        let regions: Vec<&str> = sites.iter().map(|app| app.region().as_str()).collect();
        return Err(ServiceError::named(
            "InvalidSignatureException",
            403,
            format!(
                "Credential should be scoped to a valid region: this server is {}, the request was \
                 signed for {}; set AWS_REGION={}",
                regions.join(" and "),
                verified.region,
                home.region()
            ),
        ));
    };
    let caller = Caller::new(verified.principal).map_err(refusal)?;
    Ok((app, caller.with_key(verified.access_key_id)))
}

/// The first region of the server.
pub(crate) fn home(sites: &[App]) -> Result<&App, ServiceError> {
    let none = || ServiceError::new(&errors::INTERNAL_FAILURE, "this server has no region");
    sites.first().ok_or_else(none)
}

fn denied(error: &AuthError) -> ServiceError {
    ServiceError::named(error.code(), error.status().as_u16(), error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_an_error_like_any_other() {
        let work = async { panic!("on purpose") };
        let response = guarded("the-id", tracing::Span::none(), work).await;
        assert_eq!(response.status(), 500);
        assert_eq!(response.headers()["x-amzn-errortype"], "ServiceUnavailableException");
        assert_eq!(response.headers()["x-amzn-requestid"], "the-id");
    }
}
