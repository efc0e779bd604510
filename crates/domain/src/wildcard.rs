//! `*` and `?` patterns: how selections name resources by ARN and compare tags (`StringLike`).
//!
//! `*` stands for any run of characters, none included, `/` and `:` included; `?` for exactly one character;
//! everything else for itself, case-sensitively. The whole text must match, not a part of it. There is no
//! escape: `\*` is a backslash and then anything.

/// Whether `text` as a whole matches `pattern`.
///
/// Time is at most proportional to the product of both lengths, whatever the pattern: only the latest `*` is
/// ever tried again, since an earlier one that took more could not help a later one.
pub fn matches(pattern: &str, text: &str) -> bool {
    let mut pattern = pattern.chars();
    let mut text = text.chars();
    // What follows the latest `*`, and the text behind what that `*` has taken so far.
    let mut retry: Option<(std::str::Chars<'_>, std::str::Chars<'_>)> = None;
    loop {
        let mut next_pattern = pattern.clone();
        let mut next_text = text.clone();
        match (next_pattern.next(), next_text.next()) {
            (Some('*'), _) => {
                pattern = next_pattern;
                retry = Some((pattern.clone(), text.clone()));
                continue;
            }
            (None, None) => return true,
            (Some(wanted), Some(found)) if wanted == '?' || wanted == found => {
                pattern = next_pattern;
                text = next_text;
                continue;
            }
            _ => {}
        }
        // A mismatch: the latest `*` takes one character more.
        let Some((after_star, rest)) = retry.as_mut() else {
            return false;
        };
        if rest.next().is_none() {
            return false;
        }
        pattern = after_star.clone();
        text = rest.clone();
    }
}

/// Whether `pattern` holds a wildcard; AWS Backup allows fewer ARNs in a selection when they do.
pub fn has_wildcards(pattern: &str) -> bool {
    pattern.contains(['*', '?'])
}
