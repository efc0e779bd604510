//! Receivers of every kind: their secrets, tests of them, and deliveries that were given up.

use std::io::{Read, Write};
use std::net::TcpListener;

use provault_catalog::DeliveryState;
use provault_domain::vault::VaultNotifications;
use serde_json::{Value, json};

use crate::support::{World, text};

const TARGET: &str = "/provault/v1/topics/ops/subscriptions";
const SECRET: &str = "not-to-be-seen-by-anybody";

impl World {
    async fn with_topic(self) -> Self {
        self.ok("POST", "/provault/v1/topics", json!({ "Name": "ops" })).await;
        self
    }

    async fn subscribe(&self, body: Value) -> String {
        text(&self.ok("POST", TARGET, body).await, "SubscriptionId")
    }

    async fn test(&self, id: &str) -> Value {
        self.ok("POST", &format!("/provault/v1/subscriptions/{id}/test"), Value::Null).await
    }
}

/// A webhook that answers each request with the next status, and a text behind a `|`, and ends after the
/// last.
pub fn receiver(
    statuses: &'static [&'static str],
) -> (String, std::thread::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let handle = std::thread::spawn(move || {
        let mut requests = Vec::new();
        for answer in statuses {
            let (status, said) = answer.split_once('|').unwrap_or((answer, ""));
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            // The body is an object, so its end is the end of the request.
            while !request.ends_with(b"}") {
                let mut part = [0; 4096];
                let n = stream.read(&mut part).unwrap();
                assert!(n > 0, "half a request");
                request.extend_from_slice(&part[..n]);
            }
            let head = format!(
                "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{said}",
                said.len()
            );
            stream.write_all(head.as_bytes()).unwrap();
            requests.push(String::from_utf8(request).unwrap());
        }
        requests
    });
    (url, handle)
}

#[tokio::test]
async fn a_secret_is_kept_sealed_and_never_told() {
    let world = World::new().await.with_topic().await;
    let hook = json!({ "Webhook": "http://127.0.0.1:9/x", "Secret": SECRET });
    let made = world.ok("POST", TARGET, hook).await;
    let smtp = json!({ "Server": "mail.example.org", "From": "p@example.org",
        "To": "ops@example.org", "User": "me" });
    let mail = world.ok("POST", TARGET, json!({ "Smtp": smtp, "Secret": SECRET })).await;
    let plain = world.ok("POST", TARGET, json!({ "Webhook": "http://127.0.0.1:9/y" })).await;
    assert_eq!((&made["HasSecret"], &plain["HasSecret"]), (&json!(true), &json!(false)));
    assert_eq!(mail["Smtp"]["Port"], 587);
    assert_eq!(mail["Smtp"]["Tls"], "starttls");
    let listed = world.ok("GET", TARGET, Value::Null).await;
    assert_eq!(listed["Subscriptions"], json!([made, mail, plain]));
    assert!(!listed.to_string().contains(SECRET));
    let (first, second) = (text(&made, "SubscriptionId"), text(&mail, "SubscriptionId"));
    assert!(!world.state().await.contains(SECRET), "rows and audit");
    let catalog = world.app.engine().catalog();
    let first = catalog.subscription(&first).await.unwrap().unwrap().sealed_secret;
    let second = catalog.subscription(&second).await.unwrap().unwrap().sealed_secret;
    assert_ne!(first, second, "each is sealed for itself");
}

#[tokio::test]
async fn a_receiver_that_makes_no_sense_is_refused_and_changes_nothing() {
    let world = World::new().await.with_topic().await;
    let smtp = |changes: Value| {
        let mut smtp = json!({ "Server": "mail.example.org", "From": "p@h", "To": "o@h" });
        for (key, value) in changes.as_object().unwrap() {
            smtp[key] = value.clone();
        }
        smtp
    };
    let hook = "http://127.0.0.1:9/x";
    for (body, about) in [
        (json!({ "Webhook": hook, "Smtp": smtp(json!({})) }), "exactly one"),
        (json!({ "Webhook": hook, "Secret": "short" }), "Secret"),
        (json!({ "Webhook": hook, "Events": ["BACKUP_JOB_FAILD"] }), "BACKUP_JOB_FAILD"),
        (json!({ "Webhook": hook, "Events": ["COPY_JOB_FAILED"] }), "COPY_JOB_FAILED"),
        (json!({ "Webhook": hook, "DigestMinutes": 0 }), "DigestMinutes"),
        (json!({ "Smtp": smtp(json!({ "Tls": "perhaps" })) }), "Smtp.Tls"),
        (json!({ "Smtp": smtp(json!({ "Tls": "none" })) }), "Smtp.Tls"),
        (json!({ "Smtp": smtp(json!({ "Port": 0 })) }), "Smtp.Port"),
        (json!({ "Smtp": smtp(json!({ "User": "me" })) }), "Secret"),
        (json!({ "Smtp": smtp(json!({})), "Secret": SECRET }), "Secret"),
        (json!({ "Smtp": smtp(json!({ "CaFile": "ca.pem" })) }), "Smtp.CaFile"),
        (json!({ "Smtp": smtp(json!({ "From": "nobody" })) }), "Smtp.From"),
    ] {
        let reply = world.refused("POST", TARGET, body, "InvalidParameterValueException").await;
        assert!(reply.message().contains(about), "{reply:?}");
        assert!(!reply.message().contains(SECRET), "{reply:?}");
    }
    let unknown = "/provault/v1/subscriptions/none/test";
    world.refused("POST", unknown, Value::Null, "ResourceNotFoundException").await;
}

#[tokio::test]
async fn a_command_needs_a_server_that_allows_it() {
    let command = json!({ "Command": ["/bin/sh", "-c", "cat > \"$0\"", "/dev/null"] });
    let world = World::new().await.with_topic().await;
    let reply = world.refused("POST", TARGET, command, "InvalidRequestException").await;
    assert!(reply.message().contains("--allow-command-subscriptions"), "{reply:?}");

    let world = World::that_runs_commands().await.with_topic().await;
    let file = world.directory.path().join("told");
    let file = file.to_str().unwrap();
    let script = "cat > \"$0\"; echo told";
    let id = world.subscribe(json!({ "Command": ["/bin/sh", "-c", script, file] })).await;
    let tested = world.test(&id).await;
    assert_eq!(tested["Delivered"], true, "{tested}");
    assert!(text(&tested, "Detail").contains("told"), "{tested}");
    let envelope: Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    assert_eq!(envelope["MessageAttributes"]["EventType"]["Value"], "TEST");
    let relative = json!({ "Command": ["sh"] });
    world.refused("POST", TARGET, relative, "InvalidParameterValueException").await;
}

#[tokio::test]
async fn a_test_goes_out_at_once_and_leaves_nothing_behind() {
    let world = World::new().await.with_topic().await;
    let (url, requests) = receiver(&["204 No Content", "500 Broken"]);
    let id = world.subscribe(json!({ "Webhook": url, "Secret": SECRET })).await;
    let tested = world.test(&id).await;
    assert_eq!(tested["Delivered"], true, "{tested}");
    assert!(text(&tested, "Detail").starts_with("HTTP 204 from http://127.0.0.1:"), "{tested}");
    let tested = world.test(&id).await;
    assert_eq!(tested["Delivered"], false, "{tested}");
    assert!(text(&tested, "Detail").contains("HTTP 500"), "{tested}");
    let requests = requests.join().unwrap();
    let (head, body) = requests[0].split_once("\r\n\r\n").unwrap();
    assert!(head.to_lowercase().contains("x-provault-signature: sha256="), "{head}");
    let envelope: Value = serde_json::from_str(body).unwrap();
    assert_eq!(envelope["Subject"], "Test of a subscription");
    assert!(text(&envelope, "Message").contains(&id), "{envelope}");
    let deliveries = world.ok("GET", "/provault/v1/deliveries", Value::Null).await;
    assert_eq!(deliveries["Deliveries"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_that_was_given_up_is_found_and_sent_again() {
    let world = World::new().await.with_topic().await;
    let (url, requests) = receiver(&["404 Not Found", "204 No Content"]);
    let id = world.subscribe(json!({ "Webhook": url })).await;
    // Of the same events only those that it wants.
    let picky = json!({ "Webhook": url, "Events": ["BACKUP_JOB_FAILED"] });
    let picky = world.subscribe(picky).await;
    let topic = text(&world.ok("GET", "/provault/v1/topics", Value::Null).await["Items"][0], "Arn");
    let events = vec!["BACKUP_JOB_COMPLETED".to_owned()];
    let setting = VaultNotifications { topic_arn: topic.parse().unwrap(), events };
    let catalog = world.app.engine().catalog();
    catalog.set_vault_notifications(world.app.account(), "Default", Some(setting)).await.unwrap();
    let running = world.start().await;
    let resource = world.resource("app").await;
    world.backup(&resource, "Default").await;

    let dead = loop {
        let list = world.ok("GET", "/provault/v1/deliveries?state=DEAD", Value::Null).await;
        if let [dead] = list["Deliveries"].as_array().unwrap().as_slice() {
            break dead.clone();
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    };
    assert_eq!(dead["SubscriptionId"], id.as_str());
    assert!(text(&dead, "LastError").contains("HTTP 404"), "{dead}");
    assert_eq!(dead.get("NextAttemptDate"), None);
    let target = format!("/provault/v1/deliveries/{}", text(&dead, "DeliveryId"));
    assert_eq!(world.ok("GET", &target, Value::Null).await, dead);
    let all = world.ok("GET", "/provault/v1/deliveries", Value::Null).await;
    assert!(!all.to_string().contains(&picky), "{all}");

    let again = format!("{target}/send-again");
    let sent = world.ok("POST", &again, Value::Null).await;
    assert_eq!(sent["State"], "WAITING");
    world.wait(&target, "State", "DELIVERED").await;
    let reply = world.refused("POST", &again, Value::Null, "InvalidRequestException").await;
    assert!(reply.message().contains("DELIVERED"), "{reply:?}");
    let requests = requests.join().unwrap();
    let id_of = |request: &str| {
        let body = request.split_once("\r\n\r\n").unwrap().1;
        serde_json::from_str::<Value>(body).unwrap()["MessageId"].clone()
    };
    assert_eq!(id_of(&requests[0]), dead["DeliveryId"]);
    assert_eq!(id_of(&requests[1]), dead["DeliveryId"], "a receiver can tell");
    running.stop("the test is over").await;

    world
        .refused("GET", "/provault/v1/deliveries/none", Value::Null, "ResourceNotFoundException")
        .await;
    // Only what was given up is forgotten.
    world.refused("DELETE", &target, Value::Null, "InvalidRequestException").await;
    let bad = "/provault/v1/deliveries?state=LOST";
    world.refused("GET", bad, Value::Null, "InvalidParameterValueException").await;
    let left = catalog.list_deliveries(world.app.account(), None, None).await.unwrap();
    assert!(left.iter().all(|delivery| delivery.state == DeliveryState::Delivered));
}

/// What is given up with its subscription is no standing warning, and can be forgotten.
#[tokio::test(flavor = "multi_thread")]
async fn a_dead_delivery_is_told_of_until_it_is_forgotten() {
    let world = World::new().await.with_topic().await;
    let (url, requests) = receiver(&["404 Not Found", "404 Not Found"]);
    let id = world.subscribe(json!({ "Webhook": url })).await;
    let topic = text(&world.ok("GET", "/provault/v1/topics", Value::Null).await["Items"][0], "Arn");
    let events = vec!["BACKUP_JOB_COMPLETED".to_owned()];
    let setting = VaultNotifications { topic_arn: topic.parse().unwrap(), events };
    let catalog = world.app.engine().catalog();
    catalog.set_vault_notifications(world.app.account(), "Default", Some(setting)).await.unwrap();
    let running = world.start().await;
    let resource = world.resource("app").await;
    world.backup(&resource, "Default").await;
    world.backup(&resource, "Default").await;
    let list = "/provault/v1/deliveries?state=DEAD";
    let dead = loop {
        let found = world.ok("GET", list, Value::Null).await;
        if found["Deliveries"].as_array().unwrap().len() == 2 {
            break found["Deliveries"].clone();
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    };
    drop(requests.join().unwrap());
    let first = world.ok("GET", &format!("{list}&maxResults=1"), Value::Null).await;
    assert_eq!(first["Deliveries"][0], dead[0]);
    let token = crate::support::segment(&text(&first, "NextToken")).replace('+', "%2B");
    let rest = format!("{list}&maxResults=1&nextToken={token}");
    let rest = world.ok("GET", &rest, Value::Null).await;
    assert_eq!((&rest["Deliveries"][0], rest.get("NextToken")), (&dead[1], None));
    let state = async || {
        let health = world.ok("GET", "/provault/v1/doctor", Value::Null).await;
        let findings = health["Findings"].as_array().unwrap();
        findings.iter().find(|f| f["Check"] == "deliveries").unwrap()["State"].clone()
    };
    assert_eq!(state().await, "WARNING");
    let target = |n: usize| format!("/provault/v1/deliveries/{}", text(&dead[n], "DeliveryId"));
    world.ok("DELETE", &target(0), Value::Null).await;
    world.refused("GET", &target(0), Value::Null, "ResourceNotFoundException").await;
    assert_eq!(state().await, "WARNING");
    // The other one's receiver goes away: it can never be sent again, and nobody is warned for ever.
    world.ok("DELETE", &format!("/provault/v1/subscriptions/{id}"), Value::Null).await;
    assert_eq!(state().await, "OK");
    world.ok("DELETE", &target(1), Value::Null).await;
    running.stop("the test is over").await;
}

/// What lets others send in the server's place is for those who may subscribe.
#[tokio::test]
async fn addresses_and_answers_are_for_those_who_may_subscribe() {
    let mut world = World::new().await.with_topic().await;
    let (url, requests) = receiver(&["500 Error|SECRET-ANSWER", "500 Error|SECRET-ANSWER"]);
    let address = format!("{url}/SECRET-PATH");
    let id = world.subscribe(json!({ "Webhook": address })).await;
    let topic =
        text(&world.ok("GET", "/provault/v1/topics", Value::Null).await["Items"][0], "Name");
    let list = format!("/provault/v1/topics/{topic}/subscriptions");
    let shown = world.ok("GET", &list, Value::Null).await;
    assert_eq!(shown["Subscriptions"][0]["Webhook"], address);
    let test = format!("/provault/v1/subscriptions/{id}/test");
    let tested = world.ok("POST", &test, Value::Null).await;
    assert!(text(&tested, "Detail").contains("SECRET-ANSWER"), "{tested}");
    for policy in ["Auditor", "RestoreOnly", "Operator"] {
        let root = world.sign_as(policy).await;
        let shown = world.call("GET", &list, &Value::Null).await;
        assert_eq!(shown.status == 200, policy != "RestoreOnly", "{shown:?}");
        let told = shown.body.to_string().contains("SECRET-PATH");
        assert_eq!(told, policy == "Operator", "{shown:?}");
        if policy == "Operator" {
            let tested = world.ok("POST", &test, Value::Null).await;
            assert!(text(&tested, "Detail").contains("HTTP 500"), "{tested}");
            assert!(!tested.to_string().contains("SECRET-ANSWER"), "{tested}");
        }
        world.credentials = root;
    }
    drop(requests.join().unwrap());
}
