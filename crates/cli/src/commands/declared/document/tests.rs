//! Documents that are read, and those that are refused.

use super::*;

fn read(text: &str) -> Result<Vec<Thing>, String> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("all.toml");
    std::fs::write(&path, text).unwrap();
    let shown = format!("{}/", directory.path().display());
    load(&[path]).map_err(|error| error.to_string().replace(&shown, ""))
}

#[test]
fn a_whole_document_is_read() {
    let things = read(include_str!("../example.toml")).unwrap();
    let titles: Vec<String> = things.iter().map(Thing::title).collect();
    assert_eq!(
        titles,
        [
            "vault 'archive'",
            "topic 'ops'",
            "subscription SNS topic arn:aws:sns:eu-central-1:123456789012:ops of topic 'ops'",
            "subscription mail to ops@example.org through mail.example.org of topic 'ops'",
            "subscription webhook https://chat.example.org/hook of topic 'ops'",
            "notifications of vault 'archive'",
            "resource 'app'",
            "resource 'scratch'",
            "exemption of resource 'scratch'",
            "plan 'daily'",
            "selection 'tagged' of plan 'daily'",
            "restore testing plan 'weekly'",
            "restore testing selection 'apps' of restore testing plan 'weekly'",
        ]
    );
    assert!(things.iter().all(|thing| thing.at.contains("/all.toml, line ")), "{things:#?}");
}

#[test]
fn what_nobody_knows_is_refused_with_its_line_and_what_was_meant() {
    for (text, line, meant) in [
        ("[[Vualts]]\nBackupVaultName = \"vault\"\n", 1, "did you mean Vaults?"),
        ("[[Vaults]]\nBackupVaultName = \"vault\"\nTag = {}\n", 3, "did you mean Tags?"),
        (
            "[[Vaults]]\nBackupVaultName = \"vault\"\nNotification = {}\n",
            3,
            "did you mean Notifications?",
        ),
        (
            "[[Vaults]]\nBackupVaultName = \"vault\"\n[Vaults.Care]\nPruneEveryDay = 1\n",
            4,
            "PruneEveryDays?",
        ),
        ("[[Resources]]\nName = \"r\"\nConfig = { path = \"/x\" }\nRpo = 3\n", 4, "there are"),
        (
            "[[Resources]]\nName = \"r\"\nConfig = { path = \"/x\" }\nRpoSecond = 3\n",
            4,
            "did you mean RpoSeconds?",
        ),
        (
            "[[Resources]]\nName = \"r\"\nConfig = { path = \"/x\" }\n\n[[Resources.Probes]]\nType = \"Http\"\nPrt = 1\n",
            7,
            "did you mean Port?",
        ),
        (
            "[[Topics]]\nName = \"t\"\n[[Topics.Subscriptions]]\nWebhok = \"x\"\n",
            4,
            "did you mean Webhook?",
        ),
        (
            "[[Plans]]\nBackupPlanName = \"p\"\n[[Plans.Rules]]\nRuleName = \"r\"\nTargetBackupVaultName = \"vault\"\nLifecycle = { DeleteAfterDay = 3 }\n",
            6,
            "in Rules.Lifecycle; did you mean DeleteAfterDays?",
        ),
        ("[[Plans]]\nBackupPlanName = \"p\"\nSelection = []\n", 3, "did you mean Selections?"),
    ] {
        let error = read(text).unwrap_err();
        assert!(error.starts_with(&format!("all.toml, line {line}: ")), "{text}: {error}");
        assert!(error.contains(meant), "{text}: {error}");
    }
}

#[test]
fn what_cannot_be_is_refused_before_anything_is_asked() {
    let vault = "[[Vaults]]\nBackupVaultName = \"vault\"\n";
    let plan = "[[Plans]]\nBackupPlanName = \"p\"\nRules = [{ RuleName = \"r\", TargetBackupVaultName = \"vault\" }]\n";
    let testing_plan = "[[RestoreTestingPlans]]\nRestoreTestingPlanName = \"t\"\nScheduleExpression = \"cron(0 9 ? * SUN *)\"\n";
    let points = "RecoveryPointSelection = { Algorithm = \"LATEST_WITHIN_WINDOW\", IncludeVaults = [\"*\"], RecoveryPointTypes = [\"SNAPSHOT\"] }\n";
    for (text, word) in [
        ("[Vaults]\nx = 1\n", "[[Vaults]]"),
        ("Vaults = [1]\n", "list of tables"),
        ("[[Vaults]]\nTags = {}\n", "has no BackupVaultName"),
        (&format!("{vault}{vault}"), "declared twice: all.toml, line 2 and all.toml, line 4"),
        ("[[Topics]]\nName = \"t\"\n[[Topics.Subscriptions]]\nEvents = []\n", "exactly one of"),
        (
            "[[Topics]]\nName = \"t\"\n[[Topics.Subscriptions]]\nWebhook = \"x\"\nSecret = \"open\"\n",
            "FromEnv",
        ),
        (
            "[[Topics]]\nName = \"t\"\n[[Topics.Subscriptions]]\nSns = { TopicArn = \"a\", AccessKeyId = \"k\" }\n",
            "needs the secret",
        ),
        (
            "[[Topics]]\nName = \"t\"\n[[Topics.Subscriptions]]\nWebhook = \"x\"\nSns = { TopicArn = \"a\", AccessKeyId = \"k\" }\n",
            "exactly one of Webhook, MailFile, Smtp, Sns and Command",
        ),
        ("[[Plans]]\nBackupPlanName = \"p\"\n", "Rules"),
        (
            "[[Plans]]\nBackupPlanName = \"p\"\nTags = { a = 1 }\nRules = [{ RuleName = \"r\", TargetBackupVaultName = \"vault\" }]\n",
            "table of texts",
        ),
        ("[[Resources]]\nName = \"r\"\n", "Config"),
        (
            "[[Resources]]\nName = \"r\"\nConfig = {}\nExemption = { Reason = \"x\", Owner = \"y\", Until = \"soon\" }\n",
            "a moment",
        ),
        ("[[Resources]]\nName = 7\n", "must be a text"),
        (
            "[[Topics]]\nName = \"t\"\n[[Topics.Subscriptions]]\nWebhook = \"https://h/…\"\n",
            "line 4: Webhook has what a server shows in place",
        ),
        (
            "[[Topics]]\nName = \"t\"\n[[Topics.Subscriptions]]\nCommand = [\"/bin/x\", \"…\"]\n",
            "line 4: Command has what a server shows",
        ),
        (
            "[[Resources]]\nName = \"r\"\nConfig = {}\nService = { Command = [\"x\"], Environment = { A = \"(hidden)\" } }\n",
            "Environment has what a server shows",
        ),
        (
            "[[Resources]]\nName = \"r\"\nConfig = {}\nTestAfterBackup = true\nTesting = { TestAfterBackup = true }\n",
            "short form",
        ),
        ("[[Resources]]\nName = \"r\"\nConfig = {}\nTesting = {}\n", "TestAfterBackup"),
        (
            "[[Resources]]\nName = \"r\"\nConfig = {}\nTesting = { TestAfterBackup = true, SharePercent = 0 }\n",
            "1 to 100",
        ),
        (
            "[[Resources]]\nName = \"r\"\nConfig = {}\nTesting = { TestAfterBackup = false, TestsAtOnce = 1 }\n",
            "nothing to budget",
        ),
        (
            &format!("{plan}Testing = {{ TestAfterBackup = true, SharePercen = 5 }}\n"),
            "did you mean SharePercent?",
        ),
        (
            &format!("{testing_plan}Testing = {{ TestAfterBackup = true }}\n{points}"),
            "there is no member Testing",
        ),
        (
            &format!(
                "{testing_plan}{points}[[RestoreTestingPlans.Selections]]\nRestoreTestingSelectionName = \"s\"\nTesting = {{ TestAfterBackup = true }}\n"
            ),
            "there is no member Testing",
        ),
    ] {
        let error = read(text).unwrap_err();
        assert!(error.contains(word), "{text}: {error}");
    }
}

#[test]
fn near_names_are_meant_and_far_ones_are_not() {
    assert_eq!(distance("kitten", "sitting"), 3);
    assert_eq!(nearest("backupvaultnmae", &["Tags", "BackupVaultName"]), Some("BackupVaultName"));
    assert_eq!(nearest("Colour", &["Tags", "Care"]), None);
}
