//! Files in the format of `torch.save`, made without it.

use std::io::{Cursor, Write};

use checkpoint::NamedTensor;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

/// The instructions that push a text.
pub fn text(text: &str) -> Vec<u8> {
    [b"X".as_slice(), &(text.len() as u32).to_le_bytes(), text.as_bytes()].concat()
}

fn tuple(sizes: &[usize]) -> Vec<u8> {
    let number = |&n: &usize| [b"J".as_slice(), &(n as i32).to_le_bytes()].concat();
    [b"(".to_vec(), sizes.iter().flat_map(number).collect(), b"t".to_vec()].concat()
}

/// The pickle of a state dictionary, each tensor transposed in its storage if `transposed`.
fn state(tensors: &[NamedTensor], transposed: bool) -> Vec<u8> {
    let mut out = b"\x80\x02ccollections\nOrderedDict\n)R(".to_vec();
    for (key, tensor) in tensors.iter().enumerate() {
        let strides: Vec<usize> = match (transposed, tensor.shape.as_slice()) {
            (true, &[rows, _]) => vec![1, rows],
            (_, shape) => (0..shape.len()).map(|i| shape[i + 1..].iter().product()).collect(),
        };
        let parts: [Vec<u8>; 8] = [
            text(&tensor.name),
            b"ctorch._utils\n_rebuild_tensor_v2\n((".to_vec(),
            [text("storage"), b"ctorch\nFloatStorage\n".to_vec(), text(&key.to_string())].concat(),
            text("cpu"),
            [b"J".as_slice(), &(tensor.data.len() as i32).to_le_bytes(), b"tQK\x00"].concat(),
            tuple(&tensor.shape),
            tuple(&strides),
            b"\x89ccollections\nOrderedDict\n)RtR".to_vec(),
        ];
        out.extend(parts.concat());
    }
    out.extend(b"u.");
    out
}

/// A zip archive with these entries, uncompressed.
pub fn archive(entries: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    for (name, content) in entries {
        writer.start_file(name.as_str(), options).unwrap();
        writer.write_all(content).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

/// The entries that `torch.save` would write for `tensors`.
pub fn entries(tensors: &[NamedTensor], transposed: bool) -> Vec<(String, Vec<u8>)> {
    let mut entries = vec![
        ("archive/data.pkl".to_owned(), state(tensors, transposed)),
        ("archive/byteorder".to_owned(), b"little".to_vec()),
    ];
    for (key, tensor) in tensors.iter().enumerate() {
        let data = match (transposed, tensor.shape.as_slice()) {
            (true, &[rows, columns]) => checkpoint::transpose(&tensor.data, rows, columns),
            _ => tensor.data.clone(),
        };
        let bytes = data.iter().flat_map(|x| x.to_le_bytes()).collect();
        entries.push((format!("archive/data/{key}"), bytes));
    }
    entries
}
