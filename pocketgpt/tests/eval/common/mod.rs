//! A tiny model with random weights: its checkpoint, its golden logits and its GGUF.

use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::Mutex;

use checkpoint::names::TensorUse;
use checkpoint::{Checkpoint, CheckpointContents, GgufView, Golden, NamedTensor, TrainerState};
use config::{Architecture, ModelConfig};
use gguf::{GgufFile, TensorSource, TensorType, Writer};

/// Tokens in a golden window.
pub const CONTEXT: usize = 24;
/// Golden windows.
pub const WINDOWS: usize = 3;

/// A temporary folder with the model's files.
pub struct Fixture {
    pub dir: tempfile::TempDir,
}

impl Fixture {
    /// A GPT-2: `RUN/checkpoints/step-000001` with golden logits, and `RUN/gguf/tiny-F32.gguf`.
    pub fn new() -> Self {
        Self::of(&config())
    }

    /// Any model.
    pub fn of(config: &ModelConfig) -> Self {
        let fixture = Fixture { dir: tempfile::tempdir().unwrap() };
        let folder = fixture.checkpoint();
        std::fs::create_dir_all(fixture.path("checkpoints")).unwrap();
        save(&folder, config, None);
        let view = |folder: &Path| {
            let checkpoint = Checkpoint::open(folder).unwrap();
            GgufView::new(checkpoint, TensorType::F32, "tiny").unwrap()
        };
        let model = reference::Model::load(&view(&folder)).unwrap();
        save(&folder, config, Some(&golden(&model)));
        std::fs::write(fixture.path("latest"), "step-000001\n").unwrap();
        write_gguf(&view(&folder), &fixture.f32(), |_, _| {}, |_| TensorType::F32);
        fixture
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn checkpoint(&self) -> PathBuf {
        self.path("checkpoints/step-000001")
    }

    pub fn f32(&self) -> PathBuf {
        self.path("gguf/tiny-F32.gguf")
    }

    /// A copy of the F32 file in which `change` was called with the weights of every tensor.
    pub fn changed(&self, name: &str, change: impl Fn(&str, &mut [f32])) -> PathBuf {
        let path = self.path(name);
        write_gguf(&GgufFile::open(&self.f32()).unwrap(), &path, change, |_| TensorType::F32);
        path
    }

    /// A copy of the F32 file with another value of a key.
    #[allow(dead_code, reason = "not every test needs one")]
    pub fn with_key(&self, name: &str, key: &str, value: gguf::Value) -> PathBuf {
        let path = self.path(name);
        let source = GgufFile::open(&self.f32()).unwrap();
        let mut metadata = source.metadata().clone();
        metadata.set(key, value);
        write_with(&metadata, &source, &path, |_, _| {}, |_| TensorType::F32);
        path
    }

    /// A copy with the matrices in `tensor_type`.
    pub fn quantized(&self, name: &str, tensor_type: TensorType) -> PathBuf {
        let path = self.path(name);
        let source = GgufFile::open(&self.f32()).unwrap();
        let matrix = |name: &str| {
            let positions = name == "position_embd.weight";
            let matrix = source.tensor(name).unwrap().shape.len() == 2;
            if matrix && !positions { tensor_type } else { TensorType::F32 }
        };
        write_gguf(&source, &path, |_, _| {}, matrix);
        path
    }
}

/// llama.cpp's threads spin while they wait: two models at once on few cores are ten times slower.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Runs the `eval` command.
pub fn eval(args: &[&dyn AsRef<std::ffi::OsStr>]) -> Output {
    let _alone = ONE_AT_A_TIME.lock();
    crate::program::stage("eval")
        .args(args.iter().map(|arg| arg.as_ref()))
        .env_remove("RUST_LOG")
        .output()
        .unwrap()
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

pub fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A tiny GPT-2.
pub fn config() -> ModelConfig {
    ModelConfig {
        architecture: Architecture::Gpt2,
        vocab_size: 260,
        context_length: 32,
        n_layer: 2,
        n_head: 4,
        n_kv_head: 4,
        n_embd: 64,
        n_inner: 256,
        norm_epsilon: 1e-5,
        rope_base: config::ROPE_BASE,
        qkv_bias: true,
        tie_embeddings: true,
        dropout: 0.0,
        attention: config::Attention::default(),
        experts: None,
    }
}

/// xorshift64*, uniform in -1..1.
struct Random(u64);

impl Random {
    fn next(&mut self) -> f32 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let bits = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 40;
        bits as f32 / (1 << 23) as f32 - 1.0
    }
}

fn save(folder: &Path, config: &ModelConfig, golden: Option<&Golden>) {
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    let weights: Vec<NamedTensor> = checkpoint::names::tensors(config)
        .into_iter()
        .filter(|tensor| tensor.in_model())
        .map(|tensor| {
            let norm = tensor.role == TensorUse::Vector && tensor.hugging_face.ends_with("weight");
            let (center, spread) = if norm { (1.0, 0.2) } else { (0.0, 0.15) };
            let elements = tensor.shape.iter().product();
            let data = (0..elements).map(|_| center + spread * random.next()).collect();
            NamedTensor { name: tensor.hugging_face, shape: tensor.shape, data }
        })
        .collect();
    let contents = CheckpointContents {
        config,
        weights: &weights,
        tokenizer_json: &tokenizer_json(),
        tokenizer_folder: None,
        optimizer: None,
        trainer: &TrainerState::default(),
        golden,
    };
    checkpoint::save(folder, contents).unwrap();
}

fn golden(model: &reference::Model) -> Golden {
    let vocab_size = model.config().vocab_size;
    let tokens: Vec<u32> =
        (0..WINDOWS * CONTEXT).map(|i| (i * 37 % (vocab_size - 1)) as u32).collect();
    let logits = tokens.chunks(CONTEXT).flat_map(|w| model.logits(w).unwrap()).collect();
    Golden { tokens, logits, windows: WINDOWS, context: CONTEXT, vocab_size }
}

/// Byte-level BPE with GPT-2's letters for bytes, three merges and `<|endoftext|>`.
fn tokenizer_json() -> String {
    let printable = |b: u32| matches!(b, 0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF);
    let mut unprintable = 0x100_u32;
    let mut tokens: Vec<String> = Vec::new();
    let letters: Vec<char> = (0..256)
        .map(|b| {
            let letter = if printable(b) { b } else { unprintable };
            unprintable += u32::from(!printable(b));
            char::from_u32(letter).unwrap()
        })
        .collect();
    // GPT-2's order: printable bytes first.
    let order = (0..256).filter(|&b| printable(b)).chain((0..256).filter(|&b| !printable(b)));
    tokens.extend(order.map(|b| letters[b as usize].to_string()));
    let merges = ["t h", "th e", "Ġ a"];
    tokens.extend(merges.iter().map(|merge| merge.replace(' ', "")));
    let end = tokens.len();
    tokens.push("<|endoftext|>".to_owned());
    let vocab: serde_json::Map<_, _> =
        tokens.into_iter().enumerate().map(|(id, token)| (token, id.into())).collect();
    serde_json::json!({
        "version": "1.0",
        "added_tokens": [{
            "id": end, "content": "<|endoftext|>", "special": true, "single_word": false,
            "lstrip": false, "rstrip": false, "normalized": false,
        }],
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true,
                          "use_regex": true},
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true,
                    "use_regex": true},
        "model": {"type": "BPE", "vocab": vocab, "merges": merges},
    })
    .to_string()
}

fn write_gguf(
    source: &dyn TensorSource,
    path: &Path,
    change: impl Fn(&str, &mut [f32]),
    stored_as: impl Fn(&str) -> TensorType,
) {
    write_with(source.metadata(), source, path, change, stored_as);
}

fn write_with(
    metadata: &gguf::Metadata,
    source: &dyn TensorSource,
    path: &Path,
    change: impl Fn(&str, &mut [f32]),
    stored_as: impl Fn(&str) -> TensorType,
) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let plan: Vec<_> = source
        .tensors()
        .iter()
        .map(|tensor| (tensor.name.clone(), tensor.shape.clone(), stored_as(&tensor.name)))
        .collect();
    let out = BufWriter::new(File::create(path).unwrap());
    let mut writer = Writer::new(out, metadata, &plan).unwrap();
    for (tensor, (name, shape, stored)) in source.tensors().iter().zip(&plan) {
        let mut values = gguf::read_f32(source, tensor).unwrap();
        change(name, &mut values);
        let mut bytes = vec![0; stored.size_of(shape).unwrap() as usize];
        gguf::blocks::quantize(*stored, &values, tensor.row_len(), None, &mut bytes).unwrap();
        writer.write_tensor(name, &bytes).unwrap();
    }
    writer.finish().unwrap();
}
