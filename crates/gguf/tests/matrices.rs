//! The matrices of a tensor of three dimensions, one at a time.

#![allow(clippy::unwrap_used, reason = "where a test cannot go on, it fails")]

use gguf::{
    GgufError, GgufFile, GgufParts, Metadata, TensorSource, TensorType, Writer, blocks, read_f32,
    read_matrix_f32,
};

/// A stack of three matrices of two rows in both formats, and a matrix alone.
fn write(path: &std::path::Path) {
    let described: Vec<_> = [
        ("plain", vec![32, 2, 3], TensorType::F32),
        ("blocks", vec![32, 2, 3], TensorType::Q8_0),
        ("alone", vec![32, 2], TensorType::F32),
    ]
    .map(|(name, shape, tensor_type)| (name.to_owned(), shape, tensor_type))
    .to_vec();
    let file = std::fs::File::create(path).unwrap();
    let mut writer = Writer::new(file, &Metadata::new(), &described).unwrap();
    for (name, shape, tensor_type) in &described {
        let weights: Vec<f32> = (0..shape.iter().product()).map(|i: u64| i as f32).collect();
        let mut bytes = vec![0; tensor_type.size_of(shape).unwrap() as usize];
        blocks::quantize(*tensor_type, &weights, 32, None, &mut bytes).unwrap();
        writer.write_tensor(name, &bytes).unwrap();
    }
    writer.finish().unwrap();
}

#[test]
fn matrices_one_by_one_are_the_tensor() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("stack.gguf");
    write(&path);
    let sources: [Box<dyn TensorSource>; 2] =
        [Box::new(GgufFile::open(&path).unwrap()), Box::new(GgufParts::open(&path).unwrap())];
    for source in sources {
        for (name, matrices) in [("plain", 3), ("blocks", 3), ("alone", 1)] {
            let tensor = source.tensor(name).unwrap();
            assert_eq!(tensor.matrices(), matrices, "{name}");
            let bytes: Vec<u8> = (0..matrices)
                .flat_map(|index| source.read_matrix(tensor, index).unwrap().into_owned())
                .collect();
            assert!(*source.read(tensor).unwrap() == bytes, "{name}");
            let floats: Vec<f32> = (0..matrices)
                .flat_map(|index| read_matrix_f32(source.as_ref(), tensor, index).unwrap())
                .collect();
            assert_eq!(floats, read_f32(source.as_ref(), tensor).unwrap(), "{name}");
            let refused = source.read_matrix(tensor, matrices).unwrap_err();
            assert!(
                matches!(&refused, GgufError::NoMatrix { index, .. } if *index == matrices),
                "{refused}"
            );
        }
    }
}
