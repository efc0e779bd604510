//! What negative controls answered, kept for tests with the same probes.

use provault_domain::Arn;
use provault_domain::verdict::MutantResult;
use sqlx::AnyConnection;

use crate::error::Result;
use crate::page::{Select, to_body};
use crate::pool::Catalog;

impl Catalog {
    /// The answers for this version of the resource's probes; `None` when they were never asked.
    pub async fn mutants(
        &self,
        resource_arn: &Arn,
        probe_version: &str,
    ) -> Result<Option<Vec<MutantResult>>> {
        Select::new("SELECT body FROM mutants")
            .and("resource_arn =", resource_arn)
            .and("probe_version =", probe_version)
            .one(&self.read)
            .await
    }
}

pub(crate) async fn put(
    tx: &mut AnyConnection,
    resource_arn: &Arn,
    probe_version: &str,
    results: &[MutantResult],
) -> Result<()> {
    sqlx::query(
        "INSERT INTO mutants (resource_arn, probe_version, body) VALUES ($1, $2, $3) \
         ON CONFLICT (resource_arn, probe_version) DO UPDATE SET body = excluded.body",
    )
    .bind(resource_arn.to_string())
    .bind(probe_version.to_owned())
    .bind(to_body(&results)?)
    .execute(tx)
    .await?;
    Ok(())
}
