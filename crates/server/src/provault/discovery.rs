//! What stands on the server's host.

use provault_app::{Coverage, DiscoveredView};
use provault_wire::provault as wire;

use super::{Answered, Call, invalid};
use crate::answer::Answer;
use crate::convert::epoch;

pub(super) async fn discover(call: &Call<'_>) -> Answered {
    let seconds =
        match call.query.get("seconds") {
            None => None,
            Some(text) => Some(text.parse().map_err(|_| {
                invalid(&format!("seconds: {text:?} is not a number from 1 to 45."))
            })?),
        };
    let view = Call::done(call.app.discover(call.caller, seconds).await)?;
    Answer::json(&wire::Discovery {
        found: view.found.into_iter().map(discovered).collect(),
        cut: view.cut,
        notes: view.notes,
    })
}

fn discovered(view: DiscoveredView) -> wire::Discovered {
    let found = view.found;
    let (coverage, resources) = match found.coverage {
        Coverage::Nothing => ("NOTHING", Vec::new()),
        Coverage::Registered(name) => ("REGISTERED", vec![name]),
        Coverage::Inside(name) => ("INSIDE", vec![name]),
        Coverage::Parts(names) => ("PARTS", names),
    };
    wire::Discovered {
        kind: view.kind.as_str().to_owned(),
        location: found.location,
        what: found.what,
        name: found.name,
        config: found.config,
        bytes: found.bytes,
        files: found.files,
        counted: found.counted,
        newest_date: found.newest.map(epoch),
        coverage: coverage.to_owned(),
        resources,
        exempt: view.exemption.is_some(),
        advice: found.advice,
    }
}
