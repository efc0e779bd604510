//! A probe as it is written on the command line.

use std::fmt::Write as _;

use provault_wire::provault::{Assertion, Probe};

use crate::duration::Seconds;
use crate::words::quoted;

/// The probe in the form that [`super::ProbeSpec`] reads.
pub(crate) fn to_text(probe: &Probe) -> String {
    let mut out = match probe.kind.as_str() {
        "Http" => {
            let path = probe.path.as_deref().unwrap_or("/");
            format!("http:{}{}", probe.port.unwrap_or_default(), escaped(path))
        }
        "Tcp" => format!("tcp:{}", probe.port.unwrap_or_default()),
        "Command" => {
            let words = probe.command.iter().flatten().map(|word| quoted(word));
            format!("command:{}", words.collect::<Vec<_>>().join(" "))
        }
        other => other.to_lowercase(),
    };
    if let Some(text) = &probe.send {
        out.push_str(",send=");
        text.chars().for_each(|c| match u8::try_from(c) {
            Ok(byte) if byte.is_ascii() => sent(&mut out, byte),
            _ => out.push(c),
        });
    }
    if let Some(digits) = &probe.send_hex {
        out.push_str(",send=");
        for pair in digits.as_bytes().chunks(2) {
            out.push_str("\\x");
            out.extend(pair.iter().map(|digit| char::from(*digit)));
        }
    }
    for assertion in &probe.assertions {
        asserted(&mut out, assertion);
    }
    if let Some(seconds) = probe.timeout_seconds {
        out.extend([",timeout=", &Seconds(seconds).to_string()]);
    }
    out
}

fn asserted(out: &mut String, assertion: &Assertion) {
    let at = escaped(assertion.pointer.as_deref().unwrap_or_default());
    // Writing to a string cannot fail.
    let _ = match assertion.kind.as_str() {
        "Status" => write!(out, ",status={}", assertion.equals.unwrap_or(200)),
        "ExitCode" => write!(out, ",exit={}", assertion.equals.unwrap_or(0)),
        "BodyContains" => {
            write!(out, ",contains={}", escaped(assertion.text.as_deref().unwrap_or_default()))
        }
        "BodyMatches" => {
            write!(out, ",matches={}", pattern(assertion.pattern.as_deref().unwrap_or_default()))
        }
        "JsonAtLeast" => write!(out, ",json:{at}>={}", assertion.minimum.unwrap_or_default()),
        "JsonNewerThan" => {
            let age = Seconds(assertion.max_age_seconds.unwrap_or_default());
            write!(out, ",newer:{at}<{age}")
        }
        other => write!(out, ",{other}"),
    };
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace(',', "\\,")
}

/// A comma that is escaped already means the same in an expression.
fn pattern(pattern: &str) -> String {
    let mut out = String::new();
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        match c {
            ',' => out.push_str("\\,"),
            '\\' => {
                out.push(c);
                out.extend(chars.next());
            }
            c => out.push(c),
        }
    }
    out
}

/// A byte of ASCII to send.
fn sent(out: &mut String, byte: u8) {
    match byte {
        b'\r' => out.push_str("\\r"),
        b'\n' => out.push_str("\\n"),
        b'\t' => out.push_str("\\t"),
        b'\\' => out.push_str("\\\\"),
        b',' => out.push_str("\\,"),
        0x20..=0x7e => out.push(char::from(byte)),
        // Writing to a string cannot fail.
        byte => {
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
}
