//! Probes on the command line.
//!
//! ```text
//! files
//! http:PORT/PATH[,status=N][,contains=TEXT][,json:POINTER>=N][,newer:POINTER<DURATION]
//! ```
//!
//! A comma ends a part, so a comma that belongs to a path, a text or a pointer is written `\,` and
//! a backslash `\\`; nothing else is escaped. `>=` and `<` are looked for from the end of their
//! part, since neither a number nor a duration holds one: a pointer may.

use std::fmt;
use std::str::FromStr;

use provault_wire::provault::{Assertion, Probe};

use crate::duration::Seconds;

/// The grammar for `--help`.
pub(crate) const HELP: &str = "\
files
    every restored file equals the manifest taken at backup time
http:PORT/PATH[,status=N][,contains=TEXT][,json:POINTER>=N][,newer:POINTER<AGE]
    GET http://127.0.0.1:PORT/PATH inside the isolation; all of these must hold:
    status=N            the status is N (200 if not given)
    contains=TEXT       the body contains TEXT
    json:POINTER>=N     the number at this JSON pointer is N or more, as json:/rows>=9
    newer:POINTER<AGE   the RFC 3339 time at this JSON pointer was at most AGE old
                        at the backup, as newer:/newest<24h
    Write a comma inside a part as '\\,' and a backslash as '\\\\'.
Example: --probe 'http:8080/status,json:/rows>=100,newer:/newest<24h'";

/// What is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeError {
    spec: String,
    /// Byte offsets into `spec`, on character boundaries.
    start: usize,
    end: usize,
    why: String,
}

impl std::error::Error for ProbeError {}

/// The reason, then the text with the wrong part underlined.
impl fmt::Display for ProbeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // One column a character: what is no printable character must not shift the marks.
        let shown: String =
            self.spec.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
        let before = self.spec[..self.start].chars().count();
        let marks = self.spec[self.start..self.end].chars().count().max(1);
        write!(f, "{}\n    {shown}\n    {}{}", self.why, " ".repeat(before), "^".repeat(marks))
    }
}

/// A probe as given with `--probe`.
#[derive(Debug, Clone, PartialEq)]
pub struct ProbeSpec(pub Probe);

/// A piece of the text, still escaped, with its place.
#[derive(Clone, Copy)]
struct Part<'s> {
    spec: &'s str,
    start: usize,
    end: usize,
}

impl<'s> Part<'s> {
    fn text(self) -> &'s str {
        &self.spec[self.start..self.end]
    }

    fn error(self, why: impl Into<String>) -> ProbeError {
        let (start, end) = (self.start, self.end);
        ProbeError { spec: self.spec.to_owned(), start, end, why: why.into() }
    }

    fn split_at(self, at: usize) -> (Self, Self) {
        let middle = self.start + at;
        (Self { end: middle, ..self }, Self { start: middle, ..self })
    }

    fn after(self, prefix: &str) -> Option<Self> {
        self.text().starts_with(prefix).then(|| Self { start: self.start + prefix.len(), ..self })
    }

    /// Both sides of the last `separator`.
    fn around_last(self, separator: &str) -> Option<(Self, Self)> {
        let at = self.text().rfind(separator)?;
        let (left, right) = self.split_at(at);
        Some((left, Self { start: right.start + separator.len(), ..right }))
    }

    fn unescaped(self) -> Result<String, ProbeError> {
        let mut out = String::new();
        let mut chars = self.text().char_indices();
        while let Some((at, c)) = chars.next() {
            if c != '\\' {
                out.push(c);
                continue;
            }
            match chars.next() {
                Some((_, c @ (',' | '\\'))) => out.push(c),
                other => {
                    let end = self.start + other.map_or(at + 1, |(next, c)| next + c.len_utf8());
                    let wrong = Self { start: self.start + at, end, ..self };
                    return Err(wrong.error("only '\\,' and '\\\\' are escapes"));
                }
            }
        }
        Ok(out)
    }
}

fn parts(spec: &str) -> Vec<Part<'_>> {
    let mut parts = Vec::new();
    let (mut start, mut escaped) = (0, false);
    for (at, byte) in spec.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b',' => {
                parts.push(Part { spec, start, end: at });
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(Part { spec, start, end: spec.len() });
    parts
}

impl FromStr for ProbeSpec {
    type Err = ProbeError;

    fn from_str(spec: &str) -> Result<Self, ProbeError> {
        let parts = parts(spec);
        // `parts` always holds the last part, even of an empty text.
        let Some((head, tail)) = parts.split_first() else { return Ok(Self(files())) };
        if head.text() == "files" {
            return match tail.first() {
                None => Ok(Self(files())),
                Some(more) => Err(more.error("'files' takes no assertions")),
            };
        }
        let Some(target) = head.after("http:") else {
            return Err(head.error("a probe is 'files' or begins with 'http:PORT/PATH'"));
        };
        let (port, path) = http_target(target)?;
        let mut assertions: Vec<Assertion> = Vec::new();
        for part in tail {
            let assertion = assertion(*part)?;
            if assertion.kind == "Status" && assertions.iter().any(|a| a.kind == "Status") {
                return Err(part.error("the status is given twice"));
            }
            assertions.push(assertion);
        }
        let (kind, port, path) = ("Http".to_owned(), Some(port), Some(path));
        Ok(Self(Probe { kind, port, path, assertions }))
    }
}

fn files() -> Probe {
    Probe { kind: "Files".to_owned(), port: None, path: None, assertions: Vec::new() }
}

fn http_target(target: Part<'_>) -> Result<(u16, String), ProbeError> {
    let slash = target.text().find('/').unwrap_or(target.text().len());
    let (port, path) = target.split_at(slash);
    let number = if port.text().bytes().all(|b| b.is_ascii_digit()) { port.text() } else { "" };
    let number = number
        .parse::<u16>()
        .ok()
        .filter(|number| *number != 0)
        .ok_or_else(|| port.error("the port must be a number from 1 to 65535"))?;
    if path.text().is_empty() {
        return Err(path.error("a path must follow the port, at least '/'"));
    }
    let text = path.unescaped()?;
    if !text.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(path.error("the path must be percent-encoded: no blanks, ASCII only"));
    }
    Ok((number, text))
}

fn assertion(part: Part<'_>) -> Result<Assertion, ProbeError> {
    let mut assertion = Assertion {
        kind: String::new(),
        equals: None,
        text: None,
        pointer: None,
        minimum: None,
        max_age_seconds: None,
    };
    if let Some(value) = part.after("status=") {
        let status = value.text().parse::<u16>().ok().filter(|status| (100..=599).contains(status));
        "Status".clone_into(&mut assertion.kind);
        assertion.equals =
            Some(status.ok_or_else(|| value.error("an HTTP status is a number from 100 to 599"))?);
    } else if let Some(value) = part.after("contains=") {
        let text = value.unescaped()?;
        if text.is_empty() {
            return Err(value.error("every body contains the empty text; name some"));
        }
        "BodyContains".clone_into(&mut assertion.kind);
        assertion.text = Some(text);
    } else if let Some(value) = part.after("json:") {
        let (at, floor) = value
            .around_last(">=")
            .ok_or_else(|| value.error("write json:POINTER>=N, as json:/rows>=100"))?;
        let minimum =
            floor.text().parse().map_err(|_| floor.error("the floor must be a whole number"))?;
        "JsonAtLeast".clone_into(&mut assertion.kind);
        assertion.pointer = Some(pointer(at)?);
        assertion.minimum = Some(minimum);
    } else if let Some(value) = part.after("newer:") {
        let (at, age) = value
            .around_last("<")
            .ok_or_else(|| value.error("write newer:POINTER<AGE, as newer:/newest<24h"))?;
        let Seconds(seconds) = age.text().parse().map_err(|e| age.error(format!("{e}")))?;
        "JsonNewerThan".clone_into(&mut assertion.kind);
        assertion.pointer = Some(pointer(at)?);
        assertion.max_age_seconds = Some(seconds);
    } else {
        return Err(part.error(
            "an assertion is status=N, contains=TEXT, json:POINTER>=N or newer:POINTER<AGE \
             (write a comma inside a part as '\\,')",
        ));
    }
    Ok(assertion)
}

/// RFC 6901: empty (the whole document) or a slash before every step; `~` only as `~0` or `~1`.
fn pointer(part: Part<'_>) -> Result<String, ProbeError> {
    let text = part.unescaped()?;
    if !text.is_empty() && !text.starts_with('/') {
        return Err(part.error("a JSON pointer begins with '/', as /rows"));
    }
    if text.split('~').skip(1).any(|rest| !rest.starts_with(['0', '1'])) {
        return Err(part.error("in a JSON pointer '~' is written '~0', and '/' in a name '~1'"));
    }
    Ok(text)
}

/// The probe in the form that [`ProbeSpec`] reads.
pub(crate) fn to_text(probe: &Probe) -> String {
    use std::fmt::Write as _;

    let escaped = |text: &str| text.replace('\\', "\\\\").replace(',', "\\,");
    if probe.kind != "Http" {
        return probe.kind.to_lowercase();
    }
    let path = probe.path.as_deref().unwrap_or("/");
    let mut out = format!("http:{}{}", probe.port.unwrap_or_default(), escaped(path));
    for assertion in &probe.assertions {
        let at = escaped(assertion.pointer.as_deref().unwrap_or_default());
        // Writing to a string cannot fail.
        let _ = match assertion.kind.as_str() {
            "Status" => write!(out, ",status={}", assertion.equals.unwrap_or(200)),
            "BodyContains" => {
                write!(out, ",contains={}", escaped(assertion.text.as_deref().unwrap_or_default()))
            }
            "JsonAtLeast" => write!(out, ",json:{at}>={}", assertion.minimum.unwrap_or_default()),
            "JsonNewerThan" => {
                let age = Seconds(assertion.max_age_seconds.unwrap_or_default());
                write!(out, ",newer:{at}<{age}")
            }
            other => write!(out, ",{other}"),
        };
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(spec: &str) -> Probe {
        spec.parse::<ProbeSpec>().unwrap_or_else(|e| panic!("{e}")).0
    }

    #[test]
    fn the_whole_grammar_is_read() {
        assert_eq!(read("files"), files());
        let probe = read(
            r"http:8080/a\,b?x=1,status=503,contains=a\, b\\ >= <,json:/a>=b/0>=-5,newer:/t<x<24h,json:>=1",
        );
        assert_eq!((probe.port, probe.path.as_deref()), (Some(8080), Some("/a,b?x=1")));
        let [status, contains, rows, newer, whole] = &probe.assertions[..] else {
            panic!("{probe:?}")
        };
        assert_eq!(status.equals, Some(503));
        assert_eq!(contains.text.as_deref(), Some(r"a, b\ >= <"));
        assert_eq!((rows.pointer.as_deref(), rows.minimum), (Some("/a>=b/0"), Some(-5)));
        assert_eq!((newer.pointer.as_deref(), newer.max_age_seconds), (Some("/t<x"), Some(86_400)));
        assert_eq!((whole.pointer.as_deref(), whole.minimum), (Some(""), Some(1)));
        assert_eq!(to_text(&read("http:1/,status=200")), "http:1/,status=200");
    }

    #[test]
    fn errors_underline_the_wrong_part() {
        for (spec, wrong) in [
            ("", ""),
            ("file", "file"),
            ("files,status=200", "status=200"),
            ("http:99999/x", "99999"),
            ("http:0/", "0"),
            ("http:+80/", "+80"),
            ("http:/x", ""),
            ("http:80", ""),
            ("http:80/a b", "/a b"),
            ("http:80/ü", "/ü"),
            (r"http:80/\x", r"\x"),
            (r"http:80/a\", r"\"),
            (r"http:80/,contains=ü\ö", r"\ö"),
            ("http:80/,status=20", "20"),
            ("http:80/,status=200,status=204", "status=204"),
            ("http:80/,contains=", ""),
            ("http:80/,json:rows>=1", "rows"),
            ("http:80/,json:/rows>1", "/rows>1"),
            ("http:80/,json:/rows>=many", "many"),
            ("http:80/,json:/a~2>=1", "/a~2"),
            ("http:80/,newer:/t<1w", "1w"),
            ("http:80/,newer:/t", "/t"),
            ("http:80/,bogus=1", "bogus=1"),
            ("http:80/,", ""),
        ] {
            let error = spec.parse::<ProbeSpec>().unwrap_err();
            assert_eq!(&spec[error.start..error.end], wrong, "{error}");
            let marks = error.to_string().lines().last().unwrap().matches('^').count();
            assert_eq!(marks, wrong.chars().count().max(1), "{error}");
        }
    }

    fn any_assertion() -> impl Strategy<Value = Assertion> {
        let blank = Assertion {
            kind: String::new(),
            equals: None,
            text: None,
            pointer: None,
            minimum: None,
            max_age_seconds: None,
        };
        let (b1, b2, b3) = (blank.clone(), blank.clone(), blank);
        let at = "(/([^/~]|~0|~1){0,6}){0,3}";
        prop_oneof![
            ("\\PC{1,10}").prop_map(move |text| Assertion {
                kind: "BodyContains".into(),
                text: Some(text),
                ..b1.clone()
            }),
            (at, any::<i64>()).prop_map(move |(pointer, minimum)| Assertion {
                kind: "JsonAtLeast".into(),
                pointer: Some(pointer),
                minimum: Some(minimum),
                ..b2.clone()
            }),
            (at, 0..=i64::MAX.cast_unsigned()).prop_map(move |(pointer, age)| Assertion {
                kind: "JsonNewerThan".into(),
                pointer: Some(pointer),
                max_age_seconds: Some(age),
                ..b3.clone()
            }),
        ]
    }

    proptest! {
        #[test]
        fn every_probe_survives_being_written(
            port in 1..=u16::MAX,
            path in "/[!-~]{0,12}",
            assertions in proptest::collection::vec(any_assertion(), 0..4),
        ) {
            let probe =
                Probe { kind: "Http".into(), port: Some(port), path: Some(path), assertions };
            let text = to_text(&probe);
            prop_assert_eq!(text.parse::<ProbeSpec>().map(|spec| spec.0), Ok(probe));
        }

        #[test]
        fn any_text_is_read_or_refused_in_place(
            spec in "(http:[0-9]{0,6}/?)?([,\\\\/=<>~a:]|status=|json:|newer:|\\PC){0,12}"
        ) {
            match spec.parse::<ProbeSpec>() {
                Ok(ProbeSpec(probe)) => {
                    prop_assert_eq!(to_text(&probe).parse::<ProbeSpec>(), Ok(ProbeSpec(probe)));
                }
                Err(error) => prop_assert!(error.to_string().contains('^')),
            }
        }
    }
}
