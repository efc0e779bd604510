//! Reading a signature out of a request, in either of its two forms.

use http::HeaderMap;
use http::header::{AUTHORIZATION, DATE, HeaderName};
use jiff::{SignedDuration, Timestamp};

use super::canonical::{QUERY_SIGNATURE, decode, query_pairs};
use super::date;
use super::error::{AuthError, Malformed, Mismatch};
use super::verify::MAX_PRESIGNED_LIFETIME;
use super::{ALGORITHM, SERVICE, SignedRequest, TERMINATOR, X_AMZ_DATE, X_AMZ_SECURITY_TOKEN};

/// What a client claims, read but not yet believed.
pub(super) struct Claim {
    pub access_key_id: String,
    pub scope_date: String,
    pub region: String,
    /// Lower case, sorted, unique.
    pub signed_headers: Vec<String>,
    pub signature: String,
    pub session_token: Option<String>,
    /// As it is signed: `YYYYMMDDTHHMMSSZ`.
    pub amz_date: String,
    pub signed_at: Timestamp,
    /// The lifetime a presigned request gives itself.
    pub presigned_for: Option<SignedDuration>,
}

impl Claim {
    pub(super) fn read(request: &SignedRequest<'_>) -> Result<Self, AuthError> {
        let header = one_header(request.headers, &AUTHORIZATION, "Authorization")?;
        let presigned = query_pairs(request.raw_query).any(|(key, _)| {
            let key = decode(key);
            key == b"X-Amz-Algorithm" || key == QUERY_SIGNATURE.as_bytes()
        });
        match (header, presigned) {
            (Some(_), true) => Err(Malformed::SignedTwice.into()),
            (Some(header), false) => Self::from_header(header, request.headers),
            (None, true) => Self::from_query(request.raw_query),
            (None, false) => Err(AuthError::MissingAuthenticationToken),
        }
    }

    fn from_header(header: &str, headers: &HeaderMap) -> Result<Self, AuthError> {
        let header = header.trim();
        let (algorithm, rest) =
            header.split_once(|c: char| c.is_ascii_whitespace()).unwrap_or((header, ""));
        if algorithm != ALGORITHM {
            return Err(Malformed::UnsupportedAlgorithm.into());
        }
        let (mut credential, mut signed_headers, mut signature) = (None, None, None);
        for piece in rest.split(',').map(str::trim).filter(|piece| !piece.is_empty()) {
            let (key, value) = piece.split_once('=').ok_or(Malformed::NotAPair)?;
            let (slot, name) = match key.trim() {
                "Credential" => (&mut credential, "Credential"),
                "SignedHeaders" => (&mut signed_headers, "SignedHeaders"),
                "Signature" => (&mut signature, "Signature"),
                _ => return Err(Malformed::UnknownParameter.into()),
            };
            if slot.replace(value.trim()).is_some() {
                return Err(Malformed::Repeated(name).into());
            }
        }
        let present = |value: Option<&str>, name| {
            value.map(str::to_owned).ok_or(Malformed::MissingParameter(name))
        };
        let credential = present(credential, "Credential")?;
        let signed_headers = read_signed_headers(&present(signed_headers, "SignedHeaders")?)?;
        let signature = present(signature, "Signature")?;

        let amz_header = HeaderName::from_static(X_AMZ_DATE);
        let (amz_date, signed_at, date_header) =
            if let Some(text) = one_header(headers, &amz_header, "X-Amz-Date")? {
                let time = date::parse(text.trim()).ok_or(Malformed::Date)?;
                (text.trim().to_owned(), time, X_AMZ_DATE)
            } else {
                let text = one_header(headers, &DATE, "Date")?.ok_or(Malformed::MissingDate)?;
                let time = date::parse_date_header(text.trim()).ok_or(Malformed::Date)?;
                (date::format(time), time, "date")
            };
        let token_header = HeaderName::from_static(X_AMZ_SECURITY_TOKEN);
        let session_token = one_header(headers, &token_header, "X-Amz-Security-Token")?;
        for (needed, name) in
            [(true, "host"), (true, date_header), (session_token.is_some(), X_AMZ_SECURITY_TOKEN)]
        {
            if needed && !signed_headers.iter().any(|signed| signed == name) {
                return Err(Mismatch::Unsigned(name).into());
            }
        }
        let session_token = session_token.map(|token| token.trim().to_owned());
        Self {
            signed_headers,
            signature,
            session_token,
            amz_date,
            signed_at,
            presigned_for: None,
            access_key_id: String::new(),
            scope_date: String::new(),
            region: String::new(),
        }
        .scoped(&credential)
    }

    fn from_query(raw_query: &str) -> Result<Self, AuthError> {
        const NAMES: [&str; 7] = [
            "X-Amz-Algorithm",
            "X-Amz-Credential",
            "X-Amz-Date",
            "X-Amz-Expires",
            "X-Amz-SignedHeaders",
            QUERY_SIGNATURE,
            "X-Amz-Security-Token",
        ];
        let mut found: [Option<String>; 7] = Default::default();
        for (key, value) in query_pairs(raw_query) {
            let key = decode(key);
            let Some(at) = NAMES.iter().position(|name| name.as_bytes() == key) else { continue };
            let value =
                String::from_utf8(decode(value)).map_err(|_| Malformed::NotText(NAMES[at]))?;
            if found[at].replace(value).is_some() {
                return Err(Malformed::Repeated(NAMES[at]).into());
            }
        }
        let session_token = found[6].take();
        let mut take = |at: usize| found[at].take().ok_or(Malformed::MissingParameter(NAMES[at]));
        if take(0)? != ALGORITHM {
            return Err(Malformed::UnsupportedAlgorithm.into());
        }
        let (credential, amz_date) = (take(1)?, take(2)?);
        let (expires, signed_headers, signature) = (take(3)?, take(4)?, take(5)?);
        let signed_headers = read_signed_headers(&signed_headers)?;
        if !signed_headers.iter().any(|name| name == "host") {
            return Err(Mismatch::Unsigned("host").into());
        }
        let signed_at = date::parse(&amz_date).ok_or(Malformed::Date)?;
        let presigned_for = expires
            .parse::<u32>()
            .ok()
            .map(|seconds| SignedDuration::from_secs(seconds.into()))
            .filter(|life| !life.is_zero() && *life <= MAX_PRESIGNED_LIFETIME)
            .ok_or(Malformed::Expires)?;
        Self {
            signed_headers,
            signature,
            session_token,
            amz_date,
            signed_at,
            presigned_for: Some(presigned_for),
            access_key_id: String::new(),
            scope_date: String::new(),
            region: String::new(),
        }
        .scoped(&credential)
    }

    /// Fills in what the credential says, and checks that its scope is ours.
    fn scoped(mut self, credential: &str) -> Result<Self, AuthError> {
        let parts: Vec<&str> = credential.split('/').collect();
        let [access_key_id, scope_date, region, service, terminator] = parts[..] else {
            return Err(Malformed::Credential.into());
        };
        if access_key_id.is_empty()
            || scope_date.len() != 8
            || !scope_date.bytes().all(|byte| byte.is_ascii_digit())
        {
            return Err(Malformed::Credential.into());
        }
        // The region goes into ARNs and error messages from here on.
        let in_region =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if region.is_empty() || region.len() > 64 || !region.bytes().all(in_region) {
            return Err(Malformed::Region.into());
        }
        if terminator != TERMINATOR {
            return Err(Mismatch::Terminator.into());
        }
        if service != SERVICE {
            return Err(Mismatch::Service.into());
        }
        if !self.amz_date.starts_with(scope_date) {
            let (scope, request) = (scope_date.to_owned(), self.amz_date);
            return Err(Mismatch::ScopeDate { scope, request }.into());
        }
        access_key_id.clone_into(&mut self.access_key_id);
        scope_date.clone_into(&mut self.scope_date);
        region.clone_into(&mut self.region);
        Ok(self)
    }
}

/// The one value of a header, as text; several are refused, since it is unclear which one counts.
fn one_header<'h>(
    headers: &'h HeaderMap,
    name: &HeaderName,
    shown: &'static str,
) -> Result<Option<&'h str>, Malformed> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Malformed::Repeated(shown));
    }
    std::str::from_utf8(value.as_bytes()).map(Some).map_err(|_| Malformed::NotText(shown))
}

fn read_signed_headers(list: &str) -> Result<Vec<String>, Malformed> {
    let mut names = Vec::new();
    for name in list.split(';').map(str::trim) {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| Malformed::SignedHeaders)?;
        names.push(name.as_str().to_owned());
    }
    names.sort_unstable();
    names.dedup();
    Ok(names)
}
