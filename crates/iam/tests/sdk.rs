//! Requests signed by the Rust SDK's signer, over generated requests, and by our own.
#![allow(clippy::unwrap_used, reason = "a test panics where an error surprises it")]

mod common;

use std::time::{Duration, SystemTime};

use aws_sigv4::http_request::{
    PayloadChecksumKind, SignableBody, SignableRequest, SignatureLocation, SigningSettings, sign,
};
use aws_sigv4::sign::v4;
use common::{Request, key};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use jiff::Timestamp;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use proptest::prelude::*;
use provault_iam::AccessKey;

const LABEL: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
/// As browsers and many libraries encode: `:`, `/`, `@` and `+` stay.
const LOOSE: &AsciiSet = &LABEL.remove(b':').remove(b'/').remove(b'@').remove(b'+');

#[derive(Clone, Debug)]
struct Shape {
    request: Request,
    token: Option<String>,
    presigned: bool,
    hashed: bool,
    now: Timestamp,
}

fn words() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-zA-Z0-9_-]{1,12}",
        "arn:aws:backup:[a-z]{2}-[a-z]{4}-1:[0-9]{12}:backup-vault:[A-Za-z0-9]{1,8}",
        "[ -~]{1,10}",
        "\\PC{1,6}",
    ]
}

fn path() -> impl Strategy<Value = String> {
    let segment = words().prop_map(|word| utf8_percent_encode(&word, LABEL).to_string());
    let segment = prop_oneof![8 => segment, 1 => Just(String::new()), 1 => Just(".".into()), 1 => Just("..".into())];
    (prop::collection::vec(segment, 0..5), any::<bool>())
        .prop_map(|(segments, slash)| {
            format!("/{}{}", segments.join("/"), if slash { "/" } else { "" })
        })
        // A path that ends in a dot segment is where the signers disagree about the last slash.
        .prop_filter("ends in a dot segment", |path| {
            !path.ends_with("/.") && !path.ends_with("/..")
        })
}

fn query() -> impl Strategy<Value = String> {
    let pair =
        (words(), prop::option::of(prop_oneof![words(), Just(String::new())]), any::<bool>())
            .prop_map(|(key, value, loose)| {
                let set = if loose { LOOSE } else { LABEL };
                let key = utf8_percent_encode(&key, set).to_string();
                match value {
                    Some(value) => format!("{key}={}", utf8_percent_encode(&value, set)),
                    None => key,
                }
            });
    (prop::collection::vec(pair, 0..5), any::<bool>()).prop_map(|(mut pairs, double)| {
        if double {
            pairs.extend(pairs.first().cloned());
        }
        pairs.join("&")
    })
}

fn headers() -> impl Strategy<Value = HeaderMap> {
    let host = prop_oneof![Just("127.0.0.1:7070"), Just("backup.example.com"), Just("[::1]:80")];
    let extra = prop::collection::vec(("x-[a-w]{1,6}", "[!-~]{1,5}( {1,3}[!-~]{1,5}){0,2}"), 0..5);
    (host, extra).prop_map(|(host, extra)| {
        let mut headers = HeaderMap::new();
        headers.insert("host", HeaderValue::from_static(host));
        headers.insert("content-type", HeaderValue::from_static("application/json"));
        headers.insert("user-agent", HeaderValue::from_static("aws-sdk-rust/1"));
        for (name, value) in extra {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            headers.append(name, HeaderValue::from_str(&value).unwrap());
        }
        headers
    })
}

fn shape() -> impl Strategy<Value = Shape> {
    let method = prop::sample::select(vec![Method::GET, Method::PUT, Method::POST, Method::DELETE]);
    let body = prop_oneof![
        Just(Vec::new()),
        prop::collection::vec(any::<u8>(), 1..40),
        "\\PC{1,20}".prop_map(String::into_bytes),
    ];
    let token = prop::option::of("[A-Za-z0-9+/]{20,60}={0,2}");
    let flags = (any::<bool>(), any::<bool>());
    // 2001 to 2100, whole seconds.
    let now = 1_000_000_000_i64..4_100_000_000;
    (method, path(), query(), headers(), body, token, flags, now).prop_map(
        |(method, path, query, headers, body, token, (presigned, hashed), now)| Shape {
            request: Request { method, path, query, headers, body },
            token,
            presigned,
            hashed,
            now: Timestamp::from_second(now).unwrap(),
        },
    )
}

/// Signs in place, as an SDK client does.
fn sign_with_sdk(service: &str, shape: &mut Shape, key: &AccessKey) {
    let identity = aws_credential_types::Credentials::new(
        &key.access_key_id,
        key.secret.expose_secret(),
        shape.token.clone(),
        None,
        "test",
    )
    .into();
    let mut settings = SigningSettings::default();
    if shape.presigned {
        settings.signature_location = SignatureLocation::QueryParams;
        settings.expires_in = Some(Duration::from_mins(10));
    }
    if shape.hashed {
        settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
    }
    let params = v4::SigningParams::builder()
        .identity(&identity)
        .region("eu-central-1")
        .name(service)
        .time(SystemTime::from(shape.now))
        .settings(settings)
        .build()
        .unwrap()
        .into();
    let request = &mut shape.request;
    let host = request.headers["host"].to_str().unwrap();
    let mark = if request.query.is_empty() { "" } else { "?" };
    let url = format!("http://{host}{}{mark}{}", request.path, request.query);
    let signable = SignableRequest::new(
        request.method.as_str(),
        &url,
        request.headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())),
        SignableBody::Bytes(&request.body),
    )
    .unwrap();
    let (instructions, _) = sign(signable, &params).unwrap().into_parts();
    let (headers, params) = instructions.into_parts();
    for header in headers {
        request.set(header.name(), header.value());
    }
    for (name, value) in params {
        let joiner = if request.query.is_empty() { "" } else { "&" };
        let value = utf8_percent_encode(&value, LABEL).to_string();
        request.query.extend([joiner, name, "=", &value]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn what_the_sdk_signs_verifies(mut shape in shape(), at in any::<prop::sample::Index>()) {
        let key = key("AKIASDK2345672345672", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
            shape.token.as_deref());
        sign_with_sdk("backup", &mut shape, &key);
        let verified = shape.request.verify(&key, shape.now);
        prop_assert!(verified.is_ok(), "{:?} for {:?}", verified, shape.request);
        let verified = verified.unwrap();
        prop_assert_eq!(verified.region, "eu-central-1");
        prop_assert_eq!(verified.presigned, shape.presigned);

        let mut changed = shape.request.clone();
        changed.path.push('x');
        prop_assert!(changed.verify(&key, shape.now).is_err());
        let mut changed = shape.request.clone();
        changed.query += "&x";
        prop_assert!(changed.verify(&key, shape.now).is_err());
        let mut changed = shape.request.clone();
        if changed.body.is_empty() {
            changed.body.push(0);
        } else {
            let at = at.index(changed.body.len());
            changed.body[at] ^= 0x20;
        }
        prop_assert!(changed.verify(&key, shape.now).is_err());
    }

    /// Our signer and the SDK's give the very same signature, so whatever accepts theirs accepts ours.
    #[test]
    fn we_sign_as_the_sdk_does(shape in shape()) {
        let key = key("AKIASDK2345672345672", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
            shape.token.as_deref());
        let mut theirs = Shape { presigned: false, hashed: false, ..shape.clone() };
        let mut elsewhere = theirs.clone();
        sign_with_sdk("backup", &mut theirs, &key);
        let mut ours = shape.request.clone();
        let added =
            provault_iam::sign(&ours.as_signed(), &key.credentials(), "eu-central-1", shape.now)
                .unwrap();
        ours.headers.extend(added);
        prop_assert_eq!(&ours.headers["authorization"], &theirs.request.headers["authorization"]);
        prop_assert!(ours.verify(&key, shape.now).is_ok());

        sign_with_sdk("sns", &mut elsewhere, &key);
        let unsigned = shape.request.clone();
        let added = provault_iam::sign_for(
            "sns", &unsigned.as_signed(), &key.credentials(), "eu-central-1", shape.now).unwrap();
        prop_assert_eq!(&added["authorization"], &elsewhere.request.headers["authorization"]);
    }
}
