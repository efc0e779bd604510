//! Probes on the command line.
//!
//! ```text
//! files
//! http:PORT/PATH[,status=N][,contains=TEXT][,matches=REGEX][,json:POINTER>=N][,newer:POINTER<DURATION]
//! tcp:PORT[,send=TEXT][,contains=TEXT][,matches=REGEX][,timeout=DURATION]
//! command:WORDS[,exit=N][,contains=TEXT][,matches=REGEX][,json:…][,newer:…][,timeout=DURATION]
//! ```
//!
//! A comma ends a part, so a comma that belongs to a path, a text or a pointer is written `\,` and
//! a backslash `\\`; nothing else is escaped. Two parts have a grammar of their own: the words of a
//! command are split as a shell does, and a comma in its quotes is no end; in a regular expression
//! only the comma is escaped. `>=` and `<` are looked for from the end of their part, since neither
//! a number nor a duration holds one: a pointer may.

use std::fmt;
use std::str::FromStr;

use provault_wire::provault::{Assertion, Probe};

mod text;

pub(crate) use text::to_text;

use crate::duration::Seconds;
use crate::words::CommandLine;

/// The grammar for `--help`.
pub(crate) const HELP: &str = "\
files
    every restored file equals the manifest taken at backup time
http:PORT/PATH[,PART]...
    GET http://127.0.0.1:PORT/PATH inside the isolation; all of these must hold:
    status=N            the status is N (200 if not given)
    contains=TEXT       the body contains TEXT
    matches=REGEX       the body contains a match of this regular expression
    json:POINTER>=N     the number at this JSON pointer is N or more, as json:/rows>=9
    newer:POINTER<AGE   the RFC 3339 time at this JSON pointer was at most AGE old
                        at the backup, as newer:/newest<24h
tcp:PORT[,PART]...
    connect to 127.0.0.1:PORT inside the isolation, and see what comes first:
    send=TEXT           send TEXT first, with \\r \\n \\t \\0 \\xHH as in C
    contains=TEXT, matches=REGEX
    timeout=TIME        how long one connection is listened to (10s if not given)
command:COMMAND ARGS[,PART]...
    run a program inside the isolation, in the copy's root; its words are split as
    those of --service, so a comma in quotes is one of the command; all must hold:
    exit=N              the exit code is N (0 if not given; 75 means not yet)
    contains=TEXT, matches=REGEX, json:POINTER>=N, newer:POINTER<AGE
                        of what it writes to standard output
    timeout=TIME        after this it is killed and has failed (60s if not given)
Write a comma inside a part as '\\,' and a backslash as '\\\\' (in a REGEX as it is).
Examples: --probe 'http:8080/status,json:/rows>=100,newer:/newest<24h'
          --probe 'tcp:6379,send=PING\\r\\n,contains=+PONG'
          --probe 'command:./check.sh --all,matches=^ok'";

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
                    let end = other.map_or(at + 1, |(next, c)| next + c.len_utf8());
                    return Err(self.within(at, end).error("only '\\,' and '\\\\' are escapes"));
                }
            }
        }
        Ok(out)
    }

    /// From byte `start` to byte `end` of this part.
    fn within(self, start: usize, end: usize) -> Self {
        Self { start: self.start + start, end: self.start + end, ..self }
    }

    /// A regular expression has escapes of its own: only a comma is written in another way.
    fn pattern(self) -> Result<String, ProbeError> {
        let mut out = String::new();
        let mut chars = self.text().chars();
        while let Some(c) = chars.next() {
            if c != '\\' {
                out.push(c);
                continue;
            }
            match chars.next() {
                Some(',') => out.push(','),
                Some(escaped) => out.extend([c, escaped]),
                None => return Err(self.error("the backslash at the end escapes nothing")),
            }
        }
        Ok(out)
    }

    /// Bytes to send, with the escapes of C.
    fn bytes(self) -> Result<Vec<u8>, ProbeError> {
        let text = self.text();
        let mut out = Vec::new();
        let mut at = 0;
        while let Some(c) = text[at..].chars().next() {
            let mut end = at + c.len_utf8();
            if c == '\\' {
                let escape = text[end..].chars().next();
                end += escape.map_or(0, char::len_utf8);
                out.push(match escape {
                    Some(c @ (',' | '\\')) => u8::try_from(c).unwrap_or(b'?'),
                    Some('r') => b'\r',
                    Some('n') => b'\n',
                    Some('t') => b'\t',
                    Some('0') => 0,
                    Some('x') => {
                        let digits = text.get(end..end + 2).unwrap_or_default();
                        let byte = u8::from_str_radix(digits, 16).ok();
                        let byte = byte.filter(|_| digits.bytes().all(|b| b.is_ascii_hexdigit()));
                        end += digits.len();
                        byte.ok_or_else(|| {
                            self.within(at, end).error("write '\\x' and two hexadecimal digits")
                        })?
                    }
                    _ => {
                        let known = "the escapes are \\r \\n \\t \\0 \\xHH '\\,' and '\\\\'";
                        return Err(self.within(at, end).error(known));
                    }
                });
            } else {
                out.extend(text[at..end].bytes());
            }
            at = end;
        }
        Ok(out)
    }
}

fn parts(spec: &str) -> Vec<Part<'_>> {
    let mut parts = Vec::new();
    let mut start = 0;
    if spec.starts_with(COMMAND) {
        let end = command_end(spec);
        parts.push(Part { spec, start, end });
        if end == spec.len() {
            return parts;
        }
        start = end + 1;
    }
    let mut escaped = false;
    for (at, byte) in spec.bytes().enumerate().skip(start) {
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

/// Where the command ends: at the first comma that `words::split` would neither find in quotes
/// nor behind a backslash.
fn command_end(spec: &str) -> usize {
    let mut quote = None;
    let mut bytes = spec.bytes().enumerate();
    while let Some((at, byte)) = bytes.next() {
        match (quote, byte) {
            (None, b',') => return at,
            (None, b'\'' | b'"') => quote = Some(byte),
            (None | Some(b'"'), b'\\') => {
                bytes.next();
            }
            (Some(open), byte) if byte == open => quote = None,
            _ => {}
        }
    }
    spec.len()
}

/// What a command probe begins with.
const COMMAND: &str = "command:";

/// A kind of probe, and what may stand behind its target.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Http,
    Tcp,
    Command,
}

impl Kind {
    fn known(self) -> &'static str {
        match self {
            Self::Http => {
                "behind 'http:PORT/PATH' stand status=N, contains=TEXT, matches=REGEX, \
                 json:POINTER>=N and newer:POINTER<AGE"
            }
            Self::Tcp => {
                "behind 'tcp:PORT' stand send=TEXT, contains=TEXT, matches=REGEX and timeout=TIME"
            }
            Self::Command => {
                "behind 'command:COMMAND ARGS' stand exit=N, contains=TEXT, matches=REGEX, \
                 json:POINTER>=N, newer:POINTER<AGE and timeout=TIME"
            }
        }
    }
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
        let mut probe = Probe::default();
        let kind = if let Some(target) = head.after("http:") {
            let (port, path) = http_target(target)?;
            (probe.port, probe.path) = (Some(port), Some(path));
            Kind::Http
        } else if let Some(target) = head.after("tcp:") {
            probe.port = Some(port(target)?);
            Kind::Tcp
        } else if let Some(line) = head.after(COMMAND) {
            let CommandLine(words) = line.text().parse().map_err(|why: String| line.error(why))?;
            probe.command = Some(words);
            Kind::Command
        } else {
            return Err(head.error(
                "a probe is 'files' or begins with 'http:PORT/PATH', 'tcp:PORT' or \
                 'command:COMMAND'",
            ));
        };
        let name = match kind {
            Kind::Http => "Http",
            Kind::Tcp => "Tcp",
            Kind::Command => "Command",
        };
        name.clone_into(&mut probe.kind);
        for part in tail {
            behind(&mut probe, kind, *part)?;
        }
        Ok(Self(probe))
    }
}

fn files() -> Probe {
    Probe { kind: "Files".to_owned(), ..Probe::default() }
}

/// Takes a part behind the target.
fn behind(probe: &mut Probe, kind: Kind, part: Part<'_>) -> Result<(), ProbeError> {
    let twice = |what: &str| part.error(format!("the {what} is given twice"));
    if let Some(value) = part.after("send=").filter(|_| kind == Kind::Tcp) {
        if probe.send.is_some() || probe.send_hex.is_some() {
            return Err(twice("text to send"));
        }
        match String::from_utf8(value.bytes()?) {
            Ok(text) => probe.send = Some(text),
            Err(error) => {
                let hex = error.as_bytes().iter().map(|byte| format!("{byte:02x}"));
                probe.send_hex = Some(hex.collect());
            }
        }
        return Ok(());
    }
    if let Some(value) = part.after("timeout=").filter(|_| kind != Kind::Http) {
        if probe.timeout_seconds.is_some() {
            return Err(twice("timeout"));
        }
        let Seconds(seconds) = value.text().parse().map_err(|e| value.error(format!("{e}")))?;
        probe.timeout_seconds = Some(seconds);
        return Ok(());
    }
    let assertion = assertion(kind, part)?;
    let named = ["Status", "ExitCode"];
    if named.contains(&assertion.kind.as_str())
        && probe.assertions.iter().any(|a| a.kind == assertion.kind)
    {
        return Err(twice(if kind == Kind::Http { "status" } else { "exit code" }));
    }
    probe.assertions.push(assertion);
    Ok(())
}

fn port(part: Part<'_>) -> Result<u16, ProbeError> {
    let number = if part.text().bytes().all(|b| b.is_ascii_digit()) { part.text() } else { "" };
    number
        .parse::<u16>()
        .ok()
        .filter(|number| *number != 0)
        .ok_or_else(|| part.error("the port must be a number from 1 to 65535"))
}

fn http_target(target: Part<'_>) -> Result<(u16, String), ProbeError> {
    let slash = target.text().find('/').unwrap_or(target.text().len());
    let (number, path) = target.split_at(slash);
    let number = port(number)?;
    if path.text().is_empty() {
        return Err(path.error("a path must follow the port, at least '/'"));
    }
    let text = path.unescaped()?;
    if !text.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(path.error("the path must be percent-encoded: no blanks, ASCII only"));
    }
    Ok((number, text))
}

fn assertion(kind: Kind, part: Part<'_>) -> Result<Assertion, ProbeError> {
    let named = |kind: &str| Assertion { kind: kind.to_owned(), ..Assertion::default() };
    if let Some(value) = part.after("status=").filter(|_| kind == Kind::Http) {
        let status = value.text().parse::<u16>().ok().filter(|status| (100..=599).contains(status));
        let equals =
            Some(status.ok_or_else(|| value.error("an HTTP status is a number from 100 to 599"))?);
        return Ok(Assertion { equals, ..named("Status") });
    }
    if let Some(value) = part.after("exit=").filter(|_| kind == Kind::Command) {
        let code = value.text().parse::<u8>();
        let code = code.map_err(|_| value.error("an exit code is a number from 0 to 255"))?;
        return Ok(Assertion { equals: Some(code.into()), ..named("ExitCode") });
    }
    if let Some(value) = part.after("contains=") {
        let text = value.unescaped()?;
        if text.is_empty() {
            return Err(value.error("every answer contains the empty text; name some"));
        }
        return Ok(Assertion { text: Some(text), ..named("BodyContains") });
    }
    if let Some(value) = part.after("matches=") {
        let pattern = value.pattern()?;
        if pattern.is_empty() {
            return Err(value.error("everything matches the empty expression; write one"));
        }
        return Ok(Assertion { pattern: Some(pattern), ..named("BodyMatches") });
    }
    if let Some(value) = part.after("json:").filter(|_| kind != Kind::Tcp) {
        let (at, floor) = value
            .around_last(">=")
            .ok_or_else(|| value.error("write json:POINTER>=N, as json:/rows>=100"))?;
        let minimum =
            floor.text().parse().map_err(|_| floor.error("the floor must be a whole number"))?;
        let (pointer, minimum) = (Some(pointer(at)?), Some(minimum));
        return Ok(Assertion { pointer, minimum, ..named("JsonAtLeast") });
    }
    if let Some(value) = part.after("newer:").filter(|_| kind != Kind::Tcp) {
        let (at, age) = value
            .around_last("<")
            .ok_or_else(|| value.error("write newer:POINTER<AGE, as newer:/newest<24h"))?;
        let Seconds(seconds) = age.text().parse().map_err(|e| age.error(format!("{e}")))?;
        let (pointer, max_age_seconds) = (Some(pointer(at)?), Some(seconds));
        return Ok(Assertion { pointer, max_age_seconds, ..named("JsonNewerThan") });
    }
    let known = kind.known();
    Err(part.error(format!("{known} (write a comma inside a part as '\\,')")))
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

#[cfg(test)]
mod tests;
