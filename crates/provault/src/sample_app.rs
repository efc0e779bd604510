//! The lab's application: a small web application that shows notes from a file.
//!
//! It is naive on purpose, as applications are: with its data gone it still answers 200, only with
//! nothing in it. A restore test that looks at the status alone would be fooled; one that asserts
//! on the number of notes is not.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde::{Deserialize, Serialize};

/// The port it listens on in the lab. Nothing outside the isolation ever sees it.
pub const PORT: u16 = 8080;
/// Its data, relative to its directory.
pub const DATA: &str = "data/notes.json";
/// Its program, relative to its directory.
pub const PROGRAM: &str = "bin/myapp";

/// A note.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Note {
    /// When it was written, RFC 3339.
    pub at: String,
    /// What it says.
    pub text: String,
}

/// What `GET /health` answers.
#[derive(Debug, Serialize)]
struct Health {
    notes: usize,
    newest: Option<String>,
}

/// Arguments of the hidden command.
#[derive(Debug, clap::Args)]
pub struct SampleAppArgs {
    /// Port on 127.0.0.1.
    #[arg(long, default_value_t = PORT)]
    port: u16,
    /// File of notes.
    #[arg(long, default_value = DATA)]
    data: PathBuf,
}

/// Serves until it is killed.
pub fn run(args: &SampleAppArgs) -> ExitCode {
    let listener = match TcpListener::bind(("127.0.0.1", args.port)) {
        Ok(listener) => listener,
        Err(error) => {
            eprintln!("myapp: cannot listen on port {}: {error}", args.port);
            return ExitCode::FAILURE;
        }
    };
    for stream in listener.incoming().flatten() {
        if let Err(error) = answer(stream, &args.data) {
            eprintln!("myapp: {error}");
        }
    }
    ExitCode::SUCCESS
}

fn answer(stream: TcpStream, data: &Path) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?).take(16 << 10);
    let mut request = String::new();
    reader.read_line(&mut request)?;
    let mut header = String::new();
    while reader.read_line(&mut header)? > 2 {
        header.clear();
    }
    let notes = read_notes(data);
    let path = request.split(' ').nth(1).unwrap_or("/");
    let (content_type, body) = if path == "/health" {
        let newest = notes.iter().map(|note| note.at.clone()).max();
        let health = Health { notes: notes.len(), newest };
        ("application/json", serde_json::to_string(&health)?)
    } else {
        let mut page = format!("<h1>My application</h1>\n<p>{} notes</p>\n<ul>\n", notes.len());
        for note in &notes {
            page.extend(["<li>", &note.at, ": ", &note.text, "</li>\n"]);
        }
        ("text/html; charset=utf-8", page + "</ul>\n")
    };
    let mut stream = stream;
    write!(
        stream,
        "HTTP/1.1 200 OK\r\ncontent-type: {content_type}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )
}

fn read_notes(data: &Path) -> Vec<Note> {
    std::fs::read(data)
        .ok()
        .and_then(|bytes| serde_json::from_slice(&bytes).ok())
        .unwrap_or_default()
}

/// Writes the application into `directory`: its program, a copy of this executable, and its data,
/// so that a copy without them cannot answer.
pub fn write(directory: &Path, now: jiff::Timestamp) -> std::io::Result<()> {
    std::fs::create_dir_all(directory.join("bin"))?;
    std::fs::create_dir_all(directory.join("data"))?;
    let program = directory.join(PROGRAM);
    std::fs::copy(std::env::current_exe()?, &program)?;
    let notes: Vec<Note> = (0..25_i64)
        .map(|n| Note {
            at: (now - jiff::SignedDuration::from_mins(60 * n)).to_string(),
            text: format!("note number {}", 25 - n),
        })
        .collect();
    std::fs::write(directory.join(DATA), serde_json::to_vec_pretty(&notes)?)?;
    std::fs::write(directory.join("README.txt"), "The lab's sample application.\n")
}
