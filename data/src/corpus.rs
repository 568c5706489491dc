//! Where texts come from: compiled in, fetched by name, or any inputs with their settings.

use std::fmt;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use config::OnError;

use crate::TokenFile;
use crate::inputs::{InputFile, Inputs, STANDARD_INPUT};

/// The text that is compiled in, so that a first run needs no download: "The Keeper of the Slow
/// Clock", a short story written for this project. Same licence as the code.
pub const BUILTIN_STORY: &str = include_str!("story.txt");

/// The name that stands for [`BUILTIN_STORY`].
pub const BUILTIN: &str = "builtin";

/// Where `data fetch` puts texts and [`Inputs::open`] looks for them, below the working folder.
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

/// What is read: inputs, and how texts are taken from their records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Corpus {
    sources: Vec<Source>,
    on_error: OnError,
}

/// Inputs of a [`Corpus`] that are read the same way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Source {
    pub inputs: Inputs,
    /// How many times they are read.
    pub weight: u32,
    /// The field of a record that holds its text.
    pub text_field: String,
}

impl Corpus {
    /// The corpus of a single input, read with all settings at their defaults.
    ///
    /// # Errors
    /// Those of [`Inputs::open`].
    pub fn open(path: &Path) -> Result<Self> {
        let data = config::Data::default();
        Ok(Self::new(Inputs::open(&[path], None)?, &data.text_field, data.on_error))
    }

    /// The documents of `inputs`: its texts, or the strings in `text_field` of its records.
    pub fn new(inputs: Inputs, text_field: &str, on_error: OnError) -> Self {
        let source = Source { inputs, weight: 1, text_field: text_field.to_owned() };
        Corpus { sources: vec![source], on_error }
    }

    /// What the section `[data]` of a run file names.
    ///
    /// # Errors
    /// Those of [`Inputs::open`]; standard input, which cannot be read again when a run goes on.
    pub fn of_run_file(data: &config::Data) -> Result<Self> {
        let open = |path: &config::Paths| {
            ensure!(
                path.as_slice().iter().all(|path| path != Path::new(STANDARD_INPUT)),
                "standard input cannot be read again when a run goes on; write it into a file"
            );
            if let Some(tokens) = path.as_slice().iter().find(|path| TokenFile::is_token_file(path))
            {
                bail!(
                    "{} holds tokens, and texts are needed for data.format = \"chat\", \
                     data.tokenizer = \"simple\" and data.tokenizer = \"trained\"",
                    tokens.display()
                );
            }
            Inputs::open(path.as_slice(), None)
        };
        if data.source.is_empty() {
            let inputs = open(&data.path).context("data.path")?;
            return Ok(Self::new(inputs, &data.text_field, data.on_error));
        }
        let source = |source: &config::DataSource| {
            let text_field = source.text_field.as_ref().unwrap_or(&data.text_field).clone();
            Ok(Source { inputs: open(&source.path)?, weight: source.weight, text_field })
        };
        let sources = data.source.iter().map(source).collect::<Result<_>>();
        Ok(Corpus { sources: sources.context("data.source")?, on_error: data.on_error })
    }

    pub(crate) fn sources(&self) -> &[Source] {
        &self.sources
    }

    /// What becomes of a record that cannot be read.
    pub fn on_error(&self) -> OnError {
        self.on_error
    }

    /// The files on the disk that are read, each once.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.inputs().flat_map(|inputs| inputs.files()).filter_map(InputFile::path)
    }

    /// The inputs of all sources.
    pub fn inputs(&self) -> impl Iterator<Item = &Inputs> {
        self.sources.iter().map(|source| &source.inputs)
    }

    /// Whether it is one text, which is not followed by an end-of-text token; otherwise every document
    /// is.
    pub fn is_one_text(&self) -> bool {
        match self.sources.as_slice() {
            [source] => {
                source.weight == 1
                    && !source.inputs.are_records()
                    && source.inputs.files().len() == 1
            }
            _ => false,
        }
    }

    /// Refuses what can be read only once where it is read twice: for its vocabulary, and to encode it.
    ///
    /// # Errors
    /// When an input is standard input or a pipe.
    pub fn check_repeatable(&self) -> Result<()> {
        match self.inputs().find(|inputs| inputs.is_stream()) {
            Some(inputs) => bail!(
                "{inputs} can be read only once, and its words are needed before it is encoded; write \
                 it into a file, or name another tokenizer"
            ),
            None => Ok(()),
        }
    }

    /// Bytes of all files as they lie on the disk, times the weights.
    ///
    /// # Errors
    /// When a file has gone.
    pub fn size(&self) -> Result<u64> {
        let size = |source: &Source| Ok(source.inputs.size()? * u64::from(source.weight));
        self.sources.iter().map(size).sum()
    }
}

impl fmt::Display for Corpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, source) in self.sources.iter().enumerate() {
            let comma = if at > 0 { ", " } else { "" };
            write!(f, "{comma}{}", source.inputs)?;
            if source.weight > 1 {
                write!(f, " ({} times)", source.weight)?;
            }
        }
        Ok(())
    }
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
    fn the_story_is_long_enough_plain_and_whole() {
        assert!(BUILTIN_STORY.len() >= 21_000, "{} bytes", BUILTIN_STORY.len());
        assert!(BUILTIN_STORY.bytes().all(|b| b == b'\n' || (b' '..=b'~').contains(&b)));
        assert!(BUILTIN_STORY.ends_with(".\n") && !BUILTIN_STORY.contains("\n\n\n"));
    }
}
