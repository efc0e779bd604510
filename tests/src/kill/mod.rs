//! Kills at every commit: the boundaries of all transactions of a work, enumerated.
//!
//! Whatever the server must not forget is a transaction of its catalog, so a work that dies right
//! before and right after each of its commits has died in every state that a start can find. A
//! [`Stage`] holds a data directory that is prepared once; for every commit there is, the server
//! starts on a fresh copy of it, does its work, and dies by SIGKILL at that commit. It is started
//! again, and when all is quiet, everything has to be whole (`whole`).
//!
//! How many commits a work makes nobody has to know: they are counted up until the work ends
//! without having been killed. A loop of the server that happens to commit something in between
//! only adds to them.

mod seen;
mod whole;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::{
    Api, Finished, Manifest, PATIENCE, Random, Receiver, Sandbox, Start, TestServer, until,
};

pub use seen::Seen;

/// A data directory that kills begin with, and what belongs to it.
pub struct Stage {
    /// Where everything lies.
    pub sandbox: Sandbox,
    /// Whom the server tells.
    pub receiver: Receiver,
    /// The directory that is backed up.
    pub source: PathBuf,
    /// What it was when the recovery points of the template were made.
    before: Manifest,
    /// What it is now.
    now: Manifest,
    /// Jobs, runs and tests that had ended in the template.
    ended: BTreeSet<String>,
    /// Recovery points of the template.
    points: BTreeSet<String>,
    /// Whether somebody is told of the ends of jobs.
    tells: bool,
    /// What was told before.
    told: Vec<Value>,
    /// How the server that is killed is started beside that.
    held: Start,
}

/// How a work comes about.
pub enum Begin<'a> {
    /// A running server is asked for it. What it answers, and whether, is of no interest: what counts
    /// is what is there afterwards.
    Asked(&'a dyn Fn(&Api)),
    /// The same, and who got no answer asks again after the next start.
    AskedAgain(&'a dyn Fn(&Api)),
    /// The server begins with it by itself when it starts, and it is over when this is so.
    ByItself(&'a dyn Fn(&Seen) -> bool),
}

/// A work whose commits are gone through.
pub struct Work<'a> {
    /// Its name, for people.
    pub name: &'static str,
    /// As many commits it makes at least: fewer, and the kills are at the wrong place.
    pub least: u64,
    /// How it comes about.
    pub begin: Begin<'a>,
    /// What has to hold after each kill, beside what always has to; for a start, that the same work
    /// can be done again.
    pub check: &'a dyn Fn(&TestServer, &Seen),
}

/// How a template is left behind.
#[derive(Clone, Debug)]
pub enum Left {
    /// By a server that was stopped in order.
    InOrder,
    /// By a server that was killed where it stood.
    Killed,
    /// By a server that has died of itself, and what it said before.
    Dead(Seen),
}

/// Commits that no work here comes near: the enumeration has an end.
const MOST: u64 = 400;
const GLANCE: Duration = Duration::from_millis(10);

impl Stage {
    /// An empty directory, for the first start of a server.
    pub fn empty() -> Self {
        let stage = Self::bare();
        fs::create_dir(stage.template()).unwrap();
        stage
    }

    /// A server is started and `prepare` works with it; what it leaves is the template.
    pub fn new(prepare: impl FnOnce(&mut TestServer, &Self) -> Left) -> Self {
        let mut stage = Self::bare();
        let mut server = TestServer::start(&stage.data_dir());
        let left = prepare(&mut server, &stage);
        let now = || Seen::of(server.api()).expect("a server that answers");
        let seen = if let Left::Dead(seen) = &left { seen.clone() } else { now() };
        match left {
            Left::InOrder => assert!(server.stop().success(), "{}", server.log_tail()),
            Left::Killed => server.kill9(),
            Left::Dead(_) if server.is_stopped() => {}
            Left::Dead(_) => server.is_killed(),
        }
        stage.ended = seen.ended();
        stage.points = seen.points.iter().map(|point| point.arn.clone()).collect();
        stage.tells = !seen.deliveries.is_empty();
        stage.told = stage.receiver.all();
        (stage.before, stage.now) = (Manifest::of(&stage.source), Manifest::of(&stage.source));
        let _ = fs::remove_file(stage.armed());
        fs::rename(stage.data_dir(), stage.template()).unwrap();
        stage
    }

    fn bare() -> Self {
        let sandbox = Sandbox::new();
        let source = sandbox.path("source");
        write_source(&source);
        let (before, now) = (Manifest::of(&source), Manifest::of(&source));
        let receiver = Receiver::start();
        let (ended, points) = Default::default();
        Self {
            sandbox,
            receiver,
            source,
            before,
            now,
            ended,
            points,
            tells: false,
            told: Vec::new(),
            held: Start::default(),
        }
    }

    /// The servers that are killed stop at a place until there is a file; they write it to another.
    pub fn hold_at(&mut self, place: &str) {
        self.held = Start::held_at(place, &self.sandbox.path("arrived"), &self.sandbox.path("go"));
    }

    /// Waits until a server stands at its place; `false` when it died before it came there.
    pub fn is_held(&self, api: &Api) -> bool {
        until("a server at its place, or its death", || {
            let arrived = self.sandbox.path("arrived").exists();
            let answers = || api.send("GET", "/backup-vaults/", None).is_ok();
            (arrived || !answers()).then_some(arrived)
        })
    }

    /// Lets it go on.
    pub fn go_on(&self) {
        fs::write(self.sandbox.path("go"), "").unwrap();
    }

    /// Changes the source: what is backed up from now on is another state of it.
    pub fn change_source(&mut self) {
        fs::write(self.source.join("text"), "changed\n").unwrap();
        fs::write(self.source.join("added"), Random(2).bytes(90_000)).unwrap();
        self.now = Manifest::of(&self.source);
    }

    /// Where servers run.
    pub fn data_dir(&self) -> PathBuf {
        self.sandbox.path("server")
    }

    /// What each of them begins with.
    pub fn template(&self) -> PathBuf {
        self.sandbox.path("template")
    }

    /// The file as long as which commits count.
    pub fn armed(&self) -> PathBuf {
        self.sandbox.path("armed")
    }

    /// Goes through all commits of a work, on both sides of each, and tells how many there were.
    pub fn kill_at_every_commit(&self, work: &Work) {
        let mut told = Vec::new();
        for (side, after) in [("before", false), ("after", true)] {
            let mut number = 1;
            while self.kill(work, side, after, number) {
                number += 1;
                assert!(number < MOST, "{}: it does not end", work.name);
            }
            let commits = number - 1;
            assert!(
                commits >= work.least,
                "{}: only {commits} kills {side} a commit, where there are at least {}; a build \
                 without debug assertions kills nobody",
                work.name,
                work.least
            );
            told.push(format!("{commits} {side} a commit"));
        }
        println!("{}: killed {}", work.name, told.join(", "));
    }

    /// One kill and what comes after it; `false` when the work was over before that commit.
    fn kill(&self, work: &Work, side: &str, after: bool, number: u64) -> bool {
        let _case = Case(format!("{}: killed {side} commit {number}", work.name));
        self.reset();
        let mut server = TestServer::stopped(&self.data_dir());
        let nothing_more = |_: &Seen| true;
        let (died, over): (bool, &dyn Fn(&Seen) -> bool) = match work.begin {
            Begin::Asked(ask) | Begin::AskedAgain(ask) => {
                let armed = self.armed();
                let mut start = Start::killed_at(after, number, Some(&armed));
                start.environment.extend(self.held.environment.clone());
                server.start_again_with(&start);
                assert!(!ends(&mut server, &nothing_more), "it died before it was asked");
                fs::write(&armed, "").unwrap();
                ask(server.api());
                (ends(&mut server, &nothing_more), &nothing_more)
            }
            Begin::ByItself(over) => {
                let doomed = Start::killed_at(after, number, None);
                let died = !server.survives_start_with(&doomed) || ends(&mut server, over);
                (died, over)
            }
        };
        let _ = fs::remove_file(self.armed());
        if !server.is_stopped() {
            if died {
                server.is_killed();
            } else {
                // Over and done; that is a moment to die in as well.
                server.kill9();
            }
        }
        server.start_again();
        if let Begin::AskedAgain(ask) = work.begin {
            ask(server.api());
        }
        assert!(!ends(&mut server, over), "it died again, and of what?\n{}", server.log_tail());
        let seen = Seen::of(server.api()).expect("a server that answers");
        self.is_whole(&server, &seen);
        (work.check)(&server, &seen);
        assert!(!server.log_tail().contains("panicked at"), "{}", server.log_tail());
        died
    }

    /// Puts the template back.
    fn reset(&self) {
        // The same job may end in every case.
        self.receiver.remembers(self.told.clone());
        for path in [self.data_dir(), self.sandbox.path("restored"), self.sandbox.path("target")] {
            if path.exists() {
                fs::remove_dir_all(&path).unwrap();
            }
        }
        for file in ["arrived", "go"] {
            let _ = fs::remove_file(self.sandbox.path(file));
        }
        let mut copy = Command::new("cp");
        copy.arg("-a").arg(self.template()).arg(self.data_dir());
        let _ = Finished::of(&mut copy, "install coreutils").expect(0);
        let log = self.data_dir().with_extension("log");
        let _ = fs::remove_file(log);
    }
}

/// Waits until the server has died (`true`), or until all that it had to do is done.
fn ends(server: &mut TestServer, over: &dyn Fn(&Seen) -> bool) -> bool {
    let deadline = Instant::now() + PATIENCE;
    let mut quiet = 0;
    loop {
        if server.has_ended() {
            return true;
        }
        let seen = Seen::of(server.api());
        // Twice: a commit is seen a little before the process dies of it.
        quiet = if seen.as_ref().is_some_and(|s| s.is_quiet() && over(s)) { quiet + 1 } else { 0 };
        if quiet == 2 && !server.has_ended() {
            return false;
        }
        assert!(Instant::now() < deadline, "it does not end: {seen:#?}\n{}", server.log_tail());
        std::thread::sleep(GLANCE);
    }
}

/// Names the case that fails.
struct Case(String);

impl Drop for Case {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- {}", self.0);
        }
    }
}

/// Small, so that thousands of copies of it are made in no time.
fn write_source(root: &Path) {
    fs::create_dir_all(root.join("sub/below")).unwrap();
    fs::write(root.join("text"), "a small file\n").unwrap();
    fs::write(root.join("noise"), Random(1).bytes(150_000)).unwrap();
    fs::write(root.join("sub/below/lines"), "line after line\n".repeat(500)).unwrap();
    fs::write(root.join("empty"), "").unwrap();
    std::os::unix::fs::symlink("sub/below", root.join("link")).unwrap();
}
