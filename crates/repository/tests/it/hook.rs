//! A storage that calls the test at a given step.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use provault_repository::{Storage, StorageError, StoredObject};

type Callback = Box<dyn FnOnce() + Send>;

/// Calls are of the form `put index/…`; `stored data/…` comes after a put, the others before.
#[derive(Default)]
pub struct Hook {
    waiting: Mutex<Option<(String, Callback)>>,
    hidden: Mutex<Option<String>>,
    refused: Mutex<Option<String>>,
}

impl std::fmt::Debug for Hook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hook")
    }
}

impl Hook {
    /// At the next operation that begins like this, once.
    pub fn at(&self, step: &str, callback: impl FnOnce() + Send + 'static) {
        *self.waiting.lock().unwrap() = Some((step.to_owned(), Box::new(callback)));
    }

    /// From now on no listing has this file, although it is there.
    pub fn hide(&self, name: &str) {
        *self.hidden.lock().unwrap() = Some(name.to_owned());
    }

    /// The next deletion that begins like this fails, once.
    pub fn refuse(&self, step: &str) {
        *self.refused.lock().unwrap() = Some(step.to_owned());
    }

    fn before(&self, operation: &str, name: &str) {
        let mut waiting = self.waiting.lock().unwrap();
        let call = format!("{operation} {name}");
        let due = waiting.take_if(|(step, _)| call.starts_with(step.as_str()));
        drop(waiting);
        if let Some((_, callback)) = due {
            callback();
        }
    }
}

#[derive(Debug)]
struct Hooked {
    inner: Arc<dyn Storage>,
    hook: Arc<Hook>,
}

/// A storage over `inner` with a hook.
pub fn hooked(inner: Arc<dyn Storage>) -> (Arc<dyn Storage>, Arc<Hook>) {
    let hook = Arc::new(Hook::default());
    (Arc::new(Hooked { inner, hook: Arc::clone(&hook) }), hook)
}

impl Storage for Hooked {
    fn get(&self, name: &str) -> Result<Bytes, StorageError> {
        self.inner.get(name)
    }
    fn get_range(&self, name: &str, offset: u64, length: u64) -> Result<Bytes, StorageError> {
        self.inner.get_range(name, offset, length)
    }
    fn put(&self, name: &str, content: Bytes) -> Result<(), StorageError> {
        self.hook.before("put", name);
        self.inner.put(name, content)?;
        self.hook.before("stored", name);
        Ok(())
    }
    fn list(&self, prefix: &str) -> Result<Vec<StoredObject>, StorageError> {
        self.hook.before("list", prefix);
        let mut listed = self.inner.list(prefix)?;
        let hidden = self.hook.hidden.lock().unwrap();
        listed.retain(|object| hidden.as_ref() != Some(&object.name));
        Ok(listed)
    }
    fn size(&self, name: &str) -> Result<u64, StorageError> {
        self.inner.size(name)
    }
    fn delete(&self, name: &str) -> Result<(), StorageError> {
        self.hook.before("delete", name);
        let call = format!("delete {name}");
        let refused =
            self.hook.refused.lock().unwrap().take_if(|step| call.starts_with(step.as_str()));
        if refused.is_some() {
            return Err(StorageError::other("delete", name, "refused by a test"));
        }
        self.inner.delete(name)
    }
}
