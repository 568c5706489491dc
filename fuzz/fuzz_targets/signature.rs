//! Any bytes as `bundle.json`, NUL, `bundle.sig`: refused, or a signature of these bytes and no others.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some(middle) = bytes.iter().position(|&byte| byte == 0) else { return };
    let (bundle, signature) = (&bytes[..middle], &bytes[middle + 1..]);
    let Ok(signature) = std::str::from_utf8(signature) else { return };
    let signer = fuzz::bounded(bytes.len(), 64, 1 << 20, || bundle::signer(bundle, signature));
    let Ok(key) = signer else { return };
    assert!(key.len() == 64 && key.bytes().all(|byte| byte.is_ascii_hexdigit()), "{key}");
    let mut other = bundle.to_vec();
    other.push(b' ');
    assert!(bundle::signer(&other, signature).is_err(), "the signature holds for other bytes");
});
