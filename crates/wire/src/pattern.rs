//! The patterns of the model, by hand.
//!
//! The model holds eleven; a regular expression engine is not worth its weight here, and two of
//! them look behind. The whole text must match, as in AWS's own checks, whether or not the pattern
//! is anchored; character classes are ASCII. `tests/botocore.rs` compares each with Python's `re`.

/// `^[a-zA-Z0-9\-\_\.]{1,50}$`
pub(crate) fn name_with_dots(text: &str) -> bool {
    all(text, 1..=50, |c| c.is_ascii_alphanumeric() || b"-_.".contains(&c))
}

/// `.*\S.*`: something in it is not white space. The dot does not match a line break in AWS's
/// engine; a description of two lines is accepted all the same, for refusing it helps nobody.
pub(crate) fn not_blank(text: &str) -> bool {
    text.chars().any(|c| !matches!(c, ' ' | '\t'..='\r'))
}

/// `[a-zA-Z][_a-zA-Z0-9]*`
pub(crate) fn identifier(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_')
}

/// `(arn:aws[a-z-]*:backup:[a-z-\d]+:\d{12}:accesspoint/)` and an access point's name.
pub(crate) fn access_point_arn(text: &str) -> bool {
    let mut parts = text.splitn(6, ':');
    let mut next = || parts.next().unwrap_or_default();
    next() == "arn"
        && partition(next())
        && next() == "backup"
        && lower(next())
        && account_id(next())
        && next().strip_prefix("accesspoint/").is_some_and(access_point_name)
}

/// `[\da-z]{1}[\da-z-]{1,48}[\da-z]{1}(?<!-s3alias)(?<!-ext-s3alias)`
pub(crate) fn access_point_name(text: &str) -> bool {
    all(text, 3..=50, |c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
        && !text.ends_with("-s3alias")
}

/// `^[0-9]{12}$`
pub(crate) fn account_id(text: &str) -> bool {
    all(text, 12..=12, |c| c.is_ascii_digit())
}

/// `^[a-zA-Z0-9\-\_]{2,50}$`
pub(crate) fn vault_name(text: &str) -> bool {
    all(text, 2..=50, |c| c.is_ascii_alphanumeric() || b"-_".contains(&c))
}

/// `^(\*|[a-zA-Z0-9\-\_]{2,50})$`
pub(crate) fn vault_name_or_wildcard(text: &str) -> bool {
    text == "*" || vault_name(text)
}

/// `(arn:aws[a-z-]*:[a-z-\d]+:[a-z-\d]+:).+`
pub(crate) fn recovery_point_arn(text: &str) -> bool {
    let mut parts = text.splitn(5, ':');
    let mut next = || parts.next().unwrap_or_default();
    next() == "arn" && partition(next()) && lower(next()) && lower(next()) && one_line(next())
}

/// `(arn:aws[a-z-]*:[a-z-\d]+:).+`
pub(crate) fn resource_arn(text: &str) -> bool {
    let mut parts = text.splitn(4, ':');
    let mut next = || parts.next().unwrap_or_default();
    next() == "arn" && partition(next()) && lower(next()) && one_line(next())
}

/// `^[a-zA-Z0-9_]{1,200}$`
pub(crate) fn tiering_name(text: &str) -> bool {
    all(text, 1..=200, |c| c.is_ascii_alphanumeric() || c == b'_')
}

/// All characters allowed and their number within bounds; what is allowed is ASCII, so bytes do.
fn all(text: &str, length: std::ops::RangeInclusive<usize>, allowed: fn(u8) -> bool) -> bool {
    length.contains(&text.len()) && text.bytes().all(allowed)
}

/// `aws[a-z-]*`
fn partition(text: &str) -> bool {
    text.strip_prefix("aws")
        .is_some_and(|rest| rest.bytes().all(|c| c.is_ascii_lowercase() || c == b'-'))
}

/// `[a-z-\d]+`
fn lower(text: &str) -> bool {
    all(text, 1..=usize::MAX, |c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-')
}

/// `.+`
fn one_line(text: &str) -> bool {
    !text.is_empty() && !text.contains('\n')
}
