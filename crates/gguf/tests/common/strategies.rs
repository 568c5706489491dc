//! Strategies for arbitrary valid files, and for damage to them.

use gguf::{Array, Metadata, TensorType, Value};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

use super::Described;

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<u8>().prop_map(Value::U8),
        any::<i8>().prop_map(Value::I8),
        any::<u16>().prop_map(Value::U16),
        any::<i16>().prop_map(Value::I16),
        any::<u32>().prop_map(Value::U32),
        any::<i32>().prop_map(Value::I32),
        any::<u32>().prop_map(|bits| Value::F32(f32::from_bits(bits))),
        any::<bool>().prop_map(Value::Bool),
        any::<String>().prop_map(Value::String),
        any::<u64>().prop_map(Value::U64),
        any::<i64>().prop_map(Value::I64),
        any::<u64>().prop_map(|bits| Value::F64(f64::from_bits(bits))),
        array().prop_map(Value::Array),
    ]
}

fn array() -> impl Strategy<Value = Array> {
    prop_oneof![
        vec(any::<u8>(), 0..9).prop_map(Array::U8),
        vec(any::<i8>(), 0..9).prop_map(Array::I8),
        vec(any::<u16>(), 0..9).prop_map(Array::U16),
        vec(any::<i16>(), 0..9).prop_map(Array::I16),
        vec(any::<u32>(), 0..9).prop_map(Array::U32),
        vec(any::<i32>(), 0..9).prop_map(Array::I32),
        vec(any::<f32>(), 0..9).prop_map(Array::F32),
        vec(any::<bool>(), 0..9).prop_map(Array::Bool),
        vec(any::<String>(), 0..9).prop_map(Array::String),
        vec(any::<u64>(), 0..9).prop_map(Array::U64),
        vec(any::<i64>(), 0..9).prop_map(Array::I64),
        vec(any::<f64>(), 0..9).prop_map(Array::F64),
    ]
}

/// Any keys that can be planned.
pub fn metadata() -> impl Strategy<Value = Metadata> {
    let alignment = prop::option::of((0..9_u32).prop_map(|power| 1 << power));
    (btree_map("[^\\p{C}]{1,20}", value(), 0..6), alignment).prop_map(|(keys, alignment)| {
        let mut metadata = Metadata::new();
        keys.into_iter().for_each(|(key, value)| metadata.set(key, value));
        if let Some(bytes) = alignment {
            metadata.set("general.alignment", Value::U32(bytes));
        }
        metadata
    })
}

/// Tensors of a few hundred weights, so that files stay small.
pub fn tensors() -> impl Strategy<Value = Vec<Described>> {
    let shape_and_type = (0..TensorType::ALL.len(), 1..4_u64, vec(1..4_u64, 0..4));
    btree_map("[a-z0-9_.]{1,63}", shape_and_type, 0..5).prop_map(|named| {
        let described = named.into_iter().map(|(name, (type_index, blocks, outer))| {
            let tensor_type = TensorType::ALL[type_index];
            let row = blocks * tensor_type.block_len() as u64;
            let shape = std::iter::once(row).chain(outer.into_iter().take(3)).collect();
            (name, shape, tensor_type)
        });
        described.collect()
    })
}

/// Damage by a broken disk or a malicious author.
#[derive(Debug, Clone)]
pub enum Damage {
    Cut(prop::sample::Index),
    Set(prop::sample::Index, u8),
    /// A length or count with a value that can overflow in computations.
    SetWord(prop::sample::Index, u64),
    /// Bytes from one position copied to another.
    Copy(prop::sample::Index, prop::sample::Index, usize),
}

/// Any one damage.
pub fn damage() -> impl Strategy<Value = Damage> {
    let at = any::<prop::sample::Index>;
    let words =
        [0, 1, 31, 64, 1 << 20, 1 << 31, 1 << 32, 1 << 62, 1 << 63, u64::MAX - 31, u64::MAX];
    prop_oneof![
        at().prop_map(Damage::Cut),
        (at(), any::<u8>()).prop_map(|(at, byte)| Damage::Set(at, byte)),
        (at(), prop::sample::select(words.to_vec()))
            .prop_map(|(at, word)| Damage::SetWord(at, word)),
        (at(), at(), 1..64_usize).prop_map(|(from, to, count)| Damage::Copy(from, to, count)),
    ]
}

/// Damages `bytes`.
pub fn apply(damage: &Damage, bytes: &mut Vec<u8>) {
    if bytes.is_empty() {
        return;
    }
    match damage {
        Damage::Cut(at) => bytes.truncate(at.index(bytes.len())),
        Damage::Set(at, byte) => {
            let at = at.index(bytes.len());
            bytes[at] = *byte;
        }
        Damage::SetWord(at, word) => {
            let at = at.index(bytes.len());
            bytes.iter_mut().skip(at).zip(word.to_le_bytes()).for_each(|(old, new)| *old = new);
        }
        Damage::Copy(from, to, count) => {
            let (from, to) = (from.index(bytes.len()), to.index(bytes.len()));
            let copied = bytes[from..].iter().take(*count).copied().collect::<Vec<_>>();
            bytes.iter_mut().skip(to).zip(copied).for_each(|(old, new)| *old = new);
        }
    }
}
