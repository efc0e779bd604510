//! Evidence: every verdict, in a chain that can be verified.

use provault_domain::evidence::verify_chain;
use provault_domain::{Arn, Evidence};

use crate::{App, Caller, Result};

/// Records of the chain and whether the whole of it holds.
#[derive(Debug, Clone)]
pub struct EvidenceChain {
    /// All, or those of one resource, in order.
    pub records: Vec<Evidence>,
    /// `VERIFIED`, or where the account's chain breaks.
    pub chain: String,
}

impl App {
    /// The next records of the account's chain after the one numbered `after`, oldest first; none
    /// when there is no further one. For `provault:ListEvidence` in pieces: it verifies nothing,
    /// and who puts the pieces together does.
    pub async fn evidence_after(&self, caller: &Caller, after: i64) -> Result<Vec<Evidence>> {
        self.permit(caller, "provault:ListEvidence", "*")?;
        Ok(self.catalog().evidence_after(caller.account(), after).await?)
    }

    /// `provault:ListEvidence`, of one resource or of all. The chain is verified as a whole
    /// whatever is listed.
    pub async fn list_evidence(
        &self,
        caller: &Caller,
        resource_arn: Option<&str>,
    ) -> Result<EvidenceChain> {
        self.permit(caller, "provault:ListEvidence", "*")?;
        let wanted = resource_arn.map(str::parse::<Arn>).transpose()?;
        let all = self.catalog().list_evidence(caller.account()).await?;
        let chain = match verify_chain(&all) {
            Ok(()) => "VERIFIED".to_owned(),
            Err(broken) => format!("BROKEN: {broken}"),
        };
        let records = match wanted {
            None => all,
            Some(arn) => self.catalog().evidence_of_resource(caller.account(), &arn).await?,
        };
        Ok(EvidenceChain { records, chain })
    }
}
