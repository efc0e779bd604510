//! Each way a request can be refused, with the name and status that AWS clients look at.
#![allow(clippy::unwrap_used, reason = "a test panics where an error surprises it")]

mod common;

use common::{Request, key, time};
use http::{HeaderMap, HeaderValue, Method};
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use provault_iam::{
    AccessKey, AuthError, Credentials, KeyStatus, Secret, Session, SignError, sign, verify,
};

const DATE: &str = "20260102T030405Z";
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

fn now() -> Timestamp {
    time(DATE)
}

fn owner() -> AccessKey {
    key("AKIAOWNER23456723456", SECRET, None)
}

fn unsigned() -> Request {
    let mut headers = HeaderMap::new();
    headers.insert("host", HeaderValue::from_static("127.0.0.1:7070"));
    headers.insert("content-type", HeaderValue::from_static("application/json"));
    Request {
        method: Method::PUT,
        path: "/tags/arn%3Aaws%3Abackup".into(),
        query: "delete".into(),
        headers,
        body: b"{}".to_vec(),
    }
}

fn signed_by(key: &AccessKey) -> Request {
    let mut request = unsigned();
    let added = sign(&request.as_signed(), &key.credentials(), "us-east-1", now()).unwrap();
    request.headers.extend(added);
    request
}

/// The answer to a properly signed request whose Authorization header was rewritten.
fn after(change: impl Fn(&str) -> String) -> AuthError {
    let mut request = signed_by(&owner());
    let value = change(request.headers["authorization"].to_str().unwrap());
    request.set("authorization", &value);
    request.verify(&owner(), now()).unwrap_err()
}

#[track_caller]
fn expect(error: &AuthError, code: &str, status: u16, words: &str) {
    assert_eq!((error.code(), error.status().as_u16()), (code, status), "{error}");
    let text = error.to_string();
    assert!(text.contains(words), "{text:?} does not say {words:?}");
    assert!(!text.contains(SECRET) && !format!("{error:?}").contains(SECRET));
}

#[test]
fn a_request_without_a_signature() {
    let error = unsigned().verify(&owner(), now()).unwrap_err();
    expect(&error, "MissingAuthenticationTokenException", 403, "not signed");
}

#[test]
fn a_signature_that_cannot_be_read() {
    const CODE: &str = "IncompleteSignatureException";
    for (from, to, words) in [
        ("AWS4-HMAC-SHA256", "AWS4-ECDSA-P256-SHA256", "AWS4-HMAC-SHA256"),
        ("AWS4-HMAC-SHA256", "Basic", "unsupported signing algorithm"),
        ("Credential=", "Credentials=", "unknown parameter"),
        ("SignedHeaders=", "SignedHeaders", "key=value"),
        (", Signature=", ", Signature=0, Signature=", "more than one 'Signature'"),
        ("/us-east-1/", "/", "exactly 5"),
        ("/us-east-1/", "/us/east-1/", "exactly 5"),
        ("/us-east-1/", "//", "region"),
        ("/us-east-1/", "/US/", "region"),
        ("/20260102/", "/2026010/", "exactly 5"),
        ("AKIAOWNER23456723456", "", "exactly 5"),
        ("content-type;", "content type;", "SignedHeaders"),
        ("content-type;", ";", "SignedHeaders"),
    ] {
        let error = after(|value| value.replacen(from, to, 1));
        expect(&error, CODE, 400, words);
    }
    for (name, words) in [
        ("Credential", "no 'Credential'"),
        ("SignedHeaders", "no 'SignedHeaders'"),
        ("Signature", "no 'Signature'"),
    ] {
        let error = after(|value| {
            let (algorithm, rest) = value.split_once(' ').unwrap();
            let prefix = format!("{name}=");
            let rest: Vec<&str> =
                rest.split(", ").filter(|piece| !piece.starts_with(&prefix)).collect();
            format!("{algorithm} {}", rest.join(", "))
        });
        expect(&error, CODE, 400, words);
    }
    expect(&after(|_| String::new()), CODE, 400, "unsupported");

    let mut request = signed_by(&owner());
    request.headers.remove("x-amz-date");
    expect(&request.verify(&owner(), now()).unwrap_err(), CODE, 400, "no date");
    for date in ["2026-01-02T03:04:05Z", "20260102T030405", "20261302T030405Z", "20260102T0304+5Z"]
    {
        request.set("x-amz-date", date);
        expect(&request.verify(&owner(), now()).unwrap_err(), CODE, 400, "YYYYMMDDTHHMMSSZ");
    }

    let mut request = signed_by(&owner());
    request.headers.append("authorization", HeaderValue::from_static("x"));
    expect(&request.verify(&owner(), now()).unwrap_err(), CODE, 400, "more than one");
    let mut request = signed_by(&owner());
    request.query += "&X-Amz-Algorithm=AWS4-HMAC-SHA256";
    expect(&request.verify(&owner(), now()).unwrap_err(), CODE, 400, "signed twice");
    let mut request = signed_by(&owner());
    request.headers.insert("authorization", HeaderValue::from_bytes(b"AWS4 \xff").unwrap());
    expect(&request.verify(&owner(), now()).unwrap_err(), CODE, 400, "not plain text");
}

#[test]
fn spacing_in_the_header_does_not_matter() {
    for (from, to) in [(", ", ","), (", ", "  ,   "), ("=", " = "), ("SHA256 ", "SHA256   ")] {
        let mut request = signed_by(&owner());
        let value = request.headers["authorization"].to_str().unwrap().replace(from, to);
        request.set("authorization", &format!("  {value} "));
        request.verify(&owner(), now()).unwrap();
    }
}

#[test]
fn a_signature_for_something_else() {
    const CODE: &str = "InvalidSignatureException";
    for (from, to, words) in [
        ("/backup/", "/s3/", "scoped to correct service: 'backup'"),
        ("aws4_request", "aws5_request", "terminator"),
        ("/20260102/", "/20260103/", "does not match the date"),
        ("/us-east-1/", "/us-west-2/", "does not match the signature"),
        ("host;", "", "'host' must be"),
        (";x-amz-date", "", "'x-amz-date' must be"),
        ("content-type;", "", "does not match the signature"),
        ("content-type;", "content-type;x-gone;", "'x-gone' is not in the request"),
    ] {
        expect(&after(|value| value.replacen(from, to, 1)), CODE, 403, words);
    }
    for signature in ["", "00", "zz", &"0".repeat(64), &"0".repeat(66)] {
        let error = after(|value| {
            format!("{}Signature={signature}", value.split_once("Signature=").unwrap().0)
        });
        expect(&error, CODE, 403, "content-type;host;x-amz-date");
    }
}

#[test]
fn a_payload_hash_must_be_the_body_s_own() {
    let hash = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";
    for (claim, words) in [
        (hash, ""),
        (&hash.to_uppercase(), "x-amz-content-sha256"),
        (&hash.replace('4', "5"), "x-amz-content-sha256"),
        ("UNSIGNED-PAYLOAD", "payload signed as a whole"),
        ("STREAMING-AWS4-HMAC-SHA256-PAYLOAD", "payload signed as a whole"),
    ] {
        let mut request = unsigned();
        request.set("x-amz-content-sha256", claim);
        let credentials = owner().credentials();
        let added = sign(&request.as_signed(), &credentials, "us-east-1", now()).unwrap();
        request.headers.extend(added);
        match request.verify(&owner(), now()) {
            Ok(_) => assert_eq!(claim, hash),
            Err(error) => expect(&error, "InvalidSignatureException", 403, words),
        }
    }
}

#[test]
fn clocks_may_differ_by_15_minutes_and_no_more() {
    let request = signed_by(&owner());
    let edge = SignedDuration::from_mins(15);
    let moment = SignedDuration::from_nanos(1);
    for offset in [-edge, -moment, SignedDuration::ZERO, moment, edge] {
        request.verify(&owner(), now() + offset).unwrap();
    }
    let late = request.verify(&owner(), now() + edge + moment).unwrap_err();
    expect(
        &late,
        "RequestExpired",
        403,
        "Signature expired: the request is dated 20260102T030405Z",
    );
    expect(&late, "RequestExpired", 403, "the server's time is 20260102T031905Z");
    let early = request.verify(&owner(), now() - edge - moment).unwrap_err();
    expect(&early, "RequestExpired", 403, "Signature not yet current");
    // A date cannot be refreshed without the secret.
    let mut replay = request.clone();
    replay.set("x-amz-date", "20260102T032000Z");
    let error = replay.verify(&owner(), time("20260102T032000Z")).unwrap_err();
    expect(&error, "InvalidSignatureException", 403, "does not match");
}

#[test]
fn unknown_and_inactive_keys_and_foreign_tokens_get_one_answer() {
    const CODE: &str = "UnrecognizedClientException";
    let request = signed_by(&owner());
    let answer = verify(&request.as_signed(), |_| None, now()).unwrap_err();
    expect(&answer, CODE, 403, "security token included in the request is invalid");
    let inactive = AccessKey { status: KeyStatus::Inactive, ..owner() };
    assert_eq!(request.verify(&inactive, now()).unwrap_err(), answer);

    let id = "AKIAOWNER23456723456";
    let temporary = key(id, SECRET, Some("the token"));
    signed_by(&temporary).verify(&temporary, now()).unwrap();
    // Without a token, with another one, and with one that the key was never given.
    for (signer, holder) in [
        (owner(), temporary.clone()),
        (key(id, SECRET, Some("another")), temporary.clone()),
        (temporary.clone(), owner()),
    ] {
        assert_eq!(signed_by(&signer).verify(&holder, now()).unwrap_err(), answer);
    }
    let mut unsigned_token = signed_by(&owner());
    unsigned_token.set("x-amz-security-token", "the token");
    let error = unsigned_token.verify(&temporary, now()).unwrap_err();
    expect(&error, "InvalidSignatureException", 403, "'x-amz-security-token' must be");

    let session = Some(Session { token: Secret::new("the token"), expires_at: now() });
    let ended = AccessKey { session, ..owner() };
    let error = signed_by(&ended).verify(&ended, now()).unwrap_err();
    expect(&error, "ExpiredTokenException", 403, "get new temporary credentials");
}

/// A presigned request made by botocore 1.43.11, valid for 60 seconds.
fn presigned() -> (Request, AccessKey, Timestamp) {
    let mut request = unsigned();
    request.method = Method::GET;
    request.body.clear();
    request.path = "/tags/arn%3Aaws%3Abackup".into();
    request.query = PRESIGNED_QUERY.into();
    (request, key("AKIAOWNER23456723456", SECRET, None), time(DATE))
}

const PRESIGNED_QUERY: &str = "delete=&\
    X-Amz-Algorithm=AWS4-HMAC-SHA256&\
    X-Amz-Credential=AKIAOWNER23456723456%2F20260102%2Fus-east-1%2Fbackup%2Faws4_request&\
    X-Amz-Date=20260102T030405Z&\
    X-Amz-Expires=60&\
    X-Amz-SignedHeaders=host&\
    X-Amz-Signature=9b624fc4da078af85d16ed2639ad00c1a2533620ac00404a8d1d45867558f645";

#[test]
fn a_presigned_request_ends_when_it_says() {
    let (request, key, signed_at) = presigned();
    for seconds in [-900, 0, 60] {
        request.verify(&key, signed_at + SignedDuration::from_secs(seconds)).unwrap();
    }
    let late = signed_at + SignedDuration::from_secs(61);
    let error = request.verify(&key, late).unwrap_err();
    expect(&error, "RequestExpired", 403, "valid until 20260102T030505Z");
    let early = signed_at - SignedDuration::from_secs(901);
    expect(&request.verify(&key, early).unwrap_err(), "RequestExpired", 403, "not yet current");

    for (from, to, words) in [
        ("X-Amz-Expires=60", "X-Amz-Expires=0", "1 to 604800"),
        ("X-Amz-Expires=60", "X-Amz-Expires=604801", "1 to 604800"),
        ("X-Amz-Expires=60", "X-Amz-Expires=-60", "1 to 604800"),
        ("X-Amz-Expires=60", "X=60", "no 'X-Amz-Expires'"),
        ("X-Amz-Expires=60", "X-Amz-Expires=60&X-Amz-Expires=90", "more than one 'X-Amz-Expires'"),
        ("X-Amz-Signature=", "X=", "no 'X-Amz-Signature'"),
    ] {
        let mut request = request.clone();
        request.query = request.query.replace(from, to);
        assert_ne!(request.query, PRESIGNED_QUERY);
        let error = request.verify(&key, signed_at).unwrap_err();
        expect(&error, "IncompleteSignatureException", 400, words);
    }
    let mut longer = request.clone();
    longer.query = longer.query.replace("X-Amz-Expires=60", "X-Amz-Expires=6000");
    let error = longer.verify(&key, late).unwrap_err();
    expect(&error, "InvalidSignatureException", 403, "does not match");
}

#[test]
fn what_cannot_be_signed() {
    let mut request = unsigned();
    let credentials = owner().credentials();
    let failed = |request: &Request, credentials: &Credentials, region: &str| {
        sign(&request.as_signed(), credentials, region, now()).unwrap_err()
    };
    assert_eq!(failed(&request, &credentials, ""), SignError::Region);
    let broken =
        Credentials { session_token: Some(Secret::new("two\nlines")), ..credentials.clone() };
    assert_eq!(failed(&request, &broken, "r"), SignError::Unsendable("session token"));
    request.headers.remove("host");
    assert_eq!(failed(&request, &credentials, "r"), SignError::MissingHost);
}

proptest! {
    /// Whatever stands in the parts that are parsed: an error with a name, never a panic.
    #[test]
    fn nonsense_is_refused(
        authorization in "(AWS4-HMAC-SHA256 )?((Credential|SignedHeaders|Signature)=\\PC{0,12},? ?){0,4}",
        credential in "AKIA/[0-9]{7,9}/[a-zé-]{0,6}/backup/aws4_request",
        date in prop_oneof!["[0-9]{8}T[0-9]{6}Z", "\\PC{0,17}"],
        path in "\\PC{0,12}",
        query in "(&?X-Amz-(Algorithm|Credential|Date|Expires|SignedHeaders|Signature)=\\PC{0,8}){0,6}\\PC{0,9}",
        presigned in any::<bool>(),
    ) {
        let mut request = unsigned();
        (request.path, request.query) = (path, query);
        let authorization = authorization.replacen("Credential=", &format!("Credential={credential},"), 1);
        request.headers.insert("x-amz-date", HeaderValue::from_bytes(date.as_bytes()).unwrap());
        if !presigned {
            let value = HeaderValue::from_bytes(authorization.as_bytes()).unwrap();
            request.headers.insert("authorization", value);
        }
        let error = request.verify(&owner(), now()).unwrap_err();
        prop_assert!(!error.code().is_empty() && error.status().is_client_error());
    }
}
