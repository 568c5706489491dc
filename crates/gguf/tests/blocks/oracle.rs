//! ggml's own quantizers, through their C interface.

use gguf::TensorType;
use llama_cpp_sys_2 as ffi;

/// `ggml_quantize_chunk`, with an importance matrix or without.
pub fn ggml_quantize(
    tensor_type: TensorType,
    weights: &[f32],
    row_len: usize,
    importance: Option<&[f32]>,
) -> Vec<u8> {
    assert!(importance.is_none_or(|importance| importance.len() == row_len));
    let size = weights.len() / tensor_type.block_len() * tensor_type.block_bytes();
    let mut bytes = vec![0x55_u8; size];
    // SAFETY: `weights` has rows of `row_len` weights, `importance` as many numbers, and `bytes`
    // the size that the rows take.
    let written = unsafe {
        ffi::ggml_quantize_chunk(
            tensor_type.id() as ffi::ggml_type,
            weights.as_ptr(),
            bytes.as_mut_ptr().cast(),
            0,
            (weights.len() / row_len) as i64,
            row_len as i64,
            importance.map_or(std::ptr::null(), <[f32]>::as_ptr),
        )
    };
    assert_eq!(written, size, "{tensor_type}");
    bytes
}

/// The `to_float` of ggml's type traits.
pub fn ggml_dequantize(tensor_type: TensorType, bytes: &[u8], weights: usize) -> Vec<f32> {
    if tensor_type == TensorType::F32 {
        return bytes.as_chunks::<4>().0.iter().map(|&b| f32::from_le_bytes(b)).collect();
    }
    // Bytes of Rust can be at any address, but C reads aligned 16-bit fields.
    let mut aligned = vec![0_u32; bytes.len().div_ceil(4)];
    bytemuck::cast_slice_mut(&mut aligned)[..bytes.len()].copy_from_slice(bytes);
    let mut out = vec![0.0_f32; weights];
    // SAFETY: the traits of a known type are static, and `bytes` holds `weights` weights.
    unsafe {
        let traits = ffi::ggml_get_type_traits(tensor_type.id() as ffi::ggml_type);
        let to_float = (*traits).to_float.expect("ggml reads every type that is listed here");
        to_float(aligned.as_ptr().cast(), out.as_mut_ptr(), weights as i64);
    }
    out
}
