//! The keys of a repository: which passwords open it.

use bytes::Bytes;

use crate::crypto::AeadKey;
use crate::error::{Error, Result};
use crate::id::Id;
use crate::key::{self, KeyFile, Password, Stretch};
use crate::limits;
use crate::repository::{FileKind, Repository, list};
use crate::storage::Storage;

/// A key file, as far as it can be told without its password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyInfo {
    /// Its id.
    pub id: Id,
    /// When it was made, as its maker wrote it.
    pub created: String,
    /// Who made it.
    pub username: String,
    /// Where.
    pub hostname: String,
}

impl Repository {
    /// All key files, in the order of their ids.
    pub fn keys(&self) -> Result<Vec<KeyInfo>> {
        let mut keys = Vec::new();
        for (id, _) in self.inner.list(FileKind::Key)? {
            let Some(content) = self.key_file(&id)? else { continue };
            let file: KeyFile = serde_json::from_slice(&content)
                .map_err(|error| Error::damaged(FileKind::Key.name(&id), error))?;
            let KeyFile { created, username, hostname, .. } = file;
            keys.push(KeyInfo { id, created, username, hostname });
        }
        keys.sort_by_key(|key| key.id);
        Ok(keys)
    }

    /// Lets `password` open this repository too.
    pub fn add_key(&self, password: &Password) -> Result<Id> {
        let options = &self.inner.options;
        let began_here = self.inner.config.provault_chunker.is_some();
        let stretch = if began_here { Stretch::UnlessRandom } else { Stretch::Always };
        let (host, user) = (&options.hostname, &options.username);
        let file = key::write(&self.inner.key, password, stretch, host, user)?;
        let id = Id::hash(&file);
        self.inner.storage.put(&FileKind::Key.name(&id), Bytes::from(file))?;
        Ok(id)
    }

    /// The key that `password` opens.
    pub fn key_of(&self, password: &Password) -> Result<Id> {
        let mut keys = 0;
        for (id, _) in self.inner.list(FileKind::Key)? {
            let Some(content) = self.key_file(&id)? else { continue };
            let name = FileKind::Key.name(&id);
            if KeyFile::parse(&name, &content)?.open(&name, password)?.is_some() {
                return Ok(id);
            }
            keys += 1;
        }
        Err(Error::WrongPassword { keys })
    }

    /// Removes a key, so that its password opens the repository no more. Refuses the one that
    /// `current` opens: a repository without a key is lost.
    ///
    /// Whoever has had the password may have kept the master key; what is stored is not sealed anew.
    pub fn remove_key(&self, id: &Id, current: &Password) -> Result<()> {
        let own = self.key_of(current)?;
        if own == *id {
            return Err(Error::KeyInUse(*id));
        }
        self.delete_key(id, &own)
    }

    /// Deletes a key file, and puts it back if the one that was to stay is not there then. Two at a
    /// time, each of whom removes the key of the other, would leave none: of a delete and a look
    /// each, in this order, at least one look finds it.
    fn delete_key(&self, id: &Id, stays: &Id) -> Result<()> {
        let (name, storage) = (FileKind::Key.name(id), self.inner.storage.as_ref());
        // As it is: a damaged one may go as well.
        let content = match limits::get(storage, &name, limits::file(FileKind::Key)) {
            Err(error) if error.is_lost() => None,
            other => Some(other?),
        };
        storage.delete(&name)?;
        let there = self.key_file(stays);
        if matches!(there, Ok(Some(_))) {
            return Ok(());
        }
        if let Some(content) = content {
            storage.put(&name, content)?;
        }
        there?;
        Err(Error::KeyGone { gone: *stays, kept: *id })
    }

    /// Makes `new` open the repository in place of `current`: the new key is there, and was seen to
    /// open the repository, before the old one goes.
    pub fn change_password(&self, current: &Password, new: &Password) -> Result<Id> {
        let old = self.key_of(current)?;
        let id = self.add_key(new)?;
        let name = FileKind::Key.name(&id);
        let there = self.key_file(&id)?;
        let open = |content: Bytes| KeyFile::parse(&name, &content)?.open(&name, new);
        let opens = there.map(open).transpose()?.flatten();
        if opens.is_none() {
            return Err(Error::damaged(name, "it does not open with the password it was made for"));
        }
        self.delete_key(&old, &id)?;
        Ok(id)
    }

    /// A key file's content, whole, or nothing if it is gone.
    fn key_file(&self, id: &Id) -> Result<Option<Bytes>> {
        let name = FileKind::Key.name(id);
        let storage = self.inner.storage.as_ref();
        let content = match limits::get(storage, &name, limits::file(FileKind::Key)) {
            Err(Error::Storage(error)) if error.is_not_found() => return Ok(None),
            other => other?,
        };
        if Id::hash(&content) != *id {
            return Err(Error::damaged(name, "its content does not match its name"));
        }
        Ok(Some(content))
    }
}

/// The master key, in whichever key file the password opens.
pub(crate) fn find(storage: &dyn Storage, password: &Password) -> Result<AeadKey> {
    let (mut intact, mut damaged, mut work) = (0, None, 0);
    for (id, _) in list(storage, FileKind::Key)? {
        let name = FileKind::Key.name(&id);
        let tried = limits::get(storage, &name, limits::file(FileKind::Key)).and_then(|content| {
            if Id::hash(&content) != id {
                return Err(Error::damaged(&name, "its content does not match its name"));
            }
            let file = KeyFile::parse(&name, &content)?;
            work += file.work();
            if work > limits::ALL_KEYS_WORK {
                let reason = "the key files before it were too costly to try";
                return Err(Error::damaged(&name, reason));
            }
            file.open(&name, password)
        });
        match tried {
            Ok(Some(master)) => return Ok(master),
            Ok(None) => intact += 1,
            Err(error) if error.is_damage() => damaged = Some(error),
            Err(error) => return Err(error),
        }
    }
    // A wrong password and a damaged key need different help, so the damage is named.
    Err(damaged.unwrap_or(Error::WrongPassword { keys: intact }))
}
