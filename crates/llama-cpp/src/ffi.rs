//! The part of `llama.h` that this crate calls, as types that own what llama.cpp allocates.
//!
//! The bindings are those of llama-cpp-sys-2. The safe wrapper llama-cpp-2 is not used because it
//! enables llama.cpp's `common` library (chat parsers, downloads, arguments), which a build spends a
//! third of llama.cpp's time on and of which nothing is called here.

use std::ffi::{CStr, CString, c_char, c_void};
use std::path::Path;
use std::ptr::{NonNull, null_mut};

use llama_cpp_sys_2 as sys;

/// llama.cpp, started: its log is directed, its backends are registered.
#[derive(Debug)]
pub struct Backend(());

impl Backend {
    /// Starts llama.cpp, with its log in `tracing` or nowhere. One at a time in a process.
    pub fn start(has_log: bool) -> Self {
        let log = if has_log { log_to_tracing } else { no_log };
        // SAFETY: both calls may come at any time; the callback has the signature of
        // `ggml_log_callback` and needs no user data.
        unsafe {
            sys::llama_log_set(Some(log), null_mut());
            sys::llama_backend_init();
        }
        Backend(())
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        // SAFETY: `llama_backend_init` was called once for this value, and models keep it alive.
        unsafe { sys::llama_backend_free() }
    }
}

extern "C" fn no_log(_: sys::ggml_log_level, _: *const c_char, _: *mut c_void) {}

extern "C" fn log_to_tracing(level: sys::ggml_log_level, text: *const c_char, _: *mut c_void) {
    if text.is_null() {
        return;
    }
    // SAFETY: llama.cpp passes a string that ends in NUL and lives during the call.
    let text = unsafe { CStr::from_ptr(text) }.to_string_lossy();
    let text = text.trim_end();
    match level {
        _ if text.is_empty() => {}
        sys::GGML_LOG_LEVEL_ERROR => tracing::error!(target: "llama.cpp", "{text}"),
        sys::GGML_LOG_LEVEL_WARN => tracing::warn!(target: "llama.cpp", "{text}"),
        sys::GGML_LOG_LEVEL_INFO => tracing::info!(target: "llama.cpp", "{text}"),
        _ => tracing::debug!(target: "llama.cpp", "{text}"),
    }
}

/// A model in memory.
#[derive(Debug)]
pub struct Model(NonNull<sys::llama_model>);

// SAFETY: after loading, llama.cpp only reads a model; contexts on several threads may share it.
unsafe impl Send for Model {}
// SAFETY: as above.
unsafe impl Sync for Model {}

impl Model {
    /// Maps a GGUF file for the CPU. `None` if llama.cpp refuses it, or the path holds a NUL.
    pub fn load(_backend: &Backend, path: &Path) -> Option<Self> {
        let path = CString::new(path.to_str()?).ok()?;
        // SAFETY: the path is a string that ends in NUL; the defaults are valid, and without layers
        // on a graphics processor no device is looked for.
        let model = unsafe {
            let mut params = sys::llama_model_default_params();
            params.n_gpu_layers = 0;
            sys::llama_model_load_from_file(path.as_ptr(), params)
        };
        NonNull::new(model).map(Model)
    }

    /// Number of token ids, `V`.
    pub fn vocab_size(&self) -> i32 {
        // SAFETY: the model is valid, and its vocabulary lives as long as it does.
        unsafe { sys::llama_vocab_n_tokens(sys::llama_model_get_vocab(self.0.as_ptr())) }
    }

    /// Tokens of context that the model was trained on.
    pub fn context_length(&self) -> i32 {
        // SAFETY: the model is valid.
        unsafe { sys::llama_model_n_ctx_train(self.0.as_ptr()) }
    }

    /// Width of an embedding, `C`.
    pub fn n_embd(&self) -> i32 {
        // SAFETY: the model is valid.
        unsafe { sys::llama_model_n_embd(self.0.as_ptr()) }
    }

    /// Heads of queries.
    pub fn n_head(&self) -> i32 {
        // SAFETY: the model is valid.
        unsafe { sys::llama_model_n_head(self.0.as_ptr()) }
    }

    /// Heads of keys and values.
    pub fn n_head_kv(&self) -> i32 {
        // SAFETY: the model is valid.
        unsafe { sys::llama_model_n_head_kv(self.0.as_ptr()) }
    }

    /// Blocks.
    pub fn n_layer(&self) -> i32 {
        // SAFETY: the model is valid.
        unsafe { sys::llama_model_n_layer(self.0.as_ptr()) }
    }

    /// A key of the file as text; `None` if there is none of at most 255 bytes.
    pub fn metadata(&self, key: &str) -> Option<String> {
        let key = CString::new(key).ok()?;
        let mut text = [0_u8; 256];
        // SAFETY: the model is valid; llama.cpp writes at most `text.len()` bytes, NUL included.
        let length = unsafe {
            let buffer = text.as_mut_ptr().cast::<c_char>();
            sys::llama_model_meta_val_str(self.0.as_ptr(), key.as_ptr(), buffer, text.len())
        };
        let written = usize::try_from(length).ok().filter(|&length| length < text.len())?;
        String::from_utf8(text[..written].to_vec()).ok()
    }

    /// Memory for a computation; `None` if llama.cpp refuses the settings or gets no memory.
    pub fn context(&self, params: sys::llama_context_params) -> Option<Context<'_>> {
        // SAFETY: the model is valid and outlives the context, which borrows it.
        let context = unsafe { sys::llama_init_from_model(self.0.as_ptr(), params) };
        NonNull::new(context).map(|context| Context { context, _model: self })
    }
}

impl Drop for Model {
    fn drop(&mut self) {
        // SAFETY: the pointer is `load`'s, and no context is left that borrows it.
        unsafe { sys::llama_model_free(self.0.as_ptr()) }
    }
}

/// llama.cpp's settings of a context, by default.
pub fn context_params() -> sys::llama_context_params {
    // SAFETY: a function without arguments that returns a plain structure.
    unsafe { sys::llama_context_default_params() }
}

/// A computation: keys and values, and the logits of the last batch.
#[derive(Debug)]
pub struct Context<'a> {
    context: NonNull<sys::llama_context>,
    _model: &'a Model,
}

// SAFETY: a context may move to another thread; it is not shared, so calls do not meet.
unsafe impl Send for Context<'_> {}

impl Context<'_> {
    /// Computes a batch. The error is llama.cpp's code: 1 if no cells are free, negative for a
    /// failure.
    pub fn decode(&mut self, batch: &Batch) -> Result<(), i32> {
        // SAFETY: both are valid; llama.cpp reads the batch during the call only.
        match unsafe { sys::llama_decode(self.context.as_ptr(), batch.0) } {
            0 => Ok(()),
            code => Err(code),
        }
    }

    /// The logits `[V]` of a token of the last batch by its place; `None` if they were not asked for.
    pub fn logits(&self, place: usize, vocab_size: usize) -> Option<&[f32]> {
        let place = i32::try_from(place).ok()?;
        // SAFETY: llama.cpp checks the place and returns null or one row of `V` floats, which stays
        // as it is until the next `decode`, which needs this context alone.
        unsafe {
            let row = sys::llama_get_logits_ith(self.context.as_ptr(), place);
            NonNull::new(row).map(|row| std::slice::from_raw_parts(row.as_ptr(), vocab_size))
        }
    }

    /// Forgets all keys and values.
    pub fn clear(&mut self) {
        // SAFETY: the context is valid; its memory may be null, which llama.cpp accepts.
        unsafe { sys::llama_memory_clear(sys::llama_get_memory(self.context.as_ptr()), true) }
    }

    /// Removes the positions from `first` on of a sequence; false if the memory cannot be cut there.
    pub fn remove(&mut self, sequence: i32, first: i32) -> bool {
        // SAFETY: as in `clear`; -1 is the end.
        unsafe {
            let memory = sys::llama_get_memory(self.context.as_ptr());
            sys::llama_memory_seq_rm(memory, sequence, first, -1)
        }
    }

    /// Gives the sequence `to` all positions of the sequence `from`.
    pub fn copy(&mut self, from: i32, to: i32) {
        // SAFETY: as in `clear`; -1 and -1 are the whole sequence.
        unsafe {
            let memory = sys::llama_get_memory(self.context.as_ptr());
            sys::llama_memory_seq_cp(memory, from, to, -1, -1);
        }
    }
}

impl Drop for Context<'_> {
    fn drop(&mut self) {
        // SAFETY: the pointer is `Model::context`'s and is not used again.
        unsafe { sys::llama_free(self.context.as_ptr()) }
    }
}

/// Tokens for one call of [`Context::decode`].
pub struct Batch(sys::llama_batch, Room);

/// What a batch was allocated for.
struct Room {
    tokens: usize,
    sequences: usize,
}

impl Batch {
    /// Room for some tokens, each in at most `sequences` sequences; `None` if that is too much for
    /// llama.cpp's numbers.
    pub fn new(tokens: usize, sequences: usize) -> Option<Self> {
        let [n_tokens, n_seq_max] = [tokens, sequences].map(i32::try_from);
        // SAFETY: llama.cpp allocates arrays of these lengths, which `drop` frees.
        let batch = unsafe { sys::llama_batch_init(n_tokens.ok()?, 0, n_seq_max.ok()?) };
        Some(Batch(batch, Room { tokens, sequences }))
    }

    /// Adds a token at a position of some sequences, with logits after it if `has_logits`.
    ///
    /// # Panics
    /// If the batch has no room for it.
    pub fn add(&mut self, token: i32, position: i32, sequences: &[i32], has_logits: bool) {
        let Batch(batch, room) = self;
        let at = batch.n_tokens as usize;
        assert!(at < room.tokens && sequences.len() <= room.sequences, "the batch is full");
        // SAFETY: `at` is below the length of every array, and the array of sequences of a token
        // has `room.sequences` entries.
        unsafe {
            *batch.token.add(at) = token;
            *batch.pos.add(at) = position;
            *batch.n_seq_id.add(at) = sequences.len() as i32;
            let ids = *batch.seq_id.add(at);
            ids.copy_from_nonoverlapping(sequences.as_ptr(), sequences.len());
            *batch.logits.add(at) = i8::from(has_logits);
        }
        batch.n_tokens += 1;
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        // SAFETY: the arrays are those of `llama_batch_init`.
        unsafe { sys::llama_batch_free(self.0) }
    }
}
