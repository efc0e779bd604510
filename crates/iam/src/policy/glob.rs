//! The wildcards of the policy language.

/// Matches an action, without case. `*` is any run of characters, `?` any one.
pub(super) fn action(pattern: &str, action: &str) -> bool {
    matches(&pattern.to_ascii_lowercase(), &action.to_ascii_lowercase(), false)
}

/// Matches a resource ARN, with case. As IAM documents it, wildcards stay inside one segment
/// between colons, except a `*` that ends its segment, which may run across colons.
pub(super) fn resource(pattern: &str, arn: &str) -> bool {
    matches(pattern, arn, true)
}

/// Dynamic programming over both strings: no pattern makes it slow.
fn matches(pattern: &str, text: &str, segments: bool) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let text: Vec<char> = text.chars().collect();
    // reach[j]: the pattern up to here matches text[..j].
    let mut reach = vec![false; text.len() + 1];
    reach[0] = true;
    for (at, &symbol) in pattern.iter().enumerate() {
        let mut next = vec![false; text.len() + 1];
        if symbol == '*' {
            let ends_segment = pattern.get(at + 1).is_none_or(|&following| following == ':');
            let crosses = !segments || ends_segment;
            next[0] = reach[0];
            for j in 0..text.len() {
                next[j + 1] = reach[j + 1] || (next[j] && (crosses || text[j] != ':'));
            }
        } else {
            for j in 0..text.len() {
                let fits = match symbol {
                    '?' => !segments || text[j] != ':',
                    plain => plain == text[j],
                };
                next[j + 1] = reach[j] && fits;
            }
        }
        reach = next;
    }
    reach[text.len()]
}
