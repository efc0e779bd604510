//! A disk that loses power.
//!
//! A small file system in memory, mounted by FUSE, that knows what was synced and what was not. At
//! a chosen operation the machine that uses it dies: the process that asked is killed with SIGKILL
//! and nothing is done any more. Then either everything that was written is still there (only the
//! process died), or the power was cut, and all that is certain is what the POSIX rules promise:
//!
//! * The content of a file as it was at its last `fsync`. What was written since may be there in
//!   full, in part, as zeros, or not at all.
//! * A name in a directory as it was at the directory's last `fsync`. Each later link, rename and
//!   removal may have happened or not, in any combination (a rename is one).
//!
//! Real file systems promise more, each in its own way. Which of these things happen is drawn from
//! a seed.
//!
//! Instead of dying, a process can be made to stand still amid its work while others go on.

mod image;
mod mount;

pub use image::{Image, Loss};
pub use mount::{Count, Disk, Doom, Fate, Silence};
