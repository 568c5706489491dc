//! `llama_model_quantize`, in process.

use std::ffi::CString;
use std::path::Path;

use llama_cpp_sys_2 as ffi;
use quantize::Recipe;

/// What `llama-quantize` writes for `input`; `false` where it refuses.
pub fn llama_quantize(input: &Path, output: &Path, recipe: Recipe) -> bool {
    let path = |path: &Path| CString::new(path.to_str().unwrap()).unwrap();
    // SAFETY: both paths are NUL-terminated, the parameters are llama.cpp's own defaults with
    // plain fields changed, and the log callback takes whatever it is given.
    unsafe {
        ffi::llama_log_set(Some(silent), std::ptr::null_mut());
        let mut params = ffi::llama_model_quantize_default_params();
        params.nthread = 2;
        params.ftype = recipe.file_type() as ffi::llama_ftype;
        params.pure_ = recipe.is_pure();
        ffi::llama_model_quantize(path(input).as_ptr(), path(output).as_ptr(), &params) == 0
    }
}

unsafe extern "C" fn silent(
    _level: ffi::ggml_log_level,
    _text: *const std::ffi::c_char,
    _data: *mut std::ffi::c_void,
) {
}
