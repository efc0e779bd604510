//! The names of owners and groups, asked for once.

use std::collections::HashMap;

use nix::unistd::{Gid, Group, Uid, User};

use crate::at::Stat;

/// Names by numbers; `None` for a number without a name.
#[derive(Debug, Default)]
pub(crate) struct Owners {
    users: HashMap<u32, Option<String>>,
    groups: HashMap<u32, Option<String>>,
}

impl Owners {
    /// The names of a file's owner and group, as far as this host has them.
    pub fn of(&mut self, stat: &Stat) -> (Option<&str>, Option<&str>) {
        let user = self.users.entry(stat.uid).or_insert_with(|| {
            User::from_uid(Uid::from_raw(stat.uid)).ok().flatten().map(|user| user.name)
        });
        let group = self.groups.entry(stat.gid).or_insert_with(|| {
            Group::from_gid(Gid::from_raw(stat.gid)).ok().flatten().map(|group| group.name)
        });
        (user.as_deref(), group.as_deref())
    }
}
