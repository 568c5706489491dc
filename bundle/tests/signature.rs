//! Who vouches for a bundle, and what a change does to that.
#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

use std::path::Path;

use crate::common::Fixture;
use bundle::{
    Demands, PackJob, VerifyReport, keygen, pack, revoke_key, rotate_key, sign, verify, verify_as,
};
use fragment::ProblemKind;

fn signed() -> (Fixture, String) {
    signed_after(Fixture::packed())
}

fn signed_after(fixture: Fixture) -> (Fixture, String) {
    let key = fixture.path("release.pem");
    let made = keygen(&key, false).unwrap();
    let report = sign(&fixture.output(), &key, &[], false).unwrap();
    assert_eq!(report.public_key, made.public_key);
    (fixture, made.public_key)
}

fn by(fixture: &Fixture, key: &str) -> Demands {
    Demands { key: Some(fixture.path(key)), ..Demands::default() }
}

/// The bundle that holds up to `demands`.
fn sound(input: &Path, demands: &Demands) -> VerifyReport {
    let report = verify_as(input, demands).unwrap();
    report.require_sound().unwrap();
    report
}

fn refusal(input: &Path, demands: &Demands) -> String {
    cli::one_line(&verify_as(input, demands).unwrap_err())
}

/// What is said of a signature when no key is asked for.
fn problem(fixture: &Fixture) -> String {
    let report = verify(&fixture.output()).unwrap();
    assert_eq!(report.problems.len(), 1, "{report}");
    assert_eq!(report.problems[0].file, "bundle.sig");
    assert_eq!(report.problems[0].kind, ProblemKind::Damaged);
    assert_eq!(report.signed_by, None);
    report.problems[0].what.clone()
}

#[test]
fn a_signed_bundle_says_by_whom_and_which_release_it_is() {
    let (fixture, public_key) = signed();
    let report = sound(&fixture.output(), &by(&fixture, "release.pem.pub"));
    assert_eq!(report.signed_by, Some(public_key.clone()));
    assert_eq!((report.release, &report.replaced), (Some(3), &Vec::new()));
    assert!(report.to_string().contains("release 3"), "{report}");
    assert_eq!(verify(&fixture.output()).unwrap().signed_by, Some(public_key));
}

#[test]
fn an_unsigned_bundle_is_sound_but_signed_by_nobody() {
    let fixture = Fixture::packed();
    keygen(&fixture.path("release.pem"), false).unwrap();
    assert_eq!(sound(&fixture.output(), &Demands::default()).signed_by, None);
    let error = refusal(&fixture.output(), &by(&fixture, "release.pem.pub"));
    assert!(error.contains("no bundle.sig"), "{error}");
}

#[test]
fn another_key_is_noticed() {
    let (fixture, public_key) = signed();
    keygen(&fixture.path("other.pem"), false).unwrap();
    let error = refusal(&fixture.output(), &by(&fixture, "other.pem.pub"));
    assert!(error.contains(&format!("signed with {public_key}")), "{error}");
}

#[test]
fn a_changed_byte_of_the_list_or_of_the_signature_is_noticed() {
    for name in ["bundle.json", "bundle.sig"] {
        let (fixture, _) = signed();
        let path = fixture.output().join(name);
        let text = std::fs::read_to_string(&path).unwrap();
        // Still well-formed: the model's name, or a digit of the signature.
        let changed = match name {
            "bundle.json" => text.replace("\"tiny\"", "\"tinY\""),
            _ => {
                let digit = text.find("\"signature\": \"").unwrap() + 14;
                let other = if text.as_bytes()[digit] == b'0' { "1" } else { "0" };
                format!("{}{other}{}", &text[..digit], &text[digit + 1..])
            }
        };
        assert_ne!(text, changed);
        std::fs::write(&path, changed).unwrap();
        assert!(problem(&fixture).contains("one of both was changed"));
        let error = refusal(&fixture.output(), &by(&fixture, "release.pem.pub"));
        assert!(error.contains("one of both was changed"), "{error}");
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
        ("\"version\": 2", "\"version\": 1", "version 1: expected pocketgpt-signature, 2"),
        ("\"algorithm\"", "\"shape\": \"\", \"algorithm\"", "unknown field"),
    ] {
        std::fs::write(&path, text.replace(from, to)).unwrap();
        let error = problem(&fixture);
        assert!(error.contains("bundle.sig") && error.contains(expected), "{error}");
    }
    std::fs::write(&path, " ".repeat(70_000)).unwrap();
    assert!(problem(&fixture).contains("larger than 65536 bytes"));
}

/// An older bundle of the same key holds as well as a newer one, so the release says which is which.
#[test]
fn an_older_release_is_refused_by_those_who_ask_for_a_newer_one() {
    let (fixture, _) = signed();
    let at_least = |release| Demands { at_least: Some(release), ..by(&fixture, "release.pem.pub") };
    sound(&fixture.output(), &at_least(3));
    let error = refusal(&fixture.output(), &at_least(4));
    assert!(error.contains("its release is 3: expected at least 4"), "{error}");
}

#[test]
fn a_bundle_without_a_release_is_not_signed() {
    let fixture = Fixture::new();
    pack(&PackJob { release: None, ..fixture.job() }).unwrap();
    let key = fixture.path("release.pem");
    keygen(&key, false).unwrap();
    let error = sign(&fixture.output(), &key, &[], false).unwrap_err().to_string();
    assert!(error.contains("pack it again with --release N"), "{error}");
    let error = refusal(&fixture.output(), &Demands { at_least: Some(1), ..Demands::default() });
    assert!(error.contains("its release is not stated: expected at least 1"), "{error}");
}

#[test]
fn a_bundle_is_refused_after_its_last_day_unless_it_is_wanted_all_the_same() {
    let fixture = Fixture::new();
    for (day, expired) in [("2001-02-03", true), ("9999-12-31", false)] {
        let job = PackJob { expires: Some(day.to_owned()), force: true, ..fixture.job() };
        pack(&job).unwrap();
        let found = verify(&fixture.output());
        assert_eq!(found.is_err(), expired, "{day}");
        if let Err(error) = found {
            assert!(cli::one_line(&error).contains("it expired on 2001-02-03"), "{error:#}");
        }
        let wanted = Demands { allow_expired: true, ..Demands::default() };
        assert_eq!(sound(&fixture.output(), &wanted).expires.as_deref(), Some(day));
    }
    let job = PackJob { expires: Some("tomorrow".to_owned()), force: true, ..fixture.job() };
    let error = cli::one_line(&pack(&job).unwrap_err());
    assert!(error.contains("expires is \"tomorrow\": expected a day that exists"), "{error}");
}

/// The fixture's bundle signed with `new.pem`, which `release.pem` says replaces it.
fn rotated() -> (Fixture, [String; 2]) {
    let (fixture, old) = signed();
    let new = keygen(&fixture.path("new.pem"), false).unwrap().public_key;
    let statement = fixture.path("new.json");
    let report =
        rotate_key(&fixture.path("release.pem"), &fixture.path("new.pem.pub"), &statement, false);
    let report = report.unwrap();
    assert_eq!((report.key, report.new_key), (old.clone(), Some(new.clone())));
    sign(&fixture.output(), &fixture.path("new.pem"), &[statement], true).unwrap();
    (fixture, [old, new])
}

#[test]
fn a_new_key_counts_for_those_who_trust_the_one_that_it_replaces() {
    let (fixture, [old, new]) = rotated();
    let report = sound(&fixture.output(), &by(&fixture, "release.pem.pub"));
    assert_eq!(report.signed_by, Some(new.clone()));
    assert_eq!(report.replaced, [old.as_str()]);
    assert!(report.to_string().contains(&format!("signed by {new}\nwhich replaced {old}")));
    assert!(sound(&fixture.output(), &by(&fixture, "new.pem.pub")).replaced.is_empty());
    // Without the statement nothing leads from one to the other.
    sign(&fixture.output(), &fixture.path("new.pem"), &[], true).unwrap();
    let error = refusal(&fixture.output(), &by(&fixture, "release.pem.pub"));
    assert!(error.contains("or a key that replaces it"), "{error}");
    let told =
        Demands { statements: vec![fixture.path("new.json")], ..by(&fixture, "release.pem.pub") };
    sound(&fixture.output(), &told);
}

#[test]
fn a_key_that_was_replaced_signs_no_more() {
    let (fixture, _) = rotated();
    let (key, statement) = (fixture.path("release.pem"), fixture.path("new.json"));
    let error = sign(&fixture.output(), &key, std::slice::from_ref(&statement), true).unwrap_err();
    assert!(cli::one_line(&error).contains("replaced"), "{error:#}");
    sign(&fixture.output(), &key, &[], true).unwrap();
    let told = Demands { statements: vec![statement], ..by(&fixture, "release.pem.pub") };
    assert!(refusal(&fixture.output(), &told).contains("replaced"));
}

#[test]
fn nothing_counts_that_a_revoked_key_signed() {
    let (fixture, _) = rotated();
    let revoked = fixture.path("revoked.json");
    revoke_key(&fixture.path("release.pem"), &revoked, false).unwrap();
    // Its word for a successor does not count either: whoever took the key could give it.
    let statements = [fixture.path("new.json"), revoked.clone()];
    sign(&fixture.output(), &fixture.path("new.pem"), &statements, true).unwrap();
    let error = refusal(&fixture.output(), &by(&fixture, "release.pem.pub"));
    assert!(error.contains("is revoked"), "{error}");
    sound(&fixture.output(), &by(&fixture, "new.pem.pub"));
    // The bundle that it signed itself, as it lies elsewhere without the statement.
    sign(&fixture.output(), &fixture.path("release.pem"), &[], true).unwrap();
    sound(&fixture.output(), &by(&fixture, "release.pem.pub"));
    let told = Demands { statements: vec![revoked.clone()], ..by(&fixture, "release.pem.pub") };
    assert!(refusal(&fixture.output(), &told).contains("is revoked"));
    let error = sign(&fixture.output(), &fixture.path("release.pem"), &[revoked], true);
    assert!(cli::one_line(&error.unwrap_err()).contains("is revoked"));
}

#[test]
fn a_statement_that_was_changed_is_refused_by_sign_and_verify() {
    let (fixture, [old, _]) = rotated();
    let path = fixture.path("new.json");
    let other = keygen(&fixture.path("other.pem"), false).unwrap().public_key;
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace(&old, &other)).unwrap();
    let statements = std::slice::from_ref(&path);
    let error = sign(&fixture.output(), &fixture.path("new.pem"), statements, true).unwrap_err();
    let error = cli::one_line(&error);
    assert!(error.contains("new.json: the signature is not by"), "{error}");
}

#[test]
fn a_key_is_not_replaced_by_itself() {
    let (fixture, _) = signed();
    let (key, public) = (fixture.path("release.pem"), fixture.path("release.pem.pub"));
    let error = rotate_key(&key, &public, &fixture.path("new.json"), false).unwrap_err();
    assert!(error.to_string().contains("to itself"), "{error}");
    assert!(!fixture.path("new.json").exists());
}

/// The archive was made before the signature.
#[test]
fn the_archive_is_signed_too_and_verified_as_the_folder_is() {
    let fixture = Fixture::new();
    pack(&PackJob { zip: true, ..fixture.job() }).unwrap();
    let archive = fixture.path("pocket.zip");
    let demands =
        |fixture: &Fixture| Demands { at_least: Some(3), ..by(fixture, "release.pem.pub") };
    keygen(&fixture.path("release.pem"), false).unwrap();
    assert!(refusal(&archive, &demands(&fixture)).contains("no bundle.sig"));
    let report = sign(&fixture.output(), &fixture.path("release.pem"), &[], false).unwrap();
    assert_eq!(report.archive.as_ref(), Some(&archive));
    let (of_folder, of_archive) =
        (sound(&fixture.output(), &demands(&fixture)), sound(&archive, &demands(&fixture)));
    assert_eq!(VerifyReport { input: fixture.output(), ..of_archive }, of_folder);
    keygen(&fixture.path("other.pem"), false).unwrap();
    assert!(refusal(&archive, &by(&fixture, "other.pem.pub")).contains("expected a signature by"));
}

#[test]
fn an_archive_of_another_bundle_is_left_as_it_is() {
    let fixture = Fixture::new();
    let elsewhere = PackJob { output: fixture.path("other"), zip: true, ..fixture.job() };
    pack(&PackJob { release: Some(2), ..elsewhere }).unwrap();
    std::fs::rename(fixture.path("other.zip"), fixture.path("pocket.zip")).unwrap();
    let before = std::fs::read(fixture.path("pocket.zip")).unwrap();
    pack(&fixture.job()).unwrap();
    let (fixture, _) = signed_after(fixture);
    assert_eq!(std::fs::read(fixture.path("pocket.zip")).unwrap(), before);
}

/// `sign` changes the folder after `pack` wrote it, so packing again is not a change of the bundle.
#[test]
fn packing_the_same_again_keeps_the_signature_with_its_statements() {
    let (fixture, [_, new]) = rotated();
    let before = std::fs::read(fixture.output().join("bundle.sig")).unwrap();
    let report = pack(&PackJob { zip: true, force: true, ..fixture.job() }).unwrap();
    assert!(report.signature_kept && report.to_string().contains("still signed"), "{report}");
    assert_eq!(std::fs::read(fixture.output().join("bundle.sig")).unwrap(), before);
    for input in [fixture.output(), fixture.path("pocket.zip")] {
        let report = sound(&input, &by(&fixture, "release.pem.pub"));
        assert_eq!(report.signed_by.as_ref(), Some(&new));
    }
}

#[test]
fn a_signed_bundle_is_not_replaced_by_an_unsigned_one_unless_that_is_wanted() {
    let (fixture, public_key) = signed();
    let next = PackJob { release: Some(4), force: true, ..fixture.job() };
    let error = cli::one_line(&pack(&next).unwrap_err());
    assert!(error.contains("pocket is signed, and its signature does not hold"), "{error}");
    assert!(error.contains("bundle sign --input") && error.contains("bundle.sig"), "{error}");
    let report = sound(&fixture.output(), &by(&fixture, "release.pem.pub"));
    assert_eq!((report.release, report.signed_by), (Some(3), Some(public_key)));

    let report = pack(&PackJob { replace_signed: true, ..next }).unwrap();
    assert!(!report.signature_kept);
    let report = sound(&fixture.output(), &Demands::default());
    assert_eq!((report.release, report.signed_by), (Some(4), None));
}

/// Of a folder that was removed or moved, the archive may be all that is left.
#[test]
fn a_signed_archive_without_its_folder_is_not_replaced_either() {
    let fixture = Fixture::new();
    pack(&PackJob { zip: true, ..fixture.job() }).unwrap();
    let (fixture, _) = signed_after(fixture);
    std::fs::remove_dir_all(fixture.output()).unwrap();
    let archive = fixture.path("pocket.zip");
    let before = std::fs::read(&archive).unwrap();
    for zip in [true, false] {
        let error = pack(&PackJob { zip, force: true, ..fixture.job() }).unwrap_err();
        assert!(cli::one_line(&error).contains("pocket.zip is signed"), "{error:#}");
        assert!(std::fs::read(&archive).unwrap() == before);
        assert!(!fixture.output().exists());
    }
}

/// A byte-order mark is no part of what was signed, and no JSON either.
#[test]
fn what_is_verified_is_the_bytes() {
    let (fixture, _) = signed();
    let path = fixture.output().join("bundle.json");
    let bytes = [b"\xef\xbb\xbf".as_slice(), &std::fs::read(&path).unwrap()].concat();
    std::fs::write(&path, bytes).unwrap();
    let error = refusal(&fixture.output(), &by(&fixture, "release.pem.pub"));
    assert!(error.contains("not a bundle.json"), "{error}");
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
    let error = sign(&fixture.output(), &fixture.path("release.pem.pub"), &[], false).unwrap_err();
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
