//! A webhook that keeps what it gets.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;

use crate::until;

/// Listens on a free port of 127.0.0.1 until the test's process ends, through every restart of the
/// server.
pub struct Receiver {
    address: SocketAddr,
    received: Arc<Mutex<Vec<Value>>>,
    status: Arc<AtomicU16>,
}

impl Receiver {
    /// Begins to listen.
    pub fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let received = Arc::new(Mutex::new(Vec::new()));
        let status = Arc::new(AtomicU16::new(200));
        let (kept, answer) = (Arc::clone(&received), Arc::clone(&status));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // A sender that was killed in the middle has sent nothing.
                let _ = receive(stream, answer.load(Ordering::SeqCst), &kept);
            }
        });
        Self { address, received, status }
    }

    /// Answers with this HTTP status from now on. What it does not answer with 200 it does not keep.
    pub fn answer(&self, status: u16) {
        self.status.store(status, Ordering::SeqCst);
    }

    /// Where to send to.
    pub fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// All SNS envelopes so far, in the order of their arrival.
    pub fn all(&self) -> Vec<Value> {
        self.received.lock().unwrap().clone()
    }

    /// From now on these are all that it ever got.
    pub fn remembers(&self, messages: Vec<Value>) {
        *self.received.lock().unwrap() = messages;
    }

    /// Waits for a message with this subject whose text holds `about`.
    pub fn wait_for(&self, subject: &str, about: &str) -> Value {
        until(&format!("the message '{subject}' about {about}"), || {
            self.all().into_iter().find(|message| {
                message["Subject"] == subject
                    && message["Message"].as_str().is_some_and(|text| text.contains(about))
            })
        })
    }
}

fn receive(mut stream: TcpStream, status: u16, kept: &Mutex<Vec<Value>>) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut length = 0_u64;
    let mut line = String::new();
    while reader.read_line(&mut line)? > 2 {
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().map_err(std::io::Error::other)?;
        }
        line.clear();
    }
    let mut body = Vec::new();
    reader.take(length).read_to_end(&mut body)?;
    let message = serde_json::from_slice(&body)?;
    if status == 200 {
        // Before it is answered: whoever has the answer finds the message kept.
        kept.lock().unwrap().push(message);
    }
    write!(stream, "HTTP/1.1 {status} X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
}
