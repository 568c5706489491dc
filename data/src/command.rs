//! The `data` command: the arguments of its subcommands, and the calls of the library for them.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use checkpoint::atomic;
use clap::{Args as ClapArgs, Subcommand, builder::PossibleValuesParser};
use config::OnError;
use serde::Serialize;

use crate::chat::{ChatArgs, ChatInspection};
use crate::corpus::{Corpus, KNOWN_CORPORA, KnownCorpus};
use crate::filter::FilterArgs;
use crate::{
    EncodeReport, FetchJob, FetchReport, FilterReport, Format, Inputs, InspectReport, SHARD_BYTES,
    TokenFile, Tokenizer, encode_file, encode_shards, fetch, inspect, inspect_tokens,
    simple_from_file, train_tokenizer,
};

/// The tokenizer of a corpus's own words.
const SIMPLE: &str = "simple";

/// Shown below the help of the whole command.
pub const EXAMPLES: &str = "\
Examples:
  data encode builtin --output tokens.bin
  data encode 'shards/*.jsonl.zst' --text-field content --output tokens/
  data inspect tokens.bin
  data inspect chats.jsonl --chat --tokenizer SmolLM2-135M-Instruct --show 2
  data fetch the-verdict
  data train-tokenizer --input corpus.txt --vocab-size 8192 --output tokenizer.json";

/// Texts and tokens.
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// Print the report as JSON instead of a table.
    #[arg(long, global = true)]
    pub json: bool,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Encode a text as a token file.
    #[command(after_help = "Examples: data encode builtin --output tokens.bin\n          \
                            data encode 'shards/*.parquet' --output tokens/")]
    Encode(Encode),
    /// Write the documents that are no duplicates and keep rules for quality as JSON Lines.
    #[command(after_help = "Example: data filter 'web/*.jsonl.zst' --near-duplicates --show 3 \
                            --output clean.jsonl.zst")]
    Filter(FilterArgs),
    /// Show the contents of a token file or a text.
    #[command(after_help = "Example: data inspect tokens.bin --show 20")]
    Inspect(Inspect),
    /// Download a known text and verify it; an interrupted download is resumed.
    #[command(after_help = "Example: data fetch the-verdict\n\
                            Without a network: data fetch the-verdict --from the-verdict.txt")]
    Fetch(Fetch),
    /// Train a vocabulary (byte-level BPE, GPT-2's kind) on a text.
    #[command(after_help = "Example: data train-tokenizer --input corpus.txt --vocab-size 8192 \
                            --output tokenizer.json")]
    TrainTokenizer(TrainTokenizer),
}

/// What is read, and how.
#[derive(Debug, ClapArgs)]
pub(crate) struct Reading {
    /// Take the inputs for this, whatever their endings say; needed for standard input
    /// [default: by the ending]
    #[arg(long, value_name = "FORMAT", value_enum)]
    format: Option<Format>,
    /// Field of a record that holds its text
    #[arg(long, value_name = "NAME", default_value = "text")]
    pub text_field: String,
    /// Stop at a record that cannot be read, or skip it and count it
    #[arg(long, value_name = "stop|skip", default_value = "stop", value_parser = on_error)]
    on_error: OnError,
}

fn on_error(name: &str) -> Result<OnError, &'static str> {
    match name {
        "stop" => Ok(OnError::Stop),
        "skip" => Ok(OnError::Skip),
        _ => Err("expected stop or skip"),
    }
}

impl Reading {
    pub fn corpus(&self, inputs: &[PathBuf]) -> Result<Corpus> {
        let inputs = Inputs::open(inputs, self.format)?;
        Ok(Corpus::new(inputs, &self.text_field, self.on_error))
    }
}

#[derive(Debug, ClapArgs)]
struct TrainTokenizer {
    /// Files of texts or records, folders, patterns, `-` for standard input, the name of a fetched
    /// corpus, or `builtin` for the story compiled in.
    #[arg(long, short, value_name = "INPUT", num_args = 1.., required = true)]
    input: Vec<PathBuf>,
    #[command(flatten)]
    reading: Reading,
    /// Number of tokens, 257 to 1,048,576; a text that is too short gives fewer.
    #[arg(long, value_name = "N", default_value_t = 8192)]
    vocab_size: usize,
    /// The tokenizer.json to write.
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,
    /// Replace an existing output file; off by default.
    #[arg(long)]
    force: bool,
}

#[derive(Debug, ClapArgs)]
struct Encode {
    /// Files of texts or records (.txt .md .jsonl .ndjson .json .csv .tsv .parquet, also with .gz or
    /// .zst), folders, patterns, `-` for standard input, the name of a fetched corpus, or `builtin` for
    /// the story compiled in.
    #[arg(value_name = "INPUT", required = true)]
    inputs: Vec<PathBuf>,
    #[command(flatten)]
    reading: Reading,
    /// The token file to write; or, if it ends in `/`, is a folder, or --max-bytes is given, the folder
    /// of token files (shards), whose encoding goes on where it was stopped.
    #[arg(long, short, value_name = "FILE|FOLDER/")]
    output: PathBuf,
    /// Most bytes of a shard [default: 1073741824]
    #[arg(long, value_name = "N")]
    max_bytes: Option<u64>,
    /// `gpt2`, `simple` (words of the inputs), or the path of a tokenizer.json of any kind or of its
    /// folder.
    #[arg(long, value_name = "NAME|FILE", default_value = "gpt2")]
    tokenizer: PathBuf,
    /// Also write the tokenizer as a Hugging Face tokenizer.json; not written by default.
    #[arg(long, value_name = "FILE")]
    save_tokenizer: Option<PathBuf>,
    /// Number of threads, at most 1024; 0 for one on each core.
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u16).range(0..=1024))]
    threads: u16,
    /// Replace existing output files; off by default.
    #[arg(long)]
    force: bool,
}

#[derive(Debug, ClapArgs)]
struct Inspect {
    /// A token file, a folder of shards, or what `data encode` reads.
    #[arg(value_name = "INPUT", required = true)]
    inputs: Vec<PathBuf>,
    #[command(flatten)]
    reading: Reading,
    /// `gpt2`, `simple` (words of the inputs), or the path of a tokenizer.json of any kind or of its
    /// folder.
    #[arg(long, value_name = "NAME|FILE", default_value = "gpt2")]
    tokenizer: PathBuf,
    #[command(flatten)]
    chat: ChatArgs,
    /// Number of first tokens and of most frequent tokens to show, or of first conversations.
    #[arg(long, value_name = "N", default_value_t = 10)]
    show: usize,
}

#[derive(Debug, ClapArgs)]
struct Fetch {
    /// Name of the corpus.
    #[arg(value_parser = PossibleValuesParser::new(KNOWN_CORPORA.map(|corpus| corpus.name)))]
    name: String,
    /// Folder for the text; a run file finds it by name in the default folder [default: corpora].
    #[arg(long, short, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Read the text from this file instead of the network; it is verified as well.
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
    /// Replace a file with the corpus's name and other content; off by default.
    #[arg(long)]
    force: bool,
}

/// The report of a command.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Report {
    /// Of `encode`.
    Encode(EncodeReport),
    /// Of `filter`.
    Filter(FilterReport),
    /// Of `inspect`.
    Inspect(InspectReport),
    /// Of `inspect --chat`.
    Chat(ChatInspection),
    /// Of `fetch`.
    Fetch(FetchReport),
    /// Of `train-tokenizer`.
    Trained(TrainedReport),
}

/// The result of `train-tokenizer`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TrainedReport {
    /// The inputs, as the user named them.
    pub input: String,
    /// The tokenizer.json.
    pub output: PathBuf,
    /// The requested size of the vocabulary.
    pub asked: usize,
    /// The actual size of the vocabulary; smaller if the text has no more pairs that repeat.
    pub vocab_size: usize,
    /// Wall time in seconds.
    pub seconds: f64,
}

impl fmt::Display for TrainedReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "text        {}", self.input)?;
        write!(f, "tokenizer   byte-level BPE, {} tokens", cli::count(self.vocab_size as u64))?;
        if self.vocab_size < self.asked {
            let asked = cli::count(self.asked as u64);
            write!(f, " of the {asked} asked for: the text has no more pairs that repeat")?;
        }
        writeln!(f, "\ntime        {}", cli::seconds(self.seconds))?;
        write!(f, "output      {}", self.output.display())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Report::Encode(report) => report.fmt(f),
            Report::Filter(report) => report.fmt(f),
            Report::Inspect(report) => report.fmt(f),
            Report::Chat(report) => report.fmt(f),
            Report::Fetch(report) => report.fmt(f),
            Report::Trained(report) => report.fmt(f),
        }
    }
}

/// Runs one command.
///
/// # Errors
/// Invalid input or I/O, with the file and a remedy.
pub fn run(args: Args) -> Result<Report> {
    match args.verb {
        Verb::Encode(encode) => run_encode(&encode).map(Report::Encode),
        Verb::Filter(job) => job.run().map(Report::Filter),
        Verb::Inspect(job) if job.chat.chat => {
            let corpus = job.reading.corpus(&job.inputs)?;
            let tokenizer = open_tokenizer(&job.tokenizer, &corpus)?;
            job.chat.inspect(&corpus, tokenizer, &job.tokenizer, job.show).map(Report::Chat)
        }
        Verb::Inspect(job) => run_inspect(&job).map(Report::Inspect),
        Verb::TrainTokenizer(job) => run_train(job).map(Report::Trained),
        Verb::Fetch(Fetch { name, output, from, force }) => {
            let corpus = KnownCorpus::find(&name).with_context(|| {
                format!("no known corpus {name}; expected one of: {}", KnownCorpus::names())
            })?;
            fetch(&FetchJob { corpus, folder: output, from, force }).map(Report::Fetch)
        }
    }
}

fn run_inspect(job: &Inspect) -> Result<InspectReport> {
    match job.inputs.as_slice() {
        [path] if path.exists() && TokenFile::is_token_file(path) => {
            ensure!(
                job.tokenizer != Path::new(SIMPLE),
                "the words of {} are in the tokenizer.json that was saved with it; give that with \
                 --tokenizer FILE",
                path.display()
            );
            inspect_tokens(path, &named_tokenizer(&job.tokenizer)?, job.show)
        }
        inputs => {
            let corpus = job.reading.corpus(inputs)?;
            inspect(&corpus, &open_tokenizer(&job.tokenizer, &corpus)?, job.show)
        }
    }
}

fn run_train(job: TrainTokenizer) -> Result<TrainedReport> {
    let TrainTokenizer { input, reading, vocab_size: asked, output, force } = job;
    let name = output.display();
    ensure!(force || !output.exists(), "{name} exists already; use --force to replace it");
    let corpus = reading.corpus(&input)?;
    check_not_an_input(&corpus, &output, "the output")?;
    let start = Instant::now();
    let tokenizer = train_tokenizer(&corpus, asked)?;
    write_tokenizer(&tokenizer, &output, force)?;
    let seconds = start.elapsed().as_secs_f64();
    let input = corpus.to_string();
    Ok(TrainedReport { input, output, asked, vocab_size: tokenizer.vocab_size(), seconds })
}

fn check_not_an_input(corpus: &Corpus, output: &Path, what: &str) -> Result<()> {
    ensure!(
        !corpus.files().any(|input| atomic::same_place(output, input)),
        "{} is an input and {what} at once; name another file",
        output.display()
    );
    Ok(())
}

impl Encode {
    /// Most bytes of a shard, if a folder of them is to be written.
    fn shard_bytes(&self) -> Option<u64> {
        let text = self.output.to_string_lossy();
        let is_folder = text.ends_with(std::path::is_separator) || self.output.is_dir();
        self.max_bytes.or(is_folder.then_some(SHARD_BYTES))
    }
}

fn run_encode(encode: &Encode) -> Result<EncodeReport> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(usize::from(encode.threads)).build()?;
    pool.install(|| {
        let corpus = encode.reading.corpus(&encode.inputs)?;
        if let Some(path) = &encode.save_tokenizer {
            check_tokenizer_output(path, encode, &corpus)?;
        }
        let tokenizer = open_tokenizer(&encode.tokenizer, &corpus)?;
        let report = match encode.shard_bytes() {
            Some(bytes) => encode_shards(&corpus, &tokenizer, &encode.output, bytes, encode.force)?,
            None => encode_file(&corpus, &tokenizer, &encode.output, encode.force)?,
        };
        // Written last: a tokenizer without its tokens would be misleading.
        if let Some(path) = &encode.save_tokenizer {
            write_tokenizer(&tokenizer, path, encode.force)?;
        }
        Ok(report)
    })
}

/// Checks before the text is read: the tokenizer must not overwrite one of the two other files, nor
/// a file that may not be replaced.
fn check_tokenizer_output(path: &Path, encode: &Encode, corpus: &Corpus) -> Result<()> {
    let name = path.display();
    check_not_an_input(corpus, path, "the output of --save-tokenizer")?;
    ensure!(
        !atomic::same_place(path, &encode.output),
        "{name} is the output of --output and of --save-tokenizer at once; name another file"
    );
    ensure!(encode.force || !path.exists(), "{name} exists already; use --force to replace it");
    Ok(())
}

/// The tokenizer that `choice` names: `gpt2`, `simple` (of the words in the corpus), or the path of a
/// `tokenizer.json` or of its folder.
///
/// # Errors
/// When the file is missing or cannot be loaded.
pub fn open_tokenizer(choice: &Path, corpus: &Corpus) -> Result<Tokenizer> {
    match choice == Path::new(SIMPLE) {
        true => simple_from_file(corpus),
        false => named_tokenizer(choice),
    }
}

fn named_tokenizer(choice: &Path) -> Result<Tokenizer> {
    match choice == Path::new("gpt2") {
        true => Tokenizer::gpt2(),
        false => Tokenizer::open(choice),
    }
}

fn write_tokenizer(tokenizer: &Tokenizer, path: &Path, force: bool) -> Result<()> {
    let json = tokenizer.tokenizer_json()?;
    atomic::write_file::<_, anyhow::Error>(path, force, |out| {
        std::io::Write::write_all(out, json.as_bytes())?;
        Ok(())
    })
}
