//! A raw image of an ext4 file system, made without mounting anything.

use std::path::Path;

use crate::bench::corpus::random;
use crate::test::command::{Environment, run};

/// A fixed identity, so that the image is the same every time.
const UUID: &str = "5b0a3a0e-3a59-4a43-9a51-0c7f8f6f7a11";
/// The file system's clock: what it stamps its own structures with.
const TIME: &str = "1700000000";

/// Makes an image of `bytes` bytes at `image`: all below `tree`, and a file of random data of a quarter
/// of the size. What is left is never written and stays a hole.
pub fn build(
    environment: &Environment,
    tree: &Path,
    image: &Path,
    bytes: u64,
) -> Result<(), String> {
    let block = 4096;
    let mut make = environment.command("mke2fs");
    make.args(["-q", "-F", "-t", "ext4", "-b", "4096", "-U", UUID, "-E"])
        .arg(format!("hash_seed={UUID},lazy_itable_init=1,lazy_journal_init=1,root_owner=0:0"))
        .arg("-d")
        .arg(tree)
        .arg(image)
        .arg((bytes / block).to_string())
        .env("E2FSPROGS_FAKE_TIME", TIME);
    run(&mut make).map_err(|e| format!("{e}\nmke2fs is in the package e2fsprogs"))?;
    let noise = image.with_file_name("noise.bin");
    random(&noise, bytes / 4)?;
    let mut write = environment.command("debugfs");
    write.args(["-w", "-R"]).arg(format!("write {} noise.bin", noise.display())).arg(image);
    run(write.env("E2FSPROGS_FAKE_TIME", TIME))?;
    std::fs::remove_file(&noise).map_err(|e| format!("cannot remove {}: {e}", noise.display()))?;
    // debugfs ends with 0 whatever happened; the checker does not.
    run(environment.command("e2fsck").args(["-f", "-n"]).arg(image))
}
