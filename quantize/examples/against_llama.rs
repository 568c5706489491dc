//! Quantizes a GGUF with this crate and with llama.cpp in the same process, with the same number of
//! threads, and prints the wall times and whether the tensors are equal.
//!
//!     cargo run --release -p pocketgpt-quantize --example against_llama -- model-F32.gguf Q4_K_M

use std::error::Error;
use std::ffi::CString;
use std::path::Path;
use std::time::Instant;

use gguf::{GgufFile, TensorSource};
use llama_cpp_sys_2 as ffi;
use quantize::{QuantizeJob, Recipe, quantize_file};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [input, recipe] = arguments.as_slice() else {
        return Err("usage: against_llama MODEL.gguf RECIPE".into());
    };
    let recipe: Recipe = recipe.parse()?;
    let dir = tempfile::tempdir()?;
    let (ours, theirs) = (dir.path().join("ours.gguf"), dir.path().join("theirs.gguf"));
    for run in 1..=3 {
        let start = Instant::now();
        quantize_file(&QuantizeJob {
            output: Some(ours.clone()),
            overwrite: true,
            ..QuantizeJob::new(input, recipe)
        })?;
        let our_time = start.elapsed().as_secs_f64();
        let start = Instant::now();
        llama_quantize(Path::new(input), &theirs, recipe)?;
        let their_time = start.elapsed().as_secs_f64();
        println!(
            "run {run}: {recipe} ours {our_time:.2} s, llama.cpp {their_time:.2} s, factor {:.1}",
            their_time / our_time
        );
    }
    println!("tensors equal: {}", same_tensors(&ours, &theirs)?);
    Ok(())
}

fn same_tensors(a: &Path, b: &Path) -> Result<bool, Box<dyn Error>> {
    let (a, b) = (GgufFile::open(a)?, GgufFile::open(b)?);
    for tensor in a.tensors() {
        let other = b.tensor(&tensor.name)?;
        if tensor.tensor_type != other.tensor_type || a.read(tensor)? != b.read(other)? {
            return Ok(false);
        }
    }
    Ok(a.tensors().len() == b.tensors().len())
}

fn llama_quantize(input: &Path, output: &Path, recipe: Recipe) -> Result<(), Box<dyn Error>> {
    unsafe extern "C" fn silent(
        _level: ffi::ggml_log_level,
        _text: *const std::ffi::c_char,
        _data: *mut std::ffi::c_void,
    ) {
    }
    let path = |path: &Path| CString::new(path.to_string_lossy().as_bytes());
    let (input, output) = (path(input)?, path(output)?);
    // SAFETY: both paths are NUL-terminated, the parameters are llama.cpp's own defaults (as many
    // threads as the machine has) with plain fields changed, and the callback ignores its input.
    let refused = unsafe {
        ffi::llama_log_set(Some(silent), std::ptr::null_mut());
        let mut params = ffi::llama_model_quantize_default_params();
        params.ftype = recipe.file_type().number() as ffi::llama_ftype;
        ffi::llama_model_quantize(input.as_ptr(), output.as_ptr(), &params) != 0
    };
    if refused { Err("llama.cpp refused".into()) } else { Ok(()) }
}
