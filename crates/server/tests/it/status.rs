//! The status: what is overdue or unprotected, as time passes.

use provault_domain::care::VaultAlarm;
use provault_domain::{DoctorCheck, ResourceTrouble};
use serde_json::{Value, json};

use crate::support::{ROLE, World, segment};

const STATUS: &str = "/provault/v1/status";

#[tokio::test(flavor = "multi_thread")]
async fn what_nothing_promises_and_what_is_too_old_is_told() {
    let world = World::new().await;
    let empty = world.ok("GET", STATUS, Value::Null).await;
    assert_eq!((&empty["Well"], &empty["Resources"]), (&json!(true), &json!([])));
    world
        .refused("GET", &format!("{STATUS}?all=1"), Value::Null, "InvalidParameterValueException")
        .await;

    let alone = world.resource("alone").await;
    let path = world.directory.path().join("sources/alone");
    let other = world.directory.path().join("sources/strict");
    std::fs::create_dir(&other).unwrap();
    std::fs::copy(path.join("data.txt"), other.join("data.txt")).unwrap();
    let strict = json!({ "Kind": "filesystem", "Name": "strict", "RpoSeconds": 2,
        "Config": { "path": other } });
    let strict = world.ok("POST", "/provault/v1/resources", strict).await;
    let running = world.start().await;
    let arn = strict["ResourceArn"].as_str().unwrap();
    world.backup(arn, "Default").await;

    let target = format!("/provault/v1/resources/{}", segment(arn));
    let shown = world.wait(&target, "Protection", "OVERDUE").await;
    assert_eq!(shown["Verdict"], "OVERDUE");
    assert!(
        shown["Troubles"][0]["Reason"].as_str().unwrap().contains("objective is 2 s"),
        "{shown:#}"
    );
    let status = world.ok("GET", STATUS, Value::Null).await;
    assert_eq!(status["Well"], false);
    let of = |name: &str| {
        let all = status["Resources"].as_array().unwrap();
        all.iter().find(|resource| resource["Name"] == name).unwrap()
    };
    assert_eq!(of("strict")["Protection"], "OVERDUE");
    assert_eq!(of("alone")["Protection"], "UNPROTECTED");
    assert_eq!(of("alone")["ResourceArn"], alone.as_str());
    running.stop("the test is over").await;
}

#[tokio::test]
async fn a_plan_that_selects_a_resource_protects_it() {
    let world = World::new().await;
    let resource = world.resource("notes").await;
    let protection = async || {
        let status = world.ok("GET", STATUS, Value::Null).await;
        (status["Resources"][0]["Protection"].clone(), status["Well"].clone())
    };
    assert_eq!(protection().await, (json!("UNPROTECTED"), json!(false)));
    let plan = json!({ "BackupPlan": { "BackupPlanName": "p", "Rules": [{
        "RuleName": "r", "TargetBackupVaultName": "Default",
        "ScheduleExpression": "cron(0 5 ? * * *)",
    }] } });
    let made = world.ok("PUT", "/backup/plans/", plan).await;
    let selections =
        format!("/backup/plans/{}/selections/", made["BackupPlanId"].as_str().unwrap());
    let selection = json!({ "BackupSelection": {
        "SelectionName": "s", "IamRoleArn": ROLE, "Resources": [resource],
    } });
    world.ok("PUT", &selections, selection).await;
    // Its first backup is not due yet.
    assert_eq!(protection().await, (json!("WAITING"), json!(true)));
}

#[tokio::test]
async fn an_exemption_says_why_who_and_until_when() {
    let world = World::new().await;
    let resource = world.resource("notes").await;
    let target = format!("/provault/v1/resources/{}/exemption", segment(&resource));
    let end = jiff::Timestamp::now().as_second() + 86_400;
    let good = json!({ "Reason": "built from source", "Owner": "ann", "EndDate": end });
    for (member, value) in [
        ("Reason", json!(" ")),
        ("Owner", json!("")),
        ("EndDate", json!(1)),
        ("EndDate", json!(end + 400 * 86_400)),
        ("EndDate", json!(1e300)),
    ] {
        let mut wrong = good.clone();
        wrong[member] = value;
        let reply = world.refused("POST", &target, wrong, "InvalidParameterValueException").await;
        assert!(reply.message().contains(member), "{reply:?}");
    }
    world.refused("DELETE", &target, Value::Null, "ResourceNotFoundException").await;
    let nowhere = "/provault/v1/resources/nowhere/exemption";
    world.refused("POST", nowhere, good.clone(), "ResourceNotFoundException").await;
    let shown = world.ok("POST", &target, good).await;
    assert_eq!(shown["Protection"], "EXEMPT");
    assert_eq!(shown["Exemption"]["Owner"], "ann");
    assert_eq!(world.ok("GET", STATUS, Value::Null).await["Well"], true);
    let shown = world.ok("DELETE", &target, Value::Null).await;
    assert_eq!(shown["Protection"], "UNPROTECTED");
}

#[tokio::test]
async fn the_doctor_finds_a_vault_that_is_gone_and_a_directory_that_is_open() {
    use std::os::unix::fs::PermissionsExt as _;
    const DOCTOR: &str = "/provault/v1/doctor";
    let world = World::new().await;
    let state = async |check: &str| {
        let health = world.ok("GET", DOCTOR, Value::Null).await;
        let findings = health["Findings"].as_array().unwrap().clone();
        let found = findings.iter().find(|f| f["Check"] == check);
        (found.unwrap_or_else(|| panic!("no {check}: {health:#}"))["State"].clone(), health)
    };
    let mode = |mode| {
        let permissions = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(world.directory.path(), permissions).unwrap();
    };
    mode(0o700);
    for check in ["clock", "permissions", "vault Default", "deliveries"] {
        assert_eq!(state(check).await.0, "OK", "{check}");
    }
    mode(0o755);
    let (permissions, health) = state("permissions").await;
    assert_eq!((permissions, health["State"].clone()), (json!("FAILED"), json!("FAILED")));
    mode(0o700);
    let secret = world.app.credentials_path().to_owned();
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o644)).unwrap();
    let (permissions, health) = state("permissions").await;
    assert_eq!(permissions, "FAILED");
    assert!(health.to_string().contains("chmod 600"), "{health:#}");
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(state("permissions").await.0, "OK");
    // Nothing here needs an application to be started; then something does.
    assert_eq!(state("isolation").await.0, "WARNING");
    let path = world.directory.path().join("app");
    std::fs::create_dir(&path).unwrap();
    let app = json!({ "Kind": "filesystem", "Name": "app", "Config": { "path": path },
        "Probes": [{ "Type": "Http", "Port": 8080, "Path": "/",
            "Assertions": [{ "Type": "Status", "Equals": 200 }] }],
        "Service": { "Command": ["./serve"] } });
    world.ok("POST", "/provault/v1/resources", app).await;
    assert_eq!(state("isolation").await.0, "FAILED");
    let vaults = world.directory.path().join("vaults");
    let away = world.directory.path().join("away");
    std::fs::rename(&vaults, &away).unwrap();
    let (vault, health) = state("vault Default").await;
    assert_eq!(vault, "FAILED", "{health:#}");
    std::fs::rename(&away, &vaults).unwrap();
}

/// Whatever turns red has a row in the page for that, with what to do about it.
#[test]
fn the_page_for_when_it_is_red_has_all_that_can_be() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/how-to/when-it-is-red.md");
    let page = std::fs::read_to_string(page).unwrap();
    let rows: Vec<&str> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"))
        .filter_map(|row| match row.split(" | ").collect::<Vec<_>>()[..] {
            [seen, _, _] => Some(seen),
            _ => None,
        })
        .collect();
    let demand = |what: &str, told: &dyn Fn(&str) -> bool| {
        assert!(rows.iter().any(|seen| told(seen)), "no row has {what}");
    };
    let has_word = |seen: &str, word: &str| {
        seen.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).any(|said| said == word)
    };
    for alarm in VaultAlarm::ALL {
        demand(&format!("the alarm {alarm}"), &|seen| seen.contains(&format!("alarm {alarm}")));
    }
    for trouble in ResourceTrouble::ALL {
        demand(trouble.as_str(), &|seen| has_word(seen, trouble.as_str()));
    }
    for check in DoctorCheck::ALL {
        let (one, named) = (format!("`doctor`: `{check}` "), format!("`doctor`: `{check} "));
        demand(&format!("doctor's {check}"), &|seen| seen.contains(&one) || seen.contains(&named));
    }
    demand("doctor's jobs", &|seen| seen.contains("`doctor`: `backup job ID` "));
    demand("a reload that failed", &|seen| seen.contains("`provault_settings_reload_failed`"));
    demand("a server that is not ready", &|seen| seen.contains("`/provault/v1/ready`"));
}
