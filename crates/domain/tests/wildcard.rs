//! Wildcard patterns against a hand-made table and against the regex crate.

use proptest::prelude::*;
use provault_domain::wildcard::{has_wildcards, matches};

#[test]
fn arns_and_tags() {
    let volume = "arn:aws:ec2:eu-west-1:123456789012:volume/vol-0abc";
    for (pattern, text, expected) in [
        ("*", volume, true),
        ("*", "", true),
        ("", "", true),
        ("", "a", false),
        ("?", "", false),
        ("arn:aws:ec2:*:*:volume/*", volume, true),
        ("arn:aws:ec2:*:*:volume/*", "arn:aws:ec2:eu-west-1:123456789012:instance/i-1", false),
        ("arn:aws:ec2:*", volume, true),
        ("*volume/vol-0ab?", volume, true),
        ("*volume/vol-0a?", volume, false),
        ("arn:aws:ec2:eu-west-1:123456789012:volume", volume, false),
        ("volume", volume, false),
        // Case counts, and `?` is one character, not one byte.
        ("ARN:*", volume, false),
        ("prod?", "prodé", true),
        ("prod??", "prodé", false),
        // A character that is special elsewhere is itself here.
        ("a.c", "abc", false),
        ("[ab]", "a", false),
        (r"\*", r"\anything", true),
        // The latest star must be able to give way again.
        ("*ab", "aab", true),
        ("*a*b", "xaxbxab", true),
        ("**", "abc", true),
        ("a*?", "a", false),
    ] {
        assert_eq!(matches(pattern, text), expected, "{pattern} against {text}");
    }
    assert!(has_wildcards("a*") && has_wildcards("?") && !has_wildcards(volume));
}

#[test]
fn many_stars_do_not_take_for_ever() {
    // With naive recursion this would outlast the universe.
    let pattern = "*a".repeat(200) + "*b";
    assert!(!matches(&pattern, &"a".repeat(4000)));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 5000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Few letters, so that patterns and texts meet often.
    #[test]
    fn agrees_with_regex(pattern in r"[ab.*?é\n]{0,8}", text in r"[ab.*?é\n]{0,10}") {
        let mut translated = String::from(r"\A(?s:");
        for c in pattern.chars() {
            match c {
                '*' => translated.push_str(".*"),
                '?' => translated.push('.'),
                c => translated.push_str(&regex::escape(&c.to_string())),
            }
        }
        translated.push_str(r")\z");
        let oracle = regex::Regex::new(&translated).expect("a valid translation");
        prop_assert_eq!(matches(&pattern, &text), oracle.is_match(&text));
    }

    /// A pattern made from the text by widening parts of it always matches.
    #[test]
    fn a_widened_text_matches(parts in prop::collection::vec((".{0,4}", 0..3u8), 0..8)) {
        let text: String = parts.iter().map(|(part, _)| part.as_str()).collect();
        let pattern: String = parts
            .iter()
            .map(|(part, how)| match how {
                0 => part.clone(),
                1 => "*".to_owned(),
                _ => "?".repeat(part.chars().count()),
            })
            .collect();
        prop_assert!(matches(&pattern, &text), "{} against {}", pattern, text);
    }
}
