//! What a user names as data: files, folders, patterns, lists of them, and standard input.
//!
//! Everything that reads texts or records goes through [`Inputs::open`]. A file's ending says what it
//! is: text (`.txt`, `.md`) or records (`.jsonl`, `.ndjson`, `.json`, `.csv`, `.tsv`, `.parquet`), each
//! as it is or as `.gz` or `.zst`. A file that is named itself and has no known ending is a text.

mod find;
mod format;
mod stream;

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail, ensure};

pub use format::{Compression, Format};
pub(crate) use stream::Counter;

use crate::corpus::{BUILTIN, BUILTIN_STORY, CORPORA_FOLDER, KnownCorpus, check_fetched};

/// The name of standard input.
pub const STANDARD_INPUT: &str = "-";

/// Files of one kind, texts or records, in the order in which they are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inputs {
    name: String,
    files: Vec<InputFile>,
    left_out: Vec<PathBuf>,
}

/// One of the files of [`Inputs`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputFile {
    name: String,
    place: FilePlace,
    format: Format,
    compression: Compression,
}

/// Where an input is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum FilePlace {
    /// In the program.
    Builtin(&'static str),
    /// On a disk, or a pipe that the shell opened.
    File(PathBuf),
    /// Standard input.
    Stdin,
}

impl Inputs {
    /// Finds what `paths` name: `builtin`, a known corpus that was fetched, a file, a folder (all of
    /// its files, sorted, hidden ones left out), a pattern such as `shards/*.jsonl.gz`, or `-` for
    /// standard input. `format` replaces what the endings say, and `-` needs it.
    ///
    /// In a folder, files of a test or validation split (`test.jsonl`,
    /// `validation-00000-of-00001.parquet`, a folder `test`) are left out, and so are the README, the
    /// licence and `dataset_infos.json` of a data set; [`Inputs::left_out`] names them. Whoever wants
    /// them names the files or a pattern.
    ///
    /// # Errors
    /// Nothing there, nothing in a folder, a pattern without a match, an ending that is not known, a
    /// file named twice, texts mixed with records.
    pub fn open<P: AsRef<Path>>(paths: &[P], format: Option<Format>) -> Result<Self> {
        Self::open_in(paths, format, Path::new(CORPORA_FOLDER))
    }

    fn open_in<P: AsRef<Path>>(
        paths: &[P],
        format: Option<Format>,
        corpora: &Path,
    ) -> Result<Self> {
        let Some(first) = paths.first() else { bail!("no input is named; expected at least one") };
        let mut inputs =
            Inputs { name: first.as_ref().display().to_string(), files: vec![], left_out: vec![] };
        if paths.len() > 1 {
            inputs.name += &format!(" and {} more", paths.len() - 1);
        }
        for path in paths {
            inputs.add(path.as_ref(), format, corpora)?;
        }
        inputs.check()?;
        Ok(inputs)
    }

    fn add(&mut self, path: &Path, format: Option<Format>, corpora: &Path) -> Result<()> {
        let name = path.display().to_string();
        if name == BUILTIN {
            self.push(name, FilePlace::Builtin(BUILTIN_STORY), Format::Text, Compression::Plain);
        } else if let Some(known) = KnownCorpus::find(&name) {
            let file = corpora.join(known.file);
            ensure!(
                file.is_file(),
                "the corpus {name} is not at {} yet; get it with `data fetch {name}`",
                file.display()
            );
            check_fetched(&file)?;
            self.push(name, FilePlace::File(file), Format::Text, Compression::Plain);
        } else if name == STANDARD_INPUT {
            let Some(format) = format else {
                bail!("- is standard input, which has no ending; name its kind with --format")
            };
            let name = "standard input".to_owned();
            self.push(name, FilePlace::Stdin, format, Compression::Plain);
        } else {
            let found = find::files(path)?;
            self.left_out.extend(found.left_out);
            for file in found.files {
                let (stem, compression) = format::compression(&file);
                let format = match format {
                    Some(format) => format,
                    None => format::of_stem(&stem, &file, found.is_exact)?,
                };
                check_fetched(&file)?;
                let name = file.display().to_string();
                self.push(name, FilePlace::File(file), format, compression);
            }
        }
        Ok(())
    }

    fn push(&mut self, name: String, place: FilePlace, format: Format, compression: Compression) {
        self.files.push(InputFile { name, place, format, compression });
    }

    fn check(&self) -> Result<()> {
        let text = self.files.iter().find(|file| file.format == Format::Text);
        let records = self.files.iter().find(|file| file.format != Format::Text);
        if let (Some(text), Some(records)) = (text, records) {
            bail!(
                "{text} is a text and {records} holds records; give them one after the other, or \
                 name a pattern such as `FOLDER/*.jsonl` that matches one kind"
            );
        }
        let mut seen = std::collections::HashSet::new();
        if let Some(twice) = self.files.iter().find(|file| !seen.insert(&file.name)) {
            bail!("{twice} is named twice; to read it twice, set the weight of its data.source");
        }
        for file in &self.files {
            let is_plain_file =
                matches!(file.place, FilePlace::File(_)) && file.compression == Compression::Plain;
            ensure!(
                file.format != Format::Parquet || is_plain_file,
                "{file}: Parquet is read out of order, so it must be a file as it is (its pages are \
                 compressed inside); expected FILE.parquet"
            );
        }
        Ok(())
    }

    /// Whether the inputs are records; otherwise they are texts.
    pub fn are_records(&self) -> bool {
        self.files.iter().any(|file| file.format != Format::Text)
    }

    /// Whether something can be read only once: standard input or a pipe.
    pub fn is_stream(&self) -> bool {
        self.files.iter().any(|file| match &file.place {
            FilePlace::Builtin(_) => false,
            FilePlace::File(path) => !path.is_file(),
            FilePlace::Stdin => true,
        })
    }

    /// The files, in the order in which they are read.
    pub fn files(&self) -> &[InputFile] {
        &self.files
    }

    /// The files of folders that are not training data.
    pub fn left_out(&self) -> &[PathBuf] {
        &self.left_out
    }

    /// Bytes of all files as they lie on the disk; what comes through a pipe counts as 0.
    ///
    /// # Errors
    /// When a file has gone.
    pub fn size(&self) -> Result<u64> {
        self.files.iter().map(InputFile::size).sum()
    }
}

impl fmt::Display for Inputs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl InputFile {
    /// What it holds.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Where it is, if it is a file.
    pub fn path(&self) -> Option<&Path> {
        match &self.place {
            FilePlace::File(path) => Some(path),
            FilePlace::Builtin(_) | FilePlace::Stdin => None,
        }
    }

    /// Bytes of it as it lies on the disk; of standard input or a pipe, 0.
    ///
    /// # Errors
    /// When it has gone.
    pub(crate) fn size(&self) -> Result<u64> {
        use anyhow::Context;
        match &self.place {
            FilePlace::Builtin(text) => Ok(text.len() as u64),
            FilePlace::File(path) => {
                Ok(std::fs::metadata(path).with_context(|| format!("cannot read {self}"))?.len())
            }
            FilePlace::Stdin => Ok(0),
        }
    }
}

impl fmt::Display for InputFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

#[cfg(test)]
mod tests;
