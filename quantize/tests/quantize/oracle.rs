//! `llama_model_quantize`, in the same process.

use std::ffi::CString;
use std::path::Path;
use std::ptr;

use gguf::TensorType;
use llama_cpp_sys_2 as ffi;
use quantize::Recipe;

/// The options of `llama-quantize`.
#[derive(Debug, Clone, Default)]
pub struct Wishes {
    /// `--pure`
    pub pure: bool,
    /// `--output-tensor-type`
    pub output: Option<TensorType>,
    /// `--tensor-type`
    pub overrides: Vec<(&'static str, TensorType)>,
    /// `--imatrix`: tensors and the importance of their columns.
    pub importance: Vec<(String, Vec<f32>)>,
    /// `--allow-requantize`
    pub requantize: bool,
}

/// Writes the file of `llama-quantize` for `input`; `false` if it refuses.
pub fn llama_quantize(input: &Path, output: &Path, recipe: Recipe) -> bool {
    llama_quantize_with(input, output, recipe, &Wishes::default())
}

/// As [`llama_quantize`], with options.
pub fn llama_quantize_with(input: &Path, output: &Path, recipe: Recipe, wishes: &Wishes) -> bool {
    let text = |text: &str| CString::new(text).unwrap();
    let path = |path: &Path| text(path.to_str().unwrap());
    let names: Vec<CString> = wishes.importance.iter().map(|(name, _)| text(name)).collect();
    let mut importance: Vec<_> = names
        .iter()
        .zip(&wishes.importance)
        .map(|(name, (_, columns))| ffi::llama_model_imatrix_data {
            name: name.as_ptr(),
            data: columns.as_ptr(),
            size: columns.len(),
        })
        .collect();
    importance.push(ffi::llama_model_imatrix_data {
        name: ptr::null(),
        data: ptr::null(),
        size: 0,
    });
    let patterns: Vec<CString> =
        wishes.overrides.iter().map(|(pattern, _)| text(pattern)).collect();
    let mut overrides: Vec<_> = patterns
        .iter()
        .zip(&wishes.overrides)
        .map(|(pattern, (_, to))| ffi::llama_model_tensor_override {
            pattern: pattern.as_ptr(),
            type_: to.id() as ffi::ggml_type,
        })
        .collect();
    overrides.push(ffi::llama_model_tensor_override {
        pattern: ptr::null(),
        type_: ffi::GGML_TYPE_COUNT,
    });
    // SAFETY: paths, names and patterns are NUL-terminated, both lists end as llama.cpp expects and
    // outlive the call, the other parameters are its own defaults with plain fields changed, and
    // the log callback accepts any input.
    unsafe {
        ffi::llama_log_set(Some(silent), ptr::null_mut());
        let mut params = ffi::llama_model_quantize_default_params();
        params.nthread = 2;
        params.ftype = recipe.file_type().number() as ffi::llama_ftype;
        params.pure_ = wishes.pure;
        params.allow_requantize = wishes.requantize;
        if let Some(output) = wishes.output {
            params.output_tensor_type = output.id() as ffi::ggml_type;
        }
        if importance.len() > 1 {
            params.imatrix = importance.as_ptr();
        }
        if overrides.len() > 1 {
            params.tt_overrides = overrides.as_ptr();
        }
        ffi::llama_model_quantize(path(input).as_ptr(), path(output).as_ptr(), &params) == 0
    }
}

unsafe extern "C" fn silent(
    _level: ffi::ggml_log_level,
    _text: *const std::ffi::c_char,
    _data: *mut std::ffi::c_void,
) {
}
