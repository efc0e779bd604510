//! A certificate for a server that was given none: made by an authority of its own, which clients are
//! told to believe.
//!
//! | file in `DIR/tls` | what it is |
//! |---|---|
//! | `authority.pem` | the authority's certificate, for clients (`AWS_CA_BUNDLE`, `--ca-bundle`) |
//! | `authority.key` | its private key: whoever has it can pretend to be the server |
//! | `server.pem`, `server.key` | what the server shows, renewed by itself |

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use provault_server::TlsFiles;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, date_time_ymd,
};

/// Clients refuse server certificates that are good for more than 398 days.
const GOOD_FOR: Duration = Duration::from_hours(397 * 24);
/// One that is good for less is renewed; what is left is for clocks that are wrong and servers that are
/// off.
const RENEWED_BEFORE: Duration = Duration::from_hours(217 * 24);
/// A clock that is behind the server's must not refuse a new certificate.
const BEFORE: Duration = Duration::from_hours(24);

/// Where the authority's certificate lies.
pub(crate) fn authority(data_dir: &Path) -> PathBuf {
    data_dir.join("tls/authority.pem")
}

/// Makes what is not there yet, and renews the server's certificate when it is old or `names` are others
/// than before. `names` are host names and addresses.
pub(crate) fn generated(
    data_dir: &Path,
    names: &[String],
    now: SystemTime,
) -> Result<TlsFiles, String> {
    let directory = data_dir.join("tls");
    let made = DirBuilder::new().mode(0o700).create(&directory);
    if let Err(error) = made
        && error.kind() != io::ErrorKind::AlreadyExists
    {
        return Err(format!("cannot make {}: {error}", directory.display()));
    }
    let files =
        TlsFiles { certificate: directory.join("server.pem"), key: directory.join("server.key") };
    let known = directory.join("server.names");
    let wanted = names.join("\n");
    // What the certificate says, not its file: that may have been copied, or restored from a backup.
    let fresh = provault_server::not_after(&files.certificate).is_some_and(|end| {
        let end = SystemTime::from(end);
        let left = end.duration_since(now).unwrap_or_default();
        // One that is good for longer was made by a clock that was ahead, and is not good yet.
        (RENEWED_BEFORE..=GOOD_FOR + BEFORE).contains(&left)
    });
    let same = fs::read_to_string(&known).is_ok_and(|before| before == wanted);
    if fresh && same && files.key.exists() && authority(data_dir).exists() {
        return Ok(files);
    }
    let issuer = issuer(&directory)?;
    let failed = |error: rcgen::Error| format!("the server's certificate cannot be made: {error}");
    let mut params = CertificateParams::new(names.to_vec()).map_err(failed)?;
    params.distinguished_name = name("Provault server");
    params.not_before = (now - BEFORE).into();
    params.not_after = (now + GOOD_FOR).into();
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let key = KeyPair::generate().map_err(failed)?;
    let certificate = params.signed_by(&key, &issuer).map_err(failed)?;
    // A crash in between leaves a pair that does not fit, and no list of names: the next start
    // makes it again.
    let _ = fs::remove_file(&known);
    store(&files.key, &key.serialize_pem())?;
    store(&files.certificate, &certificate.pem())?;
    store(&known, &wanted)?;
    Ok(files)
}

/// The authority of this server, made once.
fn issuer(directory: &Path) -> Result<Issuer<'static, KeyPair>, String> {
    let (certificate, key) = (directory.join("authority.pem"), directory.join("authority.key"));
    let failed = |error: rcgen::Error| format!("the server's authority cannot be made: {error}");
    if certificate.exists() && key.exists() {
        let unreadable = |error: io::Error| format!("{} cannot be read: {error}", key.display());
        let pem = fs::read_to_string(&key).map_err(unreadable)?;
        let pair = KeyPair::from_pem(&pem).map_err(|_| {
            format!(
                "{} is no private key. Remove {} to make a new authority, which every client has \
                 to be told of.",
                key.display(),
                directory.display()
            )
        })?;
        return Ok(Issuer::new(authority_params(), pair));
    }
    let pair = KeyPair::generate().map_err(failed)?;
    let made = authority_params().self_signed(&pair).map_err(failed)?;
    // The certificate last: it says that there is an authority.
    store(&key, &pair.serialize_pem())?;
    store(&certificate, &made.pem())?;
    Ok(Issuer::new(authority_params(), pair))
}

/// The same every time, so that what it signs fits the certificate that clients have.
fn authority_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = name("Provault authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2120, 1, 1);
    params
}

fn name(common: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common);
    name
}

/// Writes a file for its owner alone, whole or not at all.
fn store(path: &Path, text: &str) -> Result<(), String> {
    let new = path.with_extension("new");
    let written = (|| {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let mut file = options.open(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        match path.parent() {
            Some(directory) => File::open(directory)?.sync_all(),
            None => Ok(()),
        }
    })();
    written.map_err(|error: io::Error| format!("cannot write {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A copy of the data directory has new times of modification, and the same certificate.
    #[test]
    fn a_certificate_is_as_old_as_it_says_and_not_as_its_file() {
        let directory = tempfile::tempdir().unwrap();
        let names = ["localhost".to_owned()];
        let days = |days: u64| SystemTime::now() + Duration::from_hours(24 * days);
        let made = |now: SystemTime| {
            let files = generated(directory.path(), &names, now).unwrap();
            fs::read_to_string(files.certificate).unwrap()
        };
        let first = made(days(0));
        let path = directory.path().join("tls/server.pem");
        let touch = |at: SystemTime| {
            File::options().append(true).open(&path).unwrap().set_modified(at).unwrap();
        };
        touch(SystemTime::UNIX_EPOCH);
        assert_eq!(made(days(0)), first, "an old file with a new certificate");
        assert_eq!(made(days(179)), first);
        touch(days(181));
        let second = made(days(181));
        assert_ne!(second, first, "a new file with an old certificate");
        assert_eq!(made(days(181)), second);
        assert_ne!(made(days(0)), second, "it was made by a clock that was ahead");
    }
}
