//! Assignments found by their layout are those that looking at every resource finds.
#![allow(clippy::unwrap_used, reason = "a test panics where an error surprises it")]

use jiff::Timestamp;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use provault_domain::selection::{Conditions, TagCondition};
use provault_domain::{
    Arn, AssignableResource, Assignment, BackupSelection, Kind, Resource, RetentionSettings, Tags,
};

fn arn(n: usize) -> Arn {
    format!("arn:aws:elasticfilesystem:eu-west-1:111122223333:file-system/fs-{n:017x}")
        .parse()
        .unwrap()
}

fn resource(n: usize, tags: Tags, imported: bool) -> AssignableResource {
    AssignableResource {
        arn: arn(n),
        region: "eu-west-1".parse().unwrap(),
        kind: Kind::Filesystem,
        name: format!("resource-{n}"),
        tags,
        imported,
    }
}

fn resources() -> impl Strategy<Value = Vec<AssignableResource>> {
    let tag = (select(vec!["env", "team"]), select(vec!["a", "ab", "b"]));
    let tags = prop::collection::vec(tag, 0..3);
    prop::collection::vec((tags, prop::bool::weighted(0.1)), 0..12).prop_map(|all| {
        let tags = |list: Vec<(&str, &str)>| {
            list.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
        };
        all.into_iter().enumerate().map(|(n, (list, old))| resource(n, tags(list), old)).collect()
    })
}

fn conditions(prefix: &'static str) -> impl Strategy<Value = Vec<TagCondition>> {
    let all: Vec<_> = [("env", "a"), ("env", "b"), ("team", "ab"), ("team", "a*"), ("none", "a")]
        .map(|(key, value)| TagCondition { key: format!("{prefix}{key}"), value: value.to_owned() })
        .into();
    subsequence(all, 0..=2)
}

fn selection() -> impl Strategy<Value = BackupSelection> {
    let patterns = || {
        let all: Vec<String> = (0..14).map(|n| arn(n).to_string()).collect();
        let wild = ["*", "arn:aws:elasticfilesystem:*", "arn:aws:ec2:*", "not an ARN"];
        let one = arn(1).to_string();
        let wild =
            wild.map(str::to_owned).into_iter().chain([one[..one.len() - 1].to_owned() + "?"]);
        subsequence(all.into_iter().chain(wild).collect::<Vec<_>>(), 0..=3)
    };
    let tagged = || conditions("aws:ResourceTag/");
    (patterns(), patterns(), conditions(""), tagged(), tagged(), tagged(), tagged()).prop_map(
        |(resources, not_resources, list_of_tags, equals, not_equals, like, not_like)| {
            BackupSelection {
                id: "s".to_owned(),
                account: "111122223333".parse().unwrap(),
                plan_id: "p".to_owned(),
                name: "selection".to_owned(),
                role_arn: "arn:aws:iam::111122223333:role/r".parse().unwrap(),
                resources,
                not_resources,
                list_of_tags,
                conditions: Conditions {
                    string_equals: equals,
                    string_not_equals: not_equals,
                    string_like: like,
                    string_not_like: not_like,
                },
                creator_request_id: None,
                created_at: Timestamp::UNIX_EPOCH,
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn the_layout_finds_what_looking_at_every_resource_finds(
        all in resources(),
        mut selections in prop::collection::vec(selection(), 0..4),
    ) {
        for (n, selection) in selections.iter_mut().enumerate() {
            selection.id = n.to_string();
        }
        let expected: Vec<_> = all
            .iter()
            .filter(|resource| !resource.imported)
            .filter_map(|resource| {
                let mut selecting = selections.iter();
                let by = selecting.find(|s| s.matches(&resource.arn, &resource.tags))?;
                Some((by.clone(), resource.clone()))
            })
            .collect();
        let assignment = Assignment::of(all);
        let found = assignment.matched(&selections).into_iter();
        let found: Vec<_> = found.map(|(by, resource)| (by.clone(), resource.clone())).collect();
        prop_assert_eq!(found, expected);
    }
}

#[test]
fn an_assignable_resource_reads_from_what_a_resource_is_written_as() {
    let tags: Tags = [("env".to_owned(), "a".to_owned())].into();
    let written = Resource {
        arn: arn(7),
        account: "111122223333".parse().unwrap(),
        region: "eu-west-1".parse().unwrap(),
        kind: Kind::Filesystem,
        name: "resource-7".to_owned(),
        config: serde_json::json!({ "path": "/srv" }),
        tags: tags.clone(),
        service: None,
        probes: Vec::new(),
        rpo_seconds: None,
        rto_seconds: None,
        testing: None,
        retention: RetentionSettings::default(),
        created_at: Timestamp::UNIX_EPOCH,
        imported: true,
    };
    let body = serde_json::to_string(&written).unwrap();
    let read: AssignableResource = serde_json::from_str(&body).unwrap();
    assert_eq!(read, resource(7, tags, true));
}
