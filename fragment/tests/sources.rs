//! Pieces from servers, honest and not: nothing unverified is stored or used, and who is at fault is
//! named.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use fragment::transport::Patience;
use fragment::{
    Cache, FragmentFolder, JoinJob, Origin, PullJob, PullReport, add_trees, join, local_in,
    open_remote, pull, read_tensor, verify, whole_file_in,
};
use gguf::TensorSource;

use crate::common::server::{Manner, Server};
use crate::common::{Fixture, content, metadata, tensors, write};

const PATIENCE: Patience = Patience { stall: Duration::from_millis(700) };

fn pull_from(from: &[Origin], output: &Path) -> anyhow::Result<PullReport> {
    let interrupt = cli::Interrupt::default();
    let output = output.to_owned();
    pull(&PullJob { from: from.to_vec(), output, patience: PATIENCE, interrupt })
}

fn joined(pieces: &Path) -> Vec<u8> {
    let output = pieces.with_extension("joined.gguf");
    join(&JoinJob { input: pieces.to_owned(), output: output.clone(), force: true }).unwrap();
    fs::read(output).unwrap()
}

fn names(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Every piece in the folder has the hash that is its name.
fn assert_only_sound_pieces(folder: &Path) {
    for name in names(folder) {
        if let Some(hash) = name.strip_suffix(".dat") {
            let bytes = fs::read(folder.join(&name)).unwrap();
            assert_eq!(blake3::hash(&bytes).to_hex().as_str(), hash);
        }
    }
}

#[test]
fn a_model_is_pulled_once_and_only_what_is_missing_comes_again() {
    let fixture = Fixture::new();
    let server = Server::new(&fixture.pieces(), Manner::Honest);
    let output = fixture.folder.path().join("pulled");
    let report = pull_from(&[server.origin()], &output).unwrap();
    assert_eq!((report.fetched, report.present), (names(&output).len() - 1, 0));
    assert_eq!(names(&output), names(&fixture.pieces()));
    assert_eq!(joined(&output), fixture.bytes);

    let manifest = fixture.manifest();
    fs::remove_file(output.join(&manifest.fragments[1].file)).unwrap();
    fs::write(output.join(&manifest.fragments[2].file), b"damaged on the disk").unwrap();
    let report = pull_from(&[server.origin()], &output).unwrap();
    assert_eq!(report.fetched, 2);
    assert!(verify(&output).unwrap().problems.is_empty());
}

#[test]
fn whatever_the_first_source_does_wrong_the_piece_is_taken_from_the_second() {
    let fixture = Fixture::new();
    let honest = Server::new(&fixture.pieces(), Manner::Honest);
    let loops = Server::new(&fixture.pieces(), Manner::Honest);
    for (manner, says) in [
        (Manner::Flip, "is damaged"),
        (Manner::Shorter, "bytes: expected"),
        (Manner::CutShort, ""),
        (Manner::Endless, ""),
        (Manner::Huge, "bytes: expected"),
        (Manner::Silent, "no byte came for"),
        (Manner::StallHalfway, "no byte came for"),
        (Manner::Drip, "is sent too slowly"),
        (Manner::Redirect(loops.address.clone()), "redirect"),
        (Manner::Status(403), "access was refused"),
        (Manner::Status(500), ""),
        (Manner::Garbage, ""),
    ] {
        if let Manner::Redirect(_) = manner {
            // Each sends to the other.
            for fragment in &fixture.manifest().fragments {
                let back = Manner::Redirect(loops.address.clone());
                loops.manner(&fragment.file, back);
            }
        }
        let first = Server::new(&fixture.pieces(), manner.clone());
        first.manner("manifest.json", Manner::Honest);
        let output = fixture.folder.path().join(format!("{manner:?}").replace(['/', ':'], ""));
        let started = Instant::now();
        let report = pull_from(&[first.origin(), honest.origin()], &output).unwrap();
        assert!(started.elapsed() < Duration::from_secs(30), "{manner:?}");
        assert!(report.sources[0].faults > 0 && report.sources[1].faults == 0, "{manner:?}");
        let fault = report.sources[0].first_fault.clone().unwrap();
        assert!(fault.contains(says), "{manner:?}: {fault}");
        assert!(verify(&output).unwrap().problems.is_empty(), "{manner:?}");

        // Alone it gives nothing, and nothing unverified.
        let alone = output.with_extension("alone");
        let error = cli::one_line(&pull_from(&[first.origin()], &alone).unwrap_err());
        assert!(error.contains("no source has a sound"), "{manner:?}: {error}");
        assert!(error.contains(&first.address) && !error.contains('\n'), "{error}");
        assert!(!alone.join("manifest.json").exists());
        assert_eq!(names(&alone), Vec::<String>::new(), "{manner:?}");
    }
}

#[test]
fn three_sources_hold_a_third_each_one_goes_and_one_is_damaged() {
    let fixture = Fixture::new();
    let manifest = fixture.manifest();
    let third = |which: usize, also: usize| {
        let folder = fixture.folder.path().join(format!("third-{which}"));
        fs::create_dir(&folder).unwrap();
        fs::copy(fixture.manifest_path(), folder.join("manifest.json")).unwrap();
        for fragment in &manifest.fragments {
            if fragment.id % 3 == which || fragment.id % 3 == also {
                let file = &fragment.file;
                fs::copy(fixture.pieces().join(file), folder.join(file)).unwrap();
            }
        }
        folder
    };
    // Each piece of the one that goes, and of the damaged one, is also at another.
    let servers = [third(0, 1), third(1, 2), third(2, 0)].map(|f| Server::new(&f, Manner::Honest));
    servers[0].dies_after(2);
    servers[1].manner(&manifest.fragments[2].file, Manner::Flip);
    let output = fixture.folder.path().join("pulled");
    let from = servers.each_ref().map(Server::origin);
    let report = pull_from(&from, &output).unwrap();
    assert_eq!(joined(&output), fixture.bytes);
    assert!(report.sources[0].faults > 0, "{report}");
    assert!(report.sources[1].first_fault.as_ref().unwrap().contains("is damaged"), "{report}");
    assert_eq!(report.sources[2].faults, 0, "{report}");
}

#[test]
fn a_stopped_pull_goes_on_and_has_no_manifest_until_it_is_done() {
    let fixture = Fixture::new();
    let server = Server::new(&fixture.pieces(), Manner::Honest);
    let output = fixture.folder.path().join("pulled");
    server.manner(&fixture.manifest().fragments[2].file, Manner::Status(403));
    assert!(pull_from(&[server.origin()], &output).is_err());
    let kept = names(&output);
    assert!(!kept.contains(&"manifest.json".to_owned()), "{kept:?}");
    assert_only_sound_pieces(&output);

    let interrupt = cli::Interrupt::default();
    interrupt.request();
    let (from, patience) = (vec![server.origin()], PATIENCE);
    let job = PullJob { from, output: output.clone(), patience, interrupt };
    assert!(pull(&job).unwrap_err().is::<cli::Interrupted>());

    server.manner(&fixture.manifest().fragments[2].file, Manner::Honest);
    let report = pull_from(&[server.origin()], &output).unwrap();
    assert_eq!(report.present, kept.len());
    assert_eq!(joined(&output), fixture.bytes);
}

#[test]
fn a_manifest_is_pinned_by_its_hash_and_strangers_cannot_lead_out_of_the_folder() {
    let fixture = Fixture::new();
    let server = Server::new(&fixture.pieces(), Manner::Honest);
    let hash = blake3::hash(&fs::read(fixture.manifest_path()).unwrap()).to_hex();
    let at = |pin: &str| Origin::parse(Path::new(&format!("{}#{pin}", server.address))).unwrap();
    let output = fixture.folder.path().join("pulled");
    pull_from(&[at(hash.as_str())], &output).unwrap();
    let error = pull_from(&[at(&"0".repeat(64))], &output.join("x")).unwrap_err();
    assert!(format!("{error:#}").contains("the BLAKE3 of manifest.json is"), "{error:#}");

    let strangers = fixture.folder.path().join("strangers");
    fs::create_dir(&strangers).unwrap();
    let text = fs::read_to_string(fixture.manifest_path()).unwrap();
    let name = &fixture.manifest().fragments[0].file;
    for climbing in ["../../etc/passwd", "/etc/passwd", "..\\x.dat"] {
        let text = text.replace(name.as_str(), &climbing.replace('\\', "\\\\"));
        fs::write(strangers.join("manifest.json"), text).unwrap();
        let stranger = Server::new(&strangers, Manner::Honest);
        let output = fixture.folder.path().join("out");
        let error = cli::one_line(&pull_from(&[stranger.origin()], &output).unwrap_err());
        assert!(error.contains("has the file"), "{error}");
        assert!(!output.exists());
    }
    let home = fixture.folder.path().join("home");
    fs::create_dir(&home).unwrap();
    fs::write(home.join("letter.txt"), "dear").unwrap();
    let error = pull_from(&[server.origin()], &home).unwrap_err().to_string();
    assert!(error.contains("holds something else"), "{error}");
}

/// A model of 12 MiB in pieces of 10 MiB with trees: three tensors of 2 MiB share the first piece.
fn large() -> (tempfile::TempDir, PathBuf, Vec<u64>) {
    let folder = tempfile::tempdir().unwrap();
    let lengths: Vec<u64> = vec![512 << 10, 512 << 10, 512 << 10, 300, 2 << 20];
    let input = folder.path().join("model.gguf");
    write(&input, &metadata(3000), &tensors(&lengths));
    let output = folder.path().join("pieces");
    let max_bytes = 10 << 20;
    fragment::split(&fragment::SplitJob { input, output: output.clone(), max_bytes, force: false })
        .unwrap();
    add_trees(&output).unwrap();
    (folder, output, lengths)
}

#[test]
fn one_tensor_from_far_away_moves_its_bytes_one_percent_and_the_manifest() {
    let (_folder, pieces, lengths) = large();
    assert!(verify(&pieces).unwrap().problems.is_empty());
    let manifest_bytes = fs::metadata(pieces.join("manifest.json")).unwrap().len();
    for index in [0, 1, 2, 4] {
        let server = Server::new(&pieces, Manner::Honest);
        let (found, source) = open_remote(&[server.origin()], PATIENCE, None).unwrap();
        let name = tensors(&lengths)[index].0.clone();
        let (_, bytes) = read_tensor(&found.manifest, &source, &name).unwrap();
        assert_eq!(bytes, content(index, lengths[index] * 4));
        let most = bytes.len() as u64 * 101 / 100 + manifest_bytes;
        assert!(server.sent() <= most, "{name}: {} of at most {most}", server.sent());
        assert!(server.requests() <= 6, "{}", server.requests());
        assert_eq!(source.report()[0].bytes, server.sent(), "what is said is what was sent");
    }
}

#[test]
fn a_small_tensor_costs_less_than_16_kib_more() {
    let (_folder, pieces, lengths) = large();
    let manifest_bytes = fs::metadata(pieces.join("manifest.json")).unwrap().len();
    let server = Server::new(&pieces, Manner::Honest);
    let (found, source) = open_remote(&[server.origin()], PATIENCE, None).unwrap();
    let (_, bytes) = read_tensor(&found.manifest, &source, &tensors(&lengths)[3].0).unwrap();
    assert_eq!(bytes, content(3, 1200));
    assert!(server.sent() <= 1200 + (16 << 10) + manifest_bytes, "{}", server.sent());
}

#[test]
fn without_ranges_or_with_a_lying_tree_the_whole_piece_is_taken() {
    let (_folder, pieces, lengths) = large();
    let name = tensors(&lengths)[1].0.clone();
    let manifest = fragment::read_manifest(&pieces.join("manifest.json")).unwrap();
    let tree = format!("{}.tree", manifest.fragments[0].blake3);
    for (manner, faults) in [(Manner::NoRanges, 0), (Manner::Flip, 1), (Manner::Status(404), 0)] {
        let server = Server::new(&pieces, Manner::Honest);
        if manner == Manner::NoRanges {
            manifest.fragments.iter().for_each(|f| server.manner(&f.file, manner.clone()));
        }
        server.manner(&tree, manner.clone());
        if manner == Manner::Flip {
            // All of the tree is wrong: a bit could be of a leaf far from this tensor.
            let bytes = fs::metadata(pieces.join(&tree)).unwrap().len();
            fs::write(pieces.join(&tree), vec![7; bytes as usize]).unwrap();
            server.manner(&tree, Manner::Honest);
        }
        let (found, source) = open_remote(&[server.origin()], PATIENCE, None).unwrap();
        let (_, bytes) = read_tensor(&found.manifest, &source, &name).unwrap();
        assert_eq!(bytes, content(1, lengths[1] * 4), "{manner:?}");
        assert_eq!(source.report()[0].faults, faults, "{manner:?}: {:?}", source.report());
    }
    let error = verify(&pieces).unwrap();
    assert_eq!(error.problems.len(), 1, "{error}");
    assert!(error.problems[0].what.contains("is not the tree of its piece"));
}

#[test]
fn a_damaged_part_is_found_by_its_tree() {
    let (_folder, pieces, lengths) = large();
    let manifest = fragment::read_manifest(&pieces.join("manifest.json")).unwrap();
    let name = tensors(&lengths)[1].0.clone();
    let shard = manifest.tensors[1].shards[0];
    let liar = fs::canonicalize(&pieces).unwrap().with_file_name("liar");
    fs::create_dir(&liar).unwrap();
    for file in names(&pieces) {
        fs::copy(pieces.join(&file), liar.join(&file)).unwrap();
    }
    let path = liar.join(&manifest.fragments[0].file);
    let mut bytes = fs::read(&path).unwrap();
    bytes[shard.offset as usize + 77] ^= 4;
    fs::write(&path, bytes).unwrap();
    let servers = [liar, pieces].map(|folder| Server::new(&folder, Manner::Honest));
    let from = servers.each_ref().map(Server::origin);
    let (found, source) = open_remote(&from, PATIENCE, None).unwrap();
    let (_, bytes) = read_tensor(&found.manifest, &source, &name).unwrap();
    assert_eq!(bytes, content(1, lengths[1] * 4));
    let report = source.report();
    assert!(report[0].first_fault.as_ref().unwrap().contains("by its tree"), "{report:?}");
    assert_eq!(report[1].faults, 0);
}

#[test]
fn the_cache_serves_a_model_whose_server_is_gone_and_joins_it() {
    let fixture = Fixture::new();
    let hash = blake3::hash(&fs::read(fixture.manifest_path()).unwrap()).to_hex();
    let cache = Cache::new(fixture.folder.path().join("cache"), 1 << 20);
    let server = Server::new(&fixture.pieces(), Manner::Honest);
    let address = PathBuf::from(format!("{}#{hash}", server.address));
    let path = local_in(&address, &cache).unwrap();
    let source = FragmentFolder::open(&path).unwrap();
    let tensor = source.tensors()[2].clone();
    assert_eq!(&source.read(&tensor).unwrap()[..], content(2, 10_000));
    let requests = server.requests();
    drop(server);
    assert_eq!(local_in(&address, &cache).unwrap(), path);

    let file = whole_file_in(&address, &cache).unwrap();
    assert_eq!(fs::read(&file).unwrap(), fixture.bytes);
    let mut damaged = fixture.bytes.clone();
    damaged[1000] ^= 1;
    fs::write(&file, damaged).unwrap();
    assert_eq!(whole_file_in(&address, &cache).unwrap(), file);
    assert_eq!(fs::read(&file).unwrap(), fixture.bytes, "a damaged file is joined again");
    assert!(requests > 0);

    let small = Cache::new(fixture.folder.path().join("small"), 10_000);
    let server = Server::new(&fixture.pieces(), Manner::Honest);
    let error = local_in(Path::new(&server.address), &small).unwrap_err().to_string();
    assert!(error.contains("POCKETGPT_CACHE_SIZE"), "{error}");
}

#[test]
fn verifying_a_place_names_what_is_damaged_and_missing_there() {
    let fixture = Fixture::new();
    let server = Server::new(&fixture.pieces(), Manner::Honest);
    assert!(verify(Path::new(&server.address)).unwrap().problems.is_empty());
    let manifest = fixture.manifest();
    server.manner(&manifest.fragments[1].file, Manner::Flip);
    server.manner(&manifest.fragments[2].file, Manner::Status(404));
    server.manner(&manifest.fragments[3].file, Manner::Shorter);
    let report = verify(Path::new(&server.address)).unwrap();
    assert_eq!(report.problems.len(), 3, "{report}");
    assert!(cli::one_line(&report.require_sound().unwrap_err()).contains("2 damaged, 1 missing"));
}

#[test]
fn what_is_no_source_is_said_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out");
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for (address, says) in [
        (format!("http://{closed}/model"), "cannot fetch the manifest"),
        ("/no/such/folder".to_owned(), "is missing"),
    ] {
        let origin = Origin::parse(Path::new(&address)).unwrap();
        let error = cli::one_line(&pull_from(&[origin], &output).unwrap_err());
        assert!(error.contains(says) && !error.contains('\n'), "{error}");
        assert!(!output.exists());
    }
}
