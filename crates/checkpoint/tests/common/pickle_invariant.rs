//! The invariant of reading any bytes as a pickle, for the property test and for the fuzz target.

use checkpoint::pickle::{Object, Pickle};

/// The bytes are refused, or read; then every tensor is inside of its storage.
pub fn check(bytes: &[u8]) {
    let Ok(pickle) = Pickle::read(bytes) else { return };
    assert!(pickle.length() <= bytes.len());
    for object in pickle.objects() {
        let Object::Tensor(tensor) = object else { continue };
        let elements: usize = tensor.shape.iter().product();
        assert!(elements <= tensor.storage.elements);
        let reach = tensor.shape.iter().zip(&tensor.strides).map(|(&n, &step)| {
            // Of an empty tensor no data is read.
            if elements == 0 { 0 } else { (n - 1) * step }
        });
        let last = tensor.offset + reach.sum::<usize>();
        assert!(elements == 0 || last < tensor.storage.elements);
        let _ = tensor.odd_strides();
    }
    for storage in pickle.storages() {
        let _ = pickle.text(storage.key);
    }
    let root = pickle.root();
    let _ = (pickle.kind(root), pickle.entries(root), pickle.get(root, "model"));
}
