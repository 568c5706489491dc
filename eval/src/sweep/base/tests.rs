//! A base is written, resumed and read back; every other file is refused with its own error.

use std::fs;
use std::path::Path;

use super::*;

const VOCABULARY: usize = 7;

/// Three windows of eight tokens: positions 4, 5 and 6 of each are scored.
fn identity() -> Identity {
    Identity {
        vocab_size: VOCABULARY as u32,
        context: 8,
        windows: 3,
        engine: BaseEngine::LlamaCpp,
        model: [1; 32],
        tokens: [2; 32],
    }
}

/// The logits of a window, `[3, V]`.
fn logits(window: usize) -> Vec<f32> {
    let one = |i: usize| ((window * 31 + i) as f32 * 0.7).sin() * 5.0;
    (0..3 * VOCABULARY).map(one).collect()
}

fn write(writer: &mut BaseWriter, windows: usize) {
    for _ in 0..windows {
        let window = writer.next().unwrap();
        let mut rows = writer.window(window);
        let logits = logits(window);
        // In two pieces, as a long window is passed.
        rows.rows(&logits[..VOCABULARY]).unwrap();
        rows.rows(&logits[VOCABULARY..]).unwrap();
        rows.finish().unwrap();
    }
}

fn written(path: &Path) -> Base {
    let mut writer = BaseWriter::open(path, &identity(), false).unwrap();
    write(&mut writer, 3);
    writer.finish().unwrap()
}

fn changed(path: &Path, place: usize) -> Vec<u8> {
    let mut bytes = fs::read(path).unwrap();
    bytes[place] ^= 0x10;
    fs::write(path, &bytes).unwrap();
    bytes
}

fn refusal(path: &Path, wanted: &Identity) -> String {
    Base::open(path, wanted).unwrap_err().to_string()
}

#[test]
fn what_was_written_is_read_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("new/base.kld");
    let base = written(&path);
    assert_eq!(base.identity(), &identity());
    assert_eq!(fs::metadata(&path).unwrap().len(), identity().file_bytes());
    assert_eq!(identity().file_bytes(), 4096 + 3 * 3 * (4 + 2 * 7));
    assert!(!part_of(&path).exists());
    for window in 0..3 {
        let rows = base.rows(window).unwrap();
        for (position, exact) in logits(window).chunks(VOCABULARY).enumerate() {
            let mut row = [0.0; VOCABULARY];
            decode(rows(position), &mut row);
            let largest = exact.iter().copied().fold(f32::MIN, f32::max);
            for (exact, row) in exact.iter().zip(row) {
                assert!((exact - largest - row).abs() < 2e-4, "{exact} {largest} {row}");
            }
        }
    }
}

#[test]
fn a_part_is_taken_up_and_ends_as_the_same_file() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, stopped) = (folder.path().join("whole"), folder.path().join("stopped"));
    written(&whole);
    for done in 0..=3 {
        let mut writer = BaseWriter::open(&stopped, &identity(), false).unwrap();
        write(&mut writer, done);
        // Ends within a window: rows without a mark.
        if let Some(window) = writer.next() {
            writer.window(window).rows(&[9.0; VOCABULARY]).unwrap();
        }
        drop(writer);
        let mut writer = BaseWriter::open(&stopped, &identity(), false).unwrap();
        assert_eq!((writer.done(), writer.next()), (done, (done < 3).then_some(done)));
        write(&mut writer, 3 - done);
        writer.finish().unwrap();
        assert_eq!(fs::read(&stopped).unwrap(), fs::read(&whole).unwrap());
        fs::remove_file(&stopped).unwrap();
    }
}

#[test]
fn a_window_of_a_part_that_lost_its_rows_is_computed_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("base");
    let mut writer = BaseWriter::open(&path, &identity(), false).unwrap();
    write(&mut writer, 2);
    drop(writer);
    // The state after a power cut that kept the mark and lost the page.
    changed(&part_of(&path), 4096 + 3);
    let writer = BaseWriter::open(&path, &identity(), false).unwrap();
    assert_eq!((writer.done(), writer.next()), (1, Some(0)));
}

#[test]
fn a_part_that_was_never_begun_is_begun() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("base");
    for bytes in [vec![], vec![0; 4096]] {
        fs::write(part_of(&path), bytes).unwrap();
        let writer = BaseWriter::open(&path, &identity(), false).unwrap();
        assert_eq!(writer.done(), 0);
        let length = fs::metadata(part_of(&path)).unwrap().len();
        assert_eq!(length, identity().file_bytes());
    }
}

#[test]
fn two_writers_do_not_meet() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("base");
    let _first = BaseWriter::open(&path, &identity(), false).unwrap();
    let second = BaseWriter::open(&path, &identity(), true).err().unwrap();
    assert!(matches!(second, BaseError::Busy { .. }), "{second}");
}

#[test]
fn each_difference_has_its_own_reason() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("base");
    written(&path);
    let own = identity();
    let cases = [
        (Identity { model: [9; 32], ..own.clone() }, "is a base of another model"),
        (Identity { vocab_size: 8, ..own.clone() }, "is a base of another model"),
        (Identity { tokens: [9; 32], ..own.clone() }, "is a base of another text"),
        (Identity { context: 16, ..own.clone() }, "is a base of windows of 8 tokens, not 16"),
        (Identity { windows: 4, ..own.clone() }, "is a base of 3 windows, not 4"),
        (
            Identity { engine: BaseEngine::Reference, ..own.clone() },
            "is a base computed by llama.cpp, not by the reference",
        ),
    ];
    for (wanted, reason) in cases {
        let error = refusal(&path, &wanted);
        assert!(error.contains(reason), "{error}");
        assert!(error.contains("replace it with --force"), "{error}");
        // The same holds for a partial file.
        fs::copy(&path, part_of(&path)).unwrap();
        let error = BaseWriter::open(&path, &wanted, false).err().unwrap().to_string();
        assert!(error.contains(reason), "{error}");
        let writer = BaseWriter::open(&path, &wanted, true).unwrap();
        assert_eq!(writer.done(), 0, "what may be replaced is begun anew");
    }
    let writer = BaseWriter::open(&path, &own, true);
    drop(writer);
    assert!(Base::open(&path, &own).is_ok());
}

#[test]
fn damage_is_found_and_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("base");
    let wanted = identity();
    let case = |damage: &dyn Fn(&mut Vec<u8>), reason: &str| {
        let _ = fs::remove_file(&path);
        written(&path);
        let mut bytes = fs::read(&path).unwrap();
        damage(&mut bytes);
        fs::write(&path, bytes).unwrap();
        let error = refusal(&path, &wanted);
        assert!(error.contains(reason), "{reason}: {error}");
    };
    case(&|bytes| bytes[0] = b'X', "is no base of logits");
    case(&|bytes| bytes.truncate(5), "is no base of logits");
    case(&|bytes| bytes[..8].copy_from_slice(b"_logits_"), "llama-perplexity's own file");
    case(&|bytes| bytes[8] = 2, "version 2 of the format, expected 1");
    case(&|bytes| bytes.truncate(100), "its header is damaged");
    for place in [12, 16, 20, 24, 30, 40, 70, 100] {
        case(&|bytes| bytes[place] ^= 1, "its header is damaged");
    }
    case(&|bytes| bytes.truncate(bytes.len() - 1), "has 4257 bytes, its header says 4258");
    case(&|bytes| bytes.push(0), "has 4259 bytes, its header says 4258");
    case(&|bytes| bytes[128 + 32..128 + 64].fill(0), "window 1 was never written");

    let _ = fs::remove_file(&path);
    written(&path);
    changed(&path, 4096 + 3 * 18 + 5);
    let base = Base::open(&path, &wanted).unwrap();
    assert!(base.rows(0).is_ok() && base.rows(2).is_ok());
    let error = base.rows(1).err().unwrap().to_string();
    assert!(error.contains("window 1 is damaged"), "{error}");

    let error = refusal(&folder.path().join("missing"), &wanted);
    assert!(error.ends_with("missing"), "{error}");
}

#[test]
fn a_base_that_lacks_a_window_is_not_finished() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("base");
    let mut writer = BaseWriter::open(&path, &identity(), false).unwrap();
    write(&mut writer, 2);
    let error = writer.finish().unwrap_err().to_string();
    assert!(error.contains("window 2 was never written"), "{error}");
    assert!(!path.exists());
}

#[cfg(unix)]
#[test]
fn a_disk_without_room_is_said_before_anything_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("base");
    let wanted = Identity { vocab_size: u32::MAX, context: 1 << 20, ..identity() };
    let error = BaseWriter::open(&path, &wanted, false).err().unwrap();
    assert!(matches!(error, BaseError::NoRoom { .. }), "{error}");
    assert_eq!(fs::metadata(part_of(&path)).unwrap().len(), 0);
}
