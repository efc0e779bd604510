//! E-mails as files: one `.eml` a delivery, for a mail system to pick up or a person to read.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::{DeliveryContext, DeliveryError, Message, Receipt, mail};

const FROM: &str = "provault@localhost";

pub(crate) fn deliver(
    directory: &str,
    to: &str,
    message: &Message,
    context: &DeliveryContext,
) -> Result<Receipt, DeliveryError> {
    let bytes = mail::compose(FROM, to, message, context)?.formatted();
    let directory = Path::new(directory);
    let file = directory.join(format!("{}.eml", context.delivery_id));
    let receipt = || Receipt { detail: file.display().to_string() };
    // Only a rename makes this name, so what bears it is whole.
    if file.is_file() {
        return Ok(receipt());
    }
    match write(directory, &file, &bytes, &context.delivery_id) {
        Ok(()) => Ok(receipt()),
        // Another worker with the same delivery was quicker and took the temporary file away.
        Err(_) if file.is_file() => Ok(receipt()),
        Err(error) => Err(DeliveryError::later(format!(
            "the e-mail {} cannot be written: {error}. Check that the directory can be written to \
             and its disk has room; the delivery is tried again.",
            file.display()
        ))),
    }
}

fn write(directory: &Path, file: &Path, bytes: &[u8], id: &str) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    remove_leftovers(directory, id)?;
    let temporary = temporary(directory, id);
    let written = (|| {
        let mut out = OpenOptions::new().write(true).create_new(true).open(&temporary)?;
        out.write_all(bytes)?;
        out.sync_all()?;
        fs::rename(&temporary, file)
    })();
    if written.is_err() {
        // The first error is the one to report; a leftover is taken away by the next try.
        let _ = fs::remove_file(&temporary);
    }
    written?;
    // The name must survive a crash as well as the bytes.
    File::open(directory)?.sync_all()
}

/// A name nobody else writes to, recognisable as belonging to this delivery.
fn temporary(directory: &Path, id: &str) -> PathBuf {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let n = COUNTER.fetch_add(1, Ordering::Relaxed);
    directory.join(format!("{}{}-{n}.tmp", leftover_prefix(id), std::process::id()))
}

/// `:` cannot be in an id, so no id's prefix begins another's.
fn leftover_prefix(id: &str) -> String {
    format!(".{id}:")
}

/// Takes away what an earlier try of this delivery left behind when it was killed.
fn remove_leftovers(directory: &Path, id: &str) -> io::Result<()> {
    let prefix = leftover_prefix(id);
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_name().as_encoded_bytes().starts_with(prefix.as_bytes()) {
            match fs::remove_file(entry.path()) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
    }
    Ok(())
}
