//! Words on the command line: `KEY=VALUE` pairs and a command line inside an option.

use std::collections::BTreeMap;
use std::str::FromStr;

use crate::error::CliError;

/// `KEY=VALUE`, split at the first equals sign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    pub key: String,
    pub value: String,
}

impl FromStr for Pair {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some(("", _)) => Err(format!("'{text}' has no key before the '='")),
            Some((key, value)) => Ok(Self { key: key.to_owned(), value: value.to_owned() }),
            None => Err(format!("'{text}' has no '='; write KEY=VALUE (or KEY= for no value)")),
        }
    }
}

/// All pairs as a map; a key given twice is refused, since one of the two would be forgotten.
pub(crate) fn to_map(option: &str, pairs: &[Pair]) -> Result<BTreeMap<String, String>, CliError> {
    let mut map = BTreeMap::new();
    for pair in pairs {
        if map.insert(pair.key.clone(), pair.value.clone()).is_some() {
            return Err(CliError::usage(format!("{option} {} is given twice", pair.key)));
        }
    }
    Ok(map)
}

/// Splits a command line into words as a shell does: blanks separate, `'…'` keeps everything,
/// `"…"` keeps all but `\"` and `\\`, a backslash keeps the next character. Nothing else is
/// special: there are no variables, globs, pipes or redirections, for no shell runs.
pub(crate) fn split(text: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            c if c.is_whitespace() => words.extend(word.take()),
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next() {
                        Some('\'') => break,
                        Some(c) => word.push(c),
                        None => return Err("a ' is not closed".to_owned()),
                    }
                }
            }
            '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next() {
                        Some('"') => break,
                        Some('\\') if matches!(chars.peek(), Some('"' | '\\')) => {
                            word.extend(chars.next());
                        }
                        Some(c) => word.push(c),
                        None => return Err("a \" is not closed".to_owned()),
                    }
                }
            }
            '\\' => match chars.next() {
                Some(c) => word.get_or_insert_default().push(c),
                None => return Err("it ends with a backslash".to_owned()),
            },
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Ok(words)
}

/// A word as [`split`] reads it back, in quotes where it needs them.
pub(crate) fn quoted(word: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_./=:@%+".contains(&b);
    if !word.is_empty() && word.bytes().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// A program and its arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandLine(pub Vec<String>);

impl FromStr for CommandLine {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let words = split(text)?;
        match words.first() {
            Some(program) if !program.is_empty() => Ok(Self(words)),
            _ => Err("it names no program".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn words_are_split_as_a_shell_does() {
        let words = |text: &str| split(text).unwrap();
        assert_eq!(words("  ./app --port  8080 "), ["./app", "--port", "8080"]);
        assert_eq!(
            words(r#"sh -c 'a "b" \n' "c 'd' \"e\" \n""#),
            ["sh", "-c", r#"a "b" \n"#, r#"c 'd' "e" \n"#]
        );
        assert_eq!(words(r"a\ b '' x''y"), ["a b", "", "xy"]);
        assert_eq!(words("$HOME | *"), ["$HOME", "|", "*"]);
        for text in ["'a", "\"a", "a\\", "\"a\\\""] {
            assert!(split(text).is_err(), "{text}");
        }
        for text in ["", "  ", "'' a"] {
            assert!(text.parse::<CommandLine>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_pair_is_split_once_and_a_key_given_once() {
        let pair = |text: &str| text.parse::<Pair>();
        assert_eq!(pair("a=b=c").unwrap(), Pair { key: "a".into(), value: "b=c".into() });
        assert_eq!(pair("a=").unwrap().value, "");
        assert!(pair("a").is_err() && pair("=b").is_err());
        assert!(to_map("--tag", &[pair("a=1").unwrap(), pair("a=2").unwrap()]).is_err());
    }

    proptest! {
        #[test]
        fn quoted_words_come_back(words in proptest::collection::vec("\\PC{0,8}", 1..5)) {
            let quoted: Vec<String> = words.iter().map(|word| quoted(word)).collect();
            prop_assert_eq!(split(&quoted.join(" ")).unwrap(), words);
        }
    }
}
