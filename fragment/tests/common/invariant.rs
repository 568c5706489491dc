//! What must hold for any bytes at all. The property tests and the fuzz target call it.

use fragment::Manifest;

/// Whatever is accepted, written and read again is equal, and is written the same again.
///
/// # Panics
/// When the invariant does not hold.
pub fn check(bytes: &[u8]) {
    let Ok(manifest) = Manifest::parse(bytes) else { return };
    let text = manifest.to_json().expect("what is read can be written");
    let again = Manifest::parse(text.as_bytes()).expect("what is written is read");
    assert_eq!(again, manifest);
    assert_eq!(again.to_json().expect("twice"), text);
    // What readers compute from an accepted manifest stays inside of it.
    assert!(manifest.header_size() <= manifest.file.size);
    for tensor in &manifest.tensors {
        let start = manifest.tensor_start(tensor).expect("at least one shard");
        let size: u64 = tensor.shards.iter().map(|shard| shard.length).sum();
        assert!(start + size <= manifest.file.size);
        assert_eq!(manifest.covering(start, start + size).len(), tensor.shards.len());
    }
}
