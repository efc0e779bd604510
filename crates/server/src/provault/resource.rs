//! Registered resources.

use provault_app::{AppError, NewResource, Paging, ResourceView, RetentionUpdate};
use provault_domain::{Assertion, Probe, ServiceSpec};
use provault_wire::provault as wire;

use super::{Answered, Call};
use crate::answer::{Answer, refusal};
use crate::convert::epoch;

pub(super) async fn add(call: &Call<'_>) -> Answered {
    let input: wire::AddResourceInput = call.input()?;
    let probes = input.probes.into_iter().enumerate();
    let probes: Vec<Probe> =
        probes.map(|(index, p)| probe(index, p)).collect::<Result<_, _>>().map_err(refusal)?;
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
    let max_results = match call.query.get("maxResults") {
        None => None,
        Some(text) => Some(text.parse().map_err(|_| {
            super::invalid(&format!("maxResults: {text:?} is not a number from 1 to 1000."))
        })?),
    };
    let next_token = call.query.get("nextToken").map(str::to_owned);
    let paging = Paging { max_results, next_token };
    let listing = Call::done(call.app.list_resources(call.caller, &paging).await)?;
    let listing = listing.map(resource);
    Answer::json(&wire::ResourceList { resources: listing.items, next_token: listing.next_token })
}

pub(super) async fn describe(call: &Call<'_>, name: &str) -> Answered {
    let view = Call::done(call.app.describe_resource(call.caller, name).await)?;
    Answer::json(&resource(view))
}

pub(super) async fn tag(call: &Call<'_>, name: &str) -> Answered {
    let input: wire::ChangeTagsInput = call.input()?;
    let changed = call.app.change_resource_tags(call.caller, name, &input.set, &input.remove);
    Answer::json(&resource(Call::done(changed.await)?))
}

pub(super) async fn remove(call: &Call<'_>, name: &str) -> Answered {
    Call::nothing(call.app.remove_resource(call.caller, name).await)
}

fn service(service: wire::Service) -> ServiceSpec {
    let mut spec = ServiceSpec::new(service.command);
    spec.environment = service.environment;
    if let Some(seconds) = service.start_timeout_seconds {
        spec.start_timeout_seconds = seconds;
    }
    spec
}

/// A member that this type of probe or assertion must have.
fn part<T>(path: &str, member: &str, value: Option<T>) -> Result<T, AppError> {
    crate::convert::needed(&format!("{path}.{member}"), value)
}

/// Refuses members that this type of probe or assertion does not have.
fn foreign(path: &str, kind: &str, given: &[(&str, bool)]) -> Result<(), AppError> {
    match given.iter().find(|(_, given)| *given) {
        None => Ok(()),
        Some((member, _)) => Err(AppError::invalid(
            format!("{path}.{member}"),
            format!("what is of type {kind} has no such member; leave it out."),
        )),
    }
}

fn probe(index: usize, probe: wire::Probe) -> Result<Probe, AppError> {
    let path = format!("Probes[{index}]");
    match probe.kind.as_str() {
        "Http" => {
            let assertions = probe.assertions.into_iter().enumerate();
            let assertions = assertions
                .map(|(n, one)| assertion(&format!("{path}.Assertions[{n}]"), one))
                .collect::<Result<_, _>>()?;
            Ok(Probe::Http {
                port: part(&path, "Port", probe.port)?,
                path: part(&path, "Path", probe.path)?,
                assertions,
            })
        }
        "Files" => {
            foreign(
                &path,
                "Files",
                &[
                    ("Port", probe.port.is_some()),
                    ("Path", probe.path.is_some()),
                    ("Assertions", !probe.assertions.is_empty()),
                ],
            )?;
            Ok(Probe::Files)
        }
        other => Err(AppError::invalid(
            format!("{path}.Type"),
            format!("'{other}' is not a type of probe; use Http or Files."),
        )),
    }
}

fn assertion(path: &str, wire: wire::Assertion) -> Result<Assertion, AppError> {
    let mut given = vec![
        ("Equals", wire.equals.is_some()),
        ("Text", wire.text.is_some()),
        ("Pointer", wire.pointer.is_some()),
        ("Minimum", wire.minimum.is_some()),
        ("MaxAgeSeconds", wire.max_age_seconds.is_some()),
    ];
    let mut others = |own: &[&str]| {
        given.retain(|(member, _)| !own.contains(member));
        foreign(path, &wire.kind, &given)
    };
    match wire.kind.as_str() {
        "Status" => {
            others(&["Equals"])?;
            Ok(Assertion::Status { equals: part(path, "Equals", wire.equals)? })
        }
        "BodyContains" => {
            others(&["Text"])?;
            Ok(Assertion::BodyContains { text: part(path, "Text", wire.text)? })
        }
        "JsonAtLeast" => {
            others(&["Pointer", "Minimum"])?;
            Ok(Assertion::JsonAtLeast {
                pointer: part(path, "Pointer", wire.pointer)?,
                minimum: part(path, "Minimum", wire.minimum)?,
            })
        }
        "JsonNewerThan" => {
            others(&["Pointer", "MaxAgeSeconds"])?;
            Ok(Assertion::JsonNewerThan {
                pointer: part(path, "Pointer", wire.pointer)?,
                max_age_seconds: part(path, "MaxAgeSeconds", wire.max_age_seconds)?,
            })
        }
        other => Err(AppError::invalid(
            format!("{path}.Type"),
            format!(
                "'{other}' is not a type of assertion; use Status, BodyContains, JsonAtLeast or \
                 JsonNewerThan."
            ),
        )),
    }
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

fn wire_probe(probe: Probe) -> wire::Probe {
    match probe {
        Probe::Http { port, path, assertions } => wire::Probe {
            kind: "Http".to_owned(),
            port: Some(port),
            path: Some(path),
            assertions: assertions.into_iter().map(wire_assertion).collect(),
        },
        Probe::Files => {
            wire::Probe { kind: "Files".to_owned(), port: None, path: None, assertions: Vec::new() }
        }
    }
}

fn wire_assertion(assertion: Assertion) -> wire::Assertion {
    let bare = |kind: &str| wire::Assertion {
        kind: kind.to_owned(),
        equals: None,
        text: None,
        pointer: None,
        minimum: None,
        max_age_seconds: None,
    };
    match assertion {
        Assertion::Status { equals } => wire::Assertion { equals: Some(equals), ..bare("Status") },
        Assertion::BodyContains { text } => {
            wire::Assertion { text: Some(text), ..bare("BodyContains") }
        }
        Assertion::JsonAtLeast { pointer, minimum } => wire::Assertion {
            pointer: Some(pointer),
            minimum: Some(minimum),
            ..bare("JsonAtLeast")
        },
        Assertion::JsonNewerThan { pointer, max_age_seconds } => wire::Assertion {
            pointer: Some(pointer),
            max_age_seconds: Some(max_age_seconds),
            ..bare("JsonNewerThan")
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Probe, AppError> {
        probe(0, serde_json::from_str(json).unwrap())
    }

    #[test]
    fn every_probe_comes_back_as_it_was_written() {
        let json = r#"{"Type":"Http","Port":8080,"Path":"/","Assertions":[
            {"Type":"Status","Equals":200},{"Type":"BodyContains","Text":"x"},
            {"Type":"JsonAtLeast","Pointer":"/rows","Minimum":3},
            {"Type":"JsonNewerThan","Pointer":"/newest","MaxAgeSeconds":60}]}"#;
        let written: wire::Probe = serde_json::from_str(json).unwrap();
        assert_eq!(wire_probe(read(json).unwrap()), written);
        assert_eq!(read(r#"{"Type":"Files"}"#).unwrap(), Probe::Files);
    }

    #[test]
    fn a_member_that_is_missing_or_of_another_type_is_named() {
        for (json, member) in [
            (r#"{"Type":"Tcp"}"#, "Probes[0].Type"),
            (r#"{"Type":"Http","Path":"/"}"#, "Probes[0].Port"),
            (r#"{"Type":"Files","Port":1}"#, "Probes[0].Port"),
            (
                r#"{"Type":"Http","Port":1,"Path":"/","Assertions":[{"Type":"Status"}]}"#,
                "Probes[0].Assertions[0].Equals",
            ),
            (
                r#"{"Type":"Http","Port":1,"Path":"/",
                    "Assertions":[{"Type":"Status","Equals":200,"Text":"x"}]}"#,
                "Probes[0].Assertions[0].Text",
            ),
        ] {
            assert_eq!(read(json).unwrap_err().member.as_deref(), Some(member), "{json}");
        }
    }
}
