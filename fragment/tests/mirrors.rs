//! Pieces from several folders, which need no network: whatever is damaged, what is stored is sound.

use std::fs;
use std::path::Path;

use fragment::transport::Patience;
use fragment::{Origin, PullJob, PullReport, open_remote, pull, read_tensor, verify};
use proptest::prelude::*;

use crate::common::{Fixture, content, tensors};

/// What became of one piece at one source.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Damage {
    None,
    Flipped,
    Cut,
    Longer,
    Gone,
}

impl Damage {
    fn put(self, from: &Path, to: &Path) {
        let mut bytes = fs::read(from).unwrap();
        match self {
            Damage::None => {}
            Damage::Flipped => {
                let at = bytes.len() / 3;
                bytes[at] ^= 0x10;
            }
            Damage::Cut => bytes.truncate(bytes.len() / 2),
            Damage::Longer => bytes.push(0),
            Damage::Gone => return,
        }
        fs::write(to, bytes).unwrap();
    }
}

fn damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        3 => Just(Damage::None),
        1 => Just(Damage::Flipped),
        1 => Just(Damage::Cut),
        1 => Just(Damage::Longer),
        2 => Just(Damage::Gone),
    ]
}

fn pull_from(from: &[Origin], output: &Path) -> anyhow::Result<PullReport> {
    let (patience, interrupt) = (Patience::default(), cli::Interrupt::default());
    pull(&PullJob { from: from.to_vec(), output: output.to_owned(), patience, interrupt })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_pull_succeeds_when_each_piece_is_sound_somewhere_and_stores_sound_pieces_only(
        damages in prop::collection::vec(prop::collection::vec(damage(), 16), 1..4),
    ) {
        let fixture = Fixture::new();
        let manifest = fixture.manifest();
        prop_assert!(manifest.fragments.len() <= 16);
        let source = |(index, damages): (usize, &Vec<Damage>)| {
            let folder = fixture.folder.path().join(format!("source-{index}"));
            fs::create_dir(&folder).unwrap();
            fs::copy(fixture.manifest_path(), folder.join("manifest.json")).unwrap();
            for (fragment, damage) in manifest.fragments.iter().zip(damages) {
                damage.put(&fixture.pieces().join(&fragment.file), &folder.join(&fragment.file));
            }
            Origin::parse(&folder).unwrap()
        };
        let from: Vec<Origin> = damages.iter().enumerate().map(source).collect();
        let sound = |id: usize| damages.iter().any(|source| source[id] == Damage::None);
        let possible = manifest.fragments.iter().all(|fragment| sound(fragment.id));

        let output = fixture.folder.path().join("pulled");
        let pulled = pull_from(&from, &output);
        prop_assert_eq!(pulled.is_ok(), possible, "{:?}", pulled);
        prop_assert_eq!(output.join("manifest.json").exists(), possible);
        if possible {
            prop_assert!(verify(&output).unwrap().problems.is_empty());
        }
        for fragment in &manifest.fragments {
            if let Ok(bytes) = fs::read(output.join(&fragment.file)) {
                let found = blake3::hash(&bytes).to_hex().to_string();
                prop_assert_eq!(&found, &fragment.blake3);
            }
        }
    }
}

#[test]
fn a_tensor_is_read_from_folders_too_and_a_missing_one_is_named() {
    let fixture = Fixture::new();
    let origin = Origin::parse(&fixture.pieces()).unwrap();
    let (found, source) = open_remote(&[origin], Patience::default(), None).unwrap();
    let name = tensors(&[500, 40, 2500])[2].0.clone();
    let (_, bytes) = read_tensor(&found.manifest, &source, &name).unwrap();
    assert_eq!(bytes, content(2, 10_000));
    let error = read_tensor(&found.manifest, &source, "none").unwrap_err().to_string();
    assert!(error.contains("there is no tensor none"), "{error}");
}

#[test]
fn another_model_is_not_pulled_over_one_that_is_there() {
    let (one, other) = (Fixture::new(), tempfile::tempdir().unwrap());
    let input = other.path().join("other.gguf");
    crate::common::write(&input, &crate::common::metadata(5), &tensors(&[64]));
    let output = other.path().join("pieces");
    let job = fragment::SplitJob { input, output: output.clone(), max_bytes: 4096, force: false };
    fragment::split(&job).unwrap();
    let before = fs::read(output.join("manifest.json")).unwrap();
    let from = [Origin::parse(&one.pieces()).unwrap()];
    let error = pull_from(&from, &output).unwrap_err().to_string();
    assert!(error.contains("is of another model (other.gguf)"), "{error}");
    assert_eq!(fs::read(output.join("manifest.json")).unwrap(), before);
}

#[cfg(not(feature = "network"))]
#[test]
fn a_build_without_the_network_says_how_to_get_it() {
    let folder = tempfile::tempdir().unwrap();
    let origin = Origin::parse(Path::new("https://example.org/model")).unwrap();
    let error = pull_from(&[origin], &folder.path().join("x")).unwrap_err().to_string();
    assert!(error.contains("--features network"), "{error}");
}
