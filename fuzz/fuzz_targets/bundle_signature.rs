//! Any bytes as a bundle's signature and as a public key: nothing but the signature that was made, by
//! the key that made it, is accepted.
#![no_main]

use std::sync::LazyLock;

/// A bundle's manifest, its signature, and the public key in PEM.
struct Signed {
    manifest: Vec<u8>,
    signature: serde_json::Value,
    key: String,
}

static SIGNED: LazyLock<Signed> = LazyLock::new(|| {
    let manifest = include_bytes!("../corpus/bundle_manifest/packed").to_vec();
    let signature = include_bytes!("../corpus/bundle_signature/signature");
    let key = include_str!("../corpus/bundle_signature/key");
    let signature = serde_json::from_slice(signature).expect("the seed is JSON");
    Signed { manifest, signature, key: key.to_owned() }
});

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let signed = &*SIGNED;
    let files = [("bundle.json", signed.manifest.as_slice()), ("bundle.sig", bytes)];
    fuzz::with_files(&files, |folder| {
        let Ok(found) = bundle::signer(folder) else { return };
        let accepted: serde_json::Value = serde_json::from_slice(bytes).expect("accepted: JSON");
        assert_eq!(accepted, signed.signature);
        assert_eq!(found.as_deref(), signed.signature["public_key"].as_str());
    });
    let signature = signed.signature.to_string();
    let files = [
        ("bundle.json", signed.manifest.as_slice()),
        ("bundle.sig", signature.as_bytes()),
        ("key", bytes),
    ];
    fuzz::with_files(&files, |folder| {
        assert!(bundle::signer(folder).is_ok());
        if bundle::require_signed_by(folder, &folder.join("key")).is_ok() {
            let text = std::str::from_utf8(bytes).expect("accepted: text");
            let body = |text: &str| text.split_whitespace().collect::<String>();
            assert!(body(text).contains(&body(&signed.key)), "another text is the same key");
        }
    });
});
