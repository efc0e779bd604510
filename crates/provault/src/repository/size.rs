//! Sizes on the command line, as restic writes them: `500M`, `10G`, `4096`.

/// Bytes; the letters are powers of 1024.
pub(crate) fn parse(text: &str) -> Result<u64, String> {
    let bad = || format!("'{text}' is no size: bytes, or a number with K, M, G or T behind it");
    let (number, unit) = match text.char_indices().next_back() {
        Some((at, letter)) if letter.is_ascii_alphabetic() => {
            let power = "BKMGT".find(letter.to_ascii_uppercase()).ok_or_else(bad)?;
            (&text[..at], 1024_u64.pow(u32::try_from(power).map_err(|_| bad())?))
        }
        _ => (text, 1),
    };
    if !number.bytes().all(|b| b.is_ascii_digit()) {
        return Err(bad());
    }
    number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit)).ok_or_else(bad)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_are_powers_of_1024() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4096),
            ("7b", 7),
            ("1k", 1024),
            ("500M", 500 << 20),
            ("10G", 10 << 30),
            ("2T", 2 << 40),
        ] {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
        for bad in ["", "M", "-1", "+1", "1.5G", "1 G", "1X", "10GB", "é", "99999999T"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
