//! The lab's webhook: a receiver on loopback that keeps the subjects of what it gets.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};

/// Listens until the process ends.
pub struct Receiver {
    address: SocketAddr,
    received: Arc<Mutex<Vec<serde_json::Value>>>,
}

impl Receiver {
    /// Begins to listen on a free port.
    pub fn start() -> std::io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let address = listener.local_addr()?;
        let received = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&received);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if let Ok(message) = receive(stream) {
                    kept.lock().unwrap_or_else(PoisonError::into_inner).push(message);
                }
            }
        });
        Ok(Self { address, received })
    }

    /// Where to send to.
    pub fn url(&self) -> String {
        format!("http://{}/notifications", self.address)
    }

    /// The first message with this subject that tells of the job `about`.
    pub fn find(&self, subject: &str, about: &str) -> Option<serde_json::Value> {
        let received = self.received.lock().unwrap_or_else(PoisonError::into_inner);
        received
            .iter()
            .find(|message| message["Subject"] == subject && message.to_string().contains(about))
            .cloned()
    }
}

fn receive(stream: TcpStream) -> std::io::Result<serde_json::Value> {
    stream.set_read_timeout(Some(std::time::Duration::from_secs(5)))?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut length = 0_u64;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? <= 2 {
            break;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().unwrap_or(0);
        }
    }
    let mut body = Vec::new();
    reader.take(length.min(1 << 20)).read_to_end(&mut body)?;
    let message = serde_json::from_slice(&body)?;
    let mut stream = stream;
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")?;
    Ok(message)
}
