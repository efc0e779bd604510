//! Metrics for Prometheus: what the status says, as numbers.
//!
//! Nothing is counted while the server works: every number is read when it is asked, all but one from the catalog, so
//! that it is right after any crash.

use http::header::AUTHORIZATION;
use http::request::Parts;
use jiff::Timestamp;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use provault_app::{App, Caller, DeliveryState, Status};
use provault_iam::Principal;
use provault_wire::{ServiceError, errors};

use crate::answer::{Answer, refusal};
use crate::handle::home;
use crate::serve::ServerOptions;
use crate::tls::Tls;

/// What Prometheus calls the format.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

type Labels = Vec<(&'static str, String)>;
type Gauges = Family<Labels, Gauge>;

/// Answers who bears the token. Without `region=` in the query the numbers are the first region's.
pub(crate) async fn answer(
    sites: &[App],
    options: &ServerOptions,
    parts: &Parts,
) -> Result<Answer, ServiceError> {
    let given = parts.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let given = given.and_then(|text| text.strip_prefix("Bearer "));
    let known = match (options.metrics_token.as_deref(), given) {
        (Some(token), Some(given)) => same(token.as_bytes(), given.trim().as_bytes()),
        _ => false,
    };
    if !known {
        return Err(ServiceError::named(
            "AccessDeniedException",
            403,
            "metrics are for who bears the token in DIR/metrics-token (Authorization: Bearer TOKEN)",
        ));
    }
    if parts.method != http::Method::GET {
        return Err(ServiceError::new(&errors::UNKNOWN_OPERATION, "metrics are read with GET"));
    }
    let app = site(sites, parts.uri.query().unwrap_or_default())?;
    // The token is the server's own word that its bearer may see this much.
    let root = Principal::root(app.account().as_str())
        .map_err(|error| ServiceError::new(&errors::INTERNAL_FAILURE, error.to_string()))?;
    let status = app.status(&Caller::new(root).map_err(refusal)?).await.map_err(refusal)?;
    let counted = Counted {
        deliveries: app.count_deliveries().await.map_err(refusal)?,
        free_bytes: app.free_bytes().await,
        hung_reads: app.hung_reads(),
        not_after: options.tls.as_ref().and_then(Tls::not_after),
    };
    let mut text = String::new();
    let reload_failed = app.home().reload_failure().is_some();
    encode(&mut text, &registry(&status, &counted, reload_failed))
        .map_err(|error| ServiceError::new(&errors::INTERNAL_FAILURE, error.to_string()))?;
    Ok(Answer::text(OPEN_METRICS, text))
}

/// The region that is asked for.
fn site<'a>(sites: &'a [App], query: &str) -> Result<&'a App, ServiceError> {
    let wrong = |message: String| ServiceError::new(&errors::INVALID_PARAMETER_VALUE, message);
    if query.is_empty() {
        return home(sites);
    }
    let Some(region) = query.strip_prefix("region=") else {
        return Err(wrong(format!("metrics take region=REGION and no other query, not {query:?}")));
    };
    sites.iter().find(|app| app.region().as_str() == region).ok_or_else(|| {
        let regions: Vec<&str> = sites.iter().map(|app| app.region().as_str()).collect();
        wrong(format!("this server has no region {region:?}; it is {}", regions.join(" and ")))
    })
}

/// Whether two texts are the same, in a time that tells nothing of where they differ.
fn same(one: &[u8], other: &[u8]) -> bool {
    one.len() == other.len()
        && one.iter().zip(other).fold(0, |differs, (a, b)| differs | (a ^ b)) == 0
}

/// What the status does not hold.
struct Counted {
    deliveries: Vec<(DeliveryState, u64)>,
    free_bytes: Option<u64>,
    hung_reads: usize,
    not_after: Option<Timestamp>,
}

fn registry(status: &Status, counted: &Counted, reload_failed: bool) -> Registry {
    let mut registry = Registry::with_prefix("provault");
    let well: Gauge = Gauge::default();
    well.set(i64::from(status.is_well()));
    registry.register("well", "1 when no resource and no vault has a trouble", well);
    let failed: Gauge = Gauge::default();
    failed.set(i64::from(reload_failed));
    let help = "1 when the file of settings was to be read again and is wrong: those before hold";
    registry.register("settings_reload_failed", help, failed);
    let mut family = |name: &str, help: &str| {
        let gauges = Gauges::default();
        registry.register(name, help, gauges.clone());
        gauges
    };
    let set = |gauges: &Gauges, labels: &[(&'static str, &str)], value: i64| {
        let labels: Labels =
            labels.iter().map(|(name, text)| (*name, (*text).to_owned())).collect();
        gauges.get_or_create(&labels).set(value);
    };

    let info = family("build_info", "The program's version; always 1");
    set(&info, &[("version", env!("CARGO_PKG_VERSION"))], 1);
    let protection =
        family("resource_protection", "Where the backups of a resource stand; always 1");
    let verdicts = family("resource_verdict", "The verdict on its newest recovery point; always 1");
    let troubles = family("resource_troubles", "What is not as it should be, in number");
    let newest = family(
        "resource_last_backup_timestamp_seconds",
        "When its newest recovery point was captured, in seconds since 1970",
    );
    let good = family(
        "resource_last_good_backup_timestamp_seconds",
        "When its newest recovery point that is whole and not shrunk was captured, in seconds since 1970",
    );
    for view in &status.resources {
        let name = ("resource", view.resource.name.as_str());
        set(&protection, &[name, ("protection", view.protection.as_str())], 1);
        if let Some(verdict) = view.verdict {
            set(&verdicts, &[name, ("verdict", verdict.as_str())], 1);
        }
        set(&troubles, &[name], i64::try_from(view.troubles.len()).unwrap_or(i64::MAX));
        if let Some(at) = view.last_backup_at {
            set(&newest, &[name], at.as_second());
        }
        if let Some((_, at)) = &view.last_good {
            set(&good, &[name], at.as_second());
        }
    }
    let deliveries = family("deliveries", "Notifications by state: WAITING, DELIVERED, DEAD");
    for state in [DeliveryState::Waiting, DeliveryState::Delivered, DeliveryState::Dead] {
        let count = counted.deliveries.iter().find(|(of, _)| *of == state).map_or(0, |(_, n)| *n);
        let state = [("state", state.as_str())];
        set(&deliveries, &state, i64::try_from(count).unwrap_or(i64::MAX));
    }
    let hung = family("hung_reads", "Reads of sources that hang though their backups are over");
    set(&hung, &[], i64::try_from(counted.hung_reads).unwrap_or(i64::MAX));
    if let Some(free) = counted.free_bytes {
        let room = family("data_dir_free_bytes", "Room where the data directory lies");
        set(&room, &[], i64::try_from(free).unwrap_or(i64::MAX));
    }
    if let Some(end) = counted.not_after {
        let ends = family(
            "certificate_not_after_timestamp_seconds",
            "When the certificate in use ends, in seconds since 1970",
        );
        set(&ends, &[], end.as_second());
    }
    let alarms = family(
        "vault_alarm_since_timestamp_seconds",
        "An alarm of a vault that stands: since when, in seconds since 1970",
    );
    for standing in &status.alarms {
        let labels = [("vault", standing.vault_name.as_str()), ("alarm", standing.alarm.as_str())];
        set(&alarms, &labels, standing.note.since.as_second());
    }
    registry
}
