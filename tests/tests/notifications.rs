//! Notifications from end to end: a signed webhook that fails and recovers, a command, and secrets
//! that are nowhere to be found.
#![allow(clippy::unwrap_used, reason = "a test panics where an error surprises it")]

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};

use provault_tests::{Finished, Sandbox, Start, TestServer, clean_command, until, write_tree};
use serde_json::Value;

/// A request as it came.
#[derive(Debug, Clone)]
struct Request {
    headers: BTreeMap<String, String>,
    body: String,
}

/// A webhook that answers with the status it is told.
struct Hook {
    url: String,
    status: Arc<AtomicU16>,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Hook {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let status = Arc::new(AtomicU16::new(204));
        let requests = Arc::new(Mutex::new(Vec::new()));
        let hook = Self { url, status: Arc::clone(&status), requests: Arc::clone(&requests) };
        // Until the test's process ends.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // A sender that was killed in the middle has sent nothing.
                let _ = answer(stream, status.load(Ordering::SeqCst), &requests);
            }
        });
        hook
    }

    fn all(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

/// Keeps the request before it is answered: whoever has the answer finds it kept.
fn answer(
    mut stream: TcpStream,
    status: u16,
    requests: &Mutex<Vec<Request>>,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let (mut line, mut headers) = (String::new(), BTreeMap::new());
    while reader.read_line(&mut line)? > 2 {
        if let Some((name, value)) = line.trim_end().split_once(": ") {
            headers.insert(name.to_ascii_lowercase(), value.to_owned());
        }
        line.clear();
    }
    let length = headers.get("content-length").and_then(|n| n.parse().ok()).unwrap_or(0);
    let mut body = String::new();
    reader.take(length).read_to_string(&mut body)?;
    requests.lock().unwrap().push(Request { headers, body });
    write!(stream, "HTTP/1.1 {status} X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
}

/// The signature as another library computes it.
fn signature(sandbox: &Sandbox, secret: &str, request: &Request) -> String {
    const PROGRAM: &str = "import hashlib, hmac, sys\n\
        secret, timestamp, body = [open(name, 'rb').read() for name in sys.argv[1:]]\n\
        print(hmac.new(secret, timestamp + b'.' + body, hashlib.sha256).hexdigest())";
    let mut command = clean_command("python3");
    command.args(["-c", PROGRAM]);
    let (timestamp, body) = (&*request.headers["x-provault-timestamp"], &*request.body);
    for (name, text) in [("secret", secret), ("timestamp", timestamp), ("body", body)] {
        let file = sandbox.path(name);
        fs::write(&file, text).unwrap();
        command.arg(file);
    }
    let printed = Finished::of(&mut command, "install python3").expect(0).stdout;
    format!("sha256={}", printed.trim())
}

/// Whether any file below holds the text.
fn holds(directory: &Path, text: &str) -> bool {
    fs::read_dir(directory).unwrap().any(|entry| {
        let path = entry.unwrap().path();
        if path.is_dir() {
            return holds(&path, text);
        }
        // What goes away meanwhile holds nothing.
        let bytes = fs::read(&path).unwrap_or_default();
        bytes.windows(text.len()).any(|window| window == text.as_bytes())
    })
}

#[test]
fn a_webhook_and_a_command_from_end_to_end() {
    let sandbox = Sandbox::new();
    let data_dir = sandbox.path("server");
    let allowing =
        Start { args: vec!["--allow-command-subscriptions".to_owned()], ..Start::default() };
    let mut server = TestServer::start_with(&data_dir, &allowing);
    let cli = server.program();
    let hook = Hook::start();
    cli.run(0, &["topic", "add", "ops"]);
    let made = cli.json(&["topic", "subscribe", "ops", "--webhook", &hook.url, "--new-secret"]);
    let webhook = made["SubscriptionId"].as_str().unwrap();
    let secret = made["Secret"].as_str().unwrap();
    let told = sandbox.path("told");
    let line = format!("/bin/sh -c 'cat >> {}'", told.display());
    let command = cli.json(&[
        "topic",
        "subscribe",
        "ops",
        "--command",
        &line,
        "--event",
        "BACKUP_JOB_SUCCESSFUL",
    ]);
    let command = command["SubscriptionId"].as_str().unwrap();

    // A test, signed like everything else.
    let tested = cli.json(&["subscription", "test", webhook]);
    assert_eq!(tested["Delivered"], true, "{tested}");
    let request = hook.all().remove(0);
    assert_eq!(request.headers["x-provault-signature"], signature(&sandbox, secret, &request));

    // The receiver loses its way: one backup's notification dies of it.
    let set = ["vault", "notifications", "set", "Default", "--topic", "ops", "--event"];
    cli.run(0, &[&set[..], &["BACKUP_JOB_COMPLETED"]].concat());
    hook.status.store(404, Ordering::SeqCst);
    let source = sandbox.path("source");
    write_tree(&source);
    let path = source.to_str().unwrap();
    cli.run(0, &["resource", "add", "filesystem", path, "--name", "source"]);
    let job = cli.json(&["backup", "source", "--vault", "Default", "--keep", "1d", "--watch"]);
    let dead = until("a dead delivery", || {
        let list = cli.json(&["delivery", "list", "--dead"]);
        list["Deliveries"].as_array().unwrap().first().cloned()
    });
    assert_eq!(dead["JobId"], job["BackupJobId"]);
    let id = dead["DeliveryId"].as_str().unwrap();
    let shown = cli.run(0, &["delivery", "show", id]).stdout;
    assert!(shown.contains("HTTP 404") && shown.contains("An AWS Backup job"), "{shown}");
    cli.run(1, &["subscription", "test", webhook]);

    // It finds its way again.
    hook.status.store(204, Ordering::SeqCst);
    cli.run(0, &["delivery", "send-again", id]);
    until("the delivery", || {
        let state = cli.json(&["delivery", "show", id])["State"].clone();
        (state == "DELIVERED").then_some(())
    });
    let request = hook.all().pop().unwrap();
    assert!(request.body.contains(id), "{request:?}");
    assert_eq!(request.headers["x-provault-signature"], signature(&sandbox, secret, &request));
    cli.run(1, &["delivery", "send-again", id]);

    // The command was told as well, with what it asked for.
    let envelope = until("the command", || {
        serde_json::from_str::<Value>(&fs::read_to_string(&told).ok()?).ok()
    });
    assert_eq!(envelope["MessageAttributes"]["State"]["Value"], "COMPLETED", "{envelope}");

    // Its failing and its recovery are each told once, and the secret nowhere.
    let log = server.log_tail();
    let count = |text: &str| log.lines().filter(|line| line.contains(text)).count();
    assert_eq!(count("a subscription fails"), 1, "{log}");
    assert_eq!(count("receives again"), 1, "{log}");
    assert!(!log.contains(secret));
    assert!(!cli.json(&["topic", "subscriptions", "ops"]).to_string().contains(secret));
    assert!(!holds(&data_dir, secret), "the secret lies open in the data directory");

    // Without the option no command runs, and none can be subscribed.
    server.restart_with(&Start::default());
    let cli = server.program();
    let refused = cli.run(1, &["subscription", "test", command]).stdout;
    assert!(refused.contains("--allow-command-subscriptions"), "{refused}");
    cli.run(1, &["topic", "subscribe", "ops", "--command", &line]);
    // The key that seals the secret is still the one that opens it.
    cli.run(0, &["subscription", "test", webhook]);
}

/// boto3 publishes, so that its request can be laid beside ours. It cannot read the empty answer.
const PUBLISH: &str = "import boto3, json, sys\n\
    url, topic, subject, message, attributes = sys.argv[1:]\n\
    sns = boto3.client('sns', endpoint_url=url, region_name='eu-central-1',\n\
        aws_access_key_id='AKIAIOSFODNN7EXAMPLE', aws_secret_access_key='a-secret-access-key')\n\
    attributes = {name: {'DataType': 'String', 'StringValue': value}\n\
        for name, value in json.loads(attributes).items()}\n\
    try:\n\
    \x20   sns.publish(TopicArn=topic, Subject=subject, Message=message, MessageAttributes=attributes)\n\
    except Exception as error:\n\
    \x20   print(error)";

fn form(request: &Request) -> BTreeMap<String, String> {
    // As query parameters of an address, which a library reads.
    let decode = |text: &str| {
        let text = text.replace('+', " ");
        percent_encoding::percent_decode_str(&text).decode_utf8().unwrap().into_owned()
    };
    let pairs = request.body.split('&').map(|pair| pair.split_once('=').unwrap());
    pairs.map(|(name, value)| (decode(name), decode(value))).collect()
}

#[test]
fn a_topic_of_sns_gets_what_boto3_would_publish() {
    const TOPIC: &str = "arn:aws:sns:eu-central-1:123456789012:backups";
    let sandbox = Sandbox::new();
    let server = TestServer::start(&sandbox.path("server"));
    let cli = server.program();
    let hook = Hook::start();
    hook.status.store(200, Ordering::SeqCst);
    let secret = sandbox.path("sns-secret");
    fs::write(&secret, "a-secret-access-key\n").unwrap();
    cli.run(0, &["topic", "add", "ops"]);
    let made = cli.json(&[
        "topic",
        "subscribe",
        "ops",
        "--sns",
        TOPIC,
        "--sns-access-key",
        "AKIAIOSFODNN7EXAMPLE",
        "--secret-file",
        secret.to_str().unwrap(),
        "--sns-endpoint",
        &hook.url,
    ]);
    assert_eq!(made["HasSecret"], true, "{made}");
    let tested = cli.json(&["subscription", "test", made["SubscriptionId"].as_str().unwrap()]);
    assert_eq!(tested["Delivered"], true, "{tested}");
    let ours = hook.all().remove(0);
    let sent = form(&ours);
    let attributes: BTreeMap<&str, &str> = (1..)
        .map_while(|n| {
            let name = sent.get(&format!("MessageAttributes.entry.{n}.Name"))?;
            let value = &sent[&format!("MessageAttributes.entry.{n}.Value.StringValue")];
            Some((name.as_str(), value.as_str()))
        })
        .collect();
    assert_eq!(attributes["EventType"], "TEST");

    let mut command = clean_command("python3");
    command.args(["-c", PUBLISH, &hook.url, TOPIC, &sent["Subject"], &sent["Message"]]);
    command.arg(serde_json::to_string(&attributes).unwrap());
    command.env("AWS_MAX_ATTEMPTS", "1").env("AWS_EC2_METADATA_DISABLED", "true");
    let _ = Finished::of(&mut command, "pip install boto3").expect(0);
    let theirs = hook.all().pop().unwrap();
    assert!(theirs.headers["user-agent"].contains("Boto"), "{theirs:?}");
    assert_eq!(sent, form(&theirs));
    let scope = |request: &Request| {
        let authorization = &request.headers["authorization"];
        authorization.split('/').skip(2).take(2).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(scope(&ours), scope(&theirs));
}
