//! Properties of every file that can be planned, and of arbitrary bytes.

#![allow(clippy::unwrap_used, reason = "where a test cannot go on, it fails")]

use crate::common;
use crate::common::invariant;
use crate::common::strategies::{apply, damage, metadata, tensors};
use gguf::parse_header;
use proptest::collection::vec;
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(4096) })]

    #[test]
    fn what_is_written_reads_equal(metadata in metadata(), tensors in tensors()) {
        let file = common::write(&metadata, &tensors);
        let (read, layout) = parse_header(&file).unwrap();
        prop_assert_eq!(layout.file_size, file.len() as u64);
        for (planned, (name, shape, tensor_type)) in layout.tensors.iter().zip(&tensors) {
            prop_assert_eq!((&planned.name, &planned.shape), (name, shape));
            prop_assert_eq!(planned.tensor_type, *tensor_type);
            prop_assert_eq!(planned.offset % layout.alignment, 0);
        }
        // Compares bytes instead of values, because a NaN does not equal itself.
        prop_assert_eq!(common::write(&read, &tensors), file.clone());
        invariant::check(&file);
        invariant::check_raw(&file);
    }

    #[test]
    fn damaged_files_are_refused_or_canonical(
        metadata in metadata(),
        tensors in tensors(),
        damages in vec(damage(), 1..6),
    ) {
        let mut bytes = common::write(&metadata, &tensors);
        damages.iter().for_each(|damage| apply(damage, &mut bytes));
        invariant::check(&bytes);
        invariant::check_raw(&bytes);
    }

    #[test]
    fn any_bytes_are_refused_or_canonical(
        tensors in 0..4_u64,
        keys in 0..4_u64,
        rest in vec(prop_oneof![4 => 0..16_u8, 1 => any::<u8>()], 0..200),
    ) {
        invariant::check(&common::raw::Raw::new(tensors, keys).bytes(&rest).0);
        invariant::check(&rest);
        for version in [1_u32, 2, 3, 3_u32.swap_bytes()] {
            let counts = common::raw::Raw(b"GGUF".to_vec()).u32(version).u64(tensors).u64(keys);
            invariant::check_raw(&counts.bytes(&rest).0);
        }
    }
}
