//! What the application of a restored copy can reach: nothing but its copy. The application itself
//! tries, and says in its answer what it found.
#![allow(clippy::unwrap_used, reason = "a test panics where an error surprises it")]

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use provault_tests::{Sandbox, TestServer, clean_command, until};
use serde_json::json;

/// Answers every request with one line for each thing it tried. Its arguments: its own port, the
/// source's path, the data directory, a port on the host's loopback, a UNIX socket of the host.
const NOSY: &str = r#"#!/usr/bin/perl
use strict; use warnings;
use IO::Socket::INET; use IO::Socket::UNIX;
my ($port, $source, $data_dir, $host_port, $host_socket) = @ARGV;
sub tcp {
    my ($address) = @_;
    return IO::Socket::INET->new(PeerAddr => $address, Proto => 'tcp', Timeout => 2)
        ? 'REACHED' : 'unreachable';
}
sub udp {
    my ($address) = @_;
    my $socket = IO::Socket::INET->new(PeerAddr => $address, Proto => 'udp') or return 'unreachable';
    return defined $socket->send('hello') ? 'REACHED' : 'unreachable';
}
sub seen { return -e $_[0] ? 'SEEN' : 'hidden' }
sub first_line { my $file; return open($file, '<', $_[0]) ? scalar(<$file>) // '' : 'MISSING' }
sub lines { my $file; return open($file, '<', $_[0]) ? <$file> : () }
sub writes { my $file; return open($file, '>', $_[0]) }
sub report {
    my @routes = lines('/proc/net/route');
    my @lines = (
        'own file ' . first_line('data.txt'),
        'source ' . seen($source), 'data directory ' . seen($data_dir),
        'source by proc ' . seen("/proc/1/root$source"),
        'home ' . seen($ENV{NOSY_HOME}), 'ssh ' . seen('/etc/ssh'), 'shadow ' . seen('/etc/shadow'),
        'host loopback ' . tcp("127.0.0.1:$host_port"),
        'network tcp ' . tcp('192.0.2.1:80'), 'network udp ' . udp('192.0.2.1:53'),
        'host socket ' . (IO::Socket::UNIX->new(Peer => $host_socket) ? 'REACHED' : 'unreachable'),
        'write to usr ' . (writes($ENV{NOSY_SYSTEM}) ? 'DONE' : 'refused'),
        'write to own copy ' . (writes('new.txt') ? 'done' : 'REFUSED'),
        'interfaces ' . join(',', map { /^\s*([^:\s]+):/ ? $1 : () } lines('/proc/net/dev')),
        'routes ' . (@routes ? @routes - 1 : 0),
    );
    chomp @lines;
    return join("\n", @lines) . "\n";
}
my $listener = IO::Socket::INET->new(LocalAddr => "127.0.0.1:$port", Listen => 5, ReuseAddr => 1)
    or die "cannot listen: $!";
while (my $client = $listener->accept) {
    while (<$client>) { last if /^\r?$/ }
    my $body = report();
    print $client "HTTP/1.1 200 OK\r\nContent-Length: " . length($body) . "\r\nConnection: close\r\n\r\n$body";
    close $client;
}
"#;

/// What it must find inside, line by line.
const HELD: [&str; 13] = [
    "own file the data of the copy",
    "source hidden",
    "data directory hidden",
    "source by proc hidden",
    "home hidden",
    "ssh hidden",
    "shadow hidden",
    "host loopback unreachable",
    "network tcp unreachable",
    "network udp unreachable",
    "host socket unreachable",
    "write to usr refused",
    "write to own copy done",
];

/// Listeners of the host that count who comes.
struct Host {
    tcp: SocketAddr,
    visits: Arc<AtomicUsize>,
}

impl Host {
    fn new(socket: &Path) -> Self {
        let visits = Arc::new(AtomicUsize::new(0));
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let tcp = listener.local_addr().unwrap();
        let seen = Arc::clone(&visits);
        std::thread::spawn(move || {
            for _ in listener.incoming() {
                seen.fetch_add(1, Ordering::SeqCst);
            }
        });
        let listener = UnixListener::bind(socket).unwrap();
        let seen = Arc::clone(&visits);
        std::thread::spawn(move || {
            for _ in listener.incoming() {
                seen.fetch_add(1, Ordering::SeqCst);
            }
        });
        Self { tcp, visits }
    }
}

/// Ends a process by its id.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn get(port: u16) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(20))).ok()?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.contains("own file").then_some(answer)
}

#[test]
fn a_restored_copy_reaches_nothing_but_itself() {
    assert!(Path::new("/usr/bin/perl").exists(), "perl is missing; apt-get install perl-base");
    let sandbox = Sandbox::new();
    let server = TestServer::start(&sandbox.path("server"));
    let source = sandbox.directory("source");
    fs::write(source.join("data.txt"), "the data of the copy\n").unwrap();
    let program = source.join("nosy.pl");
    fs::write(&program, NOSY).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let socket = sandbox.path("host.socket");
    let host = Host::new(&socket);
    let arguments = |port: u16| {
        let texts = [
            port.to_string(),
            source.to_str().unwrap().to_owned(),
            server.data_dir().to_str().unwrap().to_owned(),
            host.tcp.port().to_string(),
            socket.to_str().unwrap().to_owned(),
        ];
        texts.to_vec()
    };

    // First on the host: what it looks for can be found, or finding nothing would mean nothing.
    let free = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
    let child = clean_command("/usr/bin/perl")
        .arg(&program)
        .args(arguments(free))
        .current_dir(&source)
        .env("NOSY_HOME", sandbox.root())
        // Not into the real one.
        .env("NOSY_SYSTEM", sandbox.path("nosy"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let running = Running(child);
    let outside = until("the application on the host", || get(free));
    for line in
        ["source SEEN", "data directory SEEN", "host loopback REACHED", "host socket REACHED"]
    {
        assert!(outside.contains(line), "'{line}' not in {outside}");
    }
    drop(running);
    fs::remove_file(source.join("new.txt")).unwrap();
    let visits = until("the visits on the host", || {
        Some(host.visits.load(Ordering::SeqCst)).filter(|n| *n >= 2)
    });

    let mut command = vec!["./nosy.pl".to_owned()];
    command.extend(arguments(8080));
    let assertions: Vec<_> = HELD
        .iter()
        .copied()
        .chain(["interfaces lo\n", "routes 0\n"])
        .map(|line| json!({ "Type": "BodyContains", "Text": line }))
        .collect();
    let resource = server.add(&json!({
        "Kind": "filesystem",
        "Name": "nosy",
        "Config": { "path": source },
        "Service": {
            "Command": command,
            "Environment": { "NOSY_HOME": sandbox.root(), "NOSY_SYSTEM": "/usr/nosy" },
            "StartTimeoutSeconds": 60,
        },
        "Probes": [{ "Type": "Http", "Port": 8080, "Path": "/", "Assertions": assertions }],
    }));
    server.back_up(&resource);
    let test = server.test("nosy");
    assert_eq!(test["Verdict"], "PASSED", "{test:#}");
    assert_eq!(test["Isolation"], "full", "{test:#}");
    assert_eq!(host.visits.load(Ordering::SeqCst), visits, "somebody came out of the isolation");
    assert!(!source.join("new.txt").exists(), "it wrote into the source");
    assert!(!Path::new("/usr/nosy").exists());
}
