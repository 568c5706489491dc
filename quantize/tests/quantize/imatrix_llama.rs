//! Importance data compared with llama.cpp: the sums of its own pass, and the files of its own
//! tool.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_char, c_void};
use std::path::Path;
use std::{ptr, slice};

use crate::models::{GPT2, LLAMA, Model};
use config::Architecture;
use gguf::{GgufFile, TensorSource};
use llama_cpp_sys_2 as ffi;
use quantize::{Calibration, ImatrixFile, ImatrixJob, Importance, collect};

/// Σ x² of the inputs of every matrix, and how often each expert was used.
#[derive(Default)]
struct Observed {
    /// One row after another if there are experts.
    squares: Vec<f64>,
    counts: Vec<f32>,
}

type Sums = BTreeMap<String, Observed>;

impl Observed {
    fn add(&mut self, matrices: usize, matrix: usize, x: &[f32]) {
        self.squares.resize(matrices * x.len(), 0.0);
        self.counts.resize(matrices, 0.0);
        self.counts[matrix] += 1.0;
        for (sum, x) in self.squares[matrix * x.len()..].iter_mut().zip(x) {
            *sum += f64::from(*x).powi(2);
        }
    }
}

/// As `IMatrixCollector::collect_imatrix`: sums the squares of the right side of every product.
unsafe extern "C" fn watch(node: *mut ffi::ggml_tensor, ask: bool, sums: *mut c_void) -> bool {
    // SAFETY: llama.cpp passes a node of the graph that it has just computed, in host memory, and
    // `sums` is the map of `pass`, which nothing else accesses meanwhile.
    unsafe {
        let node = &*node;
        let by_expert = node.op == ffi::GGML_OP_MUL_MAT_ID;
        if node.op != ffi::GGML_OP_MUL_MAT && !by_expert {
            return !ask;
        }
        let (matrix, input) = (&*node.src[0], &*node.src[1]);
        let name = CStr::from_ptr(matrix.name.as_ptr()).to_str().unwrap();
        if !name.starts_with("blk.") {
            return !ask;
        }
        if ask {
            return true;
        }
        let sums = (*sums.cast::<Sums>()).entry(name.to_owned()).or_default();
        let [width, inputs, tokens] = [input.ne[0], input.ne[1], input.ne[2]].map(|n| n as usize);
        assert_eq!(input.type_, ffi::GGML_TYPE_F32, "{name}");
        let row = |input_of_token: usize, token: usize| {
            let at = input_of_token * input.nb[1] + token * input.nb[2];
            slice::from_raw_parts(input.data.byte_add(at).cast::<f32>(), width)
        };
        if by_expert {
            // `[used, tokens]`: the expert of each input of a token.
            let chosen = &*node.src[2];
            for (token, k) in
                (0..tokens).flat_map(|t| (0..chosen.ne[0] as usize).map(move |k| (t, k)))
            {
                let at = k * chosen.nb[0] + token * chosen.nb[1];
                let expert = *chosen.data.byte_add(at).cast::<i32>();
                sums.add(matrix.ne[2] as usize, expert as usize, row(k % inputs, token));
            }
        } else {
            (0..inputs).for_each(|i| sums.add(1, 0, row(i, 0)));
        }
        true
    }
}

unsafe extern "C" fn silent(_level: ffi::ggml_log_level, _text: *const c_char, _: *mut c_void) {}

/// Reads each window with llama.cpp, from an empty cache.
fn pass(model: &Path, windows: &[Vec<u32>]) -> Sums {
    let path = CString::new(model.to_str().unwrap()).unwrap();
    let mut sums = Sums::new();
    // SAFETY: the path is NUL-terminated, parameters are llama.cpp's own defaults with plain fields
    // changed, a batch is filled within its capacity, everything is freed once and after its last
    // use, and `sums` outlives the context that points to it.
    unsafe {
        ffi::llama_log_set(Some(silent), ptr::null_mut());
        let mut params = ffi::llama_model_default_params();
        params.n_gpu_layers = 0;
        let model = ffi::llama_model_load_from_file(path.as_ptr(), params);
        assert!(!model.is_null());
        let context = windows[0].len();
        let mut params = ffi::llama_context_default_params();
        (params.n_ctx, params.n_batch) = (context as u32, context as u32);
        (params.n_threads, params.n_threads_batch) = (1, 1);
        (params.type_k, params.type_v) = (ffi::GGML_TYPE_F32, ffi::GGML_TYPE_F32);
        params.cb_eval = Some(watch);
        params.cb_eval_user_data = (&raw mut sums).cast();
        let llama = ffi::llama_init_from_model(model, params);
        assert!(!llama.is_null());
        for window in windows {
            ffi::llama_memory_clear(ffi::llama_get_memory(llama), true);
            let mut batch = ffi::llama_batch_init(context as i32, 0, 1);
            batch.n_tokens = context as i32;
            for (i, &token) in window.iter().enumerate() {
                *batch.token.add(i) = token as ffi::llama_token;
                *batch.pos.add(i) = i as ffi::llama_pos;
                *batch.n_seq_id.add(i) = 1;
                **batch.seq_id.add(i) = 0;
                // Without an output, the last layer would skip the tokens that are not needed.
                *batch.logits.add(i) = 1;
            }
            assert_eq!(ffi::llama_decode(llama, batch), 0);
            ffi::llama_batch_free(batch);
        }
        ffi::llama_free(llama);
        ffi::llama_model_free(model);
    }
    sums
}

#[test]
fn the_sums_are_those_of_llama_cpps_pass() {
    use Architecture::{Gemma3, Olmo2, Phi3, Qwen2};
    let [qwen2, olmo2, gemma3, phi3] =
        [Qwen2, Olmo2, Gemma3, Phi3].map(|architecture| Model { architecture, ..LLAMA });
    let mixtral = Model { experts: 5, ..LLAMA };
    for model in [GPT2, LLAMA, qwen2, olmo2, gemma3, phi3, mixtral] {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        Model { layers: 2, ..model }.write(&path("model.gguf"), 9);
        let text: String = (0..20).map(|i| format!("the {i}th word of them all. ")).collect();
        std::fs::write(path("text.txt"), text).unwrap();
        collect(&ImatrixJob {
            input: path("model.gguf"),
            text: path("text.txt"),
            output: path("imatrix.gguf"),
            context: 16,
            tokens: None,
            process_output: false,
            overwrite: false,
            interrupt: cli::Interrupt::default(),
        })
        .unwrap();
        let keys = GgufFile::open(&path("model.gguf")).unwrap();
        let windows =
            Calibration::read(&path("text.txt"), keys.metadata(), None, 16, None).unwrap().windows;
        let theirs = pass(&path("model.gguf"), &windows);
        let ours = ImatrixFile::open(&path("imatrix.gguf")).unwrap();
        assert!(ours.entries.keys().eq(theirs.keys()));
        for (tensor, ours) in &ours.entries {
            let (mut error, mut size) = (0.0, 0.0);
            assert_eq!(ours.counts, theirs[tensor].counts, "{tensor}");
            for (x, y) in ours.squares.iter().zip(&theirs[tensor].squares) {
                error += (f64::from(*x) - y).powi(2);
                size += y.powi(2);
            }
            // llama.cpp looks GELU up in a table of 16-bit floats.
            let relative = (error / size).sqrt();
            assert!(relative < 1e-3, "{tensor}: {relative:e}");
        }
    }
}

/// Files that `llama-imatrix` wrote in its two formats, from four chunks of 512 tokens, with the
/// 260K model of llama2.c: `golden/imatrix/make.sh` made them.
#[test]
fn files_of_llama_imatrix_are_read() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/imatrix");
    let [gguf, legacy] =
        ["stories260K.gguf", "stories260K.dat"].map(|name| Importance::open(&golden.join(name)));
    let (gguf, legacy) = (gguf.unwrap(), legacy.unwrap());
    for data in [&gguf, &legacy] {
        assert_eq!((data.len(), data.chunks), (5 * 7, 4));
        assert_eq!(data.datasets, ["text.txt"]);
    }
    let file = ImatrixFile::open(&golden.join("stories260K.gguf")).unwrap();
    assert_eq!(file.chunk_size, 512);
    for (name, sums) in &file.entries {
        assert_eq!(sums.counts, [2048.0], "{name}");
        let tensor = gguf::TensorInfo {
            name: name.clone(),
            shape: vec![sums.squares.len() as u64, 64],
            tensor_type: gguf::TensorType::F32,
            offset: 0,
            size: 0,
        };
        let [gguf, legacy] = [&gguf, &legacy].map(|data| data.of(&tensor).unwrap().unwrap());
        for ((square, new), old) in sums.squares.iter().zip(gguf).zip(legacy) {
            assert_eq!(*new, square / 2048.0, "{name}");
            assert!((new - old).abs() <= 1e-6 * new, "{name}: {new} {old}");
        }
    }
}
