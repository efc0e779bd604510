//! The canonical request: the one text that both sides hash.

use http::HeaderMap;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode, percent_encode};

use super::SignedRequest;

/// Everything but RFC 3986's unreserved characters.
const STRICT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
const PATH: &AsciiSet = &STRICT.remove(b'/');

/// The presigned form's own signature, which cannot sign itself.
pub(super) const QUERY_SIGNATURE: &str = "X-Amz-Signature";

/// How the query is brought into canonical form; see the module's essay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum QueryForm {
    /// Decoded, `+` as a space, and encoded strictly: what the documentation asks for.
    Encoded,
    /// The bytes as sent, only split and sorted: what botocore does.
    AsSent,
}

/// Removes empty and dot segments of a raw path, as every AWS signer does before it signs. A final
/// slash stays. The empty path is `/`.
///
/// ```
/// assert_eq!(provault_iam::normalize_path("//backup-vaults/./x/../Default/"),
///            "/backup-vaults/Default/");
/// ```
pub fn normalize_path(raw_path: &str) -> String {
    let mut segments: Vec<&str> = Vec::new();
    for segment in raw_path.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                segments.pop();
            }
            other => segments.push(other),
        }
    }
    let mut path = String::with_capacity(raw_path.len() + 1);
    for segment in &segments {
        path.push('/');
        path.push_str(segment);
    }
    if path.is_empty() || raw_path.ends_with('/') {
        path.push('/');
    }
    path
}

/// Splits a raw query into its pairs; a key without `=` has the empty value.
pub(super) fn query_pairs(raw_query: &str) -> impl Iterator<Item = (&str, &str)> {
    raw_query
        .split('&')
        .filter(|_| !raw_query.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
}

/// Undoes form encoding.
pub(super) fn decode(text: &str) -> Vec<u8> {
    let spaced: Vec<u8> = text.bytes().map(|byte| if byte == b'+' { b' ' } else { byte }).collect();
    percent_decode(&spaced).collect()
}

fn canonical_query(raw_query: &str, form: QueryForm) -> String {
    let mut pairs: Vec<(String, String)> = query_pairs(raw_query)
        .filter(|(key, _)| decode(key) != QUERY_SIGNATURE.as_bytes())
        .map(|(key, value)| match form {
            QueryForm::AsSent => (key.to_owned(), value.to_owned()),
            QueryForm::Encoded => (
                percent_encode(&decode(key), STRICT).to_string(),
                percent_encode(&decode(value), STRICT).to_string(),
            ),
        })
        .collect();
    if form == QueryForm::Encoded {
        // `a=1&&b=2`: form decoding knows no empty pair.
        pairs.retain(|(key, value)| !(key.is_empty() && value.is_empty()));
    }
    pairs.sort_unstable();
    let pairs: Vec<String> = pairs.iter().map(|(key, value)| format!("{key}={value}")).collect();
    pairs.join("&")
}

/// A header's values, trimmed, runs of blanks made one, several values joined by commas.
fn canonical_header(headers: &HeaderMap, name: &str) -> Option<Vec<u8>> {
    let mut joined: Option<Vec<u8>> = None;
    for value in headers.get_all(name) {
        let words: Vec<&[u8]> = value
            .as_bytes()
            .split(u8::is_ascii_whitespace)
            .filter(|word| !word.is_empty())
            .collect();
        let value = words.join(&b' ');
        match &mut joined {
            None => joined = Some(value),
            Some(all) => {
                all.push(b',');
                all.extend(value);
            }
        }
    }
    joined
}

/// Builds the canonical request over `signed_headers` (lower case, sorted, unique), or returns the
/// first of them that the request does not have.
pub(super) fn canonical_request<'h>(
    request: &SignedRequest<'_>,
    signed_headers: &'h [String],
    payload_hash: &str,
    form: QueryForm,
) -> Result<Vec<u8>, &'h str> {
    let mut text = Vec::with_capacity(512);
    text.extend_from_slice(request.method.as_str().as_bytes());
    text.push(b'\n');
    let path = normalize_path(request.raw_path);
    text.extend(percent_encode(path.as_bytes(), PATH).to_string().into_bytes());
    text.push(b'\n');
    text.extend(canonical_query(request.raw_query, form).into_bytes());
    text.push(b'\n');
    for name in signed_headers {
        let value = canonical_header(request.headers, name).ok_or(name.as_str())?;
        text.extend_from_slice(name.as_bytes());
        text.push(b':');
        text.extend(value);
        text.push(b'\n');
    }
    text.push(b'\n');
    text.extend_from_slice(signed_headers.join(";").as_bytes());
    text.push(b'\n');
    text.extend_from_slice(payload_hash.as_bytes());
    Ok(text)
}
