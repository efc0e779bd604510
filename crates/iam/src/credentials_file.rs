//! The AWS credentials file, which all AWS clients share.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rand::TryRng as _;
use rand::rngs::SysRng;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::{Credentials, Ini, IniError, Secret};

/// A credentials file that was read. Which path and which profile, the caller decides
/// (`AWS_SHARED_CREDENTIALS_FILE` or `~/.aws/credentials`; `AWS_PROFILE` or `default`).
#[derive(Debug)]
pub struct CredentialsFile {
    path: PathBuf,
    ini: Ini,
}

/// Why credentials could not be read or written.
#[derive(Debug, Error)]
pub enum CredentialsError {
    /// The file could not be read or written. A missing file is
    /// [`io::ErrorKind::NotFound`].
    #[error("cannot {doing} the credentials file {}: {source}", .path.display())]
    Io {
        /// `read` or `write`.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is no INI file.
    #[error("the credentials file {} cannot be read: {source}", .path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where.
        source: IniError,
    },
    /// No such profile.
    #[error(
        "the credentials file {} has no profile [{profile}]; it has: {known}; set AWS_PROFILE to one \
         of these, or add the profile", .path.display()
    )]
    NoProfile {
        /// The file.
        path: PathBuf,
        /// What was asked for.
        profile: String,
        /// The profiles there are, separated by commas.
        known: String,
    },
    /// The profile lacks one of the two values.
    #[error("profile [{profile}] in {} has no {key}; add it", .path.display())]
    Partial {
        /// The file.
        path: PathBuf,
        /// The profile.
        profile: String,
        /// The key that is missing or empty.
        key: &'static str,
    },
    /// A profile name or value that would not come back the same.
    #[error(
        "the {0} cannot be written to a credentials file: it is empty, has blanks at an end, or \
             holds brackets or line breaks"
    )]
    Unwritable(&'static str),
}

const ACCESS_KEY_ID: &str = "aws_access_key_id";
const SECRET_ACCESS_KEY: &str = "aws_secret_access_key";
const SESSION_TOKEN: &str = "aws_session_token";

impl CredentialsFile {
    /// Reads a credentials file.
    pub fn load(path: impl Into<PathBuf>) -> Result<Self, CredentialsError> {
        let path = path.into();
        let text = match fs::read_to_string(&path) {
            Ok(text) => Zeroizing::new(text),
            Err(source) => return Err(CredentialsError::Io { doing: "read", path, source }),
        };
        match Ini::parse(&text) {
            Ok(ini) => Ok(Self { path, ini }),
            Err(source) => Err(CredentialsError::Syntax { path, source }),
        }
    }

    /// The credentials of one profile. A token may stand under `aws_session_token` or the older
    /// `aws_security_token`; as in botocore the older name wins.
    pub fn profile(&self, name: &str) -> Result<Credentials, CredentialsError> {
        let keys = self.ini.section(name).ok_or_else(|| {
            let known: Vec<&str> = self.ini.names().collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            CredentialsError::NoProfile { path: self.path.clone(), profile: name.to_owned(), known }
        })?;
        let needed = |key: &'static str| {
            keys.get(key).filter(|value| !value.is_empty()).ok_or_else(|| {
                CredentialsError::Partial { path: self.path.clone(), profile: name.to_owned(), key }
            })
        };
        let token = keys.get("aws_security_token").or_else(|| keys.get(SESSION_TOKEN));
        Ok(Credentials {
            access_key_id: needed(ACCESS_KEY_ID)?.clone(),
            secret_access_key: Secret::new(needed(SECRET_ACCESS_KEY)?.as_str()),
            session_token: token.filter(|token| !token.is_empty()).map(|t| Secret::new(t.as_str())),
        })
    }

    /// Writes a credentials file of one profile, replacing the whole file at `path`.
    ///
    /// The file comes into being complete: it is made beside `path` under another name with mode
    /// 0600, synced, and renamed. At no moment can others read it, and after a crash there is either
    /// the old file or the new one. The directory must exist.
    pub fn write(
        path: &Path,
        profile: &str,
        credentials: &Credentials,
    ) -> Result<(), CredentialsError> {
        let mut text = Zeroizing::new(String::new());
        if profile == "DEFAULT" {
            return Err(CredentialsError::Unwritable("profile name"));
        }
        text.push('[');
        text.push_str(clean(profile, "profile name")?);
        text.push_str("]\n");
        let secret = credentials.secret_access_key.expose_secret();
        let token = credentials.session_token.as_ref().map(Secret::expose_secret);
        for (key, value, what) in [
            (ACCESS_KEY_ID, Some(credentials.access_key_id.as_str()), "access key id"),
            (SECRET_ACCESS_KEY, Some(secret), "secret access key"),
            (SESSION_TOKEN, token, "session token"),
        ] {
            let Some(value) = value else { continue };
            text.push_str(key);
            text.push_str(" = ");
            text.push_str(clean(value, what)?);
            text.push('\n');
        }
        replace_privately(path, text.as_bytes()).map_err(|source| CredentialsError::Io {
            doing: "write",
            path: path.to_owned(),
            source,
        })
    }
}

fn clean<'v>(value: &'v str, what: &'static str) -> Result<&'v str, CredentialsError> {
    let breaks = |c: char| c.is_control() || c == '[' || c == ']';
    if value.is_empty() || value.trim() != value || value.contains(breaks) {
        return Err(CredentialsError::Unwritable(what));
    }
    Ok(value)
}

fn replace_privately(path: &Path, content: &[u8]) -> io::Result<()> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let mut random = [0_u8; 8];
    SysRng.try_fill_bytes(&mut random).map_err(io::Error::other)?;
    let mut temporary = std::ffi::OsString::from(".");
    temporary.push(name);
    temporary.push(format!(".{}", hex::encode(random)));
    let temporary = parent.join(temporary);

    let written = (|| {
        // create_new: never through a link that someone else laid out.
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        // A umask can only have taken bits away, perhaps the owner's own.
        file.set_permissions(Permissions::from_mode(0o600))?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        File::open(parent)?.sync_all()
    })();
    if written.is_err() {
        // Best effort: after a rename it is gone already, and the first error is the one to tell.
        let _ = fs::remove_file(&temporary);
    }
    written
}
