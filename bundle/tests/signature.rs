//! Who vouches for a bundle, and what a change does to that.
#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

mod common;

use bundle::{keygen, require_signed_by, sign, signer, verify};
use common::Fixture;
use fragment::ProblemKind;

fn signed() -> (Fixture, String) {
    let fixture = Fixture::packed();
    let key = fixture.path("release.pem");
    let made = keygen(&key, false).unwrap();
    let report = sign(&fixture.output(), &key, false).unwrap();
    assert_eq!(report.public_key, made.public_key);
    (fixture, made.public_key)
}

#[test]
fn a_signed_bundle_says_by_whom() {
    let (fixture, public_key) = signed();
    assert_eq!(signer(&fixture.output()).unwrap(), Some(public_key.clone()));
    require_signed_by(&fixture.output(), &fixture.path("release.pem.pub")).unwrap();
    let report = verify(&fixture.output()).unwrap();
    report.require_sound().unwrap();
    assert_eq!(report.signed_by, Some(public_key));
}

#[test]
fn an_unsigned_bundle_is_sound_but_signed_by_nobody() {
    let fixture = Fixture::packed();
    keygen(&fixture.path("release.pem"), false).unwrap();
    assert_eq!(verify(&fixture.output()).unwrap().signed_by, None);
    let error = require_signed_by(&fixture.output(), &fixture.path("release.pem.pub"));
    assert!(error.unwrap_err().to_string().contains("has no bundle.sig"));
}

#[test]
fn another_key_is_noticed() {
    let (fixture, public_key) = signed();
    keygen(&fixture.path("other.pem"), false).unwrap();
    let error = require_signed_by(&fixture.output(), &fixture.path("other.pem.pub"));
    assert!(error.unwrap_err().to_string().starts_with(&format!("signed with {public_key}")));
}

#[test]
fn a_changed_byte_of_the_list_or_of_the_signature_is_noticed() {
    for name in ["bundle.json", "bundle.sig"] {
        let (fixture, _) = signed();
        let path = fixture.output().join(name);
        let text = std::fs::read_to_string(&path).unwrap();
        // Still well-formed: the model's name, or the last digit of the signature.
        let changed = match name {
            "bundle.json" => text.replace("\"tiny\"", "\"tinY\""),
            _ => {
                let digit = text.rfind(|c: char| c.is_ascii_hexdigit()).unwrap();
                let other = if text.as_bytes()[digit] == b'0' { "1" } else { "0" };
                format!("{}{other}{}", &text[..digit], &text[digit + 1..])
            }
        };
        assert_ne!(text, changed);
        std::fs::write(&path, changed).unwrap();
        let report = verify(&fixture.output()).unwrap();
        assert_eq!(report.problems.len(), 1, "{report}");
        assert_eq!(report.problems[0].file, "bundle.sig");
        assert_eq!(report.problems[0].kind, ProblemKind::Damaged);
    }
}

#[test]
fn malformed_signatures_are_refused_with_what_was_expected() {
    let (fixture, public_key) = signed();
    let path = fixture.output().join("bundle.sig");
    let text = std::fs::read_to_string(&path).unwrap();
    for (from, to, expected) in [
        ("Ed25519", "RSA", "algorithm RSA: expected"),
        (public_key.as_str(), "00", "expected 64 lower-case hexadecimal digits"),
        ("\"version\": 1", "\"version\": 2", "version 2"),
        ("\"format\"", "\"shape\"", "unknown field"),
    ] {
        std::fs::write(&path, text.replace(from, to)).unwrap();
        let error = cli::one_line(&signer(&fixture.output()).unwrap_err());
        assert!(error.contains("bundle.sig") && error.contains(expected), "{error}");
    }
}

#[test]
fn keys_are_not_replaced_by_accident_and_secrets_are_the_owners() {
    let fixture = Fixture::new();
    let key = fixture.path("release.pem");
    let first = keygen(&key, false).unwrap();
    assert!(keygen(&key, false).unwrap_err().to_string().contains("--force"));
    assert_ne!(keygen(&key, true).unwrap().public_key, first.public_key);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(std::fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    }
}

#[test]
fn a_public_key_cannot_sign() {
    let fixture = Fixture::packed();
    keygen(&fixture.path("release.pem"), false).unwrap();
    let error = sign(&fixture.output(), &fixture.path("release.pem.pub"), false).unwrap_err();
    assert!(error.to_string().contains("PKCS#8"), "{error}");
}

/// Runs `program`; `None`, with a line that names it, where the machine lacks it.
fn other_reader(program: &str, arguments: &[&std::ffi::OsStr]) -> Option<std::process::Output> {
    match std::process::Command::new(program).args(arguments).output() {
        Ok(output) => Some(output),
        Err(error) => {
            eprintln!("skipped: reading a key with {program}: {error}");
            None
        }
    }
}

#[test]
fn openssl_reads_both_keys_and_makes_the_same_public_one() {
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("release.pem");
    keygen(&key, false).unwrap();
    let public = std::fs::read_to_string(folder.path().join("release.pem.pub")).unwrap();
    let secret = ["pkey".as_ref(), "-in".as_ref(), key.as_os_str(), "-pubout".as_ref()];
    let Some(output) = other_reader("openssl", &secret) else { return };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8(output.stdout).unwrap(), public);
}

#[test]
fn pythons_cryptography_reads_the_secret_key() {
    const SCRIPT: &str = "
import sys
try:
    from cryptography.hazmat.primitives import serialization
except ImportError:
    sys.exit(77)
key = serialization.load_pem_private_key(open(sys.argv[1], 'rb').read(), None)
print(key.public_key().public_bytes_raw().hex())";
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("release.pem");
    let made = keygen(&key, false).unwrap();
    let arguments = ["-c".as_ref(), SCRIPT.as_ref(), key.as_os_str()];
    let Some(output) = other_reader("python3", &arguments) else { return };
    if output.status.code() == Some(77) {
        eprintln!("skipped: python3 has no package cryptography");
        return;
    }
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8(output.stdout).unwrap().trim(), made.public_key);
}

/// What a process leaves that is killed between its two files.
#[test]
fn a_secret_without_its_public_half_gets_the_right_one() {
    let folder = tempfile::tempdir().unwrap();
    let (key, public) = (folder.path().join("a.pem"), folder.path().join("a.pem.pub"));
    let made = keygen(&key, false).unwrap();
    let (secret, half) = (std::fs::read(&key).unwrap(), std::fs::read(&public).unwrap());
    std::fs::remove_file(&public).unwrap();
    assert_eq!(keygen(&key, false).unwrap(), made);
    assert_eq!((std::fs::read(&key).unwrap(), std::fs::read(&public).unwrap()), (secret, half));

    std::fs::remove_file(&public).unwrap();
    std::fs::write(&key, "somebody's notes").unwrap();
    let error = keygen(&key, false).unwrap_err().to_string();
    assert!(error.contains("a.pem: expected an Ed25519 key"), "{error}");
    assert!(!public.exists());
}

/// The old public half goes before the new secret comes, so that they never lie side by side.
#[test]
fn a_public_half_that_cannot_go_keeps_the_old_secret() {
    let folder = tempfile::tempdir().unwrap();
    let (key, public) = (folder.path().join("a.pem"), folder.path().join("a.pem.pub"));
    keygen(&key, false).unwrap();
    let secret = std::fs::read(&key).unwrap();
    std::fs::remove_file(&public).unwrap();
    std::fs::create_dir(&public).unwrap();
    let error = keygen(&key, true).unwrap_err().to_string();
    assert!(error.contains("cannot remove the old"), "{error}");
    assert_eq!(std::fs::read(&key).unwrap(), secret);
}
