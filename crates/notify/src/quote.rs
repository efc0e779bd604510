//! What a receiver said, for an error's text.

/// Characters of it that are repeated.
const QUOTED: usize = 200;

/// ` ("text")` on one line and not too long; nothing when there is no text.
pub(crate) fn quote(said: &[u8]) -> String {
    let text = String::from_utf8_lossy(said);
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let text: String = text.replace(char::is_control, " ").chars().take(QUOTED).collect();
    if text.is_empty() { text } else { format!(" (\"{text}\")") }
}
