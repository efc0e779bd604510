//! Probes of restore tests, as they are registered with a resource and shown with it.

use provault_app::AppError;
use provault_domain::probe::{default_command_timeout, default_listen_timeout};
use provault_domain::{Assertion, Probe};
use provault_wire::provault as wire;

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

/// The probe with this index among those of a resource.
pub(super) fn probe(index: usize, probe: wire::Probe) -> Result<Probe, AppError> {
    let path = format!("Probes[{index}]");
    let mut given = vec![
        ("Port", probe.port.is_some()),
        ("Path", probe.path.is_some()),
        ("Send", probe.send.is_some()),
        ("SendHex", probe.send_hex.is_some()),
        ("Command", probe.command.is_some()),
        ("TimeoutSeconds", probe.timeout_seconds.is_some()),
        ("Assertions", !probe.assertions.is_empty()),
    ];
    let mut others = |own: &[&str]| {
        given.retain(|(member, _)| !own.contains(member));
        foreign(&path, &probe.kind, &given)
    };
    let assertions = |list: Vec<wire::Assertion>| -> Result<Vec<Assertion>, AppError> {
        let list = list.into_iter().enumerate();
        list.map(|(n, one)| assertion(&format!("{path}.Assertions[{n}]"), one)).collect()
    };
    match probe.kind.as_str() {
        "Http" => {
            others(&["Port", "Path", "Assertions"])?;
            Ok(Probe::Http {
                port: part(&path, "Port", probe.port)?,
                path: part(&path, "Path", probe.path)?,
                assertions: assertions(probe.assertions)?,
            })
        }
        "Tcp" => {
            others(&["Port", "Send", "SendHex", "TimeoutSeconds", "Assertions"])?;
            Ok(Probe::Tcp {
                port: part(&path, "Port", probe.port)?,
                send: send(&path, probe.send, probe.send_hex)?,
                assertions: assertions(probe.assertions)?,
                timeout_seconds: probe.timeout_seconds.unwrap_or_else(default_listen_timeout),
            })
        }
        "Command" => {
            others(&["Command", "TimeoutSeconds", "Assertions"])?;
            Ok(Probe::Command {
                command: part(&path, "Command", probe.command)?,
                assertions: assertions(probe.assertions)?,
                timeout_seconds: probe.timeout_seconds.unwrap_or_else(default_command_timeout),
            })
        }
        "Files" => {
            others(&[])?;
            Ok(Probe::Files)
        }
        other => Err(AppError::invalid(
            format!("{path}.Type"),
            format!("'{other}' is not a type of probe; use Http, Tcp, Command or Files."),
        )),
    }
}

fn send(path: &str, text: Option<String>, hex: Option<String>) -> Result<Vec<u8>, AppError> {
    let wrong = |why: &str| Err(AppError::invalid(format!("{path}.SendHex"), why));
    match (text, hex) {
        (Some(_), Some(_)) => wrong("Send says it already; leave one of the two out."),
        (Some(text), None) => Ok(text.into_bytes()),
        (None, Some(digits)) => match bytes(&digits) {
            Some(bytes) => Ok(bytes),
            None => wrong("it must be pairs of hexadecimal digits, such as 50494e470d0a."),
        },
        (None, None) => Ok(Vec::new()),
    }
}

fn bytes(digits: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|d| u8::try_from(d).ok());
    let pairs = digits.as_bytes().chunks(2);
    pairs.map(|pair| Some(digit(pair[0])? * 16 + digit(*pair.get(1)?)?)).collect()
}

fn assertion(path: &str, wire: wire::Assertion) -> Result<Assertion, AppError> {
    let mut given = vec![
        ("Equals", wire.equals.is_some()),
        ("Text", wire.text.is_some()),
        ("Pattern", wire.pattern.is_some()),
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
        "ExitCode" => {
            others(&["Equals"])?;
            let equals = part(path, "Equals", wire.equals)?;
            let equals = u8::try_from(equals).map_err(|_| {
                let why = format!("{equals} is not an exit code; they end at 255.");
                AppError::invalid(format!("{path}.Equals"), why)
            })?;
            Ok(Assertion::ExitCode { equals })
        }
        "BodyMatches" => {
            others(&["Pattern"])?;
            Ok(Assertion::BodyMatches { pattern: part(path, "Pattern", wire.pattern)? })
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
                "'{other}' is not a type of assertion; use Status, ExitCode, BodyContains, \
                 BodyMatches, JsonAtLeast or JsonNewerThan."
            ),
        )),
    }
}

/// A probe as it is shown: with every member that has a value, also one that was left out.
pub(super) fn wire_probe(probe: Probe) -> wire::Probe {
    let list = |list: Vec<Assertion>| list.into_iter().map(wire_assertion).collect();
    match probe {
        Probe::Http { port, path, assertions } => wire::Probe {
            kind: "Http".to_owned(),
            port: Some(port),
            path: Some(path),
            assertions: list(assertions),
            ..wire::Probe::default()
        },
        Probe::Tcp { port, send, assertions, timeout_seconds } => {
            let (send, send_hex) = match String::from_utf8(send) {
                Ok(text) => ((!text.is_empty()).then_some(text), None),
                Err(error) => {
                    let hex = error.as_bytes().iter().map(|byte| format!("{byte:02x}"));
                    (None, Some(hex.collect()))
                }
            };
            wire::Probe {
                kind: "Tcp".to_owned(),
                port: Some(port),
                send,
                send_hex,
                timeout_seconds: Some(timeout_seconds),
                assertions: list(assertions),
                ..wire::Probe::default()
            }
        }
        Probe::Command { command, assertions, timeout_seconds } => wire::Probe {
            kind: "Command".to_owned(),
            command: Some(command),
            timeout_seconds: Some(timeout_seconds),
            assertions: list(assertions),
            ..wire::Probe::default()
        },
        Probe::Files => wire::Probe { kind: "Files".to_owned(), ..wire::Probe::default() },
    }
}

fn wire_assertion(assertion: Assertion) -> wire::Assertion {
    let bare = |kind: &str| wire::Assertion { kind: kind.to_owned(), ..wire::Assertion::default() };
    match assertion {
        Assertion::Status { equals } => wire::Assertion { equals: Some(equals), ..bare("Status") },
        Assertion::ExitCode { equals } => {
            wire::Assertion { equals: Some(equals.into()), ..bare("ExitCode") }
        }
        Assertion::BodyContains { text } => {
            wire::Assertion { text: Some(text), ..bare("BodyContains") }
        }
        Assertion::BodyMatches { pattern } => {
            wire::Assertion { pattern: Some(pattern), ..bare("BodyMatches") }
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
        for json in [
            r#"{"Type":"Http","Port":8080,"Path":"/","Assertions":[
                {"Type":"Status","Equals":200},{"Type":"BodyContains","Text":"x"},
                {"Type":"BodyMatches","Pattern":"^x"},
                {"Type":"JsonAtLeast","Pointer":"/rows","Minimum":3},
                {"Type":"JsonNewerThan","Pointer":"/newest","MaxAgeSeconds":60}]}"#,
            r#"{"Type":"Tcp","Port":25,"TimeoutSeconds":3,"Assertions":[
                {"Type":"BodyMatches","Pattern":"^220 "}]}"#,
            r#"{"Type":"Tcp","Port":6379,"Send":"PING\r\n","TimeoutSeconds":10}"#,
            r#"{"Type":"Tcp","Port":1,"SendHex":"00ff0a","TimeoutSeconds":10}"#,
            r#"{"Type":"Command","Command":["./check.sh","a b"],"TimeoutSeconds":60,"Assertions":[
                {"Type":"ExitCode","Equals":3},
                {"Type":"JsonAtLeast","Pointer":"","Minimum":3}]}"#,
        ] {
            let written: wire::Probe = serde_json::from_str(json).unwrap();
            assert_eq!(wire_probe(read(json).unwrap()), written, "{json}");
        }
        assert_eq!(
            read(r#"{"Type":"Tcp","Port":1,"SendHex":"50494E47"}"#).unwrap(),
            read(r#"{"Type":"Tcp","Port":1,"Send":"PING"}"#).unwrap()
        );
        assert_eq!(read(r#"{"Type":"Files"}"#).unwrap(), Probe::Files);
    }

    #[test]
    fn a_member_that_is_missing_or_of_another_type_is_named() {
        for (json, member) in [
            (r#"{"Type":"Udp"}"#, "Probes[0].Type"),
            (r#"{"Type":"Tcp"}"#, "Probes[0].Port"),
            (r#"{"Type":"Tcp","Port":1,"Path":"/"}"#, "Probes[0].Path"),
            (r#"{"Type":"Tcp","Port":1,"SendHex":"0"}"#, "Probes[0].SendHex"),
            (r#"{"Type":"Tcp","Port":1,"SendHex":"0g"}"#, "Probes[0].SendHex"),
            (r#"{"Type":"Tcp","Port":1,"SendHex":"","Send":""}"#, "Probes[0].SendHex"),
            (r#"{"Type":"Command"}"#, "Probes[0].Command"),
            (r#"{"Type":"Command","Command":["a"],"Port":1}"#, "Probes[0].Port"),
            (
                r#"{"Type":"Http","Port":1,"Path":"/","TimeoutSeconds":1}"#,
                "Probes[0].TimeoutSeconds",
            ),
            (
                r#"{"Type":"Command","Command":["a"],"Assertions":[{"Type":"ExitCode","Equals":256}]}"#,
                "Probes[0].Assertions[0].Equals",
            ),
            (
                r#"{"Type":"Command","Command":["a"],"Assertions":[{"Type":"BodyMatches","Text":"x"}]}"#,
                "Probes[0].Assertions[0].Text",
            ),
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
