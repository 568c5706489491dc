//! Where a text comes from: compiled in, fetched by name, or any file.

use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

/// The text that is compiled in, so that a first run needs no download: "The Keeper of the Slow
/// Clock", a short story written for this project. Same licence as the code.
pub const BUILTIN_STORY: &str = include_str!("story.txt");

/// The name that stands for [`BUILTIN_STORY`].
pub const BUILTIN: &str = "builtin";

/// Where `data fetch` puts texts and [`resolve_corpus`] looks for them, below the working folder.
pub const CORPORA_FOLDER: &str = "corpora";

/// A public text with what it must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnownCorpus {
    /// What it is called here.
    pub name: &'static str,
    /// Where it is served as it is.
    pub address: &'static str,
    /// Name of the file in the corpora folder.
    pub file: &'static str,
    /// Size in bytes.
    pub size: u64,
    /// SHA-256 in hexadecimal.
    pub sha256: &'static str,
    /// What it is and under which licence.
    pub about: &'static str,
}

/// The texts that `data fetch` knows. Sizes and hashes are of copies that were read; addresses
/// may move, and then the error says where the file goes.
pub const KNOWN_CORPORA: [KnownCorpus; 3] = [
    KnownCorpus {
        name: "the-verdict",
        address: "https://raw.githubusercontent.com/rasbt/LLMs-from-scratch/main/ch02/01_main-chapter-code/the-verdict.txt",
        file: "the-verdict.txt",
        size: 20_479,
        sha256: "b41e41a68f0398a3154ae69e2e4c0e2694e17fe0d66730536837f1b01935b31f",
        about: "Edith Wharton, The Verdict, 1908; public domain",
    },
    KnownCorpus {
        name: "tinyshakespeare",
        address: "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt",
        file: "tinyshakespeare.txt",
        size: 1_115_394,
        sha256: "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
        about: "40,000 lines of Shakespeare; public domain",
    },
    // A mirror of the extracted test split: the original address (an archive on S3) has gone.
    KnownCorpus {
        name: "wikitext-2",
        address: "https://cosmo.zip/pub/datasets/wikitext-2-raw/wiki.test.raw",
        file: "wiki.test.raw",
        size: 1_290_590,
        sha256: "173c87a53759e0201f33e0ccf978e510c2042d7f2cb78229d9a50d79b9e7dd08",
        about: "WikiText-2, raw test split (Merity et al., 2016); CC BY-SA 3.0",
    },
];

impl KnownCorpus {
    /// The known corpus called `name`.
    pub fn find(name: &str) -> Option<&'static KnownCorpus> {
        KNOWN_CORPORA.iter().find(|corpus| corpus.name == name)
    }

    /// `the-verdict, tinyshakespeare, wikitext-2`
    pub fn names() -> String {
        KNOWN_CORPORA.map(|corpus| corpus.name).join(", ")
    }
}

/// A text that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Corpus {
    name: String,
    source: Source,
}

/// Where a text is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// In the program.
    Builtin(&'static str),
    /// In a file.
    File(PathBuf),
}

impl Corpus {
    /// What the user called it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where its text is.
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// Size of the text in bytes.
    ///
    /// # Errors
    /// When the file has gone.
    pub fn size(&self) -> Result<u64> {
        match &self.source {
            Source::Builtin(text) => Ok(text.len() as u64),
            Source::File(path) => Ok(std::fs::metadata(path)
                .with_context(|| format!("cannot read {}", path.display()))?
                .len()),
        }
    }

    /// The whole text at once; for texts that are known to be small.
    ///
    /// # Errors
    /// When the file cannot be read or is not UTF-8.
    pub fn read(&self) -> Result<String> {
        match &self.source {
            Source::Builtin(text) => Ok((*text).to_owned()),
            Source::File(path) => plain_file::read_to_string(path)
                .with_context(|| format!("cannot read {} as text", path.display())),
        }
    }
}

impl fmt::Display for Corpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// Finds the text that `data.path` names: `builtin`, a known corpus that was fetched into
/// `corpora/`, or a file. A file that is called like a corpus is reached as `./NAME`.
///
/// # Errors
/// When there is no such file, or the corpus was not fetched yet; with the way to get it.
pub fn resolve_corpus(path: &Path) -> Result<Corpus> {
    resolve_in(path, Path::new(CORPORA_FOLDER))
}

fn resolve_in(path: &Path, corpora: &Path) -> Result<Corpus> {
    let name = path.display().to_string();
    if name == BUILTIN {
        return Ok(Corpus { name, source: Source::Builtin(BUILTIN_STORY) });
    }
    if let Some(known) = KnownCorpus::find(&name) {
        let file = corpora.join(known.file);
        ensure!(
            file.is_file(),
            "the corpus {name} is not at {} yet; get it with `data fetch {name}`",
            file.display()
        );
        check_fetched(&file)?;
        return Ok(Corpus { name, source: Source::File(file) });
    }
    ensure!(
        path.exists(),
        "there is no text at {name}; expected a UTF-8 file, `{BUILTIN}`, or one of: {}",
        KnownCorpus::names()
    );
    ensure!(path.is_file(), "{name} is not a file; expected a UTF-8 text file");
    check_fetched(path)?;
    Ok(Corpus { name, source: Source::File(path.to_owned()) })
}

/// Refuses what Git stores in place of a large file, which would be taken for a short text.
pub(crate) fn check_fetched(path: &Path) -> Result<()> {
    if !path.is_file() {
        // A pipe is read only once.
        return Ok(());
    }
    let mut start = Vec::new();
    plain_file::open(path)
        .and_then(|file| file.take(64).read_to_end(&mut start))
        .with_context(|| format!("cannot read {}", path.display()))?;
    Ok(checkpoint::check_fetched(path, &start)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_files_and_what_is_missing() {
        let folder = tempfile::tempdir().unwrap();
        let resolve = |path: &Path| resolve_in(path, folder.path());
        assert_eq!(resolve(Path::new("builtin")).unwrap().read().unwrap(), BUILTIN_STORY);

        let error = resolve(Path::new("the-verdict")).unwrap_err().to_string();
        assert!(error.contains("data fetch the-verdict"), "{error}");
        let file = folder.path().join("the-verdict.txt");
        std::fs::write(&file, "text").unwrap();
        let corpus = resolve(Path::new("the-verdict")).unwrap();
        assert_eq!(corpus.source(), &Source::File(file.clone()));
        assert_eq!((corpus.size().unwrap(), corpus.read().unwrap().as_str()), (4, "text"));
        assert_eq!(resolve(&file).unwrap().source(), &Source::File(file.clone()));
        std::fs::write(&file, "version https://git-lfs.github.com/spec/v1\noid sha256:4d").unwrap();
        for path in [Path::new("the-verdict"), &file] {
            let error = resolve(path).unwrap_err().to_string();
            assert!(error.contains("the-verdict.txt: a Git LFS pointer"), "{error}");
        }

        let error = resolve(Path::new("no/such.txt")).unwrap_err().to_string();
        assert!(error.contains("no/such.txt") && error.contains("tinyshakespeare"), "{error}");
        let error = resolve(folder.path()).unwrap_err().to_string();
        assert!(error.contains("not a file"), "{error}");
    }

    #[test]
    fn the_story_is_long_enough_plain_and_whole() {
        assert!(BUILTIN_STORY.len() >= 21_000, "{} bytes", BUILTIN_STORY.len());
        assert!(BUILTIN_STORY.bytes().all(|b| b == b'\n' || (b' '..=b'~').contains(&b)));
        assert!(BUILTIN_STORY.ends_with(".\n") && !BUILTIN_STORY.contains("\n\n\n"));
    }
}
