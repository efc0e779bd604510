//! TCP: one connection on the isolated loopback, what is sent over it, and what comes back first.
//!
//! It is listened to until everything holds, the other side closes, the time is over, or
//! [`LISTENED`] bytes came. A server that stays connected after its banner, as most do, is not
//! waited for.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpStream};
use std::time::{Duration, Instant};

use super::{Answer, Status};

/// Bytes of what comes that are looked at: a banner or the answer to one line is far shorter, and
/// all of it is looked through again whenever more comes.
const LISTENED: usize = 64 * 1024;

/// Asks once. Gives what came and what was made of it; the error says why nothing came.
pub(super) fn attempt(
    port: u16,
    send: &[u8],
    limit: Duration,
    holds: &dyn Fn(&Answer) -> Result<String, String>,
) -> Result<(Answer, Result<String, String>), String> {
    let until = Instant::now() + limit;
    let mut stream = connect(port, limit).map_err(|error| match error.kind() {
        ErrorKind::ConnectionRefused | ErrorKind::AddrNotAvailable => {
            format!("nothing listens on port {port}")
        }
        _ => format!("no connection to port {port}: {error}"),
    })?;
    let mut answer = Answer { status: Status::Tcp, body: Vec::new(), cut: false };
    // One that stands and of which nothing is expected is the answer.
    let mut assessed = holds(&answer);
    let mut end = stream
        .set_write_timeout(Some(limit))
        .and_then(|()| stream.write_all(send))
        .err()
        .map(|error| format!("what is to be sent was not taken: {error}"));
    let mut buffer = [0; 4096];
    while assessed.is_err() && end.is_none() {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            end = Some(format!("nothing more came within {} s", limit.as_secs()));
            break;
        }
        match stream.set_read_timeout(Some(left)).and_then(|()| stream.read(&mut buffer)) {
            Ok(0) => end = Some("the connection was closed".to_owned()),
            Ok(n) => {
                let room = LISTENED - answer.body.len();
                answer.body.extend(&buffer[..n.min(room)]);
                assessed = holds(&answer);
                if n >= room {
                    end = Some(format!("only the first {LISTENED} bytes are looked at"));
                }
            }
            Err(error) => match error.kind() {
                // The time is looked at above.
                ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted => {}
                _ => end = Some(format!("the connection broke: {error}")),
            },
        }
    }
    match end {
        // What was sent was not taken, so the connection is no answer even to who expects none.
        Some(why) if answer.body.is_empty() => Err(format!("port {port} answered nothing: {why}")),
        Some(why) => Ok((answer, assessed.map_err(|detail| format!("{detail}; {why}")))),
        None => Ok((answer, assessed)),
    }
}

/// An application may listen on "localhost" and take that for `::1`.
fn connect(port: u16, limit: Duration) -> io::Result<TcpStream> {
    let to = |ip: IpAddr| TcpStream::connect_timeout(&(ip, port).into(), limit);
    match to(Ipv4Addr::LOCALHOST.into()) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
            to(Ipv6Addr::LOCALHOST.into())
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// What came of one try at a server that does `serve` with its only connection.
    fn ask(
        send: &[u8],
        expected: &'static [u8],
        serve: impl FnOnce(TcpStream) + Send + 'static,
    ) -> Result<Result<String, String>, String> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = std::thread::spawn(move || serve(listener.accept().unwrap().0));
        let holds = move |answer: &Answer| {
            let found = expected.is_empty()
                || answer.body.windows(expected.len()).any(|window| window == expected);
            if found { Ok("held".to_owned()) } else { Err("not held".to_owned()) }
        };
        let outcome = attempt(port, send, Duration::from_secs(2), &holds);
        server.join().unwrap();
        outcome.map(|(_, assessed)| assessed)
    }

    #[test]
    fn an_answer_may_come_in_pieces_and_the_connection_stay() {
        let outcome = ask(b"PING\r\n", b"+PONG", |mut stream| {
            let mut line = [0; 6];
            stream.read_exact(&mut line).unwrap();
            assert_eq!(&line, b"PING\r\n");
            for piece in [b"+P", b"ON", b"G\r"] {
                stream.write_all(piece).unwrap();
                std::thread::sleep(Duration::from_millis(20));
            }
            // Held open until the other side closes.
            let _ = stream.read(&mut line);
        });
        assert_eq!(outcome, Ok(Ok("held".to_owned())));
    }

    #[test]
    fn a_wrong_answer_is_told_with_how_it_ended() {
        let outcome = ask(b"", b"220", |mut stream| stream.write_all(b"554 no").unwrap());
        assert_eq!(outcome, Ok(Err("not held; the connection was closed".to_owned())));
    }

    #[test]
    fn nothing_is_no_answer() {
        let error = ask(b"", b"220", drop).unwrap_err();
        assert!(error.contains("answered nothing: the connection was closed"), "{error}");
        let error = ask(b"", b"220", |mut stream| {
            let _ = stream.read(&mut [0]);
        })
        .unwrap_err();
        assert!(error.contains("nothing more came within 2 s"), "{error}");
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let error = attempt(free, b"", Duration::from_secs(1), &|_| Ok(String::new())).unwrap_err();
        assert!(error.contains("nothing listens"), "{error}");
    }

    #[test]
    fn where_nothing_is_expected_the_connection_is_the_answer() {
        assert_eq!(ask(b"", b"", drop), Ok(Ok("held".to_owned())));
    }

    #[test]
    fn a_flood_is_cut_off() {
        let outcome = ask(b"", b"never", |mut stream| {
            // Until the other side has had enough.
            while stream.write_all(&[b'x'; 4096]).is_ok() {}
        });
        let why = outcome.unwrap().unwrap_err();
        assert!(why.contains("only the first 65536 bytes"), "{why}");
    }
}
