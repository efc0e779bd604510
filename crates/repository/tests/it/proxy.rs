//! An HTTP proxy in front of an S3 server that behaves worse than the server.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

/// What is worse.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Manners {
    /// `If-None-Match` is ignored, so that everything is overwritten.
    IgnoresConditions,
    /// About a third of the requests is refused with 503, cut off amid its answer, or done without one.
    Bad,
}

/// A running proxy on a free port of loopback.
pub struct Proxy {
    address: SocketAddr,
    state: Arc<State>,
}

struct State {
    server: String,
    manners: Manners,
    requests: AtomicU64,
    answered_badly: AtomicU64,
    stopped: AtomicBool,
}

impl Proxy {
    pub fn start(server: &str, manners: Manners) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State {
            server: server.to_owned(),
            manners,
            requests: AtomicU64::default(),
            answered_badly: AtomicU64::default(),
            stopped: AtomicBool::default(),
        });
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for client in listener.incoming() {
                if shared.stopped.load(Ordering::SeqCst) {
                    return;
                }
                let shared = Arc::clone(&shared);
                // A client that goes away is none of our business.
                thread::spawn(move || drop(client.and_then(|client| shared.serve(client))));
            }
        });
        Self { address, state }
    }

    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn answered_badly(&self) -> u64 {
        self.state.answered_badly.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.state.stopped.store(true, Ordering::SeqCst);
        // Wakes the listener.
        drop(TcpStream::connect(self.address));
    }
}

impl State {
    fn serve(&self, client: TcpStream) -> io::Result<()> {
        let mut requests = BufReader::new(client.try_clone()?);
        let mut client = client;
        while let Some(request) = read_message(&mut requests, self.manners)? {
            let number = self.requests.fetch_add(1, Ordering::SeqCst);
            // Not every third: what a client does may come in threes, too.
            let chance = (number + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
            let bad = self.manners == Manners::Bad && chance.is_multiple_of(3);
            self.answered_badly.fetch_add(u64::from(bad), Ordering::SeqCst);
            let way = chance / 3 % 3;
            if bad && way == 0 {
                let xml = "<Error><Code>SlowDown</Code><Message>Not so fast.</Message></Error>";
                write!(
                    client,
                    "HTTP/1.1 503 Slow Down\r\nContent-Length: {}\r\n\r\n{xml}",
                    xml.len()
                )?;
                continue;
            }
            let mut server = TcpStream::connect(&self.server)?;
            server.write_all(&request)?;
            let mut answer = Vec::new();
            server.read_to_end(&mut answer)?;
            if bad {
                // All but the last byte, which may be the end of the head, or nothing at all.
                let sent = if way == 1 { answer.len() - 1 } else { 0 };
                client.write_all(&answer[..sent])?;
                return client.shutdown(Shutdown::Both);
            }
            client.write_all(&answer)?;
            // The server was told to close, and its answer says so.
            return client.shutdown(Shutdown::Both);
        }
        Ok(())
    }
}

/// The next request, head and body, changed to end its connection; none at the end.
fn read_message(from: &mut impl BufRead, manners: Manners) -> io::Result<Option<Vec<u8>>> {
    let mut head = Vec::new();
    let mut length = 0;
    loop {
        let mut line = String::new();
        if from.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let lower = line.to_ascii_lowercase();
        if let Some(value) = lower.strip_prefix("content-length:") {
            length = value.trim().parse().map_err(io::Error::other)?;
        }
        if line == "\r\n" {
            head.extend_from_slice(b"Connection: close\r\n\r\n");
            break;
        }
        let ignored = manners == Manners::IgnoresConditions && lower.starts_with("if-none-match:");
        if !ignored && !lower.starts_with("connection:") {
            head.extend_from_slice(line.as_bytes());
        }
    }
    let body = head.len();
    head.resize(body + length, 0);
    from.read_exact(&mut head[body..])?;
    Ok(Some(head))
}
