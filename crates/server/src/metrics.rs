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
use tokio::task::JoinError;

use crate::answer::{Answer, refusal};
use crate::handle::home;
use crate::serve::ServerOptions;
use crate::tls::Tls;

/// What Prometheus calls the format.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

type Labels = Vec<(&'static str, String)>;
type Gauges = Family<Labels, Gauge>;

/// Answers who bears the token. With `region=` in the query the numbers are those of one region, else of all:
/// what nobody asks of a further region nobody would ever see.
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
    let asked = asked(sites, parts.uri.query().unwrap_or_default())?;
    // Side by side: disks that hang, one in each region, hold it up no longer than one of them.
    let asking: Vec<_> = asked.iter().cloned().map(|app| tokio::spawn(count(app))).collect();
    let mut regions = Vec::new();
    for counting in asking {
        let broken =
            |error: JoinError| ServiceError::new(&errors::INTERNAL_FAILURE, error.to_string());
        regions.push(counting.await.map_err(broken)??);
    }
    let whole = Whole {
        reload_failed: home(sites)?.reload_failure().is_some(),
        not_after: options.tls.as_ref().and_then(Tls::not_after),
    };
    let mut text = String::new();
    encode(&mut text, &registry(&whole, &regions))
        .map_err(|error| ServiceError::new(&errors::INTERNAL_FAILURE, error.to_string()))?;
    Ok(Answer::text(OPEN_METRICS, text))
}

/// What is known of a region.
async fn count(app: App) -> Result<Counted, ServiceError> {
    // The token is the server's own word that its bearer may see this much.
    let root = Principal::root(app.account().as_str())
        .map_err(|error| ServiceError::new(&errors::INTERNAL_FAILURE, error.to_string()))?;
    Ok(Counted {
        region: app.region().to_string(),
        status: app.status(&Caller::new(root).map_err(refusal)?).await.map_err(refusal)?,
        deliveries: app.count_deliveries().await.map_err(refusal)?,
        free_bytes: app.free_bytes().await,
        catalog_bytes: app.catalog_bytes().await,
        hung_reads: app.hung_reads(),
    })
}

/// The regions that are asked for.
fn asked<'a>(sites: &'a [App], query: &str) -> Result<&'a [App], ServiceError> {
    let wrong = |message: String| ServiceError::new(&errors::INVALID_PARAMETER_VALUE, message);
    if query.is_empty() {
        return Ok(sites);
    }
    let Some(region) = query.strip_prefix("region=") else {
        return Err(wrong(format!("metrics take region=REGION and no other query, not {query:?}")));
    };
    let found = sites.iter().position(|app| app.region().as_str() == region);
    found.map(|index| &sites[index..=index]).ok_or_else(|| {
        let regions: Vec<&str> = sites.iter().map(|app| app.region().as_str()).collect();
        wrong(format!("this server has no region {region:?}; it is {}", regions.join(" and ")))
    })
}

/// Whether two texts are the same, in a time that tells nothing of where they differ.
fn same(one: &[u8], other: &[u8]) -> bool {
    one.len() == other.len()
        && one.iter().zip(other).fold(0, |differs, (a, b)| differs | (a ^ b)) == 0
}

/// What there is of the server as a whole.
struct Whole {
    reload_failed: bool,
    not_after: Option<Timestamp>,
}

/// What there is of a region.
struct Counted {
    region: String,
    status: Status,
    deliveries: Vec<(DeliveryState, u64)>,
    free_bytes: Option<u64>,
    catalog_bytes: Option<u64>,
    hung_reads: usize,
}

fn set(gauges: &Gauges, labels: &[(&'static str, &str)], value: i64) {
    let labels: Labels = labels.iter().map(|(name, text)| (*name, (*text).to_owned())).collect();
    gauges.get_or_create(&labels).set(value);
}

fn registry(whole: &Whole, regions: &[Counted]) -> Registry {
    let mut registry = Registry::with_prefix("provault");
    let failed: Gauge = Gauge::default();
    failed.set(i64::from(whole.reload_failed));
    let help = "1 when the file of settings was to be read again and is wrong: those before hold";
    registry.register("settings_reload_failed", help, failed);
    let mut family = |name: &str, help: &str| {
        let gauges = Gauges::default();
        registry.register(name, help, gauges.clone());
        gauges
    };
    let info = family("build_info", "The program's version; always 1");
    set(&info, &[("version", env!("CARGO_PKG_VERSION"))], 1);
    if let Some(end) = whole.not_after {
        let ends = family(
            "certificate_not_after_timestamp_seconds",
            "When the certificate in use ends, in seconds since 1970",
        );
        set(&ends, &[], end.as_second());
    }
    let families = Families::made(family);
    for region in regions {
        families.fill(region);
    }
    registry
}

/// The metrics that each region has, under its name.
struct Families {
    well: Gauges,
    protection: Gauges,
    verdicts: Gauges,
    troubles: Gauges,
    newest: Gauges,
    good: Gauges,
    deliveries: Gauges,
    hung: Gauges,
    room: Gauges,
    catalog: Gauges,
    alarms: Gauges,
}

impl Families {
    fn made(mut family: impl FnMut(&str, &str) -> Gauges) -> Self {
        Self {
            well: family("well", "1 when no resource and no vault of the region has a trouble"),
            protection: family(
                "resource_protection",
                "Where the backups of a resource stand; always 1",
            ),
            verdicts: family(
                "resource_verdict",
                "The verdict on its newest recovery point; always 1",
            ),
            troubles: family("resource_troubles", "What is not as it should be, in number"),
            newest: family(
                "resource_last_backup_timestamp_seconds",
                "When its newest recovery point was captured, in seconds since 1970",
            ),
            good: family(
                "resource_last_good_backup_timestamp_seconds",
                "When its newest recovery point that is whole and not shrunk was captured, in seconds since 1970",
            ),
            deliveries: family("deliveries", "Notifications by state: WAITING, DELIVERED, DEAD"),
            hung: family("hung_reads", "Reads of sources that hang though their backups are over"),
            room: family("data_dir_free_bytes", "Room where the region's data directory lies"),
            catalog: family("catalog_bytes", "What the region's catalog takes"),
            alarms: family(
                "vault_alarm_since_timestamp_seconds",
                "An alarm of a vault that stands: since when, in seconds since 1970",
            ),
        }
    }

    fn fill(&self, counted: &Counted) {
        let at = ("region", counted.region.as_str());
        set(&self.well, &[at], i64::from(counted.status.is_well()));
        for view in &counted.status.resources {
            let name = ("resource", view.resource.name.as_str());
            set(&self.protection, &[at, name, ("protection", view.protection.as_str())], 1);
            if let Some(verdict) = view.verdict {
                set(&self.verdicts, &[at, name, ("verdict", verdict.as_str())], 1);
            }
            let troubles = i64::try_from(view.troubles.len()).unwrap_or(i64::MAX);
            set(&self.troubles, &[at, name], troubles);
            if let Some(captured) = view.last_backup_at {
                set(&self.newest, &[at, name], captured.as_second());
            }
            if let Some((_, captured)) = &view.last_good {
                set(&self.good, &[at, name], captured.as_second());
            }
        }
        for state in [DeliveryState::Waiting, DeliveryState::Delivered, DeliveryState::Dead] {
            let found = counted.deliveries.iter().find(|(of, _)| *of == state);
            let count = found.map_or(0, |(_, count)| *count);
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            set(&self.deliveries, &[at, ("state", state.as_str())], count);
        }
        let hung = i64::try_from(counted.hung_reads).unwrap_or(i64::MAX);
        set(&self.hung, &[at], hung);
        for (gauges, bytes) in
            [(&self.room, counted.free_bytes), (&self.catalog, counted.catalog_bytes)]
        {
            if let Some(bytes) = bytes {
                set(gauges, &[at], i64::try_from(bytes).unwrap_or(i64::MAX));
            }
        }
        for standing in &counted.status.alarms {
            let vault = ("vault", standing.vault_name.as_str());
            let labels = [at, vault, ("alarm", standing.alarm.as_str())];
            set(&self.alarms, &labels, standing.note.since.as_second());
        }
    }
}
