//! Invariants for arbitrary bytes, used by the property tests and the fuzz target.

use gguf::{ByteOrder, Layout, Metadata, RawHeader, Writer, parse_header};

/// Every accepted file is canonical: written again it gives the same bytes, except for the content
/// of padding, and the written file is accepted too.
///
/// # Panics
/// When the invariant does not hold.
pub fn check(bytes: &[u8]) {
    let Ok((metadata, layout)) = parse_header(bytes) else { return };

    let described = layout
        .tensors
        .iter()
        .map(|tensor| (tensor.name.clone(), tensor.shape.clone(), tensor.tensor_type))
        .collect::<Vec<_>>();
    let planned = Layout::plan(&metadata, &described).expect("what is read can be planned");
    assert_eq!(planned, layout);

    let header = layout.header(&metadata).expect("what is read can be written");
    assert_eq!(header.len() as u64, layout.data_start);
    assert_same_but_for_padding(bytes, &header, layout.alignment);

    // Values are compared as bytes, because a NaN does not equal itself.
    let (metadata_again, layout_again) = parse_header(&header).expect("what is written is read");
    assert_eq!(layout_again, layout);
    assert_eq!(layout_again.header(&metadata_again).expect("a header"), header);

    if let Some(tensors) = tensor_bytes(bytes, &layout) {
        let mut writer = Writer::new(Vec::new(), &metadata, &described).expect("a plan");
        for (tensor, data) in layout.tensors.iter().zip(tensors) {
            writer.write_tensor(&tensor.name, data).expect("the planned size");
        }
        let written = writer.finish().expect("all tensors");
        assert_eq!(written.len() as u64, layout.file_size);
        assert_eq!(tensor_bytes(&written, &layout), tensor_bytes(bytes, &layout));
    }
}

/// The other reader reads every file that the strict reader accepts, with the same result, and
/// never panics.
///
/// # Panics
/// When the invariant does not hold.
pub fn check_raw(bytes: &[u8]) {
    let raw = RawHeader::parse(bytes);
    let Ok((metadata, layout)) = parse_header(bytes) else { return };

    let raw = raw.expect("what is strictly right is right for the raw reader");
    assert_eq!((raw.version, raw.byte_order), (3, ByteOrder::Little));
    assert_eq!((raw.data_start, raw.alignment), (layout.data_start, layout.alignment));
    // Values are compared as text, because a NaN does not equal itself.
    let text = |metadata: &Metadata| format!("{metadata:?}");
    assert_eq!(text(&raw.metadata), text(&metadata));
    assert_eq!(raw.tensors.len(), layout.tensors.len());
    for (raw, strict) in raw.tensors.iter().zip(&layout.tensors) {
        assert_eq!((&raw.name, &raw.shape), (&strict.name, &strict.shape));
        assert_eq!((raw.offset, raw.size), (strict.offset, Some(strict.size)));
        assert_eq!(raw.format.0, strict.tensor_type.id());
    }
}

/// The bytes of every tensor, if all are in the file.
fn tensor_bytes<'a>(bytes: &'a [u8], layout: &Layout) -> Option<Vec<&'a [u8]>> {
    let slice = |start: u64, size: u64| bytes.get(start as usize..(start + size) as usize);
    layout.tensors.iter().map(|t| slice(layout.data_start + t.offset, t.size)).collect()
}

/// `header` starts with the same bytes as `bytes`; they differ only in padding.
fn assert_same_but_for_padding(bytes: &[u8], header: &[u8], alignment: u64) {
    let same = bytes.iter().zip(header).take_while(|(a, b)| a == b).count();
    assert!(((header.len() - same) as u64) < alignment, "differs at byte {same}");
    assert!(header[same..].iter().all(|&byte| byte == 0), "differs at byte {same}");
}
