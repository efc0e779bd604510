//! Which resources a selection matches, against the examples and rules of AWS's documentation.

#![allow(clippy::unwrap_used)] // In a test's helper, too, a panic is the report.

use jiff::Timestamp;
use proptest::prelude::*;
use provault_domain::selection::{Conditions, TagCondition};
use provault_domain::{Arn, BackupSelection, Tags};

const VOLUME: &str = "arn:aws:ec2:us-east-1:111122223333:volume/vol-1";
const INSTANCE: &str = "arn:aws:ec2:us-east-1:111122223333:instance/i-1";
const DATABASE: &str = "arn:aws:rds:us-east-1:111122223333:db:orders";
const FILES: &str = "arn:aws:elasticfilesystem:us-east-1:111122223333:file-system/fs-1";

fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|t| (*t).to_owned()).collect()
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<TagCondition> {
    pairs
        .iter()
        .map(|(key, value)| TagCondition { key: (*key).to_owned(), value: (*value).to_owned() })
        .collect()
}

/// Conditions name a tag with a prefix that `ListOfTags` has not.
fn tagged(list: &[(&str, &str)]) -> Vec<TagCondition> {
    let mut conditions = pairs(list);
    for condition in &mut conditions {
        condition.key = format!("aws:ResourceTag/{}", condition.key);
    }
    conditions
}

fn tags(list: &[(&str, &str)]) -> Tags {
    list.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

fn selection() -> BackupSelection {
    BackupSelection {
        id: "s".to_owned(),
        account: "111122223333".parse().unwrap(),
        plan_id: "p".to_owned(),
        name: "selection".to_owned(),
        role_arn: "arn:aws:iam::111122223333:role/r".parse().unwrap(),
        resources: Vec::new(),
        not_resources: Vec::new(),
        list_of_tags: Vec::new(),
        conditions: Conditions::default(),
        creator_request_id: None,
        created_at: Timestamp::UNIX_EPOCH,
    }
}

fn matching(selection: &BackupSelection, with: &[(&str, &str)]) -> Vec<&'static str> {
    selection.validate().expect("the tests' own selections are valid");
    [VOLUME, INSTANCE, DATABASE, FILES]
        .into_iter()
        .filter(|arn| selection.matches(&arn.parse::<Arn>().unwrap(), &tags(with)))
        .collect()
}

#[test]
fn resources_are_alternatives_and_not_resources_subtract() {
    let all = BackupSelection { resources: strings(&["*"]), ..selection() };
    assert_eq!(matching(&all, &[]).len(), 4);
    let no_volumes =
        BackupSelection { not_resources: strings(&["arn:aws:ec2:*:*:volume/*"]), ..all.clone() };
    assert_eq!(matching(&no_volumes, &[]), [INSTANCE, DATABASE, FILES]);
    let two = BackupSelection {
        resources: strings(&["arn:aws:ec2:*:*:volume/*", "arn:aws:rds:*:*:db:*"]),
        ..selection()
    };
    assert_eq!(matching(&two, &[]), [VOLUME, DATABASE]);
    let one = BackupSelection { resources: strings(&[INSTANCE]), ..selection() };
    assert_eq!(matching(&one, &[]), [INSTANCE]);
    // A whole service, as Terraform's tests leave one out.
    let no_ec2 = BackupSelection { not_resources: strings(&["arn:aws:ec2:*"]), ..all };
    assert_eq!(matching(&no_ec2, &[]), [DATABASE, FILES]);
    // Subtraction wins over being named.
    let both = BackupSelection { not_resources: strings(&[INSTANCE]), ..one };
    assert!(matching(&both, &[]).is_empty());
}

/// AWS: "all EBS volumes *or* everything tagged backup:yes" is Resources beside `ListOfTags`.
#[test]
fn list_of_tags_adds_to_resources() {
    let union = BackupSelection {
        resources: strings(&["arn:aws:ec2:*:*:volume/*"]),
        list_of_tags: pairs(&[("backup", "yes"), ("tier", "gold")]),
        ..selection()
    };
    assert_eq!(matching(&union, &[]), [VOLUME]);
    assert_eq!(matching(&union, &[("backup", "yes")]).len(), 4);
    assert_eq!(matching(&union, &[("tier", "gold")]).len(), 4, "any one of them suffices");
    assert_eq!(matching(&union, &[("backup", "gold")]), [VOLUME]);
    let excluded = BackupSelection { not_resources: strings(&[FILES]), ..union };
    assert_eq!(matching(&excluded, &[("backup", "yes")]), [VOLUME, INSTANCE, DATABASE]);
}

/// AWS: "all EBS volumes tagged backup:yes *and* owner:example" is Resources beside Conditions.
#[test]
fn conditions_narrow_and_all_must_hold() {
    let narrow = BackupSelection {
        resources: strings(&["arn:aws:ec2:*:*:volume/*"]),
        conditions: Conditions {
            string_equals: tagged(&[("backup", "yes"), ("owner", "example")]),
            ..Conditions::default()
        },
        ..selection()
    };
    assert_eq!(matching(&narrow, &[("backup", "yes"), ("owner", "example")]), [VOLUME]);
    assert!(matching(&narrow, &[("backup", "yes")]).is_empty());
    // They narrow what ListOfTags adds as well.
    let both = BackupSelection { list_of_tags: pairs(&[("x", "1")]), ..narrow };
    assert!(matching(&both, &[("x", "1")]).is_empty());
    let everything = [("x", "1"), ("backup", "yes"), ("owner", "example")];
    assert_eq!(matching(&both, &everything).len(), 4);
}

#[test]
fn conditions_alone_look_at_every_resource() {
    let alone = BackupSelection {
        conditions: Conditions {
            string_equals: tagged(&[("backup", "true")]),
            string_not_equals: tagged(&[("stage", "test")]),
            ..Conditions::default()
        },
        ..selection()
    };
    assert_eq!(matching(&alone, &[("backup", "true"), ("stage", "prod")]).len(), 4);
    assert!(matching(&alone, &[("backup", "true"), ("stage", "test")]).is_empty());
    // Negated operators behave as in IAM policies: without the tag they hold.
    assert_eq!(matching(&alone, &[("backup", "true")]).len(), 4);
    assert!(matching(&alone, &[]).is_empty());
}

/// Operator, pattern, the tag's value if it has one, whether it holds.
#[test]
fn operators() {
    let table: &[(&str, &str, Option<&str>, bool)] = &[
        ("equals", "prod", Some("prod"), true),
        ("equals", "prod", Some("Prod"), false),
        ("equals", "prod", None, false),
        ("equals", "", None, false),
        ("equals", "", Some(""), true),
        ("equals", "pro*", Some("prod"), false),
        ("equals", "pro*", Some("pro*"), true),
        ("like", "prod*", Some("production"), true),
        ("like", "*rod*", Some("production"), true),
        ("like", "*ROD*", Some("production"), false),
        ("like", "*", Some(""), true),
        ("like", "*", None, false),
        ("not equals", "prod", Some("prod"), false),
        ("not equals", "prod", Some("Prod"), true),
        ("not equals", "prod", None, true),
        ("not equals", "pro*", Some("prod"), true),
        ("not like", "prod*", Some("production"), false),
        ("not like", "prod*", Some("test"), true),
        ("not like", "*", Some(""), false),
        ("not like", "*", None, true),
    ];
    for (operator, pattern, value, expected) in table {
        let list = tagged(&[("stage", pattern)]);
        let mut conditions = Conditions::default();
        match *operator {
            "equals" => conditions.string_equals = list,
            "like" => conditions.string_like = list,
            "not equals" => conditions.string_not_equals = list,
            _ => conditions.string_not_like = list,
        }
        let one = BackupSelection { conditions, ..selection() };
        let with: Vec<_> = value.map(|v| ("stage", v)).into_iter().collect();
        assert_eq!(!matching(&one, &with).is_empty(), *expected, "{operator} {pattern} {value:?}");
        // The key is case sensitive too: under another key the tag is absent.
        let absent = operator.starts_with("not");
        assert_eq!(!matching(&one, &[("Stage", "prod")]).is_empty(), absent, "{operator}");
    }
}

#[test]
fn selections_that_are_refused() {
    let refused = |s: BackupSelection| s.validate().unwrap_err();
    let all = || BackupSelection { resources: strings(&["*"]), ..selection() };
    let empty = refused(selection());
    assert_eq!(empty.member, "BackupSelection");
    // AWS would take everything; the text must not claim otherwise.
    assert!(!empty.message.contains("match nothing"), "{empty}");
    let only_not = BackupSelection { not_resources: strings(&[VOLUME]), ..selection() };
    assert_eq!(refused(only_not).member, "BackupSelection");
    for name in ["", "a b", &"x".repeat(51)] {
        let named = BackupSelection { name: name.to_owned(), ..all() };
        assert_eq!(refused(named).member, "BackupSelection.SelectionName");
    }
    for pattern in ["", "volume/*", "arn", "arn:aws:ec2", "arn:aws:ec2:\n*", "**x"] {
        let resources = BackupSelection { resources: strings(&[pattern]), ..selection() };
        assert_eq!(refused(resources).member, "BackupSelection.Resources", "{pattern:?}");
        let not = BackupSelection { not_resources: strings(&[pattern]), ..all() };
        assert_eq!(refused(not).member, "BackupSelection.NotResources", "{pattern:?}");
    }
    for key in ["stage", "aws:ResourceTag/", "aws:RequestTag/stage"] {
        let conditions = Conditions { string_like: pairs(&[(key, "x")]), ..Conditions::default() };
        let keyed = BackupSelection { conditions, ..all() };
        assert_eq!(refused(keyed).member, "BackupSelection.Conditions.StringLike", "{key}");
    }
    let keyless = BackupSelection { list_of_tags: pairs(&[("", "x")]), ..all() };
    assert_eq!(refused(keyless).member, "BackupSelection.ListOfTags");
}

#[test]
fn quotas() {
    let named = |n: usize, last: &str| BackupSelection {
        resources: (1..n).map(|i| format!("{VOLUME}{i}")).chain([last.to_owned()]).collect(),
        ..selection()
    };
    named(500, VOLUME).validate().unwrap();
    assert!(named(501, VOLUME).validate().is_err());
    for wildcard in ["arn:aws:ec2:*:*:volume/*", "arn:aws:ec2:us-east-1:111122223333:volume/vol-?"]
    {
        named(30, wildcard).validate().unwrap();
        assert!(named(31, wildcard).validate().is_err(), "{wildcard}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    /// The rule in one line: (Resources or ListOfTags or neither given) and Conditions and not
    /// NotResources, each part worked out on its own.
    #[test]
    fn the_parts_combine(
        resources in prop::collection::vec(prop::sample::select(vec!["*", VOLUME, "arn:aws:rds:*", DATABASE]), 0..3),
        not_resources in prop::collection::vec(prop::sample::select(vec![VOLUME, "arn:aws:rds:*"]), 0..2),
        list in prop::collection::vec(prop::sample::select(vec![("a", "1"), ("b", "2")]), 0..3),
        equals in prop::option::of(prop::sample::select(vec![("a", "1"), ("b", "2")])),
        not_equals in prop::option::of(prop::sample::select(vec![("a", "1"), ("b", "2")])),
        with in prop::sample::subsequence(vec![("a", "1"), ("b", "2"), ("c", "3")], 0..=3),
        arn in prop::sample::select(vec![VOLUME, DATABASE, FILES]),
    ) {
        let subject = BackupSelection {
            resources: strings(&resources),
            not_resources: strings(&not_resources),
            list_of_tags: pairs(&list),
            conditions: Conditions {
                string_equals: tagged(&equals.into_iter().collect::<Vec<_>>()),
                string_not_equals: tagged(&not_equals.into_iter().collect::<Vec<_>>()),
                ..Conditions::default()
            },
            ..selection()
        };
        let hit = |patterns: &[&str]| patterns.iter().any(|p| {
            *p == arn || p.strip_suffix('*').is_some_and(|start| arn.starts_with(start))
        });
        let expected = (hit(&resources)
            || list.iter().any(|t| with.contains(t))
            || (resources.is_empty() && list.is_empty()))
            && equals.is_none_or(|t| with.contains(&t))
            && not_equals.is_none_or(|t| !with.contains(&t))
            && !hit(&not_resources);
        prop_assert_eq!(subject.matches(&arn.parse().unwrap(), &tags(&with)), expected);
    }
}
