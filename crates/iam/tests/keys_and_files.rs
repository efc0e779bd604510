//! Access keys, and the credentials file that hands them to clients.
#![allow(clippy::unwrap_used, reason = "a test panics where an error surprises it")]

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

use jiff::Timestamp;
use provault_iam::{
    AccessKey, Credentials, CredentialsError, CredentialsFile, KeyStatus, Principal, PrincipalKind,
    Secret,
};

fn generate() -> AccessKey {
    AccessKey::generate(Principal::root("123456789012").unwrap(), Timestamp::UNIX_EPOCH).unwrap()
}

#[test]
fn generated_keys_have_aws_s_shape_and_are_unique() {
    let mut seen = HashSet::new();
    let mut letters = HashSet::new();
    for _ in 0..200 {
        let key = generate();
        assert_eq!(key.access_key_id.len(), 20);
        assert!(key.access_key_id.starts_with("AKIA"));
        let in_alphabet = |c: char| c.is_ascii_uppercase() || ('2'..='7').contains(&c);
        assert!(key.access_key_id.chars().all(in_alphabet));
        letters.extend(key.access_key_id[4..].chars());
        assert_eq!(key.secret.expose_secret().len(), 40);
        assert!(seen.insert(key.access_key_id.clone()));
        assert!(seen.insert(key.secret.expose_secret().to_owned()));
        assert_eq!((key.status, key.account_id()), (KeyStatus::Active, "123456789012"));
    }
    assert_eq!(letters.len(), 32, "all letters of the alphabet occur");
}

#[test]
fn a_key_prints_without_its_secret_and_is_stored_with_it() {
    let key = generate();
    let printed = format!("{key:?} {:?} {:#?}", key.credentials(), key.secret);
    assert!(!printed.contains(key.secret.expose_secret()));
    assert!(printed.contains(&key.access_key_id));
    let stored = serde_json::to_string(&key).unwrap();
    assert!(stored.contains("\"arn:aws:iam::123456789012:root\""), "{stored}");
    let back: AccessKey = serde_json::from_str(&stored).unwrap();
    assert_eq!(back.secret.expose_secret(), key.secret.expose_secret());
    assert_eq!((back.principal, back.created_at), (key.principal, key.created_at));
}

#[test]
fn principals_are_read_from_their_arns_only() {
    for (arn, kind) in [
        ("arn:aws:iam::123456789012:root", PrincipalKind::Root),
        ("arn:aws:iam::123456789012:user/path/ann", PrincipalKind::User),
        ("arn:aws:iam::123456789012:role/service-role/AWSBackup", PrincipalKind::Role),
        ("arn:aws:sts::123456789012:assumed-role/r/s", PrincipalKind::Role),
    ] {
        let principal = Principal::from_arn(arn).unwrap();
        assert_eq!((principal.kind(), principal.account_id()), (kind, "123456789012"));
        assert_eq!(principal.arn(), arn);
    }
    for arn in [
        "",
        "root",
        "arn:aws:iam::12345:root",
        "arn:aws:iam::12345678901x:root",
        "arn:aws:iam:us-east-1:123456789012:root",
        "arn:aws:iam::123456789012:rooted",
        "arn:aws:iam::123456789012:user/",
        "arn:aws:sts::123456789012:root",
        "arn:aws:s3::123456789012:root",
    ] {
        assert!(Principal::from_arn(arn).is_err(), "{arn}");
        assert!(serde_json::from_value::<Principal>(arn.into()).is_err());
    }
}

#[test]
fn the_file_is_private_complete_and_read_back() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("credentials");
    let mut credentials = generate().credentials();
    CredentialsFile::write(&path, "default", &credentials).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
    let text = fs::read_to_string(&path).unwrap();
    let secret = credentials.secret_access_key.expose_secret();
    let id = &credentials.access_key_id;
    let expected =
        format!("[default]\naws_access_key_id = {id}\naws_secret_access_key = {secret}\n");
    assert_eq!(text, expected);
    let file = CredentialsFile::load(&path).unwrap();
    assert!(!format!("{file:?}").contains(secret));
    let read = file.profile("default").unwrap();
    assert_eq!(&read.access_key_id, id);
    assert_eq!(read.secret_access_key.expose_secret(), secret);
    assert!(read.session_token.is_none());

    // Written again over a file that everyone could read and that someone holds open: the reader
    // keeps the old content, the new content was never in a readable file.
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let old = fs::metadata(&path).unwrap().ino();
    credentials.session_token = Some(Secret::new("token"));
    CredentialsFile::write(&path, "other", &credentials).unwrap();
    let metadata = fs::metadata(&path).unwrap();
    assert_eq!(metadata.permissions().mode() & 0o7777, 0o600);
    assert_ne!(metadata.ino(), old);
    let file = CredentialsFile::load(&path).unwrap();
    let token = file.profile("other").unwrap().session_token.unwrap();
    assert_eq!(token.expose_secret(), "token");
    let error = file.profile("default").unwrap_err();
    assert!(error.to_string().contains("it has: other"), "{error}");
    // Nothing lies about.
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
}

#[test]
fn a_link_in_the_way_is_replaced_and_not_followed() {
    let directory = tempfile::tempdir().unwrap();
    let (path, target) = (directory.path().join("credentials"), directory.path().join("target"));
    fs::write(&target, "untouched").unwrap();
    symlink(&target, &path).unwrap();
    CredentialsFile::write(&path, "default", &generate().credentials()).unwrap();
    assert_eq!(fs::read_to_string(&target).unwrap(), "untouched");
    assert!(fs::symlink_metadata(&path).unwrap().is_file());
}

#[test]
fn failures_say_which_file_and_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("credentials");
    let missing = CredentialsFile::load(&path).unwrap_err();
    assert!(
        matches!(&missing, CredentialsError::Io { source, .. }
            if source.kind() == std::io::ErrorKind::NotFound),
        "{missing}"
    );
    fs::write(&path, "[default]\naws_access_key_id = A\n").unwrap();
    let error = CredentialsFile::load(&path).unwrap().profile("default").unwrap_err();
    assert!(error.to_string().contains("has no aws_secret_access_key"), "{error}");
    fs::write(&path, "[default]\nsecret without a sign\n").unwrap();
    let error = CredentialsFile::load(&path).unwrap_err().to_string();
    assert!(error.contains("line 2") && !error.contains("secret without"), "{error}");

    // A directory cannot be replaced; the half-made file goes away again.
    let blocked = directory.path().join("blocked");
    fs::create_dir_all(blocked.join("in the way")).unwrap();
    let error = CredentialsFile::write(&blocked, "default", &generate().credentials()).unwrap_err();
    assert!(error.to_string().contains("cannot write"), "{error}");
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);

    let credentials = |secret: &str| Credentials {
        access_key_id: "AKIA".into(),
        secret_access_key: Secret::new(secret),
        session_token: None,
    };
    for (profile, secret) in
        [("a]b", "s"), ("", "s"), ("DEFAULT", "s"), ("a", "x\n[root]"), ("a", " s"), ("a", "")]
    {
        let error = CredentialsFile::write(&path, profile, &credentials(secret)).unwrap_err();
        assert!(matches!(error, CredentialsError::Unwritable(_)), "{error}");
    }
}
