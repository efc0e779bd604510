//! What is on record about the protection of resources, for many of them at once: whoever looks after all
//! resources as time passes must not ask for each.

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;
use provault_domain::recovery_point::{PointVerdict, present};
use provault_domain::{AccountId, Arn, RecoveryPoint, ResourceTrouble, RestoreTest};
use sqlx::Row;
use sqlx::any::AnyRow;

use crate::error::Result;
use crate::job::Job;
use crate::page::{Select, from_body};
use crate::pool::Catalog;
use crate::{CatalogError, absence};

/// What is on record about a resource.
#[derive(Debug, Clone, Default)]
pub struct OnRecord {
    /// The restorable recovery point whose data is newest, of those that are not from the future.
    pub newest: Option<RecoveryPoint>,
    /// The restorable recovery point that says to be captured last, when that is yet to come.
    pub future: Option<RecoveryPoint>,
    /// What the newest restore test said that has ended, of whatever recovery point, or of none where it
    /// found none. A verdict from the future does not count, nor does the record of a point that was left
    /// out on purpose. Asked of the jobs, whose rows stay when recovery points go.
    pub last_test: Option<PointVerdict>,
    /// The alarms about it.
    pub alarms: StandingAlarms,
}

/// The alarms that stand about a resource, and whether anybody was told of each.
#[derive(Debug, Clone, Default)]
pub struct StandingAlarms(BTreeMap<String, bool>);

impl StandingAlarms {
    /// Whether these are the troubles, and somebody was told of each.
    pub fn are_told(&self, troubles: &[(ResourceTrouble, String)]) -> bool {
        let told = |trouble: &ResourceTrouble| self.0.get(trouble.as_str()) == Some(&true);
        self.0.len() == troubles.len() && troubles.iter().all(|(trouble, _)| told(trouble))
    }
}

/// `$1` is the present, `$2` the type of restore tests. The condition on a test's document holds as no other
/// member of it has this name and value.
const ON_RECORD: &str = "SELECT r.arn, \
    (SELECT p.body FROM recovery_points p WHERE p.account = r.account \
        AND p.resource_arn = r.arn AND p.status <> 'DELETING' AND p.captured_at <= $1 \
        ORDER BY p.captured_at DESC, p.arn DESC LIMIT 1) AS newest, \
    (SELECT p.body FROM recovery_points p WHERE p.account = r.account \
        AND p.resource_arn = r.arn AND p.status <> 'DELETING' AND p.captured_at > $1 \
        ORDER BY p.captured_at DESC, p.arn DESC LIMIT 1) AS future, \
    (SELECT j.body FROM jobs j WHERE j.type = $2 AND j.account = r.account \
        AND j.resource_arn = r.arn AND j.completed_at <= $1 \
        AND j.body NOT LIKE '%\"verdict\":\"NOT_TESTED\"%' \
        ORDER BY j.completed_at DESC LIMIT 1) AS tested \
    FROM resources r";

impl Catalog {
    /// What is on record at `now` about some of an account's resources; of each, since one that cannot be
    /// read must not hold up the others. None is asked for: none is there.
    pub async fn on_record(
        &self,
        account: &AccountId,
        resources: &[Arn],
        now: Timestamp,
    ) -> Result<HashMap<Arn, Result<OnRecord>>> {
        let names: Vec<String> = resources.iter().map(Arn::to_string).collect();
        if names.is_empty() {
            return Ok(HashMap::new());
        }
        let rows = Select::new(ON_RECORD)
            .given(present(now))
            .given(RestoreTest::TYPE)
            .and("r.account =", account)
            .and_in("r.arn", &names)
            .rows(&self.read)
            .await?;
        let mut alarms = absence::alarms(&self.read, &names).await?;
        let mut all = HashMap::with_capacity(rows.len());
        for row in &rows {
            let name: String = row.try_get("arn")?;
            let arn: Arn = name.parse().map_err(|why: provault_domain::Invalid| {
                CatalogError::Corrupt { what: format!("the ARN {name}"), message: why.message }
            })?;
            let alarms = StandingAlarms(alarms.remove(&name).unwrap_or_default());
            all.insert(arn, read(row).map(|record| OnRecord { alarms, ..record }));
        }
        Ok(all)
    }
}

fn read(row: &AnyRow) -> Result<OnRecord> {
    let member = |column| row.try_get::<Option<String>, _>(column);
    let point = |column| member(column)?.as_deref().map(from_body).transpose();
    let test: Option<RestoreTest> = member("tested")?.as_deref().map(from_body).transpose()?;
    let last_test = test.and_then(|test| {
        let (verdict, at) = (test.verdict?, test.completed_at?);
        Some(PointVerdict::of(verdict, &test.id, at))
    });
    Ok(OnRecord {
        newest: point("newest")?,
        future: point("future")?,
        last_test,
        alarms: StandingAlarms::default(),
    })
}
