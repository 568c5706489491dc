//! Whatever is split is joined to the same bytes, and every tensor reads the same from pieces.
#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

use crate::common::{Fixture, metadata, tensors, write};
use fragment::{FragmentFolder, JoinJob, SplitJob, join, split};
use gguf::{GgufFile, TensorSource, TensorType};
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn split_and_join_is_the_identity(
        lengths in prop::collection::vec(1_u64..3000, 0..12),
        filler in 0_usize..9000,
        max_bytes in 512_u64..8192,
        cut_padding in any::<bool>(),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let input = folder.path().join("a.gguf");
        let mut bytes = write(&input, &metadata(filler), &tensors(&lengths));
        if let (true, Some(&last)) = (cut_padding, lengths.last()) {
            // Other tools leave the last tensor's padding out; the pieces must not add it.
            bytes.truncate(bytes.len() - (32 - last as usize * 4 % 32) % 32);
            std::fs::write(&input, &bytes).unwrap();
        }
        let output = folder.path().join("pieces");
        split(&SplitJob { input: input.clone(), output: output.clone(), max_bytes, force: false })
            .unwrap();

        let joined = folder.path().join("b.gguf");
        join(&JoinJob { input: output.clone(), output: joined.clone(), force: false }).unwrap();
        prop_assert!(std::fs::read(joined).unwrap() == bytes);
        prop_assert!(fragment::verify(&output).unwrap().problems.is_empty());

        let whole = GgufFile::open(&input).unwrap();
        let pieces = FragmentFolder::open(&output).unwrap();
        prop_assert_eq!(whole.metadata(), pieces.metadata());
        prop_assert_eq!(whole.tensors(), pieces.tensors());
        for tensor in whole.tensors() {
            prop_assert_eq!(whole.read(tensor).unwrap(), pieces.read(tensor).unwrap());
            // Once more, now that the hash of the piece is known to be right.
            prop_assert_eq!(whole.read(tensor).unwrap(), pieces.read(tensor).unwrap());
        }
    }
}

/// Experts larger and smaller than a piece, whose ends lie anywhere in one.
#[test]
fn the_experts_of_a_tensor_are_read_one_by_one() {
    for [row, rows, experts] in [[32, 5, 7], [100, 30, 3], [3, 1, 40]] {
        let folder = tempfile::tempdir().unwrap();
        let (input, output) = (folder.path().join("a.gguf"), folder.path().join("pieces"));
        let name = "blk.0.ffn_up_exps.weight".to_owned();
        let described = [(name, vec![row, rows, experts], TensorType::F32)];
        write(&input, &metadata(10), &[tensors(&[5]), described.to_vec()].concat());
        let job = SplitJob {
            input: input.clone(),
            output: output.clone(),
            max_bytes: 1024,
            force: false,
        };
        split(&job).unwrap();
        let whole = GgufFile::open(&input).unwrap();
        let pieces = FragmentFolder::open(&output).unwrap();
        let tensor = &pieces.tensors()[1];
        assert_eq!(tensor.matrices() as u64, experts);
        for index in (0..tensor.matrices()).rev() {
            let expected = whole.read_matrix(tensor, index).unwrap();
            assert_eq!(pieces.read_matrix(tensor, index).unwrap(), expected, "{index}");
        }
        assert!(pieces.read_matrix(tensor, tensor.matrices()).is_err());
    }
}

#[test]
fn packing_follows_the_rules() {
    let fixture = Fixture::new();
    let manifest = fixture.manifest();
    let header = manifest.header_size();
    let ends: Vec<u64> = manifest.fragments.iter().map(|fragment| fragment.end()).collect();
    let start = |i: usize| manifest.tensor_start(&manifest.tensors[i]).unwrap();
    // Header and two small tensors, then 10,000 bytes of their own, then the two small ones.
    assert_eq!(ends[0], start(2));
    assert_eq!(ends[1..3], [start(2) + 4096, start(2) + 8192]);
    assert_eq!(ends[3], start(3));
    assert_eq!(ends[4], fixture.bytes.len() as u64);
    assert_eq!(ends.len(), 5);
    assert!(header < start(1) && start(0) == header);
    let shards = &manifest.tensors[2].shards;
    assert_eq!(shards.iter().map(|shard| shard.length).collect::<Vec<_>>(), [4096, 4096, 1808]);
}

#[test]
fn a_header_larger_than_a_piece_has_a_run_to_itself() {
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("a.gguf");
    write(&input, &metadata(10_000), &tensors(&[10]));
    let output = folder.path().join("pieces");
    split(&SplitJob { input, output: output.clone(), max_bytes: 4096, force: false }).unwrap();
    let manifest = FragmentFolder::open(&output).unwrap().manifest().clone();
    assert_eq!(manifest.tensors[0].shards[0].fragment_id, 3);
    assert_eq!(manifest.tensors[0].shards[0].offset, 0);
    assert_eq!(manifest.header_size(), manifest.fragments[3].offset);
}

#[test]
fn equal_pieces_share_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("a.gguf");
    let described = tensors(&[1024; 2]);
    let mut writer = gguf::Writer::new(Vec::new(), &metadata(4000), &described).unwrap();
    for (name, ..) in &described {
        writer.write_tensor(name, &[7; 4096]).unwrap();
    }
    std::fs::write(&input, writer.finish().unwrap()).unwrap();
    let output = folder.path().join("pieces");
    let report = split(&SplitJob { input, output, max_bytes: 4096, force: false }).unwrap();
    assert_eq!((report.pieces, report.files), (4, 3));
}

#[test]
fn variants_share_one_folder() {
    let folder = tempfile::tempdir().unwrap();
    let shared = folder.path().join("model");
    std::fs::create_dir(&shared).unwrap();
    let tensors = tensors(&[2000, 2000]);
    for (name, filler) in [("a", 100), ("b", 132)] {
        let input = folder.path().join(format!("{name}.gguf"));
        write(&input, &metadata(filler), &tensors);
        fragment::split_into(&shared, &format!("{name}.manifest.json"), &input, 8192).unwrap();
    }
    let report = fragment::verify(&shared).unwrap();
    assert!(report.problems.is_empty(), "{report}");
    // Two headers; both tensors are the same bytes in both files.
    assert_eq!((report.manifests, report.pieces), (2, 4));
    let source = fragment::open_source(&shared.join("b.manifest.json")).unwrap();
    assert_eq!(source.tensors().len(), 2);
}

#[test]
fn nothing_is_overwritten_without_force() {
    let fixture = Fixture::new();
    let error = split(&fixture.job(4096)).unwrap_err();
    assert!(error.to_string().contains("--force"), "{error}");
    let forced = SplitJob { force: true, ..fixture.job(8192) };
    assert_eq!(split(&forced).unwrap().pieces, 4);
    let job = JoinJob { input: fixture.pieces(), output: fixture.input(), force: false };
    assert!(join(&job).unwrap_err().to_string().contains("--force"));
}

#[test]
fn a_folder_of_something_else_is_never_replaced() {
    let fixture = Fixture::new();
    let output = fixture.folder.path().to_owned();
    let job = SplitJob { output, force: true, ..fixture.job(4096) };
    assert!(split(&job).unwrap_err().to_string().contains("holds something else"));
    assert!(fixture.input().exists());
    // A web page's folder has a file of the same name.
    std::fs::write(fixture.folder.path().join("manifest.json"), "{\"name\": \"my page\"}").unwrap();
    assert!(split(&job).unwrap_err().to_string().contains("holds something else"));
    assert!(fixture.input().exists());
}

#[test]
fn nothing_is_written_over_its_own_input() {
    let fixture = Fixture::new();
    let inside = fixture.pieces().join("model.gguf");
    std::fs::copy(fixture.input(), &inside).unwrap();
    let job = SplitJob { input: inside.clone(), force: true, ..fixture.job(4096) };
    let error = split(&job).unwrap_err().to_string();
    assert!(error.contains("name another output"), "{error}");
    assert_eq!(std::fs::read(&inside).unwrap(), fixture.bytes);

    let manifest = std::fs::read(fixture.manifest_path()).unwrap();
    for input in [fixture.pieces(), fixture.manifest_path()] {
        for output in [fixture.manifest_path(), fixture.pieces().join("new.gguf")] {
            let job = JoinJob { input: input.clone(), output, force: true };
            let error = join(&job).unwrap_err().to_string();
            assert!(error.contains("name another output"), "{error}");
        }
    }
    assert_eq!(std::fs::read(fixture.manifest_path()).unwrap(), manifest);
}

#[test]
fn impossible_piece_sizes_are_refused() {
    let fixture = Fixture::new();
    let output = fixture.folder.path().join("other");
    for max_bytes in [0, 31, u64::MAX] {
        let error = split(&SplitJob { output: output.clone(), ..fixture.job(max_bytes) });
        assert!(error.unwrap_err().to_string().contains("--max-bytes"));
        assert!(!output.exists());
    }
}
