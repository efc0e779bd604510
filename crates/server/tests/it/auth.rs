//! Who may ask at all.

use jiff::{SignedDuration, Timestamp};
use provault_server::{ServeError, Server, ServerOptions};
use serde_json::Value;

use crate::support::{REGION, World};

#[tokio::test]
async fn health_needs_no_signature_and_everything_else_does() {
    let world = World::new().await;
    let mut headers = http::HeaderMap::new();
    headers.insert("host", world.addr.to_string().parse().unwrap());
    let health = world.send("GET", "/provault/v1/health", &headers, b"").await;
    assert_eq!((health.status, &health.body["Status"]), (200, &Value::from("ok")));
    assert!(!health.header("x-amzn-requestid").is_empty());
    for (method, path) in [
        ("GET", "/backup-vaults/"),
        ("GET", "/provault/v1/server"),
        ("POST", "/provault/v1/health"),
        ("GET", "/nowhere"),
    ] {
        let reply = world.send(method, path, &headers, b"").await;
        assert_eq!(reply.error(), "MissingAuthenticationTokenException", "{method} {path}");
        assert_eq!(reply.status, 403);
    }
}

#[tokio::test]
async fn a_signature_that_does_not_fit_is_refused_under_its_name() {
    let world = World::new().await;
    let now = Timestamp::now();
    let target = "/backup-vaults/";
    let headers = world.sign("GET", target, b"", REGION, now);

    let other_path = world.send("GET", "/backup-jobs/", &headers, b"").await;
    assert_eq!(other_path.error(), "InvalidSignatureException");
    let other_body = world.send("GET", target, &headers, b"{}").await;
    assert_eq!(other_body.error(), "InvalidSignatureException");

    let old = now - SignedDuration::from_mins(16);
    let stale = world.send("GET", target, &world.sign("GET", target, b"", REGION, old), b"").await;
    assert_eq!(stale.error(), "RequestExpired");

    let region = world.sign("GET", target, b"", "eu-west-1", now);
    let region = world.send("GET", target, &region, b"").await;
    assert_eq!(region.error(), "InvalidSignatureException");
    assert!(region.message().contains("AWS_REGION=us-east-1"), "{region:?}");

    let mut unknown = headers.clone();
    let authorization = unknown["authorization"].to_str().unwrap();
    let authorization =
        authorization.replace(&world.credentials.access_key_id, "AKIAAAAAAAAAAAAAAAAA");
    unknown.insert("authorization", authorization.parse().unwrap());
    let unknown = world.send("GET", target, &unknown, b"").await;
    assert_eq!((unknown.error(), unknown.status), ("UnrecognizedClientException", 403));

    let mut broken = headers.clone();
    broken.insert("authorization", "AWS4-HMAC-SHA256 Credential=x".parse().unwrap());
    let broken = world.send("GET", target, &broken, b"").await;
    assert_eq!((broken.error(), broken.status), ("IncompleteSignatureException", 400));
}

#[tokio::test]
async fn what_is_routed_is_what_was_signed() {
    let world = World::new().await;
    // The signature is over the normal form, in which this names the vault.
    for path in ["//backup-vaults/Default", "/backup-vaults/x/../Default", "/./backup-vaults/"] {
        let reply = world.call("GET", path, &Value::Null).await;
        assert_eq!((reply.error(), reply.status), ("UnknownOperationException", 404), "{path}");
    }
    let reply = world.call("GET", "/nowhere", &Value::Null).await;
    assert_eq!((reply.error(), reply.status), ("UnknownOperationException", 404));
    let reply = world.call("PATCH", "/backup-vaults/Default", &Value::Null).await;
    assert_eq!((reply.error(), reply.status), ("UnknownOperationException", 405));
    assert_eq!(reply.header("allow"), "DELETE, GET, PUT");
}

#[tokio::test]
async fn an_operation_without_behaviour_names_itself() {
    let world = World::new().await;
    let reply = world.call("GET", "/audit/frameworks", &Value::Null).await;
    assert_eq!((reply.error(), reply.status), ("NotImplementedException", 501));
    assert!(reply.message().contains("ListFrameworks"), "{reply:?}");
}

#[tokio::test]
async fn an_address_off_loopback_is_refused() {
    let world = World::new().await;
    for addr in ["0.0.0.0:0", "[::]:0", "192.0.2.1:80"] {
        let refused =
            Server::bind(world.app.clone(), addr.parse().unwrap(), ServerOptions::default()).await;
        let Err(error) = refused else { panic!("{addr} was accepted") };
        assert!(matches!(error, ServeError::NotLoopback(_)), "{error}");
        assert!(error.to_string().contains("--tls-generate"), "{error}");
    }
    let taken = Server::bind(world.app.clone(), world.addr, ServerOptions::default()).await;
    let Err(error) = taken else { panic!("two servers on one address") };
    assert!(error.to_string().contains("choose another --listen"), "{error}");
}

#[tokio::test]
async fn two_requests_can_share_a_connection_and_a_stop_answers_what_is_in_hand() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let world = World::new().await;
    let mut stream = tokio::net::TcpStream::connect(world.addr).await.unwrap();
    let request = format!("GET /provault/v1/health HTTP/1.1\r\nhost: {}\r\n\r\n", world.addr);
    for _ in 0..2 {
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut buffer = [0; 1024];
        let mut read = String::new();
        while !read.ends_with("{\"Status\":\"ok\"}") {
            let count = stream.read(&mut buffer).await.unwrap();
            assert!(count > 0, "closed after {read}");
            read.push_str(std::str::from_utf8(&buffer[..count]).unwrap());
        }
    }
    // An idle connection does not hold up the stop.
    world.stop().await;
    assert_eq!(stream.read(&mut [0; 16]).await.unwrap(), 0);
}

#[tokio::test]
async fn a_client_that_stalls_is_let_go() {
    use std::time::Duration;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let world = World::new().await;
    let options = ServerOptions {
        header_timeout: Duration::from_millis(100),
        body_timeout: Duration::from_millis(100),
        ..ServerOptions::default()
    };
    let any = "127.0.0.1:0".parse().unwrap();
    let server = Server::bind(world.app.clone(), any, options).await.unwrap();
    let addr = server.local_addr();
    let server = tokio::spawn(server.serve(std::future::pending()));
    let head = "PUT /backup/plans/ HTTP/1.1\r\nhost: x\r\n";
    for (sent, answered) in [
        (head.to_owned(), ""),
        (format!("{head}content-length: 10\r\n\r\n{{"), "RequestTimeoutException"),
    ] {
        let mut stream = tokio::net::TcpStream::connect(addr).await.unwrap();
        stream.write_all(sent.as_bytes()).await.unwrap();
        let mut bytes = Vec::new();
        // Ends only because the server closes.
        stream.read_to_end(&mut bytes).await.unwrap();
        assert!(String::from_utf8_lossy(&bytes).contains(answered), "{sent}: {bytes:?}");
    }
    server.abort();
}

/// Whoever says nothing holds up nobody else; whoever has signed is not counted.
#[tokio::test]
async fn an_address_holds_few_connections_before_it_signs() {
    use std::fmt::Write as _;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let world = World::new().await;
    let options = ServerOptions { max_strangers: 2, ..ServerOptions::default() };
    let any = "127.0.0.1:0".parse().unwrap();
    let server = Server::bind(world.app.clone(), any, options).await.unwrap();
    let addr = server.local_addr();
    let server = tokio::spawn(server.serve(std::future::pending()));
    let health = format!("GET /provault/v1/health HTTP/1.1\r\nhost: {addr}\r\n\r\n");
    // Answered: whoever is counted has been accepted.
    let ask = async |request: &str| {
        let mut stream = tokio::net::TcpStream::connect(addr).await.unwrap();
        // A server that has closed already may refuse to be written to.
        let _ = stream.write_all(request.as_bytes()).await;
        let mut first = [0; 12];
        let read = stream.read_exact(&mut first).await;
        (stream, read.is_ok() && first.starts_with(b"HTTP/1.1 200"))
    };
    let (one, answered) = ask(&health).await;
    assert!(answered);
    let mut signed = String::from("GET /backup-vaults/ HTTP/1.1\r\n");
    let mut headers = http::HeaderMap::new();
    headers.insert("host", addr.to_string().parse().unwrap());
    let request = provault_iam::SignedRequest {
        method: &http::Method::GET,
        raw_path: "/backup-vaults/",
        raw_query: "",
        headers: &headers,
        body: b"",
    };
    let now = Timestamp::now();
    let more = provault_iam::sign(&request, &world.credentials, REGION, now);
    headers.extend(more.unwrap());
    for (name, value) in &headers {
        write!(signed, "{name}: {}\r\n", value.to_str().unwrap()).unwrap();
    }
    signed.push_str("\r\n");
    let (known, answered) = ask(&signed).await;
    assert!(answered, "who signs is answered");
    let (two, answered) = ask(&health).await;
    assert!(answered, "who has signed is not counted");
    let (_, answered) = ask(&health).await;
    assert!(!answered, "a third stranger is closed");
    drop((one, two, known));
    server.abort();
}
