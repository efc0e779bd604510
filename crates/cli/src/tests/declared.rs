//! Documents: what stands is written into one, and made of one.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use self::kept::{Kept, ROLE, arn};
use super::commands::{Ran, refused, run, run_answering};
use super::server::{Request, Server};
use crate::exit::Exit;

mod kept;

const EXAMPLE: &str = include_str!("../commands/declared/example.toml");

struct Scene {
    server: Server,
    kept: Arc<Mutex<Kept>>,
    directory: tempfile::TempDir,
}

impl Scene {
    fn new() -> Self {
        let kept = Arc::new(Mutex::new(Kept::default()));
        kept.lock().unwrap().vaults.insert("Default".to_owned(), json!({ "Care": {} }));
        let of_server = Arc::clone(&kept);
        let server = Server::start(move |request| of_server.lock().unwrap().answer(request));
        Self { server, kept, directory: tempfile::tempdir().unwrap() }
    }

    fn write(&self, text: &str) -> PathBuf {
        let path = self.directory.path().join("all.toml");
        std::fs::write(&path, text).unwrap();
        path
    }

    /// The example, with its secrets in files.
    fn example(&self) -> String {
        let secret = self.directory.path().join("secret");
        std::fs::write(&secret, "hush-hush-hush-hush\n").unwrap();
        let from_file = format!("{{ FromFile = \"{}\" }}", secret.display());
        EXAMPLE
            .replace("{ FromEnv = \"PROVAULT_OPS_SECRET\" }", &from_file)
            .replace("{ FromEnv = \"PROVAULT_SNS_SECRET\" }", &from_file)
            .replace("{ FromEnv = \"APP_TOKEN\" }", &from_file)
    }

    fn apply(&self, text: &str, options: &[&str]) -> Ran {
        let path = self.write(text);
        run(&self.server, &[&["apply", "-f", path.to_str().unwrap()], options].concat())
    }

    /// What was asked for that changes something.
    fn changes(&self) -> Vec<String> {
        let requests = self.server.requests();
        requests.iter().filter(|r| r.method != "GET").map(Request::line).collect()
    }
}

#[test]
fn a_document_is_made_once_in_its_order() {
    let scene = Scene::new();
    let ran = scene.apply(&scene.example(), &["--yes"]);
    assert_eq!(ran.exit, Exit::Done, "{}{}", ran.out, ran.err);
    assert!(
        ran.out.contains("+ vault 'archive'") && ran.out.contains("13 changes made"),
        "{}",
        ran.out
    );
    let made = scene.changes();
    let at = |line: &str| {
        made.iter().position(|l| l.starts_with(line)).unwrap_or_else(|| panic!("{line}: {made:#?}"))
    };
    let order = [
        "PUT /backup-vaults/archive",
        "POST /provault/v1/topics",
        "POST /provault/v1/topics/ops/subscriptions",
        "PUT /backup-vaults/archive/notification-configuration",
        "POST /provault/v1/resources",
        "POST /provault/v1/resources/scratch/exemption",
        "PUT /backup/plans",
        "PUT /restore-testing/plans",
    ];
    assert!(order.map(at).is_sorted(), "{made:#?}");
    {
        let kept = scene.kept.lock().unwrap();
        let selection = kept.testing_selections.values().next().unwrap();
        assert_eq!(selection["ProtectedResourceArns"], json!([arn("resource", "app")]));
        assert_eq!(selection["IamRoleArn"], ROLE);
        let environment = &kept.resources["app"]["Service"]["Environment"];
        assert_eq!(environment["TOKEN"], "hush-hush-hush-hush");
        assert!(kept.vaults["archive"]["Notifications"]["SNSTopicArn"] == arn("topic", "ops"));
    }
    let ran = scene.apply(&scene.example(), &["--yes"]);
    assert_eq!(ran.exit, Exit::Done, "{}{}", ran.out, ran.err);
    assert_eq!(ran.out, "= 13 unchanged\nnothing to change\n");
    assert_eq!(scene.changes().len(), made.len(), "the second time changes nothing");
}

#[test]
fn what_is_exported_is_what_stands_and_holds_no_secret() {
    let scene = Scene::new();
    assert_eq!(scene.apply(&scene.example(), &["--yes"]).exit, Exit::Done);
    for options in [&[][..], &["--json"]] {
        let exported = run(&scene.server, &[&["export"], options].concat());
        assert_eq!(exported.exit, Exit::Done, "{}", exported.err);
        assert!(!exported.out.contains("hush"), "{}", exported.out);
        assert!(exported.out.contains("PROVAULT_APP_TOKEN"), "{}", exported.out);
        assert!(exported.out.contains("PROVAULT_OPS_3_SECRET"), "{}", exported.out);
        assert!(exported.out.contains("AKIDEXAMPLEEXAMPLE01"), "{}", exported.out);
        let ours = exported.out.replace("arn:aws:sns:eu-central-1", "");
        assert!(!ours.contains("arn:"), "names fit any server: {}", exported.out);
        let ran = scene.apply(&exported.out, &["--dry-run"]);
        assert_eq!(ran.exit, Exit::Done, "{}{}\n{}", ran.out, ran.err, exported.out);
        assert_eq!(run(&scene.server, &[&["export"], options].concat()).out, exported.out);
    }
    let open = run(&scene.server, &["export", "--with-environment"]);
    assert!(open.out.contains("hush-hush-hush-hush") && !open.out.contains("PROVAULT_APP_TOKEN"));
    let path = scene.directory.path().join("out.toml");
    for what in ["a new file", "one that others could read"] {
        let ran = run(&scene.server, &["export", "-o", path.to_str().unwrap()]);
        assert_eq!((ran.exit, ran.out.as_str()), (Exit::Done, ""), "{}", ran.err);
        assert!(std::fs::read_to_string(&path).unwrap().starts_with("# What a Provault server"));
        let mode = std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{what}");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    }
}

#[test]
fn a_dry_run_and_a_no_change_nothing() {
    let scene = Scene::new();
    let ran = scene.apply(&scene.example(), &["--dry-run"]);
    assert_eq!(ran.exit, Exit::Differs, "{}", ran.err);
    assert!(ran.out.contains("    Rules[night].Lifecycle.DeleteAfterDays = 35"), "{}", ran.out);
    let ran = scene.apply(&scene.example(), &["--dry-run", "--json"]);
    assert_eq!((ran.exit, ran.json()["Changes"].as_array().unwrap().len()), (Exit::Differs, 13));
    let ran = scene.apply(&scene.example(), &[]);
    assert_eq!(ran.exit, Exit::Usage);
    assert!(ran.err.contains("no terminal") && ran.err.contains("--yes"), "{}", ran.err);
    let path = scene.write(&scene.example());
    let line = ["apply", "-f", path.to_str().unwrap()];
    let ran = run_answering(&scene.server, &line, false);
    assert_eq!(ran.exit, Exit::Failed);
    assert!(ran.err.contains("nothing was changed"), "{}", ran.err);
    assert_eq!(scene.changes(), [] as [String; 0]);
    assert_eq!(run_answering(&scene.server, &line, true).exit, Exit::Done);
    assert!(
        !refused(&["apply"]).is_empty()
            && !refused(&["apply", "-f", "x", "--dry-run", "--yes"]).is_empty()
    );
}

#[test]
fn what_is_missing_is_found_before_the_first_change() {
    let scene = Scene::new();
    let plan = "[[Plans]]\nBackupPlanName = \"p\"\nRules = [{ RuleName = \"r\", TargetBackupVaultName = \"none\" }]\n";
    let selection = |role: &str, resource: &str| {
        format!(
            "{}[[Plans.Selections]]\nSelectionName = \"s\"\nIamRoleArn = \"{role}\"\nResources = [\"{resource}\"]\n",
            plan.replace("none", "Default")
        )
    };
    for (text, word) in [
        (plan.to_owned(), "no vault 'none'"),
        (selection("ops", "*"), "no role 'ops'"),
        (selection("DEFAULT", "files"), "no resource 'files'"),
        (EXAMPLE.to_owned(), "PROVAULT_SNS_SECRET is not set"),
    ] {
        let ran = scene.apply(&text, &["--yes"]);
        assert_eq!(ran.exit, Exit::Usage, "{word}: {}", ran.err);
        assert!(ran.err.contains(word), "{word}: {}", ran.err);
    }
    assert_eq!(scene.changes(), [] as [String; 0]);
}

#[test]
fn a_failure_in_the_middle_says_what_was_done_and_goes_on_later() {
    let scene = Scene::new();
    scene.kept.lock().unwrap().refuses = Some("PUT /backup/plans".to_owned());
    let ran = scene.apply(&scene.example(), &["--yes", "--json"]);
    assert_eq!(ran.exit, Exit::Failed);
    assert!(ran.err.contains("9 of 13 changes were made; + plan 'daily' failed"), "{}", ran.err);
    assert!(ran.err.contains("the schedule is wrong"), "{}", ran.err);
    let done: Vec<bool> = ran.json()["Changes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| c["Done"].as_bool().unwrap())
        .collect();
    assert_eq!(done.iter().filter(|done| **done).count(), 9);
    scene.kept.lock().unwrap().refuses = None;
    let ran = scene.apply(&scene.example(), &["--yes"]);
    assert!(ran.out.contains("4 changes made"), "{}{}", ran.out, ran.err);
    let kept = scene.kept.lock().unwrap();
    assert_eq!((kept.plans.len(), kept.topics["ops"].len(), kept.resources.len()), (1, 3, 2));
}

#[test]
fn changes_are_made_in_place() {
    let scene = Scene::new();
    assert_eq!(scene.apply(&scene.example(), &["--yes"]).exit, Exit::Done);
    let before = scene.changes().len();
    let changed = scene
        .example()
        .replace("DeleteAfterDays = 35", "DeleteAfterDays = 30")
        .replace("tier = \"cold\"", "tier = \"warm\"")
        .replace("DigestMinutes = 60", "DigestMinutes = 30")
        .replace("ConditionValue = \"daily\"", "ConditionValue = \"nightly\"")
        .replace("Tags = { backup = \"daily\" }", "Tags = { backup = \"nightly\" }");
    let ran = scene.apply(&changed, &["--yes"]);
    assert_eq!(ran.exit, Exit::Done, "{}{}", ran.out, ran.err);
    assert!(ran.out.contains("Rules[night].Lifecycle.DeleteAfterDays: 35 -> 30"), "{}", ran.out);
    let made: Vec<String> = scene.changes().split_off(before);
    let verbs = |verb: &str| made.iter().filter(|line| line.starts_with(verb)).count();
    assert_eq!(
        (verbs("DELETE /provault/v1/subscriptions"), verbs("DELETE /backup/plans")),
        (1, 1),
        "{made:#?}"
    );
    {
        let kept = scene.kept.lock().unwrap();
        assert_eq!((kept.plans.len(), kept.selections.len(), kept.topics["ops"].len()), (1, 1, 3));
        assert_eq!(kept.tags[&arn("vault", "archive")], json!({ "tier": "warm" }));
    }
    assert!(scene.apply(&changed, &["--yes"]).out.contains("nothing to change"));

    let before = scene.changes().len();
    let changed = changed
        .replace("RpoSeconds = 86400\n", "")
        .replace("RtoSeconds = 900", "RtoSeconds = 600")
        .replace("\"8080\"]", "\"8081\"]")
        .replace("Port = 8080", "Port = 8081");
    let ran = scene.apply(&changed, &["--yes"]);
    assert_eq!(ran.exit, Exit::Done, "{}{}", ran.out, ran.err);
    assert_eq!(scene.changes().split_off(before), ["POST /provault/v1/resources/app"]);
    {
        let kept = scene.kept.lock().unwrap();
        let app = &kept.resources["app"];
        assert_eq!((&app["RpoSeconds"], &app["RtoSeconds"]), (&Value::Null, &json!(600)));
        assert_eq!(app["Probes"][0]["Port"], 8081);
        assert_eq!(app["Service"]["Command"][2], "8081");
        // The secret is sent, not where it is taken from.
        assert!(app["Service"]["Environment"]["TOKEN"].is_string(), "{app}");
    }
    assert!(scene.apply(&changed, &["--yes"]).out.contains("nothing to change"));

    let stuck = changed.replace("/srv/app\"", "/srv/elsewhere\"");
    let before = scene.changes().len();
    let ran = scene.apply(&stuck, &["--yes"]);
    assert_eq!(ran.exit, Exit::Failed);
    assert!(
        ran.out.contains("! resource 'app': Config.path cannot be changed in place"),
        "{}",
        ran.out
    );
    assert!(ran.err.contains("nothing was changed"), "{}", ran.err);
    assert_eq!(scene.changes().len(), before);
}

#[test]
fn prune_removes_what_is_not_declared_but_no_vault_with_recovery_points() {
    let scene = Scene::new();
    let more =
        "\n[[Vaults]]\nBackupVaultName = \"full\"\n[[Vaults]]\nBackupVaultName = \"empty\"\n";
    assert_eq!(scene.apply(&(scene.example() + more), &["--yes"]).exit, Exit::Done);
    let little = "[[Topics]]\nName = \"ops\"\n";
    assert!(scene.apply(little, &["--yes"]).out.contains("nothing to change"));
    let ran = scene.apply(&scene.example(), &["--yes", "--prune"]);
    assert!(
        ran.out.contains("- vault 'empty'") && !ran.out.contains("- vault 'full'"),
        "{}",
        ran.out
    );
    assert!(ran.out.contains("vault 'full' is kept: it holds 1 recovery points"), "{}", ran.out);
    let kept = scene.kept.lock().unwrap();
    assert_eq!(kept.vaults.keys().collect::<Vec<_>>(), ["Default", "archive", "full"]);
    assert_eq!(kept.resources.len(), 2);
}

#[test]
fn two_plans_of_one_name_are_an_error() {
    let scene = Scene::new();
    let rule = json!([{ "RuleName": "r", "TargetBackupVaultName": "Default" }]);
    for id in ["one", "two"] {
        let plan = json!({ "BackupPlanName": "p", "Rules": rule });
        scene.kept.lock().unwrap().plans.insert(id.to_owned(), plan);
    }
    let plan = "[[Plans]]\nBackupPlanName = \"p\"\nRules = [{ RuleName = \"r\", TargetBackupVaultName = \"Default\" }]\n";
    for ran in [scene.apply(plan, &["--yes"]), run(&scene.server, &["export"])] {
        assert_eq!(ran.exit, Exit::Failed);
        assert!(ran.err.contains("more than one plan 'p': one and two"), "{}", ran.err);
    }
    // What does not concern them goes on.
    assert_eq!(scene.apply("[[Topics]]\nName = \"t\"\n", &["--yes"]).exit, Exit::Done);
}

/// The example, whose selection says something about restore tests as well.
fn tested(example: &str) -> String {
    let selection = "Testing = { TestAfterBackup = false }";
    let name = |member: &str, name: &str| format!("{member} = \"{name}\"\n");
    let after = |text: &str, line: &str, more: &str| {
        assert!(text.contains(line), "{line}");
        text.replace(line, &format!("{line}{more}\n"))
    };
    after(example, &name("SelectionName", "tagged"), selection)
}

#[test]
fn what_is_said_about_tests_is_made_kept_and_taken_back() {
    let scene = Scene::new();
    let window = "Testing = { TestAfterBackup = true, TestsAtOnce = 2, Window = { From = \"01:00\", To = \"05:00\" } }";
    let document = tested(&scene.example())
        .replace("TestAfterBackup = true\n\n[Resources", &format!("{window}\n\n[Resources"));
    let ran = scene.apply(&document, &["--yes"]);
    assert_eq!(ran.exit, Exit::Done, "{}{}", ran.out, ran.err);
    let said = |of: &str| {
        let kept = scene.kept.lock().unwrap();
        let of_kind = kept.said.iter().filter(|(path, _)| path.split('/').rev().nth(1) == Some(of));
        let all: Vec<Value> = of_kind.map(|(_, said)| said.clone()).collect();
        assert!(all.len() < 2, "what is gone says nothing: {all:?}");
        all.first().cloned().unwrap_or_default()
    };
    assert_eq!(
        (&said("resources")["TestsAtOnce"], &said("resources")["Window"]["To"]),
        (&json!(2), &json!("05:00"))
    );
    assert_eq!(said("backup-plans")["SharePercent"], 25);
    assert_eq!(said("selections")["TestAfterBackup"], false);
    assert!(scene.apply(&document, &["--yes"]).out.contains("nothing to change"));
    for options in [&[][..], &["--json"]] {
        let exported = run(&scene.server, &[&["export"], options].concat());
        let ran = scene.apply(&exported.out, &["--dry-run"]);
        assert_eq!(ran.exit, Exit::Done, "{}{}\n{}", ran.out, ran.err, exported.out);
    }

    // A selection that is made anew says the same; one that was put back, too.
    let nightly = document.replace("ConditionValue = \"daily\"", "ConditionValue = \"nightly\"");
    assert_eq!(scene.apply(&nightly, &["--yes"]).exit, Exit::Done);
    assert_eq!(said("selections")["TestAfterBackup"], false);
    assert!(scene.apply(&nightly, &["--yes"]).out.contains("nothing to change"));
    let id = scene.kept.lock().unwrap().plans.keys().next().unwrap().clone();
    scene.kept.lock().unwrap().refuses_once = Some(format!("PUT /backup/plans/{id}/selections"));
    let ran = scene.apply(&document, &["--yes"]);
    assert!(ran.err.contains("the schedule is wrong"), "{}{}", ran.out, ran.err);
    assert_eq!(said("selections")["TestAfterBackup"], false);
    assert!(scene.apply(&nightly, &["--yes"]).out.contains("nothing to change"));

    // By itself it makes no version of a plan and no other selection.
    let before = scene.changes().len();
    let changed = nightly
        .replace("SharePercent = 25", "SharePercent = 50")
        .replace("Testing = { TestAfterBackup = false }\n", "")
        .replace(window, "TestAfterBackup = false");
    let ran = scene.apply(&changed, &["--yes"]);
    assert_eq!(ran.exit, Exit::Done, "{}{}", ran.out, ran.err);
    let made = scene.changes().split_off(before);
    let verbs: Vec<&str> = made.iter().map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(verbs, ["PUT", "PUT", "DELETE"], "{made:#?}");
    assert!(made.iter().all(|line| line.ends_with("/testing")), "{made:#?}");
    assert_eq!(said("resources")["TestAfterBackup"], false);
    assert_eq!(said("resources").get("Window"), None);
    assert!(scene.apply(&changed, &["--yes"]).out.contains("nothing to change"));
}

#[test]
fn a_subscription_is_not_changed_while_notifications_wait_for_it() {
    let scene = Scene::new();
    assert_eq!(scene.apply(&scene.example(), &["--yes"]).exit, Exit::Done);
    let changed = scene.example().replace("DigestMinutes = 60", "DigestMinutes = 30");
    let subscription = |what: &str| {
        let kept = scene.kept.lock().unwrap();
        let found = kept.topics["ops"].iter().find(|one| !one[what].is_null()).unwrap();
        found["SubscriptionId"].as_str().unwrap().to_owned()
    };
    let (mail, webhook) = (subscription("Smtp"), subscription("Webhook"));
    scene.kept.lock().unwrap().waiting = vec![mail.clone(), webhook.clone(), mail.clone()];
    let before = scene.changes().len();
    let ran = scene.apply(&changed, &["--dry-run"]);
    assert_eq!(ran.exit, Exit::Differs);
    assert!(ran.out.contains("2 notifications wait for it and would be given up"), "{}", ran.out);
    assert!(ran.out.contains(&format!("provault topic unsubscribe {mail}")), "{}", ran.out);
    let ran = scene.apply(&changed, &["--yes"]);
    assert!(ran.err.contains("nothing was changed"), "{}{}", ran.out, ran.err);
    assert_eq!((ran.exit, scene.changes().len()), (Exit::Failed, before));

    // One that comes while the change is made is not lost either.
    scene.kept.lock().unwrap().waiting = vec![webhook];
    scene.kept.lock().unwrap().waits_after_subscribe = Some(mail.clone());
    let ran = scene.apply(&changed, &["--yes"]);
    assert!(ran.err.contains("1 notification waits for it"), "{}{}", ran.out, ran.err);
    assert_eq!((subscription("Smtp"), scene.kept.lock().unwrap().topics["ops"].len()), (mail, 3));

    scene.kept.lock().unwrap().waiting.clear();
    assert_eq!(scene.apply(&changed, &["--yes"]).exit, Exit::Done);
    assert!(scene.apply(&changed, &["--yes"]).out.contains("nothing to change"));
}

#[test]
fn prune_refuses_names_of_what_it_would_remove() {
    let scene = Scene::new();
    let more = "\n[[Vaults]]\nBackupVaultName = \"full\"\n[Vaults.Notifications]\nSNSTopicArn = \"ops\"\nBackupVaultEvents = [\"BACKUP_JOB_FAILED\"]\n";
    assert_eq!(scene.apply(&(scene.example() + more), &["--yes"]).exit, Exit::Done);
    let before = scene.changes().len();
    let plan = |vault: &str, resource: &str| {
        format!(
            "[[Plans]]\nBackupPlanName = \"daily\"\nRules = [{{ RuleName = \"night\", TargetBackupVaultName = \"{vault}\" }}]\n\
             [[Plans.Selections]]\nSelectionName = \"s\"\nIamRoleArn = \"DEFAULT\"\nResources = [\"{resource}\"]\n"
        )
    };
    let notified = |topic: &str| {
        format!(
            "[[Vaults]]\nBackupVaultName = \"archive\"\nNotifications = {{ SNSTopicArn = \"{topic}\", BackupVaultEvents = [\"BACKUP_JOB_FAILED\"] }}\n"
        )
    };
    let copy = plan("Default", "*").replace(
        "\"Default\" }",
        &format!(
            "\"Default\", CopyActions = [{{ DestinationBackupVaultArn = \"{}\" }}] }}",
            arn("vault", "archive")
        ),
    );
    for (text, word) in [
        (
            plan("archive", "*"),
            "Rules: the vault 'archive' is not declared and so would be removed",
        ),
        (copy, "Rules: the vault 'archive' is not declared"),
        (plan("Default", "app"), "Resources: the resource 'app' is not declared"),
        (plan("Default", &arn("resource", "app")), "the resource 'app' is not declared"),
    ] {
        let ran = scene.apply(&text, &["--yes", "--prune"]);
        assert_eq!(ran.exit, Exit::Usage, "{word}: {}{}", ran.out, ran.err);
        assert!(
            ran.err.contains(word) && ran.err.contains("without --prune"),
            "{word}: {}",
            ran.err
        );
        assert_eq!(scene.apply(&text, &["--dry-run"]).exit, Exit::Differs, "{word}");
    }
    assert_eq!(scene.changes().len(), before);
    // The topic stays, since the vault 'full' does and sends there; the vault by itself.
    for text in [notified("ops"), plan("full", "*")] {
        let ran = scene.apply(&text, &["--dry-run", "--prune"]);
        assert_eq!(ran.exit, Exit::Differs, "{}{}", ran.out, ran.err);
        assert!(
            !ran.out.contains("- topic 'ops'") && !ran.out.contains("- subscription"),
            "{}",
            ran.out
        );
    }
}

#[test]
fn what_the_server_hides_is_not_written_as_what_stands() {
    let scene = Scene::new();
    assert_eq!(scene.apply(&scene.example(), &["--yes"]).exit, Exit::Done);
    let before = scene.changes().len();
    scene.kept.lock().unwrap().resources.get_mut("app").unwrap()["Service"]["Environment"] =
        json!({ "MODE": "(hidden)", "TOKEN": "(hidden)" });
    let ran = run(&scene.server, &["export", "--with-environment"]);
    assert_eq!((ran.exit, ran.out.as_str()), (Exit::Failed, ""));
    assert!(ran.err.contains("resource 'app'") && ran.err.contains("AddResource"), "{}", ran.err);
    let ran = run(&scene.server, &["export"]);
    assert!(ran.exit == Exit::Done && !ran.out.contains("(hidden)"), "{}{}", ran.out, ran.err);
    let ran = scene.apply(&scene.example(), &["--dry-run"]);
    assert!(ran.out.contains("nothing to change"), "nobody can tell: {}{}", ran.out, ran.err);

    for (kind, cut) in
        [("Webhook", json!("https://h/…")), ("Command", json!(["/usr/bin/tell", "…"]))]
    {
        let subscription = json!({ "SubscriptionId": "s", "TopicArn": arn("topic", "ops"),
            "CreationDate": 0, "Events": [], "HasSecret": false, kind: cut });
        scene.kept.lock().unwrap().topics.get_mut("ops").unwrap()[0] = subscription;
        for ran in [
            run(&scene.server, &["export"]),
            scene.apply(&scene.example(), &["--yes"]),
            scene.apply("", &["--yes", "--prune"]),
        ] {
            assert_eq!((ran.exit, ran.out.as_str()), (Exit::Failed, ""), "{kind}");
            assert!(ran.err.contains(&format!("hides its {kind}")), "{}", ran.err);
        }
        let ran = scene.apply("[[Topics]]\nName = \"other\"\n", &["--dry-run"]);
        assert_eq!(ran.exit, Exit::Differs, "what does not concern them goes on: {}", ran.err);
    }
    assert_eq!(scene.changes().len(), before);
}
