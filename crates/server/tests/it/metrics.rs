//! Metrics: who may read them, and that they say what the status says.

use provault_server::{Server, ServerOptions};
use serde_json::Value;

use crate::support::World;

const METRICS: &str = "/provault/v1/metrics";

#[tokio::test]
async fn who_bears_the_token_reads_the_status_as_numbers() {
    let mut world = World::new().await;
    world.resource("notes").await;
    // This server has no token: nobody may.
    let reply = world.call("GET", METRICS, &Value::Null).await;
    assert_eq!((reply.status, reply.error()), (403, "AccessDeniedException"));
    let token = Some("hush".to_owned());
    let options = ServerOptions { metrics_token: token, ..ServerOptions::default() };
    let any = "127.0.0.1:0".parse().unwrap();
    let server = Server::bind(world.app.clone(), any, options).await.unwrap();
    world.addr = server.local_addr();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = tokio::spawn(server.serve(async move {
        // A dropped sender is the word to stop, too.
        let _ = stopped.await;
    }));
    let get = async |method: &str, token: &str| {
        let mut headers = http::HeaderMap::new();
        headers.insert("host", world.addr.to_string().parse().unwrap());
        headers.insert("authorization", token.parse().unwrap());
        world.send(method, METRICS, &headers, b"").await
    };
    for wrong in ["Bearer hus", "Bearer hushh", "Bearer Hush", "Basic hush", "hush", ""] {
        assert_eq!(get("GET", wrong).await.status, 403, "{wrong}");
    }
    assert_ne!(get("POST", "Bearer hush").await.status, 200);
    let reply = get("GET", "Bearer hush").await;
    assert_eq!(reply.status, 200, "{reply:?}");
    assert!(reply.header("content-type").starts_with("application/openmetrics-text"), "{reply:?}");
    let text = reply.body.as_str().unwrap();
    let size = text.lines().find_map(|line| {
        line.strip_prefix("provault_catalog_bytes{region=\"us-east-1\"} ")?.parse::<u64>().ok()
    });
    assert!(size.is_some_and(|bytes| bytes > 50_000), "{size:?} in\n{text}");
    for wanted in [
        "provault_well{region=\"us-east-1\"} 0\n",
        "provault_resource_protection{region=\"us-east-1\",resource=\"notes\",protection=\"UNPROTECTED\"} 1\n",
        "provault_resource_troubles{region=\"us-east-1\",resource=\"notes\"} 1\n",
        "provault_deliveries{region=\"us-east-1\",state=\"WAITING\"} 0\n",
        "provault_deliveries{region=\"us-east-1\",state=\"DEAD\"} 0\n",
        "# TYPE provault_data_dir_free_bytes gauge\n",
        "provault_hung_reads{region=\"us-east-1\"} 0\n",
        "# EOF\n",
    ] {
        assert!(text.contains(wanted), "{wanted} is missing in\n{text}");
    }
    drop(stop);
    serving.await.unwrap();
}

/// Anybody may ask whether the server can work, and hears nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_cannot_work_is_not_ready() {
    const READY: &str = "/provault/v1/ready";
    let world = World::new().await;
    let mut headers = http::HeaderMap::new();
    headers.insert("host", world.addr.to_string().parse().unwrap());
    let asked = world.send("GET", READY, &headers, b"").await;
    assert_eq!((asked.status, &asked.body["Status"]), (503, &"not ready".into()), "{asked:?}");
    assert_eq!(asked.body["Amiss"][0], "the engine is not started");
    let health = world.send("GET", "/provault/v1/health", &headers, b"").await;
    assert_eq!(health.status, 200, "it is up all the same");
    let running = world.start().await;
    // An answer holds for some seconds.
    for _ in 0..1200 {
        if world.send("GET", READY, &headers, b"").await.status == 200 {
            running.stop("the test is over").await;
            world.app.engine().catalog().close().await;
            assert_eq!(world.app.not_ready().await, ["catalog"]);
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("it never became ready");
}
