//! Registered resources.

use provault_app::{AppError, NewResource, ResourceUpdate, ResourceView, RetentionUpdate};
use provault_domain::{Invalid, Probe, ServiceSpec};
use provault_wire::provault as wire;

use super::probe::{probe, wire_probe};
use super::{Answered, Call};
use crate::answer::{Answer, refusal};
use crate::convert::epoch;

pub(super) async fn add(call: &Call<'_>) -> Answered {
    let input: wire::AddResourceInput = call.input()?;
    let probes = probes(input.probes).map_err(refusal)?;
    let new = NewResource {
        kind: input.kind,
        name: input.name,
        config: input.config,
        tags: input.tags,
        service: input.service.map(service),
        probes,
        rpo_seconds: input.rpo_seconds,
        rto_seconds: input.rto_seconds,
        test_after_backup: input.test_after_backup,
        retention: RetentionUpdate {
            shrink_alarm_percent: input.shrink_alarm_percent,
            keep_at_most: input.keep_at_most,
        },
    };
    let view = Call::done(call.app.add_resource(call.caller, new).await)?;
    Answer::json(&resource(view))
}

pub(super) async fn list(call: &Call<'_>) -> Answered {
    let paging = call.paging()?;
    let listing = Call::done(call.app.list_resources(call.caller, &paging).await)?;
    let listing = listing.map(resource);
    Answer::json(&wire::ResourceList { resources: listing.items, next_token: listing.next_token })
}

pub(super) async fn describe(call: &Call<'_>, name: &str) -> Answered {
    let view = Call::done(call.app.describe_resource(call.caller, name).await)?;
    Answer::json(&resource(view))
}

pub(super) async fn update(call: &Call<'_>, name: &str) -> Answered {
    let input: wire::UpdateResourceInput = call.input()?;
    let service = match (input.service, input.remove_service.unwrap_or(false)) {
        (Some(_), true) => {
            let why = "it cannot be set and removed at once; leave one of the two out.";
            return Err(refusal(Invalid::new("RemoveService", why).into()));
        }
        (Some(new), false) => Some(Some(service(new))),
        (None, true) => Some(None),
        (None, false) => None,
    };
    let or_none = |seconds: u64| (seconds > 0).then_some(seconds);
    let update = ResourceUpdate {
        name: input.name,
        service,
        probes: input.probes.map(probes).transpose().map_err(refusal)?,
        rpo_seconds: input.rpo_seconds.map(or_none),
        rto_seconds: input.rto_seconds.map(or_none),
    };
    let updated = call.app.update_resource(call.caller, name, update).await;
    Answer::json(&resource(Call::done(updated)?))
}

pub(super) async fn tag(call: &Call<'_>, name: &str) -> Answered {
    let input: wire::ChangeTagsInput = call.input()?;
    let changed = call.app.change_resource_tags(call.caller, name, &input.set, &input.remove);
    Answer::json(&resource(Call::done(changed.await)?))
}

pub(super) async fn remove(call: &Call<'_>, name: &str) -> Answered {
    Call::nothing(call.app.remove_resource(call.caller, name).await)
}

fn probes(given: Vec<wire::Probe>) -> Result<Vec<Probe>, AppError> {
    given.into_iter().enumerate().map(|(index, one)| probe(index, one)).collect()
}

fn service(service: wire::Service) -> ServiceSpec {
    let mut spec = ServiceSpec::new(service.command);
    spec.environment = service.environment;
    if let Some(seconds) = service.start_timeout_seconds {
        spec.start_timeout_seconds = seconds;
    }
    spec
}

pub(super) fn resource(view: ResourceView) -> wire::Resource {
    let resource = view.resource;
    wire::Resource {
        resource_arn: resource.arn.to_string(),
        kind: resource.kind.as_str().to_owned(),
        resource_type: resource.kind.resource_type().to_owned(),
        name: resource.name,
        config: resource.config,
        tags: resource.tags,
        service: resource.service.map(|spec| wire::Service {
            command: spec.command,
            environment: spec.environment,
            start_timeout_seconds: Some(spec.start_timeout_seconds),
        }),
        probes: resource.probes.into_iter().map(wire_probe).collect(),
        rpo_seconds: resource.rpo_seconds,
        rto_seconds: resource.rto_seconds,
        test_after_backup: resource.testing.as_ref().is_some_and(|said| said.enabled),
        testing: resource.testing.as_ref().map(super::testing::testing),
        left_out: view.left_out,
        shrink_alarm_percent: resource.retention.shrink_alarm_percent,
        keep_at_most: resource.retention.keep_at_most,
        creation_date: epoch(resource.created_at),
        imported: resource.imported,
        last_backup_time: view.last_backup_at.map(epoch),
        verdict: view.verdict.map(|verdict| verdict.to_string()),
        protection: view.protection.to_string(),
        troubles: view.troubles.into_iter().map(super::status::trouble).collect(),
        exemption: view.exemption.map(super::status::exemption),
        shrunk: view.shrunk,
        last_good_recovery_point_arn: view.last_good.as_ref().map(|(arn, _)| arn.to_string()),
        last_good_backup_time: view.last_good.map(|(_, at)| epoch(at)),
    }
}
