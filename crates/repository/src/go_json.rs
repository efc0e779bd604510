//! JSON as Go's `encoding/json` writes it, and text as Go's `strconv.Quote` writes it.
//!
//! A tree's id is the hash of its JSON, so the closer ours is to restic's, the more trees the two
//! programs share. Reading accepts everything that Go's side accepts.

use std::fmt::{self, Write as _};
use std::io::{self, Write};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::{Error, Result};

/// Bytes, in base64 as Go encodes `[]byte`; `null` is empty.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Base64(pub(crate) Vec<u8>);

impl Serialize for Base64 {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Base64 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Base64Visitor;
        impl Visitor<'_> for Base64Visitor {
            type Value = Base64;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("base64 text or null")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> std::result::Result<Base64, E> {
                STANDARD.decode(text).map(Base64).map_err(E::custom)
            }
            fn visit_unit<E: de::Error>(self) -> std::result::Result<Base64, E> {
                Ok(Base64::default())
            }
        }
        deserializer.deserialize_any(Base64Visitor)
    }
}

/// Go escapes these so that JSON may stand in HTML; `serde_json` does not.
struct GoFormatter;

impl serde_json::ser::Formatter for GoFormatter {
    fn write_string_fragment<W: Write + ?Sized>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        let mut rest = fragment;
        while let Some(at) = rest.find(['<', '>', '&', '\u{2028}', '\u{2029}']) {
            writer.write_all(&rest.as_bytes()[..at])?;
            let mut chars = rest[at..].chars();
            let special = chars.next().map_or(0, u32::from);
            write!(writer, "\\u{special:04x}")?;
            rest = chars.as_str();
        }
        writer.write_all(rest.as_bytes())
    }
}

/// Appends `value` as JSON to `out`.
pub(crate) fn append(value: &impl Serialize, out: &mut Vec<u8>) -> Result<()> {
    let mut serializer = serde_json::Serializer::with_formatter(out, GoFormatter);
    value.serialize(&mut serializer).map_err(|error| Error::Internal(error.to_string()))
}

/// `value` as JSON.
pub(crate) fn to_vec(value: &impl Serialize) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    append(value, &mut out)?;
    Ok(out)
}

/// Whether Go calls a character beyond ASCII printable. Rust's rule for debug output is the same
/// (by another edition of Unicode, which costs at most some sharing of trees), but for combining
/// marks, which it escapes at the start of a text only: so the character comes second here.
fn is_printable(c: char) -> bool {
    let mut text = [0; 8];
    text[0] = b'a';
    let end = 1 + c.encode_utf8(&mut text[1..]).len();
    std::str::from_utf8(&text[..end]).is_ok_and(|text| text.escape_debug().count() == 2)
}

/// `strconv.Quote` without the quotes around: any bytes as text that JSON can hold.
pub(crate) fn quote(name: &[u8]) -> String {
    let mut out = String::with_capacity(name.len() + 8);
    for chunk in name.utf8_chunks() {
        for c in chunk.valid().chars() {
            // Writing to a String cannot fail.
            let _ = match c {
                '"' | '\\' => write!(out, "\\{c}"),
                ' '..='~' => out.write_char(c),
                '\x07' => out.write_str("\\a"),
                '\x08' => out.write_str("\\b"),
                '\x0c' => out.write_str("\\f"),
                '\n' => out.write_str("\\n"),
                '\r' => out.write_str("\\r"),
                '\t' => out.write_str("\\t"),
                '\x0b' => out.write_str("\\v"),
                '\0'..='\x1f' | '\x7f' => write!(out, "\\x{:02x}", u32::from(c)),
                c if is_printable(c) => out.write_char(c),
                c if u32::from(c) < 0x1_0000 => write!(out, "\\u{:04x}", u32::from(c)),
                c => write!(out, "\\U{:08x}", u32::from(c)),
            };
        }
        for byte in chunk.invalid() {
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
    out
}

/// `strconv.Unquote` of the text between double quotes.
pub(crate) fn unquote(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(['\\', '"', '\n']) {
        out.extend_from_slice(&rest.as_bytes()[..at]);
        let escape = rest[at..].strip_prefix('\\')?;
        let kind = escape.chars().next()?;
        rest = &escape[kind.len_utf8()..];
        let mut digits = |count: usize, radix: u32| {
            let number = rest.get(..count)?;
            rest = &rest[count..];
            // `from_str_radix` would take a sign.
            number.bytes().all(|c| c.is_ascii_hexdigit()).then_some(())?;
            u32::from_str_radix(number, radix).ok()
        };
        match kind {
            'a' => out.push(0x07),
            'b' => out.push(0x08),
            'f' => out.push(0x0c),
            'n' => out.push(b'\n'),
            'r' => out.push(b'\r'),
            't' => out.push(b'\t'),
            'v' => out.push(0x0b),
            '\\' | '"' => out.extend_from_slice(&[kind as u8]),
            'x' => out.push(u8::try_from(digits(2, 16)?).ok()?),
            'u' | 'U' => {
                let c = char::from_u32(digits(if kind == 'u' { 4 } else { 8 }, 16)?)?;
                out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            }
            '0'..='7' => {
                let low = digits(2, 8)?;
                out.push(u8::try_from(kind.to_digit(8)? * 64 + low).ok()?);
            }
            _ => return None,
        }
    }
    out.extend_from_slice(rest.as_bytes());
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn quotes_as_go_does() {
        // Expected values by Go's rules: strconv.Quote, unicode.IsPrint.
        for (name, quoted) in [
            (&b"plain name"[..], "plain name"),
            (b"a\"b\\c'd", r#"a\"b\\c'd"#),
            (b"\x07\x08\x0c\n\r\t\x0b\x00\x1f\x7f", r"\a\b\f\n\r\t\v\x00\x1f\x7f"),
            (b"\xff\xc3", r"\xff\xc3"),
            ("ü é e\u{301} 日本 😀 ²".as_bytes(), "ü é e\u{301} 日本 😀 ²"),
            (
                "\u{a0}\u{ad}\u{200b}\u{2028}\u{feff}\u{fffd}".as_bytes(),
                "\\u00a0\\u00ad\\u200b\\u2028\\ufeff\u{fffd}",
            ),
            ("\u{301}\u{10ffff}\u{e000}".as_bytes(), "\u{301}\\U0010ffff\\ue000"),
        ] {
            assert_eq!(quote(name), quoted);
            assert_eq!(unquote(quoted).as_deref(), Some(name));
        }
        assert_eq!(unquote(r"\101\377").unwrap(), b"A\xff");
        for bad in ["\\", "\\q", "a\"b", "a\nb", "\\x1", "\\x+1", "\\ud800", "\\400", "\\xü", "\\'"]
        {
            assert_eq!(unquote(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn json_escapes_what_go_escapes() {
        let json = to_vec(&"<a & \"b\">\u{2028}\n").unwrap();
        let expected = r#""\u003ca \u0026 \"b\"\u003e\u2028\n""#;
        assert_eq!(String::from_utf8(json).unwrap(), expected);
    }

    proptest! {
        #[test]
        fn any_bytes_survive(name in prop::collection::vec(any::<u8>(), 0..40)) {
            let quoted = quote(&name);
            let json = to_vec(&quoted).unwrap();
            let back: String = serde_json::from_slice(&json).unwrap();
            prop_assert_eq!(&back, &quoted);
            prop_assert_eq!(unquote(&back).unwrap(), name);
        }

        #[test]
        fn unquote_never_panics(text in any::<String>()) {
            let _ = unquote(&text);
            let _ = unquote(&text.replace(' ', "\\"));
        }
    }
}
