//! What principals may do, and what policies are refused.
#![allow(clippy::unwrap_used, reason = "a test panics where an error surprises it")]

use proptest::prelude::*;
use provault_iam::{
    ACTIONS, Decision, DeniedBecause, ManagedPolicy, Policy, PolicyError, Principal, Scope,
    authorize_with,
};

const VAULT: &str = "arn:aws:backup:us-east-1:123456789012:backup-vault:prod-1";

fn policy(statements: &str) -> Policy {
    Policy::parse(&format!(r#"{{"Version":"2012-10-17","Statement":{statements}}}"#)).unwrap()
}

fn decide(policies: &[Policy], action: &str, resource: &str) -> Decision {
    Policy::evaluate(policies, action, resource)
}

#[test]
fn root_may_do_everything_in_its_own_account_and_nothing_in_another() {
    let root = Principal::root("123456789012").unwrap();
    for resource in [VAULT, "*", "arn:aws:s3:::bucket"] {
        authorize_with(&root, &[], "backup:DeleteBackupVault", resource).unwrap();
    }
    let deny = policy(r#"{"Effect":"Deny","Action":"*","Resource":"*"}"#);
    authorize_with(&root, &[deny], "backup:DeleteBackupVault", VAULT).unwrap();

    let foreign = VAULT.replace("123456789012", "999999999999");
    let denied = authorize_with(&root, &[], "backup:DeleteBackupVault", &foreign).unwrap_err();
    assert_eq!(denied.because, DeniedBecause::OtherAccount);
    assert_eq!((denied.code(), denied.status().as_u16()), ("AccessDeniedException", 403));
    let text = denied.to_string();
    assert!(
        text.starts_with(
            "User: arn:aws:iam::123456789012:root is not authorized to perform: \
             backup:DeleteBackupVault on resource: arn:aws:backup:"
        ),
        "{text}"
    );
    for resource in ["", "prod", "arn:aws:backup", "arn:aws:backup:r:123456789012:", "x:a:b:c:d:e"]
    {
        let denied = authorize_with(&root, &[], "backup:DeleteBackupVault", resource).unwrap_err();
        assert_eq!(denied.because, DeniedBecause::NotAnArn, "{resource}");
    }
}

#[test]
fn others_may_do_what_a_policy_allows() {
    let user = Principal::from_arn("arn:aws:iam::123456789012:user/ann").unwrap();
    let denied = authorize_with(&user, &[], "backup:DescribeBackupVault", VAULT).unwrap_err();
    assert_eq!(denied.because, DeniedBecause::NothingAllows);

    let everything = policy(r#"{"Effect":"Allow","Action":"*","Resource":"*"}"#);
    let mut policies = vec![everything];
    authorize_with(&user, &policies, "backup:DescribeBackupVault", VAULT).unwrap();
    let foreign = VAULT.replace("123456789012", "999999999999");
    let denied = authorize_with(&user, &policies, "backup:X", &foreign).unwrap_err();
    assert_eq!(denied.because, DeniedBecause::OtherAccount);

    policies.push(policy(&format!(
        r#"[{{"Effect":"Deny","Action":["backup:Delete*"],"Resource":"{VAULT}"}}]"#
    )));
    let denied = authorize_with(&user, &policies, "backup:deletebackupvault", VAULT).unwrap_err();
    assert_eq!(denied.because, DeniedBecause::ExplicitDeny);
    policies.reverse();
    assert!(authorize_with(&user, &policies, "backup:DeleteBackupVault", VAULT).is_err());
    authorize_with(&user, &policies, "backup:DeleteBackupVault", &format!("{VAULT}0")).unwrap();
}

#[test]
fn patterns_match_as_iam_documents() {
    let allows = |action: &str, resource: &str, asked: &str, on: &str| {
        let policy =
            policy(&format!(r#"{{"Effect":"Allow","Action":"{action}","Resource":"{resource}"}}"#));
        decide(&[policy], asked, on) == Decision::Allowed
    };
    for (action, asked, expected) in [
        ("backup:*", "backup:ListTags", true),
        ("BACKUP:list*", "backup:ListTags", true),
        ("backup:L?stTags", "backup:ListTags", true),
        ("backup:List", "backup:ListTags", false),
        ("backup:ListTags?", "backup:ListTags", false),
        ("provault:*", "backup:ListTags", false),
        ("backup:*Tags*", "backup:ListTags", true),
    ] {
        assert_eq!(allows(action, "*", asked, VAULT), expected, "{action}");
    }
    for (resource, expected) in [
        ("arn:aws:backup:us-east-1:123456789012:backup-vault:prod-*", true),
        ("arn:aws:backup:us-east-1:123456789012:backup-vault:PROD-*", false),
        ("arn:aws:backup:*:123456789012:*", true),
        ("arn:aws:backup:us-*-1:*:backup-vault:prod-?", true),
        ("arn:aws:backup:us-east-1:123456789012:backup?vault:prod-?", true),
        // A wildcard inside a segment does not leave it, one at its end may.
        ("arn:aws:backup:us*1:backup-vault:prod-1:*", false),
        ("arn:aws:backup:us-east-1:123456789012:b*prod-1", false),
        ("arn:aws:backup:us-east-1:123456789012?backup-vault:prod-1", false),
        ("arn:aws:backup:*", true),
    ] {
        assert_eq!(allows("*", resource, "backup:ListTags", VAULT), expected, "{resource}");
    }
    let not = policy(
        r#"{"Effect":"Allow","NotAction":["backup:Delete*","backup:Put*"],
            "NotResource":"arn:aws:backup:*:*:backup-vault:prod-*"}"#,
    );
    let other = VAULT.replace("prod", "test");
    assert_eq!(decide(std::slice::from_ref(&not), "backup:ListTags", &other), Decision::Allowed);
    for (action, resource) in [("backup:DeleteX", other.as_str()), ("backup:ListTags", VAULT)] {
        let decision = decide(std::slice::from_ref(&not), action, resource);
        assert_eq!(decision, Decision::ImplicitlyDenied);
    }
}

#[test]
fn what_is_not_understood_is_refused_when_parsing() {
    let statement = |extra: &str| {
        format!(r#"{{"Statement":[{{"Effect":"Allow","Action":"*","Resource":"*"{extra}}}]}}"#)
    };
    Policy::parse(&statement("")).unwrap();
    for (text, place) in [
        (statement(r#","Condition":{}"#), "Statement[0].Condition"),
        (statement("").replace(r#"e":"*""#, r#"e":"arn:aws:s3:::${aws:username}""#), "Resource"),
    ] {
        let error = Policy::parse(&text).unwrap_err();
        assert!(matches!(error, PolicyError::Unsupported { .. }), "{error}");
        assert!(error.to_string().contains(place), "{error}");
    }
    for (text, words) in [
        (statement(r#","Principal":"*""#), "Principal"),
        (statement(r#","Note":"x""#), "Statement[0].Note"),
        (statement(r#","NotAction":"*""#), "exactly one"),
        (statement("").replace("Allow", "allow"), "Effect"),
        (statement("").replace(r#""Effect":"Allow","#, ""), "Effect"),
        (statement("").replace(r#""Action":"*","#, ""), "Action"),
        (statement("").replace(r#""Action":"*""#, r#""Action":[]"#), "Action"),
        (statement("").replace(r#""Action":"*""#, r#""Action":["*",1]"#), "Action"),
        (statement("").replace(r#""Action":"*""#, r#""Action":"Describe""#), "SERVICE:ACTION"),
        (statement("").replace(r#"e":"*""#, r#"e":"vault""#), "ARN"),
        (statement("").replace(r#"e":"*""#, r#"e":"arn:aws:backup""#), "ARN"),
        (r#"{"Statement":[]}"#.into(), "Statement"),
        (r#"{"Version":"2012-10-17"}"#.into(), "Statement"),
        (statement("").replacen('{', r#"{"Version":"2020-01-01","#, 1), "Version"),
        (statement("").replacen('{', r#"{"Extra":1,"#, 1), "Extra"),
        ("[]".into(), "object"),
        ("{".into(), "not valid JSON"),
        // The last one would win, and the Deny be forgotten.
        (statement(r#","Effect":"Deny""#), "\"Effect\" stands twice"),
    ] {
        let error = Policy::parse(&text).unwrap_err();
        assert!(!matches!(error, PolicyError::Unsupported { .. }), "{error}");
        assert!(error.to_string().contains(words), "{error} does not say {words}\n{text}");
    }
    let one = r#"{"Sid":"a","Effect":"Allow","Action":"*","Resource":"*"}"#;
    let error = Policy::parse(&format!(r#"{{"Statement":[{one},{one}]}}"#)).unwrap_err();
    assert!(error.to_string().contains("Statement[1].Sid"), "{error}");
}

/// The obvious recursive matcher, as the reference.
fn slow(pattern: &[u8], text: &[u8], at: usize) -> bool {
    match pattern.get(at) {
        None => text.is_empty(),
        Some(b'*') => {
            let crosses = matches!(pattern.get(at + 1), None | Some(b':'));
            slow(pattern, text, at + 1)
                || (!text.is_empty()
                    && (crosses || text[0] != b':')
                    && slow(pattern, &text[1..], at))
        }
        Some(&symbol) => {
            !text.is_empty()
                && (symbol == text[0] || (symbol == b'?' && text[0] != b':'))
                && slow(pattern, &text[1..], at + 1)
        }
    }
}

proptest! {
    #[test]
    fn resources_match_as_the_reference_does(tail in "[ab:*?]{0,10}", text in "[ab:]{0,10}") {
        let pattern = format!("arn:aws:s3:::{tail}");
        let arn = format!("arn:aws:s3:::{text}");
        let policy = policy(&format!(
            r#"{{"Effect":"Allow","Action":"*","Resource":"{pattern}"}}"#
        ));
        let decision = decide(&[policy], "s3:GetObject", &arn);
        prop_assert_eq!(decision == Decision::Allowed, slow(pattern.as_bytes(), arn.as_bytes(), 0));
    }

    /// Deny wins whatever else there is and wherever it stands.
    #[test]
    fn an_explicit_deny_wins(allows in 0_usize..4, at in 0_usize..4) {
        let mut policies =
            vec![policy(r#"{"Effect":"Allow","Action":"*","Resource":"*"}"#); allows];
        let deny = policy(r#"{"Effect":"Deny","Action":"backup:*","Resource":"*"}"#);
        policies.insert(at.min(allows), deny);
        prop_assert_eq!(decide(&policies, "backup:ListTags", VAULT), Decision::ExplicitlyDenied);
    }
}

#[test]
fn a_policy_that_could_never_decide_is_refused_by_the_actions_name() {
    let check = |action: &str, resource: &str| {
        policy(&format!(r#"{{"Effect":"Deny","Action":["backup:*","{action}"],{resource}}}"#))
            .check()
    };
    let vault = format!(r#""Resource":"{VAULT}""#);
    for action in
        ["backup:ListBackupVaults", "provault:ListUsers", "PROVAULT:addkey", "backup:ListBackupV*"]
    {
        let error = check(action, &vault).unwrap_err();
        assert!(matches!(error, PolicyError::NeverDecided { .. }), "{error}");
        assert!(error.to_string().contains(action), "{error}");
        for resource in [r#""Resource":"*""#, r#""Resource":["*","arn:aws:sns:*:*:*"]"#] {
            check(action, resource).unwrap();
        }
        check(action, &format!(r#""NotResource":"{VAULT}""#)).unwrap();
    }
    for action in ["provault:RemoveResorce", "provault:Nothing*"] {
        let error = check(action, r#""Resource":"*""#).unwrap_err();
        assert!(matches!(error, PolicyError::NoSuchAction { .. }), "{error}");
    }
    // What other programs and later versions name is none of this server's business.
    for action in ["backup:DeleteBackupVault", "backup:CreateFramework", "ec2:RunInstances", "*"] {
        check(action, &vault).unwrap();
    }
}

#[test]
fn every_action_stands_once_and_fits_what_it_is_decided_on() {
    let names: Vec<&str> = ACTIONS.iter().map(|(name, _)| *name).collect();
    let mut sorted = names.clone();
    sorted.sort_unstable();
    sorted.dedup();
    assert_eq!(names, sorted);
    for (name, scopes) in ACTIONS {
        assert!(!scopes.is_empty(), "{name}");
        for scope in *scopes {
            assert!(*scope == Scope::Named || scope.fits(scope.pattern()), "{name} {scope:?}");
        }
    }
    assert!(!Scope::Vault.fits("arn:aws:backup:r:1:recovery-point:x"));
    assert!(!Scope::Account.fits(VAULT) && !Scope::Vault.fits("*") && !Scope::Resource.fits("*"));
}

/// What cannot be attached allows nobody anything.
#[test]
fn every_managed_policy_may_be_attached() {
    for managed in ManagedPolicy::ALL {
        managed.policy().check().unwrap_or_else(|error| panic!("{managed:?}: {error}"));
    }
}

/// The page for people has the table, whole.
#[test]
fn the_documentation_says_what_each_action_is_decided_on() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/how-to/users.md");
    let page = std::fs::read_to_string(page).unwrap();
    let rows: Vec<(&str, Vec<&str>)> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once("` | "))
        .map(|(resource, actions)| (resource, actions.trim_end_matches(" |").split(", ").collect()))
        .collect();
    let mut told = 0;
    for (name, scopes) in ACTIONS {
        let patterns: Vec<&str> = scopes.iter().map(|scope| scope.pattern()).collect();
        let of = rows.iter().filter(|(_, actions)| actions.contains(name));
        let found: Vec<&str> = of.map(|(resource, _)| *resource).collect();
        assert_eq!(found, [patterns.join("` and `")], "{name}");
        told += 1;
    }
    let listed: usize = rows.iter().map(|(_, actions)| actions.len()).sum();
    assert_eq!(listed, told, "the page names an action that is none");
}
