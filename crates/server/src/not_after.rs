//! Until when a certificate is good: the one field of it that nobody else here reads.

use std::path::Path;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;

const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// When the first certificate of a PEM file ends; `None` where there is none that can be read.
pub fn not_after(path: &Path) -> Option<Timestamp> {
    of_der(CertificateDer::from_pem_file(path).ok()?.as_ref())
}

/// The same of a certificate in DER: `Certificate.tbsCertificate.validity.notAfter` of RFC 5280.
pub(crate) fn of_der(der: &[u8]) -> Option<Timestamp> {
    let (_, certificate, _) = element(der).filter(|(tag, ..)| *tag == SEQUENCE)?;
    let (_, mut rest, _) = element(certificate).filter(|(tag, ..)| *tag == SEQUENCE)?;
    // Version (where it is not 1), serial number, signature, issuer.
    let skipped = if element(rest)?.0 == VERSION { 4 } else { 3 };
    for _ in 0..skipped {
        rest = element(rest)?.2;
    }
    let (_, validity, _) = element(rest).filter(|(tag, ..)| *tag == SEQUENCE)?;
    let (_, _, after) = element(validity)?;
    let (tag, text, _) = element(after)?;
    moment(tag, std::str::from_utf8(text).ok()?)
}

/// Tag, content and what follows of the DER element that `bytes` begin with.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (&first, mut rest) = rest.split_first()?;
    let mut length = usize::from(first);
    if first & 0x80 != 0 {
        let count = usize::from(first & 0x7f);
        if !(1..=4).contains(&count) {
            return None;
        }
        let (digits, others) = rest.split_at_checked(count)?;
        length = digits.iter().fold(0, |length, &digit| (length << 8) | usize::from(digit));
        rest = others;
    }
    let (content, others) = rest.split_at_checked(length)?;
    Some((tag, content, others))
}

/// `YYMMDDHHMMSSZ` or `YYYYMMDDHHMMSSZ`.
fn moment(tag: u8, text: &str) -> Option<Timestamp> {
    let (year, rest) = match tag {
        UTC_TIME => {
            let (year, rest) = text.split_at_checked(2)?;
            let year: i16 = year.parse().ok()?;
            // RFC 5280, 4.1.2.5.1.
            (if year < 50 { 2000 + year } else { 1900 + year }, rest)
        }
        GENERALIZED_TIME => {
            let (year, rest) = text.split_at_checked(4)?;
            (year.parse().ok()?, rest)
        }
        _ => return None,
    };
    let digits = rest.strip_suffix('Z').filter(|digits| digits.len() == 10)?;
    let part = |from: usize| digits.get(from..from + 2)?.parse::<i8>().ok();
    let civil = DateTime::new(year, part(0)?, part(2)?, part(4)?, part(6)?, part(8)?, 0).ok()?;
    Some(civil.to_zoned(TimeZone::UTC).ok()?.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_a_time_are_read_and_nothing_else() {
        let at = |tag, text: &str| moment(tag, text).map(|at| at.to_string());
        assert_eq!(at(UTC_TIME, "271231235959Z").as_deref(), Some("2027-12-31T23:59:59Z"));
        assert_eq!(at(UTC_TIME, "500101000000Z").as_deref(), Some("1950-01-01T00:00:00Z"));
        assert_eq!(
            at(GENERALIZED_TIME, "21200101000000Z").as_deref(),
            Some("2120-01-01T00:00:00Z")
        );
        for (tag, text) in [
            (UTC_TIME, ""),
            (UTC_TIME, "271231235959"),
            (UTC_TIME, "271331235959Z"),
            (UTC_TIME, "2712312359Z"),
            (GENERALIZED_TIME, "2é200101000000Z"),
            (0x04, "271231235959Z"),
        ] {
            assert_eq!(at(tag, text), None, "{text}");
        }
    }

    #[test]
    fn what_is_cut_short_anywhere_is_no_certificate() {
        let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(2031, 2, 3);
        let key = rcgen::KeyPair::generate().unwrap();
        let made = params.self_signed(&key).unwrap();
        let der = made.der().to_vec();
        assert_eq!(of_der(&der).unwrap().to_string(), "2031-02-03T00:00:00Z");
        for end in 0..der.len() {
            assert_eq!(of_der(&der[..end]), None, "{end}");
        }
    }
}
