//! The server dies while it makes a vault of a repository.

use std::fs;

use serde_json::Value;

use super::{Work, Yard, any_loss};
use crate::disk::{Count, Doom, Fate};
use crate::{Finished, Manifest, Random, TestServer, until};

impl Yard {
    /// The import breaks off at any of its operations on the repository's disk; the server is started again
    /// and asked again, and has each snapshot once.
    pub fn wreck_import(&self, random: &mut Random) -> String {
        self.set_up(Work::Restore);
        let data = self.sandbox.path("server");
        let _ = fs::remove_dir_all(&data);
        let mut server = TestServer::start(&data);
        let (repo, password) = (self.repo(), self.path("password"));
        let repo = repo.to_str().unwrap();
        let args = [
            "vault",
            "import",
            "adopted",
            "--location",
            repo,
            "--password-file",
            &password,
            "--watch",
        ];
        // As many as an import makes, more or less: an end that it does not reach is one as well.
        let at = 1 + random.below(usize::try_from(self.import_length()).unwrap()) as u64;
        let doom =
            Doom { at, of: Count::Operations, after: random.below(2) == 0, fate: Fate::Dies };
        let loss = any_loss(random);
        let case = format!("the server dies in an import ({doom:?}), {loss:?} is lost");
        println!("{case}");
        self.disk.doom(doom);
        let asked = Finished::of(&mut server.program().command(&args), "it was just there");
        let died = self.disk.is_dead();
        if died {
            server.is_killed();
        } else {
            assert_eq!(asked.code, Some(0), "{case}: {asked}");
            assert!(server.stop().success(), "{case}");
        }
        self.disk.revive(loss, random);
        self.whole(&case, &self.kept, random);
        server.start_again();
        // One that broke off goes on by itself.
        until("the end of every run", || {
            let all = server.api().get("/provault/v1/care-runs");
            let ended =
                |run: &Value| !["PENDING", "RUNNING"].contains(&run["State"].as_str().unwrap());
            all["CareRuns"].as_array().unwrap().iter().all(ended).then_some(())
        });
        server.program().run(0, &args);
        let listed = server.program().json(&["recovery-points", "list", "--vault", "adopted"]);
        let points = listed["RecoveryPoints"].as_array().unwrap();
        assert_eq!(points.len(), self.kept.len(), "{case}: {listed}");
        let arn = points[random.below(points.len())]["RecoveryPointArn"].as_str().unwrap();
        let target = self.sandbox.path("restored");
        let to = self.path("restored");
        server.program().run(0, &["restore", arn, "--to", &to, "--watch"]);
        let restored = Manifest::of(&target);
        let same = self.kept.values().filter(|source| Manifest::of(source) == restored);
        assert_eq!(same.count(), 1, "{case}: what was restored is nobody's source");
        assert!(server.stop().success(), "{case}");
        self.reclaimed(&case);
        self.whole(&case, &self.kept, random);
        case
    }

    /// Operations on the disk of an import of this repository.
    fn import_length(&self) -> u64 {
        // Opening it, its snapshots, index and trees: about what a check without the data does.
        let before = self.disk.count(Count::Operations);
        let _ = self.program(&["check"]).expect(0);
        self.disk.count(Count::Operations) - before
    }
}
