//! Telling blocks of zeros from others.

/// Whether all bytes are zero.
pub(crate) fn is_zero(bytes: &[u8]) -> bool {
    // Most data shows itself at once. The rest is folded page by page without a branch within a
    // page, which the compiler turns into vector instructions.
    bytes.chunks(4096).all(|page| {
        page.iter().take(16).all(|byte| *byte == 0)
            && page.iter().fold(0, |all, byte| all | byte) == 0
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_set_bit_anywhere_is_seen() {
        let mut bytes = vec![0; 3 * 4096 + 5];
        assert!(is_zero(&bytes) && is_zero(&[]));
        for at in 0..bytes.len() {
            bytes[at] = 1 << (at % 8);
            assert!(!is_zero(&bytes), "at {at}");
            bytes[at] = 0;
        }
    }
}
