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
