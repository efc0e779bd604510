//! The certificate's files: read, and read again when they are renewed.

use std::fs;
use std::path::Path;

use provault_server::{Tls, TlsError, TlsFiles};

/// A pair of files, with a certificate of its own.
fn write_pair(directory: &Path) -> TlsFiles {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let files =
        TlsFiles { certificate: directory.join("pair.pem"), key: directory.join("pair.key") };
    // By renaming, as programs that renew certificates do.
    for (path, text) in
        [(&files.certificate, made.cert.pem()), (&files.key, made.signing_key.serialize_pem())]
    {
        fs::write(directory.join("new"), text).unwrap();
        fs::rename(directory.join("new"), path).unwrap();
    }
    files
}

#[test]
fn renewed_files_are_taken_and_broken_ones_are_not() {
    let directory = tempfile::tempdir().unwrap();
    let files = write_pair(directory.path());
    let tls = Tls::load(files.clone()).unwrap();
    assert!(!tls.reload().unwrap(), "nothing changed");
    write_pair(directory.path());
    assert!(tls.reload().unwrap());
    assert!(!tls.reload().unwrap());

    let key = fs::read(&files.key).unwrap();
    fs::write(&files.key, "half").unwrap();
    let error = tls.reload().unwrap_err();
    assert!(matches!(&error, TlsError::File { path, .. } if *path == files.key), "{error}");
    assert_eq!(tls.trouble(), Some(error.to_string()), "for the doctor");
    fs::remove_file(&files.key).unwrap();
    assert!(tls.reload().unwrap_err().to_string().contains("does not exist"));
    // The key of another certificate.
    let other = tempfile::tempdir().unwrap();
    let others = write_pair(other.path());
    fs::copy(&others.key, &files.key).unwrap();
    let error = tls.reload().unwrap_err();
    assert!(matches!(error, TlsError::Unusable { .. }), "{error}");
    fs::write(&files.key, &key).unwrap();
    assert!(tls.reload().unwrap(), "it fits again");
    assert_eq!(tls.trouble(), None);
    assert!(tls.not_after().is_some());
}
