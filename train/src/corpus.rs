//! The text or the conversations of a run as batches of token windows.

use std::ops::Range;
use std::path::Path;

use anyhow::Context;
use burn::tensor::{Device, Int, Tensor, TensorData};
use chat_template::Message;
use config::{DataFormat, DocumentMask, Objective};
use data::chat::{
    ChatCounts, ChatSettings, ConversationWindows, PairSettings, PairWindows, TrainingTemplate,
    encode_chat, encode_pairs, template_of,
};
use data::{Shuffle, TokenFile, Tokenizer, Window, Windows};
use kernels::Documents;

use crate::folder::RunFolder;

/// One of the two parts of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Split {
    /// The part for training.
    Train,
    /// The rest.
    Validation,
}

/// The tokens of a run and the windows cut from them.
pub struct Corpus {
    tokenizer: Tokenizer,
    tokens: TokenFile,
    layout: Layout,
    context: usize,
    mask: DocumentMask,
    /// What became of the conversations, if the run trains on some.
    counts: Option<ChatCounts>,
    is_kept: bool,
}

/// How windows are cut from the tokens.
enum Layout {
    /// A text: windows that slide over it.
    Text { ranges: data::Split, stride: usize },
    /// Conversations: windows of whole ones.
    Chat { train: ConversationWindows, validation: ConversationWindows },
    /// Pairs of answers: each is a window of two rows.
    Pairs { train: PairWindows, validation: PairWindows },
}

impl Drop for Corpus {
    /// A run that was refused does not leave tokens behind.
    fn drop(&mut self) {
        if !self.is_kept {
            std::fs::remove_file(self.tokens.path()).ok();
        }
    }
}

impl Corpus {
    /// Encodes the text of a run file into the run folder, next to the tokens of an earlier run;
    /// [`Corpus::keep`] moves them to their final place. Token files that the run file names are read
    /// where they are, and the run folder gets a list of them.
    ///
    /// The text is encoded each time, also when a run is resumed: 65 MB take a second, and the hash
    /// of the tokens shows whether the text has changed. For a moment both files exist.
    ///
    /// # Errors
    /// When the text is missing, is not UTF-8 or holds no token of the vocabulary, has a token
    /// beyond the `rows` of the embedding, or the tokens cannot be written; when the files hold
    /// something else than `data.format` says.
    pub fn prepare(
        settings: &config::Data,
        objective: Objective,
        tokenizer: Tokenizer,
        rows: usize,
        folder: &RunFolder,
    ) -> anyhow::Result<Self> {
        let path = folder.new_tokens();
        let counts = encode(settings, objective, &tokenizer, &path).inspect_err(|_| {
            // The file may be complete, and only its folder not synced.
            std::fs::remove_file(&path).ok();
        })?;
        let tokens = TokenFile::open(&path)?;
        let (context, mask) = (settings.context, settings.document_mask());
        let layout = match (objective, settings.format) {
            (Objective::Dpo, _) => pairs(&tokens, settings),
            (Objective::NextToken, DataFormat::Text) => Layout::Text {
                ranges: data::Split::new(tokens.len(), settings.train_fraction),
                stride: settings.stride(),
            },
            (Objective::NextToken, DataFormat::Chat) => conversations(&tokens, settings),
        };
        let corpus = Corpus { tokenizer, tokens, layout, context, mask, counts, is_kept: false };
        if corpus.tokenizer.vocab_size() > rows {
            corpus.check_rows(rows)?;
        }
        Ok(corpus)
    }

    /// A tokenizer may have more tokens than the model has rows if the text does not use them.
    fn check_rows(&self, rows: usize) -> anyhow::Result<()> {
        const CHUNK: usize = 1 << 20;
        for start in (0..self.tokens.len()).step_by(CHUNK) {
            let ids = self.tokens.get(start..self.tokens.len().min(start + CHUNK));
            self.tokenizer.check_rows(&ids, rows).context("data.path")?;
        }
        Ok(())
    }

    /// Moves the tokens to their place in the run folder.
    ///
    /// # Errors
    /// When they cannot be moved.
    pub fn keep(&mut self, folder: &RunFolder) -> anyhow::Result<()> {
        let path = folder.tokens();
        std::fs::rename(self.tokens.path(), &path)
            .with_context(|| format!("cannot write {}", path.display()))?;
        self.is_kept = true;
        self.tokens = TokenFile::open(&path)?;
        Ok(())
    }

    /// The tokenizer that encoded the text.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// What became of the conversations, if the run trains on some.
    pub fn chat_counts(&self) -> Option<&ChatCounts> {
        self.counts.as_ref()
    }

    /// Hash of the tokens, in hexadecimal.
    pub fn tokens_hash(&self) -> String {
        self.tokens.hash()
    }

    /// Tokens in a window.
    pub fn context(&self) -> usize {
        self.context
    }

    /// The tokens of a prompt as the model is trained to read it: of a conversation, as the first
    /// message of its template.
    ///
    /// # Errors
    /// When the vocabulary lacks a part of it, or the template refuses it.
    pub fn prompt(&self, text: &str) -> anyhow::Result<Vec<u32>> {
        if let Layout::Text { .. } = self.layout {
            return Ok(self.tokenizer.encode_prompt(text)?);
        }
        let source = TrainingTemplate::source(&self.tokenizer, None)?;
        let template = template_of(&self.tokenizer, &source)?;
        let render = |messages: &[Message]| template.render(messages);
        data::encode_conversation(&self.tokenizer, &[Message::user(text)], false, render)
    }

    /// The pairs of answers of both splits.
    pub fn pairs(&self) -> usize {
        match &self.layout {
            Layout::Pairs { .. } => PairWindows::count(&self.tokens),
            Layout::Text { .. } | Layout::Chat { .. } => 0,
        }
    }

    /// Windows in a split; 0 if it is shorter than one window. A pair of answers is one.
    pub fn windows(&self, split: Split) -> usize {
        match &self.layout {
            Layout::Text { .. } => self.sliding(split).map_or(0, |windows| windows.len()),
            Layout::Chat { train, validation } => match split {
                Split::Train => train.len(),
                Split::Validation => validation.len(),
            },
            Layout::Pairs { train, validation } => match split {
                Split::Train => train.len(),
                Split::Validation => validation.len(),
            },
        }
    }

    /// The positions of windows, without what pairs of answers are padded with.
    pub fn positions(&self, split: Split, windows: &[usize]) -> usize {
        match self.answers(split) {
            Some(pairs) => windows.iter().map(|&at| pairs.positions(&self.tokens, at)).sum(),
            None => windows.len() * self.context,
        }
    }

    /// The windows at the positions `places` of the random order of an epoch.
    pub fn shuffled(&self, seed: u64, epoch: u64, places: Range<usize>) -> Vec<usize> {
        let shuffle = Shuffle::new(seed, epoch, self.windows(Split::Train));
        places.map(|place| shuffle.window_at(place)).collect()
    }

    /// The tokens of windows of a split whose predictions train: those that have a target in
    /// [`Corpus::batch`].
    pub fn trained_tokens(&self, split: Split, windows: &[usize]) -> usize {
        if let Some(chat) = self.chat(split) {
            return windows.iter().map(|&at| chat.trained(&self.tokens, at)).sum();
        }
        if let Some(pairs) = self.answers(split) {
            return windows.iter().map(|&at| pairs.trained(&self.tokens, at)).sum();
        }
        // A split without windows trains nothing.
        let sliding = self.sliding(split);
        sliding.map_or(0, |sliding| windows.iter().map(|&at| sliding.trained(at)).sum())
    }

    /// Several windows of a split as one batch.
    ///
    /// # Errors
    /// When the split has no windows.
    pub fn batch(&self, split: Split, indices: &[usize]) -> anyhow::Result<Batch> {
        if let Some(pairs) = self.answers(split) {
            return Ok(self.batch_of_pairs(pairs, indices));
        }
        let shape = [indices.len(), self.context];
        let mut batch = Batch { shape, ..Batch::default() };
        if let Some(chat) = self.chat(split) {
            let padding = self.padding();
            indices.iter().for_each(|&index| batch.add(chat.get(&self.tokens, index, padding)));
        } else {
            let windows = self.sliding(split)?;
            indices.iter().for_each(|&index| batch.add(windows.get(index)));
        }
        if self.mask == DocumentMask::Packed {
            batch.documents = None;
        }
        self.check(&batch)?;
        Ok(batch)
    }

    /// Two rows for each pair, as long as the longest of them.
    fn batch_of_pairs(&self, pairs: &PairWindows, indices: &[usize]) -> Batch {
        let rows: Vec<Window> =
            indices.iter().flat_map(|&index| pairs.get(&self.tokens, index)).collect();
        let time = rows.iter().map(|row| row.inputs.len()).max().unwrap_or(0);
        let mut batch = Batch { shape: [rows.len(), time], ..Batch::default() };
        batch.pairs = Some(Pairs {
            numbers: indices.iter().map(|&index| pairs.number(index)).collect(),
            trained: rows.iter().map(|row| row.targets.len()).collect(),
        });
        for mut row in rows {
            // No position sees what stands behind it.
            row.inputs.resize(time, self.padding());
            batch.add(row);
        }
        batch
    }

    /// The tokens of a window of the full context; of a pair of answers, the conversation with the
    /// chosen one and what it is padded with.
    ///
    /// # Errors
    /// As [`Corpus::batch`].
    pub fn whole_window(&self, split: Split, index: usize) -> anyhow::Result<Vec<u32>> {
        let Some(pairs) = self.answers(split) else {
            return Ok(self.batch(split, &[index])?.inputs);
        };
        let [mut chosen, _] = pairs.get(&self.tokens, index);
        chosen.inputs.resize(self.context, self.padding());
        Ok(chosen.inputs)
    }

    /// The token that fills a row.
    fn padding(&self) -> u32 {
        self.tokenizer.end_of_text().unwrap_or(0)
    }

    /// Files that the run did not write itself are not read whole before it begins.
    fn check(&self, batch: &Batch) -> anyhow::Result<()> {
        let vocab_size = self.tokens.vocab_size();
        let mut tokens = batch.inputs.iter().chain(&batch.targets);
        if let Some(token) = tokens.find(|token| **token as usize >= vocab_size) {
            anyhow::bail!(
                "{}: token {token} is outside of the vocabulary of {vocab_size}; a token file is damaged: \
                 `data inspect` says which, encode it again",
                self.tokens.path().display()
            );
        }
        Ok(())
    }

    fn chat(&self, split: Split) -> Option<&ConversationWindows> {
        match (&self.layout, split) {
            (Layout::Chat { train, .. }, Split::Train) => Some(train),
            (Layout::Chat { validation, .. }, Split::Validation) => Some(validation),
            (Layout::Text { .. } | Layout::Pairs { .. }, _) => None,
        }
    }

    fn answers(&self, split: Split) -> Option<&PairWindows> {
        match (&self.layout, split) {
            (Layout::Pairs { train, .. }, Split::Train) => Some(train),
            (Layout::Pairs { validation, .. }, Split::Validation) => Some(validation),
            (Layout::Text { .. } | Layout::Chat { .. }, _) => None,
        }
    }

    fn sliding(&self, split: Split) -> anyhow::Result<Windows<'_>> {
        let Layout::Text { ranges, stride } = &self.layout else {
            anyhow::bail!("conversations have no sliding windows")
        };
        let (range, name) = match split {
            Split::Train => (&ranges.train, "training"),
            Split::Validation => (&ranges.validation, "validation"),
        };
        let windows = Windows::new(&self.tokens, range.clone(), self.context, *stride)
            .with_context(|| format!("{name} split"))?;
        Ok(match self.mask {
            DocumentMask::Packed => windows,
            DocumentMask::Separate => windows.separate(),
        })
    }
}

/// Writes a list of token files to `path`.
fn list_tokens(tokens: &TokenFile, tokenizer: &Tokenizer, path: &Path) -> anyhow::Result<()> {
    anyhow::ensure!(
        tokens.tokenizer_hash() == tokenizer.hash(),
        "data.path: {} was made with another tokenizer ({} tokens) than data.tokenizer names ({}, {} \
         tokens); name the same one, or encode again",
        tokens.path().display(),
        tokens.vocab_size(),
        tokenizer.kind(),
        tokenizer.vocab_size()
    );
    tokens.write_list(path)
}

fn encode_conversations(
    settings: &config::Data,
    tokenizer: &Tokenizer,
    path: &Path,
) -> anyhow::Result<ChatCounts> {
    let template = TrainingTemplate::source(tokenizer, None)?;
    let template = TrainingTemplate::new(tokenizer, template)?;
    let chat = ChatSettings {
        template: &template,
        format: settings.chat_format,
        train_on: settings.train_on,
        too_long: settings.too_long,
        context: settings.context,
    };
    encode_chat(&data::Corpus::of_run_file(settings)?, tokenizer, &chat, path, true)
}

/// Writes the tokens of a run to `path`; what became of the conversations, if it trains on some.
fn encode(
    settings: &config::Data,
    objective: Objective,
    tokenizer: &Tokenizer,
    path: &Path,
) -> anyhow::Result<Option<ChatCounts>> {
    match (objective, settings.format) {
        (Objective::Dpo, _) => encode_answers(settings, tokenizer, path).map(Some),
        (Objective::NextToken, DataFormat::Chat) => {
            encode_conversations(settings, tokenizer, path).map(Some)
        }
        (Objective::NextToken, DataFormat::Text) => {
            match TokenFile::of_run_file(settings).context("data.path")? {
                Some(tokens) => list_tokens(&tokens, tokenizer, path)?,
                None => {
                    let text = data::Corpus::of_run_file(settings)?;
                    data::encode_file(&text, tokenizer, path, true)?;
                }
            }
            Ok(None)
        }
    }
}

fn encode_answers(
    settings: &config::Data,
    tokenizer: &Tokenizer,
    path: &Path,
) -> anyhow::Result<ChatCounts> {
    let template = TrainingTemplate::source(tokenizer, None)?;
    let template = TrainingTemplate::new(tokenizer, template)?;
    let (too_long, context) = (settings.too_long, settings.context);
    let settings_of_pairs = PairSettings { template: &template, too_long, context };
    let corpus = data::Corpus::of_run_file(settings)?;
    encode_pairs(&corpus, tokenizer, &settings_of_pairs, path, true)
}

/// The numbers below `count` that train, and the others. They are drawn, so that a file sorted by
/// subject is validated on all of them.
fn drawn(count: usize, train_fraction: f64) -> [Vec<usize>; 2] {
    let trains = data::Split::new(count, train_fraction).train;
    let order = Shuffle::new(0, 0, count);
    let mut drawn: Vec<usize> = trains.map(|place| order.window_at(place)).collect();
    drawn.sort_unstable();
    let (train, validation) = (0..count).partition(|at| drawn.binary_search(at).is_ok());
    [train, validation]
}

/// The windows of the conversations that train and of the others.
fn conversations(tokens: &TokenFile, settings: &config::Data) -> Layout {
    let ranges: Vec<Range<usize>> = tokens.documents().collect();
    let [train, validation] = drawn(ranges.len(), settings.train_fraction).map(|chosen| {
        let chosen: Vec<Range<usize>> = chosen.into_iter().map(|at| ranges[at].clone()).collect();
        ConversationWindows::new(&chosen, settings.context)
    });
    Layout::Chat { train, validation }
}

/// The pairs that train and the others.
fn pairs(tokens: &TokenFile, settings: &config::Data) -> Layout {
    let drawn = drawn(PairWindows::count(tokens), settings.train_fraction);
    let [train, validation] = drawn.map(PairWindows::new);
    Layout::Pairs { train, validation }
}

/// The pairs of a batch, whose rows alternate: with the chosen answer, with the rejected one.
#[derive(Debug, Clone)]
pub struct Pairs {
    /// Their numbers in the token file `[P]`.
    pub numbers: Vec<usize>,
    /// Positions of each row that train `[2 P]`.
    pub trained: Vec<usize>,
}

/// A batch of windows.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    /// `[B, T]`, row-major.
    pub inputs: Vec<u32>,
    /// `[B, T]`: the position within its row at which the document of each position begins; `None`
    /// if each window is one document.
    pub documents: Option<Vec<u32>>,
    /// Positions `[M]` among the `B * T` whose predictions train; `None` if all do.
    pub trained: Option<Vec<u32>>,
    /// `[M]`: the token that follows at each position that trains.
    pub targets: Vec<u32>,
    /// Which pairs of answers they are, if they are any.
    pub pairs: Option<Pairs>,
    /// `B` and `T`.
    pub shape: [usize; 2],
}

impl Batch {
    /// Adds a window as the next row.
    fn add(&mut self, window: Window) {
        let before = self.inputs.len() as u32;
        if let Some(trained) = window.trained {
            let positions = trained.into_iter().map(|position| before + position);
            self.trained.get_or_insert_default().extend(positions);
        }
        if let Some(documents) = window.documents {
            self.documents.get_or_insert_default().extend(documents);
        }
        self.inputs.extend(window.inputs);
        self.targets.extend(window.targets);
    }

    /// Number of positions whose predictions train, `M`.
    pub fn trained_tokens(&self) -> usize {
        self.targets.len()
    }

    /// The input of a forward pass on a device.
    pub fn on(&self, device: &Device) -> model::Batch {
        let [rows, time] = self.shape;
        let documents = self.documents.as_ref();
        model::Batch {
            tokens: integers(&self.inputs, device).reshape([rows, time]),
            documents: documents.map(|starts| Documents::new(starts.as_slice(), self.shape)),
            trained: self.trained.as_ref().map(|positions| integers(positions, device)),
            targets: integers(&self.targets, device),
        }
    }
}

/// Tokens or positions on a device; vocabularies and batches are far smaller than 2^31.
pub fn integers(numbers: &[u32], device: &Device) -> Tensor<1, Int> {
    let numbers: Vec<i32> = numbers.iter().map(|&number| number as i32).collect();
    let len = numbers.len();
    Tensor::from_data(TensorData::new(numbers, [len]), device)
}
