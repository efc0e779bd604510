//! The command line of the task.

use std::path::PathBuf;

use super::corpus::Corpus;
use super::tools;

/// The corpora of a full run, in its order.
pub const CORPORA: [&str; 4] = ["files", "volume", "random", "many"];
/// The one that is no corpus of files; see [`super::index`].
pub const INDEX: &str = "index";

/// What the usage line says.
pub const USAGE: &str = "\
cargo xtask bench [--corpus files,volume,random,many,index] [--tools ours,restic,borg,bupstash]
    [--with rustic] [--rounds 3] [--increments 10] [--work-dir DIR] [--tools-dir DIR] [--binary FILE]
    [--prepare | --plan | --report [--write]]

--prepare  installs the tools and builds the corpora, and stops there
--plan     says what would be run and how long it takes, and stops there
--report   prints the tables of what is recorded; with --write they go into docs/benchmarks.md";

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
pub struct Options {
    /// Names of corpora.
    pub corpora: Vec<String>,
    /// Names of tools.
    pub tools: Vec<String>,
    /// How many rounds there are in the end, those recorded before included.
    pub rounds: u32,
    /// Increments of the rounds that do them all.
    pub increments: u32,
    /// Where corpora, repositories and results lie.
    pub work: Option<PathBuf>,
    /// Where tools are installed.
    pub tools_directory: Option<PathBuf>,
    /// Our executable; built when not given.
    pub binary: Option<PathBuf>,
    /// How far to go.
    pub mode: Mode,
}

/// How far to go.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub enum Mode {
    /// All the way.
    Run,
    /// Tools and corpora only.
    Prepare,
    /// Only say what would be done.
    Plan,
    /// Tables of what is recorded.
    Report {
        /// Into the documentation instead of standard output.
        write: bool,
    },
}

impl Options {
    /// From the arguments after `bench`.
    pub fn parse(args: &[String]) -> Result<Self, String> {
        let mut options = Self {
            corpora: CORPORA.map(str::to_owned).to_vec(),
            tools: ["ours", "restic", "borg", "bupstash"].map(str::to_owned).to_vec(),
            rounds: 3,
            increments: 10,
            work: None,
            tools_directory: None,
            binary: None,
            mode: Mode::Run,
        };
        let (mut with, mut write) = (Vec::new(), false);
        let mut args = args.iter().map(String::as_str);
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or_else(|| format!("{arg} needs a value"));
            match arg {
                "--corpus" => options.corpora = list(value()?),
                "--tools" => options.tools = list(value()?),
                "--with" => with = list(value()?),
                "--rounds" => options.rounds = number(arg, value()?)?,
                "--increments" => options.increments = number(arg, value()?)?,
                "--work-dir" => options.work = Some(absolute(value()?)?),
                "--tools-dir" => options.tools_directory = Some(absolute(value()?)?),
                "--binary" => options.binary = Some(absolute(value()?)?),
                "--prepare" => options.mode = Mode::Prepare,
                "--plan" => options.mode = Mode::Plan,
                "--report" => options.mode = Mode::Report { write: false },
                "--write" => write = true,
                other => return Err(format!("unknown argument {other}\n{USAGE}")),
            }
        }
        match (&mut options.mode, write) {
            (Mode::Report { write }, true) => *write = true,
            (_, true) => return Err("--write goes with --report".to_owned()),
            _ => {}
        }
        options.tools.extend(with);
        if let Some(name) = options.tools.iter().find(|name| !tools::NAMES.contains(&name.as_str()))
        {
            return Err(format!("there is no tool {name}; there are {}", tools::NAMES.join(", ")));
        }
        let known = |name: &String| name == INDEX || Corpus::named(name, "".as_ref()).is_some();
        if let Some(name) = options.corpora.iter().find(|name| !known(name)) {
            let all = CORPORA.join(", ");
            return Err(format!("there is no corpus {name}; there are {all}, {INDEX}"));
        }
        // The second increment of an image is another operation than the first.
        if options.increments < 2 {
            return Err("--increments must be at least 2".to_owned());
        }
        Ok(options)
    }
}

fn list(text: &str) -> Vec<String> {
    text.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

fn number(option: &str, text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(number) if number > 0 => Ok(number),
        _ => Err(format!("{option} needs a number from 1 on, not {text}")),
    }
}

fn absolute(text: &str) -> Result<PathBuf, String> {
    std::path::absolute(text).map_err(|e| format!("{text} is no path: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Result<Options, String> {
        Options::parse(&args.iter().map(ToString::to_string).collect::<Vec<_>>())
    }

    #[test]
    fn names_are_known_or_refused() {
        let options = parse(&["--corpus", "files,index", "--with", "rustic"]).unwrap();
        assert_eq!(options.corpora, ["files", "index"]);
        assert_eq!(options.tools, ["ours", "restic", "borg", "bupstash", "rustic"]);
        assert_eq!(parse(&["--report", "--write"]).unwrap().mode, Mode::Report { write: true });
        for (args, wanted) in [
            (&["--corpus", "file"][..], "no corpus file"),
            (&["--tools", "tar"], "no tool tar"),
            (&["--rounds", "0"], "from 1 on"),
            (&["--rounds"], "needs a value"),
            (&["--increments", "1"], "at least 2"),
            (&["--write"], "goes with --report"),
            (&["--fast"], "unknown argument"),
        ] {
            let message = parse(args).unwrap_err();
            assert!(message.contains(wanted), "{message}");
        }
    }
}
