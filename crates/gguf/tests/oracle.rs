//! Tests that ggml reads what we write, and refuses what we refuse.

#![allow(clippy::unwrap_used, reason = "where a test cannot go on, it fails")]

use crate::common;
use std::ffi::{CStr, CString};

use crate::common::raw::Raw;
use crate::common::strategies::{apply, damage, metadata, tensors};
use gguf::{Array, Metadata, TensorType, Value};
use llama_cpp_sys_2 as ggml;
use proptest::collection::vec;
use proptest::prelude::*;

/// ggml's own reader on a file. Freed when dropped.
struct Context(*mut ggml::gguf_context);

impl Context {
    fn read(bytes: &[u8]) -> Option<Self> {
        let params = ggml::gguf_init_params { no_alloc: true, ctx: std::ptr::null_mut() };
        // SAFETY: `bytes` outlives the call, which copies what it keeps; with a null context only
        // the header is read.
        let context =
            unsafe { ggml::gguf_init_from_buffer(bytes.as_ptr().cast(), bytes.len(), params) };
        (!context.is_null()).then_some(Self(context))
    }

    fn key(&self, name: &str) -> i64 {
        let name = CString::new(name).unwrap();
        // SAFETY: a live context and a text that ends in a zero.
        let id = unsafe { ggml::gguf_find_key(self.0, name.as_ptr()) };
        assert!(id >= 0, "key {name:?} not found");
        id
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: from `gguf_init_from_buffer`, and freed once.
        unsafe { ggml::gguf_free(self.0) }
    }
}

fn text<'a>(pointer: *const std::ffi::c_char) -> &'a str {
    // SAFETY: ggml returns texts that end in a zero and live as long as their context.
    unsafe { CStr::from_ptr(pointer) }.to_str().unwrap()
}

#[test]
fn ggml_reads_what_we_write() {
    let mut metadata = Metadata::new();
    metadata.set("general.architecture", Value::String("gpt2".to_owned()));
    metadata.set("general.alignment", Value::U32(64));
    metadata.set("gpt2.epsilon", Value::F32(1e-5));
    let tokens = vec!["!".to_owned(), "Ġthe".to_owned()];
    metadata.set("tokens", Value::Array(Array::String(tokens)));
    metadata.set("scores", Value::Array(Array::F64(vec![0.5, -1.0])));
    let tensors = TensorType::ALL.map(|tensor_type| {
        // A name as long as allowed, a row of one block, four dimensions.
        let name = format!("{:x<63}", format!("{tensor_type}."));
        (name, vec![tensor_type.block_len() as u64, 3, 1, 2], tensor_type)
    });
    let file = common::write(&metadata, &tensors);
    let (_, layout) = gguf::parse_header(&file).unwrap();

    let context = Context::read(&file).expect("ggml reads it");
    // SAFETY: a live context, and indices that ggml itself found or counted.
    unsafe {
        assert_eq!(ggml::gguf_get_alignment(context.0), 64);
        assert_eq!(ggml::gguf_get_data_offset(context.0) as u64, layout.data_start);
        assert_eq!(ggml::gguf_get_n_kv(context.0), 5);
        assert_eq!(
            text(ggml::gguf_get_val_str(context.0, context.key("general.architecture"))),
            "gpt2"
        );
        assert_eq!(ggml::gguf_get_val_f32(context.0, context.key("gpt2.epsilon")), 1e-5);
        assert_eq!(ggml::gguf_get_arr_n(context.0, context.key("tokens")), 2);
        assert_eq!(text(ggml::gguf_get_arr_str(context.0, context.key("tokens"), 1)), "Ġthe");
        let scores = ggml::gguf_get_arr_data(context.0, context.key("scores")).cast::<f64>();
        assert_eq!([scores.read_unaligned(), scores.add(1).read_unaligned()], [0.5, -1.0]);

        assert_eq!(ggml::gguf_get_n_tensors(context.0), tensors.len() as i64);
        for (id, tensor) in (0..).zip(&layout.tensors) {
            assert_eq!(text(ggml::gguf_get_tensor_name(context.0, id)), tensor.name);
            assert_eq!(ggml::gguf_get_tensor_offset(context.0, id) as u64, tensor.offset);
            assert_eq!(ggml::gguf_get_tensor_size(context.0, id) as u64, tensor.size);
            assert_eq!(ggml::gguf_get_tensor_type(context.0, id), tensor.tensor_type.id());
            let dims = std::slice::from_raw_parts(ggml::gguf_get_tensor_ne(context.0, id), 4);
            assert_eq!(dims.iter().map(|&n| n as u64).collect::<Vec<_>>(), tensor.shape);
        }
    }
}

#[test]
fn ggml_refuses_what_we_refuse() {
    let swapped = Raw(b"GGUF\0\0\0\x03".to_vec()).u64(0).u64(0);
    let long = "n".repeat(64);
    let refused = [
        ("big-endian", swapped),
        ("version 1", Raw(b"GGUF".to_vec()).u32(1).u64(0).u64(0)),
        ("version 4", Raw(b"GGUF".to_vec()).u32(4).u64(0).u64(0)),
        ("magic", Raw(b"GGUf".to_vec()).u32(3).u64(0).u64(0)),
        ("empty key", Raw::new(0, 1).key_u32("", 1)),
        ("duplicate key", Raw::new(0, 2).key_u32("k", 1).key_u32("k", 1)),
        ("value type", Raw::new(0, 1).key("k", 13).u32(0)),
        ("nested array", Raw::new(0, 1).key("k", 9).u32(9).u64(0)),
        ("alignment 24", Raw::new(0, 1).key_u32("general.alignment", 24)),
        ("alignment 0", Raw::new(0, 1).key_u32("general.alignment", 0)),
        ("alignment u64", Raw::new(0, 1).key("general.alignment", 10).u64(32)),
        ("name of 64", Raw::new(1, 0).tensor(&long, &[1], 0, 0).data(32)),
        ("duplicate", Raw::new(2, 0).tensor("a", &[8], 0, 0).tensor("a", &[8], 0, 32).data(64)),
        ("five dimensions", Raw::new(1, 0).tensor("a", &[1; 5], 0, 0).data(32)),
        ("negative", Raw::new(1, 0).tensor("a", &[1 << 63], 0, 0).data(32)),
        ("overflow", Raw::new(1, 0).tensor("a", &[1 << 32, 1 << 31], 0, 0).data(32)),
        ("removed type", Raw::new(1, 0).tensor("a", &[32], 4, 0).data(32)),
        ("unknown type", Raw::new(1, 0).tensor("a", &[32], 1000, 0).data(32)),
        ("partial block", Raw::new(1, 0).tensor("a", &[48], 8, 0).data(64)),
        ("overlap", Raw::new(2, 0).tensor("a", &[8], 0, 0).tensor("b", &[8], 0, 0).data(64)),
        ("gap", Raw::new(2, 0).tensor("a", &[8], 0, 0).tensor("b", &[8], 0, 64).data(96)),
        ("cut", Raw::new(1, 1)),
    ];
    for (reason, raw) in refused {
        assert!(gguf::parse_header(&raw.0).is_err(), "{reason}: we read it");
        assert!(Context::read(&raw.0).is_none(), "{reason}: ggml reads it");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(4096) })]

    #[test]
    fn ggml_reads_what_we_read(
        metadata in metadata(),
        tensors in tensors(),
        damages in vec(damage(), 0..4),
    ) {
        let mut bytes = common::write(&metadata, &tensors);
        damages.iter().for_each(|damage| apply(damage, &mut bytes));
        if let Ok((_, layout)) = gguf::parse_header(&bytes)
            && layout.file_size <= bytes.len() as u64
        {
            prop_assert!(Context::read(&bytes).is_some());
        }
    }
}
