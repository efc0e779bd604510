//! Small files: what a mail store or a build cache looks like.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::bench::random::Random;

/// Files of a directory.
const DIRECTORY: u64 = 500;
/// The longest file.
const LONGEST: u64 = 4096;
/// The files' times begin here and lie within half a year.
const TIME: u64 = 1_690_000_000;

/// Makes `count` files below `root`, in directories two deep. One in a hundred names is a symbolic link to its
/// neighbour, one in a hundred a hard link to it, and one file in fifty has another mode.
pub fn build(root: &Path, count: u64) -> Result<(), String> {
    let failed = |path: &Path, e| format!("cannot make {}: {e}", path.display());
    for number in 0..count {
        let directory = number / DIRECTORY;
        let directory = root.join(format!("{:02}/{directory:05}", directory % 40));
        if number % DIRECTORY == 0 {
            fs::create_dir_all(&directory).map_err(|e| failed(&directory, e))?;
        }
        let path = directory.join(format!("message-{number:07}.txt"));
        let before = directory.join(format!("message-{:07}.txt", number.saturating_sub(1)));
        let mut random = Random::of(2, &number.to_string());
        let first = number % DIRECTORY == 0;
        match random.below(100) {
            0 if !first => {
                let name = before.file_name().unwrap_or_default();
                symlink(name, &path).map_err(|e| failed(&path, e))?;
                continue;
            }
            1 if !first && before.is_file() => {
                fs::hard_link(&before, &path).map_err(|e| failed(&path, e))?;
                continue;
            }
            _ => {}
        }
        let length = usize::try_from(random.below(LONGEST)).unwrap_or_default();
        fs::write(&path, random.text(length)).map_err(|e| failed(&path, e))?;
        let file = fs::File::options().write(true).open(&path).map_err(|e| failed(&path, e))?;
        let time = Duration::new(TIME + random.below(15_000_000), 0)
            + Duration::from_nanos(random.below(1_000_000_000));
        file.set_modified(SystemTime::UNIX_EPOCH + time).map_err(|e| failed(&path, e))?;
        if random.below(50) == 0 {
            let mode = [0o600, 0o640, 0o755, 0o444][usize::try_from(random.below(4)).unwrap_or(0)];
            file.set_permissions(fs::Permissions::from_mode(mode)).map_err(|e| failed(&path, e))?;
        }
    }
    directories(root)
}

/// Gives every directory the same time, so that two builds are the same.
fn directories(root: &Path) -> Result<(), String> {
    let failed = |e| format!("cannot finish {}: {e}", root.display());
    for entry in fs::read_dir(root).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if entry.file_type().map_err(failed)?.is_dir() {
            directories(&entry.path())?;
        }
    }
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(TIME);
    fs::File::open(root).and_then(|root| root.set_modified(time)).map_err(failed)
}
