//! Things people make: stored, unique, found again, deleted only when unused.

use provault_catalog::{
    AccessKeyRow, AuditRecord, CatalogError, Cursor, Outcome, Page, UnsettledState,
};
use provault_domain::{BackupVault, Tags};

use crate::fixture::*;

macro_rules! refused {
    ($call:expr, $pattern:pat) => {{
        let outcome = $call.await;
        assert!(matches!(outcome, Err($pattern)), "{}: {outcome:?}", stringify!($call));
    }};
}
pub(crate) use refused;

pub async fn settings_are_kept_and_the_first_writer_wins(w: &World) {
    let c = &w.catalog;
    assert_eq!(c.setting("server-id").await.unwrap(), None);
    c.put_setting("server-id", "one").await.unwrap();
    c.put_setting("server-id", "two").await.unwrap();
    assert_eq!(c.setting("server-id").await.unwrap().as_deref(), Some("two"));
    assert_eq!(c.put_setting_if_absent("server-id", "three").await.unwrap(), "two");
    assert_eq!(c.put_setting_if_absent("secret", "first").await.unwrap(), "first");
    assert_eq!(w.another().await.put_setting_if_absent("secret", "late").await.unwrap(), "first");
}

pub async fn access_keys_are_unique(w: &World) {
    let c = &w.catalog;
    let row = AccessKeyRow {
        access_key_id: "AKIAEXAMPLE".to_owned(),
        account: account(),
        principal_arn: "arn:aws:iam::111122223333:root".parse().unwrap(),
        sealed_secret: "sealed".to_owned(),
        created_at: at(1),
        active: true,
        last_used_at: None,
    };
    c.insert_access_key(&row).await.unwrap();
    refused!(c.insert_access_key(&row), CatalogError::AlreadyExists { .. });
    assert_eq!(c.access_key("AKIAEXAMPLE").await.unwrap().as_ref(), Some(&row));
    assert_eq!(c.access_key("AKIAOTHER").await.unwrap(), None);
    assert_eq!(c.list_access_keys(&account()).await.unwrap(), [row]);
    assert_eq!(c.list_access_keys(&other_account()).await.unwrap(), []);
}

pub async fn roles_and_keys_stay_while_something_uses_them(w: &World) {
    let c = &w.catalog;
    c.insert_role(&role()).await.unwrap();
    refused!(c.insert_role(&role()), CatalogError::AlreadyExists { .. });
    assert_eq!(c.role(&role().arn).await.unwrap(), Some(role()));
    assert_eq!(c.list_roles(&account()).await.unwrap(), [role()]);

    // A vault needs its key, and a key stays while a vault needs it.
    let v = vault("main", at(0));
    refused!(c.insert_vault(&v, &Tags::new()), CatalogError::NotFound { .. });
    c.insert_key(&key()).await.unwrap();
    let mut same_name = key();
    same_name.arn = provault_domain::Arn::key(&region(), &account(), &uuid(2));
    refused!(c.insert_key(&same_name), CatalogError::AlreadyExists { .. });
    assert_eq!(c.key(&key().arn).await.unwrap(), Some(key()));
    assert_eq!(c.list_keys(&account()).await.unwrap(), [key()]);
    c.insert_vault(&v, &Tags::new()).await.unwrap();
    refused!(c.delete_key(&key().arn), CatalogError::NotEmpty { .. });
    c.delete_vault(&account(), "main").await.unwrap();
    c.delete_key(&key().arn).await.unwrap();
    refused!(c.delete_key(&key().arn), CatalogError::NotFound { .. });

    // So does a role while a selection or an unfinished job works under it.
    let p = plan(1, "v1");
    c.insert_plan(&p, &Tags::new()).await.unwrap();
    c.insert_selection(&selection(2, &p, "all")).await.unwrap();
    refused!(c.delete_role(&role().arn), CatalogError::NotEmpty { .. });
    c.delete_selection(&account(), &p.id, &uuid(2)).await.unwrap();
    let job = backup_job(3, 1, at(0));
    c.insert_job(&job).await.unwrap();
    refused!(c.delete_role(&role().arn), CatalogError::NotEmpty { .. });
    let stop = provault_domain::BackupJobEvent::StopRequested { reason: "test".to_owned() };
    c.step_job::<provault_domain::BackupJob>(&account(), &job.id, None, stop, at(1), vec![])
        .await
        .unwrap();
    c.delete_role(&role().arn).await.unwrap();
    refused!(c.delete_role(&role().arn), CatalogError::NotFound { .. });
}

pub async fn vault_names_are_unique_in_the_account(w: &World) {
    let c = &w.catalog;
    with_vault(c).await;
    refused!(
        c.insert_vault(&vault("main", at(9)), &Tags::new()),
        CatalogError::AlreadyExists { .. }
    );
    let elsewhere = BackupVault {
        account: other_account(),
        arn: provault_domain::Arn::backup_vault(&region(), &other_account(), "main"),
        ..vault("main", at(1))
    };
    c.insert_vault(&elsewhere, &Tags::new()).await.unwrap();
    assert_eq!(c.vault(&account(), "main").await.unwrap(), Some(vault("main", at(0))));
    assert_eq!(c.vault(&other_account(), "main").await.unwrap(), Some(elsewhere));
    assert_eq!(c.vault(&account(), "Main").await.unwrap(), None, "names are case-sensitive");
    refused!(c.delete_vault(&account(), "none"), CatalogError::NotFound { .. });
}

pub async fn a_vault_in_use_cannot_be_deleted(w: &World) {
    let c = &w.catalog;
    c.insert_key(&key()).await.unwrap();
    let v = vault("main", at(0));
    c.insert_vault(&v, &tags(&[("a", "1")])).await.unwrap();
    let job = backup_job(1, 1, at(0));
    c.insert_job(&job).await.unwrap();
    refused!(c.delete_vault(&account(), "main"), CatalogError::NotEmpty { .. });
    points::make(c, 1, 1, at(0)).await;
    assert_eq!(c.recovery_point_count(&account(), "main").await.unwrap(), 1);
    refused!(c.delete_vault(&account(), "main"), CatalogError::NotEmpty { .. });
    c.begin_deletion(&account(), &point_arn(1)).await.unwrap();
    refused!(c.delete_vault(&account(), "main"), CatalogError::NotEmpty { .. });
    c.remove_recovery_point(&point_arn(1)).await.unwrap();
    assert_eq!(c.recovery_point_count(&account(), "main").await.unwrap(), 0);
    c.delete_vault(&account(), "main").await.unwrap();
    assert_eq!(c.vault(&account(), "main").await.unwrap(), None);
    assert_eq!(c.tags(&v.arn).await.unwrap(), Tags::new(), "its tags go with it");
}

pub async fn what_is_made_or_removed_is_noted_until_it_is_done(w: &World) {
    let c = &w.catalog;
    let states = async || -> Vec<(String, UnsettledState)> {
        let noted = c.unsettled_vaults().await.unwrap();
        noted.into_iter().map(|noted| (noted.vault.location, noted.state)).collect()
    };
    c.insert_key(&key()).await.unwrap();
    let v = vault("main", at(0));
    c.begin_vault(&v).await.unwrap();
    assert_eq!(states().await, [(v.location.clone(), UnsettledState::Making)]);
    c.insert_made_vault(&v, &tags(&[("a", "1")])).await.unwrap();
    assert_eq!(states().await, [], "entered");
    assert_eq!(c.tags(&v.arn).await.unwrap(), tags(&[("a", "1")]));
    assert!(!c.abandon_vault(&v.location).await.unwrap(), "it is no longer being made");
    refused!(c.insert_made_vault(&v, &Tags::new()), CatalogError::NotFound { .. });

    // Who takes it for left over and who enters it exclude each other.
    let late = vault("late", at(1));
    c.begin_vault(&late).await.unwrap();
    assert!(c.abandon_vault(&late.location).await.unwrap());
    assert!(!c.abandon_vault(&late.location).await.unwrap());
    refused!(c.insert_made_vault(&late, &Tags::new()), CatalogError::NotFound { .. });
    assert_eq!(c.vault(&account(), "late").await.unwrap(), None);
    assert_eq!(states().await, [(late.location.clone(), UnsettledState::Abandoned)]);
    c.vault_is_settled(&late.location).await.unwrap();

    // A making whose vault cannot be entered stays noted.
    let same = BackupVault { location: "vaults/main-2".to_owned(), ..vault("main", at(2)) };
    c.begin_vault(&same).await.unwrap();
    refused!(c.insert_made_vault(&same, &Tags::new()), CatalogError::AlreadyExists { .. });
    assert_eq!(states().await, [(same.location.clone(), UnsettledState::Making)]);
    c.vault_is_settled(&same.location).await.unwrap();

    c.delete_vault(&account(), "main").await.unwrap();
    assert_eq!(states().await, [(v.location.clone(), UnsettledState::Removing)]);
    assert_eq!(c.unsettled_vaults().await.unwrap()[0].vault, v);
    c.vault_is_settled(&v.location).await.unwrap();
    // What was imported is left where it is.
    let imported = BackupVault { imported: true, ..vault("imported", at(3)) };
    c.insert_vault(&imported, &Tags::new()).await.unwrap();
    c.delete_vault(&account(), "imported").await.unwrap();
    assert_eq!(states().await, []);
}

use crate::points;

pub async fn tags_merge_up_to_fifty(w: &World) {
    let c = &w.catalog;
    let arn = resource_arn(7);
    c.put_tags(&arn, &tags(&[("a", "1"), ("b", "2")])).await.unwrap();
    c.put_tags(&arn, &tags(&[("b", "3"), ("ключ", "значение")])).await.unwrap();
    let expected = tags(&[("a", "1"), ("b", "3"), ("ключ", "значение")]);
    assert_eq!(c.tags(&arn).await.unwrap(), expected);
    c.remove_tags(&arn, &["ключ".to_owned(), "absent".to_owned()]).await.unwrap();
    let many: Tags = (0..48).map(|n| (format!("k{n}"), String::new())).collect();
    c.put_tags(&arn, &many).await.unwrap();
    let before = c.tags(&arn).await.unwrap();
    assert_eq!(before.len(), 50);
    let one_more = tags(&[("a", "changed"), ("z", "")]);
    refused!(c.put_tags(&arn, &one_more), CatalogError::TooMany { limit: 50, .. });
    assert_eq!(c.tags(&arn).await.unwrap(), before, "a refusal changes nothing");
    c.put_tags(&arn, &tags(&[("a", "changed")])).await.unwrap();
}

pub async fn resources_are_unique_by_name_and_identity(w: &World) {
    let c = &w.catalog;
    let notes = resource(1, "notes");
    c.insert_resource(&notes, "/srv/notes").await.unwrap();
    let name = resource(2, "notes");
    refused!(c.insert_resource(&name, "/srv/else"), CatalogError::AlreadyExists { .. });
    let thing = resource(2, "again");
    refused!(c.insert_resource(&thing, "/srv/notes"), CatalogError::AlreadyExists { .. });
    c.insert_resource(&thing, "/srv/again").await.unwrap();
    assert_eq!(c.resource(&notes.arn).await.unwrap().as_ref(), Some(&notes));
    assert_eq!(c.resource_by_name(&account(), "notes").await.unwrap().as_ref(), Some(&notes));
    assert_eq!(c.resource_by_name(&other_account(), "notes").await.unwrap(), None);
    c.insert_job(&backup_job(1, 1, at(0))).await.unwrap();
    refused!(c.delete_resource(&notes.arn), CatalogError::NotEmpty { .. });
    c.delete_resource(&thing.arn).await.unwrap();
    refused!(c.delete_resource(&thing.arn), CatalogError::NotFound { .. });
    c.insert_resource(&thing, "/srv/again").await.unwrap();
}

pub async fn a_resource_is_updated_in_one_piece(w: &World) {
    let c = &w.catalog;
    c.insert_resource(&resource(1, "notes"), "/srv/notes").await.unwrap();
    c.insert_resource(&resource(2, "other"), "/srv/other").await.unwrap();
    let changed = c
        .update_resource(&resource_arn(1), |r| {
            r.name = String::from("renamed");
            r.tags.clear();
            r.arn = resource_arn(2);
            r.account = other_account();
        })
        .await
        .unwrap();
    assert_eq!(changed.arn, resource_arn(1), "what names a resource cannot change");
    assert_eq!(changed.account, account());
    assert_eq!(c.resource(&resource_arn(1)).await.unwrap(), Some(changed.clone()));
    assert_eq!(c.resource_by_name(&account(), "renamed").await.unwrap(), Some(changed));
    assert_eq!(c.resource_by_name(&account(), "notes").await.unwrap(), None);
    let taken = |r: &mut provault_domain::Resource| r.name = String::from("other");
    refused!(c.update_resource(&resource_arn(1), taken), CatalogError::AlreadyExists { .. });
    refused!(c.update_resource(&resource_arn(3), |_| ()), CatalogError::NotFound { .. });
}

pub async fn plans_keep_their_versions(w: &World) {
    let c = &w.catalog;
    let mut p = plan(1, "v1");
    p.creator_request_id = Some("req".to_owned());
    c.insert_plan(&p, &tags(&[("a", "1")])).await.unwrap();
    refused!(c.insert_plan(&p, &Tags::new()), CatalogError::AlreadyExists { .. });
    let mut second = plan(2, "v1");
    c.insert_plan(&second, &Tags::new()).await.unwrap();
    second.id = uuid(3);
    second.creator_request_id = Some("req".to_owned());
    refused!(c.insert_plan(&second, &Tags::new()), CatalogError::AlreadyExists { .. });
    assert_eq!(c.plan_by_request_id(&account(), "req").await.unwrap().as_ref(), Some(&p));

    let mut v2 = plan(1, "v2");
    v2.name = String::from("renamed");
    v2.created_at = at(100);
    c.update_plan(&v2).await.unwrap();
    refused!(c.update_plan(&v2), CatalogError::AlreadyExists { .. });
    assert_eq!(c.plan(&account(), &p.id, None).await.unwrap().as_ref(), Some(&v2));
    assert_eq!(c.plan(&account(), &p.id, Some("v1")).await.unwrap().as_ref(), Some(&p));
    assert_eq!(c.plan(&account(), &p.id, Some("v9")).await.unwrap(), None);
    assert_eq!(c.plan(&other_account(), &p.id, None).await.unwrap(), None);
    let versions = c.list_plan_versions(&account(), &p.id, Page::all()).await.unwrap();
    assert_eq!(versions.items, [p.clone(), v2.clone()]);
    let listed = c.list_plans(&account(), false, Page::first(1)).await.unwrap();
    assert_eq!(listed.items, [v2.clone()], "an update keeps a plan's place in the list");
    assert!(listed.next.is_some());

    let s = selection(5, &p, "all");
    c.insert_selection(&s).await.unwrap();
    refused!(c.delete_plan(&account(), &p.id, at(200)), CatalogError::NotEmpty { .. });
    c.delete_selection(&account(), &p.id, &s.id).await.unwrap();
    let deleted = c.delete_plan(&account(), &p.id, at(200)).await.unwrap();
    assert_eq!((deleted.version_id.as_str(), deleted.deleted_at), ("v2", Some(at(200))));
    refused!(c.delete_plan(&account(), &p.id, at(201)), CatalogError::NotFound { .. });
    refused!(c.update_plan(&plan(1, "v3")), CatalogError::NotFound { .. });
    let old = c.plan(&account(), &p.id, Some("v1")).await.unwrap().unwrap();
    assert_eq!(old.deleted_at, Some(at(200)), "versions stay readable and say so");
    let active: Vec<_> = c.all_active_plans().await.unwrap().into_iter().map(|p| p.id).collect();
    assert_eq!(active, [uuid(2)]);
    assert_eq!(c.list_plans(&account(), false, Page::all()).await.unwrap().items.len(), 1);
    assert_eq!(c.list_plans(&account(), true, Page::all()).await.unwrap().items.len(), 2);
    assert_eq!(c.plan_by_request_id(&account(), "req").await.unwrap(), None);
    c.insert_plan(&second, &Tags::new()).await.unwrap();
}

pub async fn selections_belong_to_a_living_plan(w: &World) {
    let c = &w.catalog;
    let p = plan(1, "v1");
    let mut s = selection(2, &p, "all");
    s.creator_request_id = Some("req".to_owned());
    refused!(c.insert_selection(&s), CatalogError::NotFound { .. });
    c.insert_plan(&p, &Tags::new()).await.unwrap();
    c.insert_selection(&s).await.unwrap();
    refused!(c.insert_selection(&selection(3, &p, "all")), CatalogError::AlreadyExists { .. });
    let mut request = selection(3, &p, "more");
    request.creator_request_id.clone_from(&s.creator_request_id);
    refused!(c.insert_selection(&request), CatalogError::AlreadyExists { .. });
    assert_eq!(c.selection_by_request_id(&p.id, "req").await.unwrap().as_ref(), Some(&s));
    assert_eq!(c.selection(&account(), &p.id, &s.id).await.unwrap().as_ref(), Some(&s));
    assert_eq!(c.selection(&other_account(), &p.id, &s.id).await.unwrap(), None);
    let listed = c.list_selections(&account(), &p.id, Page::all()).await.unwrap();
    assert_eq!((listed.items, listed.next), (vec![s.clone()], None));
    refused!(c.delete_selection(&other_account(), &p.id, &s.id), CatalogError::NotFound { .. });
    c.delete_selection(&account(), &p.id, &s.id).await.unwrap();
    c.delete_plan(&account(), &p.id, at(9)).await.unwrap();
    refused!(c.insert_selection(&s), CatalogError::NotFound { .. });
}

pub async fn topics_and_subscriptions(w: &World) {
    let c = &w.catalog;
    with_vault(c).await;
    let t = topic("alerts");
    let setting = notifications(&t, &["BACKUP_JOB_COMPLETED"]);
    refused!(
        c.set_vault_notifications(&account(), "main", setting.clone()),
        CatalogError::NotFound { .. }
    );
    refused!(c.insert_subscription(&subscription(1, &t)), CatalogError::NotFound { .. });
    c.insert_topic(&t).await.unwrap();
    refused!(c.insert_topic(&t), CatalogError::AlreadyExists { .. });
    assert_eq!(c.topic(&t.arn).await.unwrap().as_ref(), Some(&t));
    assert_eq!(c.list_topics(&account()).await.unwrap(), std::slice::from_ref(&t));
    c.insert_subscription(&subscription(1, &t)).await.unwrap();
    c.insert_subscription(&subscription(2, &t)).await.unwrap();
    refused!(c.insert_subscription(&subscription(2, &t)), CatalogError::AlreadyExists { .. });
    c.set_vault_notifications(&account(), "main", setting.clone()).await.unwrap();
    assert_eq!(c.vault(&account(), "main").await.unwrap().unwrap().notifications, setting);
    refused!(c.delete_topic(&t.arn), CatalogError::NotEmpty { .. });
    c.set_vault_notifications(&account(), "main", None).await.unwrap();
    refused!(c.delete_subscription(&other_account(), &uuid(1)), CatalogError::NotFound { .. });
    c.delete_subscription(&account(), &uuid(1)).await.unwrap();
    assert_eq!(c.list_subscriptions(&t.arn).await.unwrap(), [subscription(2, &t)]);
    assert_eq!(c.subscription(&uuid(2)).await.unwrap(), Some(subscription(2, &t)));
    assert_eq!(c.subscription(&uuid(1)).await.unwrap(), None);
    c.delete_topic(&t.arn).await.unwrap();
    assert_eq!(c.list_subscriptions(&t.arn).await.unwrap(), []);
    refused!(c.delete_topic(&t.arn), CatalogError::NotFound { .. });
}

/// Rows of one microsecond, and rows that come and go between the pages.
pub async fn pages_go_through_equal_moments(w: &World) {
    let c = &w.catalog;
    c.insert_key(&key()).await.unwrap();
    let mut expected = Vec::new();
    for (moment, names) in
        [(at(1), ["c", "a", "b"]), (at(2), ["f", "d", "e"]), (at(0), ["i", "h", "g"])]
    {
        for name in names {
            c.insert_vault(&vault(name, moment), &Tags::new()).await.unwrap();
            expected.push((moment, name.to_owned()));
        }
    }
    expected.sort();
    for limit in 1..=10 {
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let page = c.list_vaults(&account(), Page { after, limit }).await.unwrap();
            assert!(page.items.len() <= limit as usize);
            seen.extend(page.items.into_iter().map(|v| (v.created_at, v.name)));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(seen, expected, "in pages of {limit}");
    }
    let whole = c.list_vaults(&account(), Page::all()).await.unwrap();
    assert_eq!((whole.items.len(), whole.next), (9, None));

    // The row a page ended with may be gone when the next one is asked for.
    let first = c.list_vaults(&account(), Page::first(4)).await.unwrap();
    assert_eq!(first.next, Some(Cursor { created_at: at(1), id: "a".to_owned() }));
    c.delete_vault(&account(), "a").await.unwrap();
    let rest = c.list_vaults(&account(), Page { after: first.next, limit: 9 }).await.unwrap();
    let names: Vec<_> = rest.items.into_iter().map(|v| v.name).collect();
    assert_eq!(names, ["b", "c", "d", "e", "f"]);
    let none = c.list_vaults(&other_account(), Page::all()).await.unwrap();
    assert!(none.items.is_empty());
}

pub async fn audit_is_kept(w: &World) {
    let c = &w.catalog;
    let record = |n: i64| AuditRecord {
        at: at(n),
        account: account(),
        principal: "arn:aws:iam::111122223333:root".to_owned(),
        action: "backup:DeleteBackupVault".to_owned(),
        resource: "*".to_owned(),
        access_key_id: None,
        outcome: "ok".to_owned(),
        count: 1,
        last_at: None,
    };
    for n in [2, 1, 3] {
        c.audit(&record(n)).await.unwrap();
    }
    let kept = c.list_audit(&account()).await.unwrap();
    assert_eq!(kept, [record(1), record(2), record(3)]);
    assert_eq!(c.list_audit(&other_account()).await.unwrap(), []);
}

/// A change and its record are one: whoever is stopped between them leaves a record that says so.
pub async fn a_change_is_recorded_with_its_first_write(w: &World) {
    let c = &w.catalog;
    let record = |resource: &str| AuditRecord::by_server(&account(), "x:Change", resource, at(1));
    let outcomes = || async {
        let mut found: Vec<(String, String)> = c
            .list_audit(&account())
            .await
            .unwrap()
            .into_iter()
            .map(|record| (record.resource, record.outcome))
            .collect();
        found.sort();
        found
    };
    let is = |resource: &str, outcome: &str| (resource.to_owned(), outcome.to_owned());
    // Made in one step: begun as long as it runs, done afterwards, and one record.
    let ((), recorded) = c
        .recording(
            record("a"),
            async {
                c.put_setting("a", "1").await.unwrap();
                assert_eq!(outcomes().await, [is("a", "began")]);
                c.put_setting("a", "2").await.unwrap();
            },
            |()| Outcome::Made("done"),
        )
        .await;
    recorded.unwrap();
    assert_eq!(outcomes().await, [is("a", "done")]);
    // Stopped after its first write.
    let stopped = c.recording(
        record("b"),
        async {
            c.put_setting("b", "1").await.unwrap();
            std::future::pending::<()>().await;
        },
        |()| Outcome::Made("done"),
    );
    let stopped = std::pin::pin!(stopped);
    let written = async {
        while c.setting("b").await.unwrap().is_none() {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        _ = stopped => unreachable!("it never ends"),
        () = written => {}
    }
    assert_eq!(outcomes().await, [is("a", "done"), is("b", "began")]);
    // Refused or broken down: before anything was written, after a transaction that changed nothing, and
    // after one that did; made without one, and in one that found it made already.
    for (resource, writes, outcome) in [
        ("c", None, Outcome::Broke("Refused")),
        ("d", Some(false), Outcome::Broke("Refused")),
        ("e", Some(true), Outcome::Broke("Refused")),
        ("f", None, Outcome::Made("done")),
        ("g", Some(false), Outcome::Made("done")),
    ] {
        let work = async {
            match writes {
                Some(true) => c.put_setting("a", resource).await.unwrap(),
                Some(false) => drop(c.put_setting_if_absent("a", resource).await.unwrap()),
                None => {}
            }
        };
        c.recording(record(resource), work, |()| outcome).await.1.unwrap();
    }
    let all =
        [is("a", "done"), is("b", "began"), is("e", "Refused"), is("f", "done"), is("g", "done")];
    assert_eq!(outcomes().await, all);
    // A write that is nobody's change has no record.
    c.put_setting("x", "y").await.unwrap();
    assert_eq!(outcomes().await, all);
}

/// Denials are joined and bounded; changes are neither.
pub async fn denials_are_joined_and_changes_are_not(w: &World) {
    let c = &w.catalog;
    let record = |resource: &str, second| AuditRecord {
        outcome: "AccessDeniedException".to_owned(),
        ..AuditRecord::by_server(&account(), "x:Change", resource, at(second))
    };
    for second in [1, 2, 3] {
        c.audit_denial(&record("a", second)).await.unwrap();
        c.audit(&record("a", second)).await.unwrap();
    }
    c.audit_denial(&record("b", 3)).await.unwrap();
    // An hour later it is told anew.
    c.audit_denial(&record("a", 3 + 3600)).await.unwrap();
    let long = "\u{e4}".repeat(1000);
    c.audit_denial(&record(&long, 3 + 3600)).await.unwrap();
    let found = c.newest_audit(&account(), None, 100).await.unwrap();
    assert_eq!(found.len(), 7);
    let joined = found.iter().find(|record| record.count > 1).unwrap();
    assert_eq!((joined.count, joined.at, joined.last_at), (3, at(1), Some(at(3))));
    assert!(found.iter().all(|record| record.resource.len() <= 515));
    assert_eq!(c.newest_audit(&account(), None, 2).await.unwrap(), found[..2]);
    assert_eq!(c.newest_audit(&account(), Some(at(4)), 100).await.unwrap().len(), 2);
}
