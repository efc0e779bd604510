//! What this crate's tests run in isolation: the helper itself, a stand-in for the server that
//! calls it, and an application that can also misbehave. It is not part of Provault.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, ToSocketAddrs, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use provault_driver::CancelFlag;
use provault_proof::{HelperCommand, IsolationRequest, helper_main, run_isolated};
use serde_json::{Value, json};

type Outcome = Result<String, Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let number = |text: &str| text.parse::<u16>().unwrap_or(8080);
    match words.as_slice() {
        ["__isolate"] => helper_main(),
        ["run", request] => run(request),
        ["serve", port] => serve(number(port), 0),
        ["warm", port, refusals] => serve(number(port), number(refusals)),
        ["inspect", port] => inspect(number(port)),
        ["banner", port] => banner(number(port)),
        ["exit", code] => {
            eprintln!("the last words of the application");
            ExitCode::from(u8::try_from(number(code)).unwrap_or(1))
        }
        ["hang"] => {
            eprintln!("hanging");
            loop {
                std::thread::sleep(Duration::from_secs(1));
            }
        }
        ["chatter", port] => {
            for n in 0..40_000 {
                println!("line {n}");
            }
            serve(number(port), 0)
        }
        // Exits at once and leaves a server in the background.
        ["daemon", port] => background("serve", port),
        // A server with two children in sessions of their own.
        ["brood", port] => {
            background("hang", "");
            background("hang", "");
            serve(number(port), 0)
        }
        _ => {
            eprintln!("usage: for tests only");
            ExitCode::from(2)
        }
    }
}

/// Plays the server: runs a request and prints what came of it.
fn run(path: &str) -> ExitCode {
    let request: Option<IsolationRequest> =
        fs::read(path).ok().and_then(|text| serde_json::from_slice(&text).ok());
    let Some(request) = request else {
        eprintln!("no request in {path}");
        return ExitCode::FAILURE;
    };
    let helper = HelperCommand::this_program(["__isolate"]);
    let outcome = match run_isolated(&helper, &request, &CancelFlag::new()) {
        Ok(report) => json!({ "report": report }),
        Err(error) => json!({ "error": error.to_string(), "fault": error.fault() }),
    };
    println!("{outcome}");
    ExitCode::SUCCESS
}

fn background(word: &str, port: &str) -> ExitCode {
    let Ok(own) = std::env::current_exe() else { return ExitCode::FAILURE };
    let mut command = Command::new("setsid");
    command.arg(own);
    command.arg(word);
    if !port.is_empty() {
        command.arg(port);
    }
    match command.stdin(Stdio::null()).spawn() {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("no child: {error}");
            ExitCode::FAILURE
        }
    }
}

/// `data/notes.json` of the copy, or 500; the first answers may be 503.
fn serve(port: u16, mut refusals: u16) -> ExitCode {
    let Ok(listener) = TcpListener::bind(("127.0.0.1", port)) else { return ExitCode::FAILURE };
    loop {
        let Ok((mut stream, _)) = listener.accept() else { continue };
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") && matches!(stream.read(&mut byte), Ok(1)) {
            head.push(byte[0]);
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        let path = head.split(' ').nth(1).unwrap_or("/");
        let (status, body) = match (fs::read("data/notes.json"), path) {
            _ if refusals > 0 => {
                refusals -= 1;
                ("503 Service Unavailable", Vec::new())
            }
            (_, "/moved") => ("302 Found\r\nLocation: /", Vec::new()),
            (_, "/large") => ("200 OK", vec![b'x'; 3 << 20]),
            (Ok(body), _) => ("200 OK", body),
            (Err(error), _) => ("500 Oops", error.to_string().into_bytes()),
        };
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            body.len()
        );
        let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body));
    }
}

/// Greets with `data/notes.json` of the copy and answers every line in capital letters; the
/// connection stays open.
fn banner(port: u16) -> ExitCode {
    let Ok(listener) = TcpListener::bind(("127.0.0.1", port)) else { return ExitCode::FAILURE };
    loop {
        let Ok((mut stream, _)) = listener.accept() else { continue };
        let greeting = fs::read("data/notes.json").unwrap_or_else(|_| b"-ERR no data".to_vec());
        let _ = stream.write_all(&greeting).and_then(|()| stream.write_all(b"\r\n"));
        let mut byte = [0];
        while matches!(stream.read(&mut byte), Ok(1)) {
            if stream.write_all(&byte.map(|b| b.to_ascii_uppercase())).is_err() {
                break;
            }
        }
    }
}

/// Tries what `checks.json` of the copy lists, writes what came of it to `findings.json`, serves.
fn inspect(port: u16) -> ExitCode {
    let checks: Vec<[String; 2]> = fs::read("checks.json")
        .ok()
        .and_then(|text| serde_json::from_slice(&text).ok())
        .unwrap_or_default();
    let mut findings = serde_json::Map::new();
    for [what, argument] in checks {
        let found = match attempt(&what, &argument) {
            Ok(text) => format!("ok {text}"),
            Err(error) => format!("failed {error}"),
        };
        findings.insert(format!("{what} {argument}"), Value::from(found));
    }
    if fs::write("findings.json", Value::from(findings).to_string()).is_err() {
        return ExitCode::FAILURE;
    }
    serve(port, 0)
}

fn attempt(what: &str, argument: &str) -> Outcome {
    const NOTHING: Option<&str> = None;
    let second = Duration::from_secs(1);
    Ok(match what {
        "list" => fs::read_dir(argument)?
            .map(|entry| entry.map(|e| e.file_name().to_string_lossy().into_owned()))
            .collect::<Result<Vec<_>, _>>()?
            .join(" "),
        "read" => String::from_utf8_lossy(&fs::read(argument)?).into_owned(),
        "write" => fs::write(argument, "written from inside").map(|()| String::new())?,
        "open-to-write" => {
            fs::OpenOptions::new().write(true).open(argument).map(|_| String::new())?
        }
        "chmod" => {
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o777);
            fs::set_permissions(argument, mode).map(|()| String::new())?
        }
        "tcp" => TcpStream::connect_timeout(&argument.parse()?, second).map(|_| String::new())?,
        "udp" => {
            let socket = UdpSocket::bind("0.0.0.0:0")?;
            socket.send_to(b"hello", argument)?.to_string()
        }
        "resolve" => format!("{:?}", argument.to_socket_addrs()?.collect::<Vec<_>>()),
        "unix" => UnixStream::connect(argument).map(|_| String::new())?,
        "abstract" => {
            let address = SocketAddr::from_abstract_name(argument)?;
            UnixStream::connect_addr(&address).map(|_| String::new())?
        }
        "mount-memory" => mount(Some("tmpfs"), argument, Some("tmpfs"), MsFlags::empty(), NOTHING)
            .map(|()| String::new())?,
        "mount-device" => mount(Some(argument), "/tmp", Some("ext4"), MsFlags::empty(), NOTHING)
            .map(|()| String::new())?,
        "unmount" => umount2(argument, MntFlags::MNT_DETACH).map(|()| String::new())?,
        "remount" => {
            let flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND;
            mount(NOTHING, argument, NOTHING, flags, NOTHING).map(|()| String::new())?
        }
        // All later checks are done with every right over a namespace of one's own.
        "nest" => {
            unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS).map(|()| String::new())?
        }
        "kill" => {
            let pid = nix::unistd::Pid::from_raw(argument.parse()?);
            nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL)
                .map(|()| String::new())?
        }
        "ids" => fs::read_to_string("/proc/self/status")?
            .lines()
            .filter(|line| line.starts_with("Uid") || line.starts_with("NoNewPrivs"))
            .collect::<Vec<_>>()
            .join(" "),
        "environment" => std::env::vars()
            .map(|(name, value)| format!("{name}={value}"))
            .collect::<Vec<_>>()
            .join(" "),
        "directory" => std::env::current_dir()?.display().to_string(),
        _ => return Err(format!("unknown check {what}").into()),
    })
}
