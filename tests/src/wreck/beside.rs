//! A command stands still amid its work while a prune runs, and goes on.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Stdio};

use super::{Work, Yard};
use crate::disk::{Count, Doom, Fate, Loss};
use crate::{Random, until};

/// A command that is killed when the test gives up.
struct Running(Option<Child>);

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            // It may have ended by itself; there is nobody to tell.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Yard {
    /// A backup of what was just forgotten, a copy, a check or a restore stops at any of its operations,
    /// and a prune takes its chance; it may die, and be run again.
    pub fn wreck_beside(&self, random: &mut Random) -> String {
        let work = [Work::Backup, Work::Copy, Work::Check, Work::Restore][random.below(4)];
        let dies = random.below(3) == 0;
        self.wreck_beside_of(work, dies, random)
    }

    /// The same, of a certain command.
    pub fn wreck_beside_of(&self, work: Work, dies: bool, random: &mut Random) -> String {
        self.set_up(work);
        // What it stores is there still, in packs that the prune is about to delete.
        let source = self.path("garbage");
        let args = match work {
            Work::Backup => vec!["backup".to_owned(), source.clone()],
            _ => work.args(&self.sandbox),
        };
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let _ = self.program(&args).expect(0);
        let total = usize::try_from(self.disk.count(Count::Operations)).unwrap();
        let at = 1 + random.below(total) as u64;
        let case = format!(
            "{work:?} stands still at {at} of {total} operations, and a prune {}",
            if dies { "dies" } else { "runs" }
        );
        println!("{case}");
        self.set_up(work);
        self.disk.doom(Doom { at, of: Count::Operations, after: true, fate: Fate::Stops });
        let mut command = self.command(self.repo(), &args);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::inherit());
        let mut running = Running(Some(command.spawn().unwrap()));
        let child = running.0.as_mut().unwrap();
        until("the command to stand still or to end", || {
            (self.disk.has_stopped() || child.try_wait().unwrap().is_some()).then_some(())
        });
        if dies {
            self.disk.doom(self.doom(Work::Prune, random));
            let _ = self.run(Work::Prune);
            self.disk.revive(Loss::Nothing, random);
        }
        // Two prunes: the first one marks, the second one must wait as well.
        for _ in 0..2 {
            let _ = self.run(Work::Prune).expect(0);
        }
        self.disk.resume();
        let status = until("the command's end", || child.try_wait().unwrap());
        running.0 = None;
        assert!(status.success(), "{case}: the command ended with {status}");
        let mut wanted = self.kept.clone();
        let new = self.snapshots().into_iter().filter(|id| !self.kept.contains_key(id));
        let of =
            if work == Work::Backup { PathBuf::from(source) } else { self.sandbox.path("new") };
        wanted.extend(new.map(|id| (id, of.clone())));
        assert_eq!(wanted.len(), self.kept.len() + usize::from(work.commits()), "{case}");
        self.whole(&case, &wanted, random);
        let _ = fs::remove_dir_all(self.sandbox.path("restored"));
        self.reclaimed(&case);
        self.whole(&case, &wanted, random);
        case
    }
}
