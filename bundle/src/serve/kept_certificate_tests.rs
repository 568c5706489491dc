#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

use super::*;
use crate::serve::certificate::fingerprint;

const HOME: &str = "192.168.1.5";
const WORK: &str = "10.1.2.3";

fn names(list: &[&str]) -> Vec<HostName> {
    list.iter().map(|name| name.parse().unwrap()).collect()
}

fn today() -> SystemTime {
    SystemTime::UNIX_EPOCH + DAY * 20_000
}

/// The fingerprint, and what became of the certificate.
fn open(folder: &Path, list: &[&str], now: SystemTime) -> (String, Origin) {
    let (identity, origin) = open_or_make(folder, &names(list), now).unwrap();
    (fingerprint(&identity.chain[0]), origin)
}

fn error(folder: &Path) -> String {
    let error = open_or_make(folder, &names(&[HOME]), today()).err().unwrap();
    format!("{error:#}")
}

/// A folder with a certificate.
fn filled() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    open(folder.path(), &[HOME], today());
    folder
}

#[test]
fn a_certificate_is_made_once_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    let inner = folder.path().join("state/serve");
    let (first, origin) = open(&inner, &[HOME, "localhost"], today());
    assert_eq!(origin, Origin::Made);
    assert_eq!(open(&inner, &[HOME], today() + DAY * 300), (first, Origin::Kept));
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&inner.join(FILE)), 0o600);
        assert_eq!(mode(&inner), 0o700);
    }
}

#[test]
fn it_is_valid_for_a_year_from_yesterday() {
    let folder = tempfile::tempdir().unwrap();
    let (identity, _) = open_or_make(folder.path(), &names(&[HOME]), today()).unwrap();
    let certificate = &identity.chain[0];
    for (days, expected) in [(0, true), (364, true), (366, false), (10_000, false)] {
        assert_eq!(is_valid(certificate, today() + DAY * days), expected, "in {days} days");
    }
    assert!(is_valid(certificate, today() - DAY / 2), "a clock that is behind");
    assert!(!is_valid(certificate, today() - DAY * 2));
}

#[test]
fn it_is_renewed_before_its_end_and_when_the_clock_says_it_is_not_valid() {
    for (now, why) in [
        (today() + DAY * 336, "30 days"),
        (today() + DAY * 366, "today"),
        (today() - DAY * 2, "today"),
    ] {
        let folder = filled();
        let (first, _) = open(folder.path(), &[HOME], today());
        let (second, origin) = open(folder.path(), &[HOME], now);
        assert!(matches!(origin, Origin::Renewed(text) if text.contains(why)), "{origin:?}");
        assert_ne!(first, second);
        assert_eq!(open(folder.path(), &[HOME], now), (second, Origin::Kept));
    }
}

#[test]
fn a_new_address_gets_a_certificate_that_has_the_old_one_too() {
    let folder = filled();
    let (first, _) = open(folder.path(), &[HOME], today());
    let (second, origin) = open(folder.path(), &[WORK, "model.local"], today());
    assert!(matches!(origin, Origin::Renewed(why) if why.contains("names")), "{origin:?}");
    assert_ne!(first, second);
    for list in [[HOME, "model.local"], [WORK, "MODEL.local."]] {
        assert_eq!(open(folder.path(), &list, today()), (second.clone(), Origin::Kept));
    }
}

#[test]
fn the_names_of_earlier_certificates_do_not_grow_without_end() {
    let folder = filled();
    for number in 0..2 * MOST_NAMES {
        open(folder.path(), &[&format!("10.0.0.{number}")], today());
    }
    let kept = read(&folder.path().join(FILE)).unwrap().unwrap();
    assert_eq!(kept.names.len(), MOST_NAMES);
}

#[test]
fn servers_that_start_at_once_have_the_same_one() {
    let folder = tempfile::tempdir().unwrap();
    let found: Vec<(String, Origin)> = std::thread::scope(|scope| {
        let start = || scope.spawn(|| open(folder.path(), &[HOME], today()));
        let threads: Vec<_> = std::iter::repeat_with(start).take(8).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(found.iter().all(|(fingerprint, _)| *fingerprint == found[0].0));
    assert_eq!(found.iter().filter(|(_, origin)| *origin == Origin::Made).count(), 1);
}

#[test]
fn a_damaged_file_is_an_error_and_stays() {
    let folder = filled();
    let path = folder.path().join(FILE);
    let good = std::fs::read_to_string(&path).unwrap();
    let other = std::fs::read_to_string(filled().path().join(FILE)).unwrap();
    let cut = good.find("-----BEGIN CERTIFICATE").unwrap();
    let other_cut = other.find("-----BEGIN CERTIFICATE").unwrap();
    let another_key = format!("{}{}", &other[..other_cut], &good[cut..]);
    for damaged in ["", &good[..good.len() / 2], &good[cut..], &another_key, "x"] {
        std::fs::write(&path, damaged).unwrap();
        let error = error(folder.path());
        assert!(error.contains("is damaged") && error.contains("server.pem"), "{error}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), damaged);
    }
}

#[cfg(unix)]
#[test]
fn what_others_can_read_or_replace_is_not_used() {
    use std::os::unix::fs::{PermissionsExt, symlink};

    let set = |path: &Path, mode: u32| {
        std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    };
    let folder = filled();
    let path = folder.path().join(FILE);
    for mode in [0o640, 0o604, 0o660] {
        set(&path, mode);
        let error = error(folder.path());
        assert!(
            error.contains(&format!("mode {mode:o}")) && error.contains("chmod 600"),
            "{error}"
        );
    }
    set(&path, 0o600);
    for mode in [0o770, 0o702] {
        set(folder.path(), mode);
        assert!(error(folder.path()).contains(&format!("mode {mode:o}")));
    }
    set(folder.path(), 0o700);
    let away = folder.path().join("away.pem");
    std::fs::rename(&path, &away).unwrap();
    symlink(&away, &path).unwrap();
    assert!(error(folder.path()).contains("cannot open"));
}

/// Only root can give a file to somebody else.
#[cfg(unix)]
#[test]
fn a_foreign_file_is_not_used() {
    let folder = filled();
    let path = folder.path().join(FILE);
    if std::os::unix::fs::chown(&path, Some(12_345), None).is_err() {
        eprintln!("skipped: a_foreign_file_is_not_used needs root");
        return;
    }
    let error = error(folder.path());
    assert!(error.contains("belongs to user 12345"), "{error}");
}
