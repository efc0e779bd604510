//! Whether all is well.

use jiff::{SignedDuration, Timestamp};
use provault_app::{Finding, Level, NewExemption, ResourceView, StandingAlarm};
use provault_domain::{DoctorCheck, Exemption, ResourceTrouble};
use provault_wire::provault as wire;

use super::{Answered, Call};
use crate::answer::Answer;
use crate::convert::epoch;
use crate::tls::Tls;

/// Programs that renew certificates have done it by then: 14 days before the end.
const RENEW_WITHIN: SignedDuration = SignedDuration::from_hours(14 * 24);

pub(super) async fn describe(call: &Call<'_>) -> Answered {
    let status = Call::done(call.app.status(call.caller).await)?;
    Answer::json(&wire::Status {
        time: epoch(status.at),
        well: status.is_well(),
        resources: status.resources.into_iter().map(resource).collect(),
        alarms: status.alarms.into_iter().map(alarm).collect(),
    })
}

pub(super) async fn doctor(call: &Call<'_>) -> Answered {
    let mut findings = Call::done(call.app.doctor(call.caller).await)?;
    findings.extend(call.tls.into_iter().flat_map(|tls| certificate(tls, call.app.now())));
    let worst = findings.iter().map(|finding| finding.level).max().unwrap_or(Level::Fine);
    let finding = |finding: Finding| wire::Finding {
        check: finding.check,
        state: finding.level.as_str().to_owned(),
        detail: finding.detail,
    };
    Answer::json(&wire::Health {
        state: worst.as_str().to_owned(),
        findings: findings.into_iter().map(finding).collect(),
    })
}

/// The certificate in use, and one that should be and is not.
fn certificate(tls: &Tls, now: Timestamp) -> Vec<Finding> {
    let finding = |level, detail: String| Finding::new(DoctorCheck::Certificate, level, detail);
    let mut findings = Vec::new();
    if let Some(trouble) = tls.trouble() {
        findings.push(finding(
            Level::Failed,
            format!("the renewed one is of no use, the one before is still in use: {trouble}"),
        ));
    }
    findings.push(match tls.not_after() {
        None => finding(Level::Warning, "when it ends cannot be read".to_owned()),
        Some(end) if end <= now => {
            finding(Level::Failed, format!("it ended at {end}: clients refuse it; renew it"))
        }
        Some(end) if end.duration_since(now) < RENEW_WITHIN => {
            finding(Level::Warning, format!("it ends at {end}; renew it"))
        }
        Some(end) => finding(Level::Fine, format!("it is good until {end}")),
    });
    findings
}

fn resource(view: ResourceView) -> wire::ResourceStatus {
    wire::ResourceStatus {
        resource_arn: view.resource.arn.to_string(),
        name: view.resource.name,
        protection: view.protection.to_string(),
        verdict: view.verdict.map(|verdict| verdict.to_string()),
        last_backup_time: view.last_backup_at.map(epoch),
        troubles: view.troubles.into_iter().map(trouble).collect(),
        exemption: view.exemption.map(exemption),
        left_out: view.left_out,
    }
}

pub(super) fn trouble((kind, reason): (ResourceTrouble, String)) -> wire::Trouble {
    wire::Trouble { kind: kind.to_string(), reason }
}

pub(super) fn exemption(exemption: Exemption) -> wire::Exemption {
    wire::Exemption {
        reason: exemption.reason,
        owner: exemption.owner,
        end_date: epoch(exemption.until),
        creation_date: epoch(exemption.created_at),
    }
}

pub(super) async fn exempt(call: &Call<'_>, name: &str) -> Answered {
    let input: wire::ExemptResourceInput = call.input()?;
    // What is too large for the type saturates, and no such time exists.
    #[allow(clippy::cast_possible_truncation)]
    let millis = (input.end_date * 1000.0) as i64;
    let until = Timestamp::from_millisecond(millis)
        .map_err(|_| super::invalid("EndDate: there is no such time; give seconds since 1970."))?;
    let new = NewExemption { reason: input.reason, owner: input.owner, until };
    let view = Call::done(call.app.exempt_resource(call.caller, name, new).await)?;
    Answer::json(&super::resource::resource(view))
}

pub(super) async fn end_exemption(call: &Call<'_>, name: &str) -> Answered {
    let view = Call::done(call.app.end_exemption(call.caller, name).await)?;
    Answer::json(&super::resource::resource(view))
}

fn alarm(standing: StandingAlarm) -> wire::StandingAlarm {
    wire::StandingAlarm {
        backup_vault_name: standing.vault_name,
        alarm: standing.alarm.to_string(),
        since: epoch(standing.note.since),
        message: standing.note.message,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::TlsFiles;

    #[test]
    fn a_certificate_that_ends_and_one_of_no_use_are_found() {
        let directory = tempfile::tempdir().unwrap();
        let files = TlsFiles {
            certificate: directory.path().join("pair.pem"),
            key: directory.path().join("pair.key"),
        };
        let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(2031, 2, 3);
        let key = rcgen::KeyPair::generate().unwrap();
        std::fs::write(&files.certificate, params.self_signed(&key).unwrap().pem()).unwrap();
        std::fs::write(&files.key, key.serialize_pem()).unwrap();
        let tls = Tls::load(files.clone()).unwrap();
        let levels = |now: &str| {
            let found = certificate(&tls, now.parse().unwrap());
            found.into_iter().map(|finding| finding.level).collect::<Vec<_>>()
        };
        assert_eq!(levels("2031-01-19T23:59:59Z"), [Level::Fine]);
        assert_eq!(levels("2031-01-20T00:00:01Z"), [Level::Warning]);
        assert_eq!(levels("2031-02-03T00:00:00Z"), [Level::Failed]);
        std::fs::write(&files.certificate, "renewed, badly").unwrap();
        tls.reload().unwrap_err();
        assert_eq!(levels("2031-01-01T00:00:00Z"), [Level::Failed, Level::Fine]);
    }
}
