//! The NBD server, asked byte by byte: old ways, odd ways, and hostile ones.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use provault_repository::{ByteRange, NbdAddress, NbdExport, NbdLimits, NbdServer, VolumeExtent};

use crate::nbd::Running;
use crate::support::Sandbox;

/// Bytes that tell where they are; one place is bad, one is a hole.
struct Pattern;

const SIZE: u64 = 8 << 20;
const BAD: u64 = 3 << 20;

fn byte_at(offset: u64) -> u8 {
    if (1 << 20..2 << 20).contains(&offset) { 0 } else { (offset % 251) as u8 | 1 }
}

impl NbdExport for Pattern {
    fn size(&self) -> u64 {
        SIZE
    }

    fn preferred_block_size(&self) -> u32 {
        65_536
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let end = offset + buffer.len() as u64;
        if (offset..end).contains(&BAD) {
            return Err(io::Error::other(format!("bad{}", "ly".repeat(5000))));
        }
        for (at, byte) in (offset..).zip(buffer) {
            *byte = byte_at(at);
        }
        Ok(())
    }

    fn extents(&self, range: ByteRange, most: usize) -> io::Result<Vec<VolumeExtent>> {
        let edges = [0, 1 << 20, 2 << 20, SIZE];
        let parts = edges.windows(2).filter_map(|edge| {
            let (start, end) = (edge[0].max(range.offset), edge[1].min(range.end()));
            let range = ByteRange { offset: start, length: end.checked_sub(start)? };
            (range.length > 0).then_some(VolumeExtent { range, zero: edge[0] == 1 << 20 })
        });
        Ok(parts.take(most).collect())
    }
}

fn serve(sandbox: &Sandbox, limits: NbdLimits) -> Running {
    let address = NbdAddress::Unix(sandbox.path("socket"));
    let exports: Vec<(String, Arc<dyn NbdExport>)> = vec![("p".to_owned(), Arc::new(Pattern))];
    Running::start(NbdServer::bind(&address, exports, limits).unwrap())
}

struct Client(UnixStream);

impl Client {
    /// Connects and goes through the greeting.
    fn greet(path: &Path, flags: u32) -> Self {
        let stream = UnixStream::connect(path).unwrap();
        stream.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
        let mut client = Self(stream);
        assert_eq!(client.take(18), b"NBDMAGICIHAVEOPT\0\x03");
        client.send(&[&flags.to_be_bytes()]);
        client
    }

    /// Up to the transmission, by the oldest way.
    fn begin(path: &Path) -> Self {
        let mut client = Self::greet(path, 3);
        client.option(1, b"p");
        let about = client.take(10);
        assert_eq!(about[..8], SIZE.to_be_bytes());
        assert_eq!(about[9] & 3, 3, "flags, and read-only");
        client
    }

    /// With structured replies.
    fn begin_structured(path: &Path) -> Self {
        let mut client = Self::greet(path, 3);
        client.option(8, b"");
        assert_eq!(client.option_reply(8).0, 1);
        client.option(10, b"\0\0\0\x01p\0\0\0\x01\0\0\0\x0fbase:allocation");
        assert_eq!(client.option_reply(10).0, 4);
        assert_eq!(client.option_reply(10).0, 1);
        client.option(7, b"\0\0\0\x01p\0\x01\0\x03");
        assert_eq!(client.option_reply(7).0, 3);
        assert_eq!(client.option_reply(7).1[2..6], 1u32.to_be_bytes(), "the smallest block");
        assert_eq!(client.option_reply(7).0, 1);
        client
    }

    fn send(&mut self, parts: &[&[u8]]) {
        self.0.write_all(&parts.concat()).unwrap();
    }

    fn take(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.0.read_exact(&mut bytes).unwrap();
        bytes
    }

    fn number(&mut self, length: usize) -> u64 {
        self.take(length).iter().fold(0, |all, byte| all << 8 | u64::from(*byte))
    }

    fn option(&mut self, number: u32, data: &[u8]) {
        let length = u32::try_from(data.len()).unwrap();
        self.send(&[b"IHAVEOPT", &number.to_be_bytes(), &length.to_be_bytes(), data]);
    }

    fn option_reply(&mut self, option: u64) -> (u64, Vec<u8>) {
        assert_eq!(self.number(8), 0x0003_e889_0455_65a9);
        assert_eq!(self.number(4), option);
        let (kind, length) = (self.number(4), self.number(4));
        (kind, self.take(usize::try_from(length).unwrap()))
    }

    fn request(&mut self, flags: u16, command: u16, cookie: u64, offset: u64, length: u32) {
        let magic = 0x2560_9513u32.to_be_bytes();
        self.send(&[
            &magic,
            &flags.to_be_bytes(),
            &command.to_be_bytes(),
            &cookie.to_be_bytes(),
            &offset.to_be_bytes(),
            &length.to_be_bytes(),
        ]);
    }

    /// The error of a simple reply.
    fn simple(&mut self, cookie: u64) -> u64 {
        assert_eq!(self.number(4), 0x6744_6698);
        let error = self.number(4);
        assert_eq!(self.number(8), cookie);
        error
    }

    /// Chunks up to the last: their types and payloads.
    fn chunks(&mut self, cookie: u64) -> Vec<(u64, Vec<u8>)> {
        let mut chunks = Vec::new();
        loop {
            assert_eq!(self.number(4), 0x668e_33ef);
            let (flags, kind) = (self.number(2), self.number(2));
            assert_eq!(self.number(8), cookie);
            let length = self.number(4);
            chunks.push((kind, self.take(usize::try_from(length).unwrap())));
            if flags & 1 == 1 {
                return chunks;
            }
        }
    }

    /// The server hangs up, and sends nothing before.
    fn assert_closed(&mut self) {
        let mut rest = Vec::new();
        match self.0.read_to_end(&mut rest) {
            Ok(_) => assert!(rest.is_empty(), "{rest:?}"),
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "{error}"),
        }
    }
}

fn expected(offset: u64, length: u64) -> Vec<u8> {
    (offset..offset + length).map(byte_at).collect()
}

#[test]
fn simple_replies_and_refusals() {
    let sandbox = Sandbox::new();
    let running = serve(&sandbox, NbdLimits { request: 4 << 20, ..NbdLimits::default() });
    let path = sandbox.path("socket");
    let mut client = Client::begin(&path);
    for (offset, length) in
        [(0, 512), (5, 1), (1 << 20, 70_000), (SIZE - 7, 7), (4 << 20, 3 << 20), (9, 0)]
    {
        client.request(0, 0, 11, offset, u32::try_from(length).unwrap());
        assert_eq!(client.simple(11), 0);
        assert!(client.take(usize::try_from(length).unwrap()) == expected(offset, length));
    }
    // What writes is refused, and its data passed over.
    client.request(0, 1, 12, 0, 100_000);
    client.send(&[&vec![9; 100_000]]);
    assert_eq!(client.simple(12), 1);
    for (command, error) in [(4, 1), (6, 1), (3, 22), (5, 22), (7, 22), (99, 22)] {
        client.request(0, command, 13, 0, 4096);
        assert_eq!(client.simple(13), error, "command {command}");
    }
    for (offset, length, error) in [
        (SIZE, 1, 22),
        (SIZE - 1, 2, 22),
        (u64::MAX, 2, 22),
        (0, (4 << 20) + 1, 75),
        (0, u32::MAX, 75),
        (BAD - 10, 20, 5),
    ] {
        client.request(0, 0, 14, offset, length);
        assert_eq!(client.simple(14), error, "{length} from {offset}");
    }
    client.request(0, 0, 15, 0, 4);
    assert_eq!(client.simple(15), 0);
    assert_eq!(client.take(4), expected(0, 4));
    client.request(0, 2, 16, 0, 0);
    client.assert_closed();
    running.stop();
}

#[test]
fn structured_replies_tell_holes_and_errors() {
    let sandbox = Sandbox::new();
    let running = serve(&sandbox, NbdLimits::default());
    let mut client = Client::begin_structured(&sandbox.path("socket"));
    client.request(0, 0, 1, (1 << 20) - 100, (1 << 20) + 200);
    let chunks = client.chunks(1);
    assert_eq!(chunks.iter().map(|chunk| chunk.0).collect::<Vec<_>>(), [1, 2, 1, 0]);
    assert!(chunks[0].1[8..] == expected((1 << 20) - 100, 100));
    assert_eq!(
        chunks[1].1,
        [&(1u64 << 20).to_be_bytes()[..], &(1u32 << 20).to_be_bytes()].concat()
    );
    assert!(chunks[2].1[8..] == expected(2 << 20, 100));
    // In one piece when the client wants it so.
    client.request(1 << 2, 0, 2, (1 << 20) - 100, (1 << 20) + 200);
    let chunks = client.chunks(2);
    assert!(chunks.len() == 1 && chunks[0].1[8..] == expected((1 << 20) - 100, (1 << 20) + 200));
    client.request(0, 0, 3, 5, 0);
    assert_eq!(client.chunks(3), [(0, Vec::new())]);
    // An error has a place and words, cut to a length that every client takes.
    client.request(0, 0, 4, 2 << 20, 2 << 20);
    let chunks = client.chunks(4);
    let (kind, payload) = chunks.last().unwrap();
    assert_eq!((*kind, &payload[..4]), (1 << 15 | 2, &5u32.to_be_bytes()[..]));
    assert!(payload[6..].starts_with(b"badlyly") && payload.len() < 2000);
    client.request(0, 1, 5, 0, 1);
    client.send(&[b"x"]);
    assert_eq!(client.chunks(5)[0].1[..4], 1u32.to_be_bytes());

    client.request(0, 7, 6, 0, u32::try_from(SIZE).unwrap());
    let status = client.chunks(6);
    let words: Vec<u32> =
        status[0].1.chunks(4).map(|word| u32::from_be_bytes(word.try_into().unwrap())).collect();
    assert_eq!((status[0].0, words), (5, vec![1, 1 << 20, 0, 1 << 20, 3, 6 << 20, 0]));
    client.request(1 << 3, 7, 7, 0, u32::try_from(SIZE).unwrap());
    assert_eq!(client.chunks(7)[0].1.len(), 12);
    client.request(0, 7, 8, SIZE, 1);
    assert_eq!(client.chunks(8)[0].1[..4], 22u32.to_be_bytes());
    drop(client);
    running.stop();
}

#[test]
fn hostile_clients_do_no_harm() {
    let sandbox = Sandbox::new();
    let limits =
        NbdLimits { connections: 4, handshake: Duration::from_millis(300), ..NbdLimits::default() };
    let running = serve(&sandbox, limits);
    let path = sandbox.path("socket");
    // Flags that nobody knows, and the old handshake.
    for flags in [0, 2, 4, u32::MAX] {
        Client::greet(&path, flags).assert_closed();
    }
    // An option without magic, one of absurd length, an unknown name in the old way.
    let mut client = Client::greet(&path, 3);
    client.send(&[b"IHAVEOPX", &[0; 8]]);
    client.assert_closed();
    let mut client = Client::greet(&path, 3);
    client.send(&[b"IHAVEOPT", &7u32.to_be_bytes(), &u32::MAX.to_be_bytes()]);
    assert_eq!(client.option_reply(7).0, 1 << 31 | 9);
    client.assert_closed();
    let mut client = Client::greet(&path, 3);
    client.option(1, b"q");
    client.assert_closed();
    // Options whose lengths lie; after each the handshake goes on.
    let mut client = Client::greet(&path, 3);
    let lies: [(u32, &[u8], u64); 13] = [
        (7, b"", 3),
        (7, b"\xff\xff\xff\xffp", 3),
        (7, b"\0\0\0\x01p\0\x05\0\x03", 3),
        (7, b"\0\0\0\x01p\0\0\0", 3),
        (7, b"\0\0\0\x01q\0\0", 6),
        (6, b"\0\0\0\x01", 3),
        (3, b"x", 3),
        (8, b"x", 3),
        (10, b"\0\0\0\x01p\0\0\0\0", 3),
        (9, b"\0\0\0\x01p\xff\xff\xff\xff", 3),
        (9, b"\0\0\0\x01p\0\0\0\x01\0\0\0\x09base:", 3),
        (5, b"", 1),
        (77, b"what", 1),
    ];
    for (option, data, error) in lies {
        client.option(option, data);
        assert_eq!(client.option_reply(u64::from(option)).0, 1 << 31 | error, "{option} {data:?}");
    }
    client.option(2, b"");
    assert_eq!(client.option_reply(2).0, 1);
    client.assert_closed();
    // A request without magic, and a write of more than anybody writes.
    let mut client = Client::begin(&path);
    client.send(&[&[0; 28]]);
    client.assert_closed();
    let mut client = Client::begin(&path);
    client.request(0, 1, 1, 0, u32::MAX);
    client.assert_closed();
    // Random bytes at every stage.
    for seed in 0..50 {
        let bytes = crate::support::noise(seed, 3000);
        let mut client =
            if seed % 2 == 0 { Client::greet(&path, 3) } else { Client::begin_structured(&path) };
        let _ = client.0.write_all(&bytes);
    }
    // Those who only hold places are put out in time; then others get in. How long that takes
    // does not matter, it has to happen.
    let idle: Vec<_> = (0..4).map(|_| UnixStream::connect(&path).unwrap()).collect();
    loop {
        let mut stream = UnixStream::connect(&path).unwrap();
        let mut greeting = [0; 18];
        if stream.read_exact(&mut greeting).is_ok() {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    drop(idle);
    // And one that is in the middle of it does not keep the server from ending.
    let mut client = loop {
        let stream = UnixStream::connect(&path).unwrap();
        let mut client = Client(stream);
        let mut greeting = [0; 18];
        if client.0.read_exact(&mut greeting).is_ok() {
            break client;
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    client.send(&[&3u32.to_be_bytes()]);
    client.option(1, b"p");
    client.take(10);
    running.stop();
    client.assert_closed();
}
