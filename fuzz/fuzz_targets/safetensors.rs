//! Any bytes as `model.safetensors`: refused, or every tensor has as many bytes as its shape and type
//! say; memory is bounded by the file's size.
#![no_main]

use checkpoint::Weights;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    fuzz::with_files(&[("model.safetensors", bytes)], |folder| {
        let path = folder.join("model.safetensors");
        let opened = fuzz::bounded(bytes.len(), 128, 1 << 20, || Weights::open(&path));
        let Ok(weights) = opened else { return };
        let mut total = 0;
        for (name, shape) in weights.iter() {
            let elements: usize = shape.iter().product();
            let read = fuzz::bounded(bytes.len(), 8, 1 << 20, || weights.bytes(name));
            let read = read.expect("what the header places is there");
            assert!(elements == 0 || read.len() % elements == 0);
            total += read.len();
            if let Ok(values) = weights.read_f32(name) {
                assert_eq!(values.len(), elements);
            }
        }
        assert!(total <= bytes.len(), "tensors overlap");
    });
});
