//! Percent-encoding of path labels and query strings.

/// Decodes one part of a path or query; none where an escape is cut off or wrong, or the result is
/// not UTF-8. In a query `+` is a space, as in forms.
pub(crate) fn decode(text: &str, plus_is_space: bool) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'%' => hex(bytes.next()?)? * 16 + hex(bytes.next()?)?,
            b'+' if plus_is_space => b' ',
            other => other,
        });
    }
    String::from_utf8(out).ok()
}

/// Encodes everything but the unreserved characters of RFC 3986, as SigV4 wants it.
pub(crate) fn encode(text: &str) -> String {
    use std::fmt::Write as _;

    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

fn hex(digit: u8) -> Option<u8> {
    // A hexadecimal digit is below 16.
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn broken_escapes_are_refused() {
        for text in ["%", "%4", "%zz", "%+1", "%ff", "a%C3"] {
            assert_eq!(decode(text, false), None, "{text}");
        }
        assert_eq!(decode("a+b%2B", true).unwrap(), "a b+");
        assert_eq!(decode("a+b%2b", false).unwrap(), "a+b+");
    }

    proptest! {
        #[test]
        fn decode_undoes_encode(text in any::<String>()) {
            let encoded = encode(&text);
            prop_assert!(!encoded.contains(['/', '?', '&', '=', '+', ' ']));
            prop_assert_eq!(decode(&encoded, true).unwrap(), text.clone());
            prop_assert_eq!(decode(&encoded, false).unwrap(), text);
        }
    }
}
