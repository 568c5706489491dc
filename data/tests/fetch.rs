//! `data fetch` against a small server in this test.

#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use crate::common;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::thread;

use data::{FetchJob, FetchReport, KnownCorpus, fetch};

const TEXT: &str = "So it is, said Mrs. Pell, and she walked on with the bread.\n";

/// The response of the server to one request. The server runs until its list of these is used up.
#[derive(Clone, Copy)]
enum Answer {
    /// All of the text, or the requested range.
    Whole,
    /// As `Whole`, but the connection ends after this many bytes of it.
    Cut(usize),
    /// All of the text, whatever range was requested.
    NoRanges,
    /// Other data of the same length.
    Wrong,
    /// More than the text.
    TooLong,
    /// A range that was not requested.
    OtherRange,
    /// `404`
    Missing,
}

/// Starts a server that gives these responses, one for each connection, and then ends.
fn serve(answers: Vec<Answer>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}/text", listener.local_addr().unwrap());
    thread::spawn(move || {
        for answer in answers {
            let (stream, _) = listener.accept().unwrap();
            respond(stream, answer);
        }
    });
    address
}

fn respond(mut stream: TcpStream, answer: Answer) {
    let mut start = None;
    for line in BufReader::new(stream.try_clone().unwrap()).lines() {
        let line = line.unwrap().to_ascii_lowercase();
        if let Some(range) = line.strip_prefix("range: bytes=") {
            start = Some(range.trim_end_matches('-').parse::<usize>().unwrap());
        }
        if line.is_empty() {
            break;
        }
    }
    let from = match answer {
        Answer::Whole | Answer::Cut(_) => start,
        Answer::OtherRange => Some(3),
        _ => None,
    };
    let body = match answer {
        Answer::Wrong => "x".repeat(TEXT.len()),
        Answer::TooLong => TEXT.repeat(2),
        _ => TEXT[from.unwrap_or(0)..].to_owned(),
    };
    let status = match (answer, from) {
        (Answer::Missing, _) => "404 Not Found".to_owned(),
        (_, None) => "200 OK".to_owned(),
        (_, Some(from)) => {
            let last = TEXT.len() - 1;
            format!("206 Partial Content\r\nContent-Range: bytes {from}-{last}/{}", TEXT.len())
        }
    };
    let sent = match answer {
        Answer::Cut(sent) => sent,
        _ => body.len(),
    };
    let len = body.len();
    let head = format!("HTTP/1.1 {status}\r\nContent-Length: {len}\r\nConnection: close\r\n\r\n");
    // The client may have closed the connection because it refuses the response.
    let _ = stream.write_all(head.as_bytes());
    let _ = stream.write_all(&body.as_bytes()[..sent]);
}

fn corpus(address: &str) -> KnownCorpus {
    KnownCorpus {
        name: "bread",
        address: address.to_owned().leak(),
        file: "bread.txt",
        size: TEXT.len() as u64,
        sha256: checkpoint::hash::hash_bytes(TEXT.as_bytes()).sha256.leak(),
        about: "",
    }
}

fn get(address: &str, folder: &Path) -> Result<FetchReport, String> {
    let corpus = corpus(address);
    let job =
        FetchJob { corpus: &corpus, folder: Some(folder.to_owned()), from: None, force: false };
    fetch(&job).map_err(|error| cli::one_line(&error))
}

fn files(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_download_arrives_and_is_not_repeated() {
    let folder = tempfile::tempdir().unwrap();
    let address = serve(vec![Answer::Whole]);
    let report = get(&address, folder.path()).unwrap();
    assert_eq!(std::fs::read_to_string(&report.path).unwrap(), TEXT);
    assert_eq!((report.resumed_from, report.source), (0, address.clone()));
    // The server has ended by now.
    assert_eq!(get(&address, folder.path()).unwrap().source, "already there");
    assert_eq!(files(folder.path()), ["bread.txt"]);
}

#[test]
fn a_cut_download_goes_on_where_it_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let address = serve(vec![Answer::Cut(20), Answer::Cut(5), Answer::Whole]);
    let error = get(&address, folder.path()).unwrap_err();
    assert!(error.contains("run the same command again"), "{error}");
    assert_eq!(files(folder.path()), ["bread.txt.part"]);
    assert_eq!(std::fs::read_to_string(folder.path().join("bread.txt.part")).unwrap(), TEXT[..20]);
    get(&address, folder.path()).unwrap_err();
    let report = get(&address, folder.path()).unwrap();
    assert_eq!(report.resumed_from, 25);
    assert_eq!(std::fs::read_to_string(&report.path).unwrap(), TEXT);
    assert_eq!(files(folder.path()), ["bread.txt"]);
}

#[test]
fn a_server_without_ranges_sends_it_all_again() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("bread.txt.part"), "So it").unwrap();
    let report = get(&serve(vec![Answer::NoRanges]), folder.path()).unwrap();
    assert_eq!(report.resumed_from, 0);
    assert_eq!(std::fs::read_to_string(&report.path).unwrap(), TEXT);
}

#[test]
fn a_part_that_is_complete_needs_no_server_and_one_that_is_too_long_is_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let part = folder.path().join("bread.txt.part");
    std::fs::write(&part, TEXT).unwrap();
    assert!(get("http://127.0.0.1:1/", folder.path()).is_ok());
    std::fs::remove_file(folder.path().join("bread.txt")).unwrap();
    std::fs::write(&part, TEXT.repeat(2)).unwrap();
    assert!(get(&serve(vec![Answer::Whole]), folder.path()).is_ok());
}

#[test]
fn what_is_not_the_corpus_never_gets_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |answer| get(&serve(vec![answer]), folder.path()).unwrap_err();
    let error = refused(Answer::Wrong);
    assert!(error.contains("SHA-256") && error.contains("the download was removed"), "{error}");
    assert_eq!(files(folder.path()), [""; 0]);
    let error = refused(Answer::TooLong);
    assert!(error.contains("more than the expected"), "{error}");
    let error = refused(Answer::Missing);
    assert!(error.contains("404") && error.contains("--from FILE"), "{error}");
    std::fs::write(folder.path().join("bread.txt.part"), "So it").unwrap();
    let error = refused(Answer::OtherRange);
    assert!(error.contains("another range"), "{error}");
    assert!(!folder.path().join("bread.txt").exists());
}

#[test]
fn without_a_network_one_line_says_where_the_file_goes() {
    let folder = tempfile::tempdir().unwrap();
    let error = get("http://127.0.0.1:1/text", folder.path()).unwrap_err();
    let path = folder.path().join("bread.txt").display().to_string();
    assert!(error.contains("data fetch bread --from FILE") && error.contains(&path), "{error}");
    assert!(!error.contains('\n'));
}

#[test]
fn a_file_at_hand_is_verified_and_copied() {
    let folder = tempfile::tempdir().unwrap();
    let corpus = corpus("http://127.0.0.1:1/");
    let (at_hand, target) = (folder.path().join("mine"), folder.path().join("out"));
    let from = |force| {
        let job = FetchJob {
            corpus: &corpus,
            folder: Some(target.clone()),
            from: Some(at_hand.clone()),
            force,
        };
        fetch(&job).map_err(|error| cli::one_line(&error))
    };
    assert!(from(false).unwrap_err().contains("cannot read"));
    std::fs::write(&at_hand, "something shorter").unwrap();
    assert!(from(false).unwrap_err().contains("it has 17 bytes, expected 60"));
    std::fs::write(&at_hand, TEXT).unwrap();
    assert_eq!(from(false).unwrap().source, at_hand.display().to_string());
    assert_eq!(std::fs::read_to_string(target.join("bread.txt")).unwrap(), TEXT);

    std::fs::write(target.join("bread.txt"), "another file").unwrap();
    assert!(from(false).unwrap_err().contains("--force"));
    from(true).unwrap();
    assert_eq!(std::fs::read_to_string(target.join("bread.txt")).unwrap(), TEXT);
}

#[test]
fn the_recorded_sizes_and_hashes_are_those_of_real_copies() {
    for known in data::KNOWN_CORPORA {
        let Some(copy) = common::shared("recorded_hashes", &format!("texts/{}", known.file)) else {
            return;
        };
        let found = checkpoint::hash::hash_file(copy).unwrap();
        assert_eq!((found.size, found.sha256.as_str()), (known.size, known.sha256));
    }
}
