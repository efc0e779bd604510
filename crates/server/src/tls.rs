//! TLS of the listener: a certificate from files, and the next one in its place while the server runs.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::SystemTime;

use jiff::Timestamp;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, pem};
use tokio_rustls::rustls::server::{ClientHello, ResolvesServerCert};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::{self, ServerConfig};

/// Where the certificate and its key lie, both PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The server's certificate, then those between it and an authority that clients know.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// The certificate or its key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read or is no PEM.
    #[error("{}: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The two do not make a server certificate.
    #[error("the certificate {} and the key {} cannot be used together: {source}", files.certificate.display(), files.key.display())]
    Unusable {
        /// The files.
        files: TlsFiles,
        /// What the TLS library said.
        source: rustls::Error,
    },
}

/// A certificate in use. Clones are the same one.
#[derive(Clone)]
pub struct Tls {
    files: Arc<RwLock<TlsFiles>>,
    config: Arc<ServerConfig>,
    current: Arc<Current>,
    /// Why what lies in the files now cannot be used in place of what is in use.
    trouble: Arc<RwLock<Option<String>>>,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").field("files", &self.files).finish_non_exhaustive()
    }
}

/// The certificate that the next connection gets.
#[derive(Debug)]
struct Current(RwLock<Loaded>);

#[derive(Debug, Clone)]
struct Loaded {
    key: Arc<CertifiedKey>,
    stamp: Stamp,
    not_after: Option<Timestamp>,
}

/// What tells a file from its successor: inode, length and time of modification, of both files.
type Stamp = [Option<(u64, u64, SystemTime)>; 2];

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.loaded().key))
    }
}

impl Current {
    fn loaded(&self) -> Loaded {
        // It is replaced as a whole: a panic elsewhere leaves nothing half done.
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Tls {
    /// Reads both files and checks that they belong together.
    pub fn load(files: TlsFiles) -> Result<Self, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let loaded = read(&files, &provider)?;
        let current = Arc::new(Current(RwLock::new(loaded)));
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|source| TlsError::Unusable { files: files.clone(), source })?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&current) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let files = Arc::new(RwLock::new(files));
        Ok(Self { files, config: Arc::new(config), current, trouble: Arc::default() })
    }

    /// Takes other files into use, for connections from now on. Files that cannot be used change
    /// nothing.
    pub fn replace(&self, files: TlsFiles) -> Result<(), TlsError> {
        let loaded = read(&files, self.config.crypto_provider())?;
        // The files first: a look for renewed ones in between finds these.
        *self.files.write().unwrap_or_else(PoisonError::into_inner) = files;
        *self.current.0.write().unwrap_or_else(PoisonError::into_inner) = loaded;
        Ok(())
    }

    fn files(&self) -> TlsFiles {
        self.files.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes the files' newer content into use, if they have one. Files that cannot be used change
    /// nothing: the certificate before stays. `true` when a new one is in use.
    pub fn reload(&self) -> Result<bool, TlsError> {
        let files = self.files();
        if stamp(&files) == self.current.loaded().stamp {
            self.note(None);
            return Ok(false);
        }
        let loaded = match read(&files, self.config.crypto_provider()) {
            Ok(loaded) => loaded,
            Err(error) => {
                self.note(Some(error.to_string()));
                return Err(error);
            }
        };
        self.note(None);
        *self.current.0.write().unwrap_or_else(PoisonError::into_inner) = loaded;
        Ok(true)
    }

    fn note(&self, trouble: Option<String>) {
        *self.trouble.write().unwrap_or_else(PoisonError::into_inner) = trouble;
    }

    /// Why the newer content of the files is not in use, where it is not.
    pub fn trouble(&self) -> Option<String> {
        self.trouble.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// When the certificate in use ends.
    pub fn not_after(&self) -> Option<Timestamp> {
        self.current.loaded().not_after
    }

    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.config))
    }
}

fn stamp(files: &TlsFiles) -> Stamp {
    use std::os::unix::fs::MetadataExt as _;
    [&files.certificate, &files.key].map(|path| {
        let found = fs::metadata(path).ok()?;
        Some((found.ino(), found.len(), found.modified().ok()?))
    })
}

fn read(files: &TlsFiles, provider: &CryptoProvider) -> Result<Loaded, TlsError> {
    // Looked at before they are read: a change while they are read is seen the next time.
    let stamp = stamp(files);
    let chain = CertificateDer::pem_file_iter(&files.certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| unreadable(&files.certificate, "a certificate", &error))?;
    if chain.is_empty() {
        let reason = "it holds no certificate (BEGIN CERTIFICATE).".to_owned();
        return Err(TlsError::File { path: files.certificate.clone(), reason });
    }
    let not_after = chain.first().and_then(|first| crate::not_after::of_der(first));
    let key = PrivateKeyDer::from_pem_file(&files.key)
        .map_err(|error| unreadable(&files.key, "a private key", &error))?;
    let key = CertifiedKey::from_der(chain, key, provider)
        .map_err(|source| TlsError::Unusable { files: files.clone(), source })?;
    Ok(Loaded { key: Arc::new(key), stamp, not_after })
}

/// Never repeats what a file holds: it may be a key.
fn unreadable(path: &Path, wanted: &str, error: &pem::Error) -> TlsError {
    let reason = match error {
        pem::Error::Io(error) if error.kind() == io::ErrorKind::NotFound => {
            "it does not exist.".to_owned()
        }
        pem::Error::Io(error) => error.to_string(),
        pem::Error::NoItemsFound => format!("it holds no {}.", wanted.trim_start_matches("a ")),
        _ => format!("it cannot be read as {wanted} in PEM."),
    };
    TlsError::File { path: path.to_owned(), reason }
}
