//! Reads a header of any version and byte order.

use std::collections::HashSet;

use super::{ByteOrder, RawHeader, RawTensor, StoredFormat};
use crate::cursor::{Cursor, MIN_KEY_BYTES};
use crate::sniff::{self, Magic};
use crate::{Array, DEFAULT_ALIGNMENT, GgufError, Metadata, Value, limits};

/// The last version that this reader knows.
const NEWEST: u32 = 3;
/// Bytes of magic and version.
const MAGIC_BYTES: u64 = 8;
/// Minimum size of a tensor in version 1, in bytes: length, one letter, dimension count, format,
/// offset.
const MIN_TENSOR_BYTES: u64 = 4 + 1 + 4 + 4 + 8;
/// ggml allows 4; other programs, for images and sound, use more.
const DIMENSIONS: u32 = 16;

pub(super) fn header(bytes: &[u8]) -> Result<RawHeader, GgufError> {
    let mut cursor = Cursor::new(bytes);
    let what = || "the header".to_owned();
    let Some(Magic { version, byte_order }) = sniff::read_magic(bytes)? else {
        return Err(cursor.cut(what(), MAGIC_BYTES));
    };
    if !(1..=NEWEST).contains(&version) {
        return Err(GgufError::UnknownVersion { version, newest: NEWEST });
    }
    cursor.take(MAGIC_BYTES, what)?;
    let mut reader = Reader { cursor, byte_order, narrow: version == 1 };
    let tensors = reader.count(what)?;
    let keys = reader.count(what)?;
    let min_key_bytes = if reader.narrow { MIN_KEY_BYTES - 4 } else { MIN_KEY_BYTES };
    reader.cursor.check_count("keys", keys, limits::KEYS, min_key_bytes)?;
    reader.cursor.check_count("tensors", tensors, limits::TENSORS, MIN_TENSOR_BYTES)?;

    let metadata = reader.metadata(keys)?;
    let tensors = reader.tensors(tensors)?;
    let alignment = alignment(&metadata)?;
    let data_start = reader.cursor.position().next_multiple_of(alignment);
    Ok(RawHeader { version, byte_order, metadata, tensors, data_start, alignment })
}

/// Accepts any positive number up to the limit, because no tensor is placed by it.
fn alignment(metadata: &Metadata) -> Result<u64, GgufError> {
    let limit = limits::ALIGNMENT;
    match metadata.get(crate::layout::ALIGNMENT_KEY) {
        None => Ok(DEFAULT_ALIGNMENT),
        Some(value) => match metadata.unsigned(crate::layout::ALIGNMENT_KEY) {
            Ok(bytes) if (1..=limit).contains(&bytes) => Ok(bytes),
            _ => Err(GgufError::BadAlignment {
                found: format!("{} {value}", value.type_name()),
                limit,
            }),
        },
    }
}

struct Reader<'a> {
    cursor: Cursor<'a>,
    byte_order: ByteOrder,
    /// Whether counts and lengths take 4 bytes, as in version 1.
    narrow: bool,
}

/// Numbers of one type, read in the byte order of the file.
macro_rules! numbers {
    ($($number:ident),*) => { $(
        fn $number(&mut self, what: impl Fn() -> String) -> Result<$number, GgufError> {
            self.number(what, $number::from_le_bytes, $number::from_be_bytes)
        }
    )* };
}

impl<'a> Reader<'a> {
    numbers!(u8, i8, u16, i16, u32, i32, f32, u64, i64, f64);

    fn number<const N: usize, T>(
        &mut self,
        what: impl Fn() -> String,
        little: fn([u8; N]) -> T,
        big: fn([u8; N]) -> T,
    ) -> Result<T, GgufError> {
        let mut number = [0; N];
        number.copy_from_slice(self.cursor.take(N as u64, what)?);
        Ok(if self.byte_order == ByteOrder::Little { little(number) } else { big(number) })
    }

    /// `count` numbers of `N` bytes each.
    fn array<const N: usize, T>(
        &mut self,
        count: u64,
        what: impl Fn() -> String,
        little: fn([u8; N]) -> T,
        big: fn([u8; N]) -> T,
    ) -> Result<Vec<T>, GgufError> {
        let bytes = self.cursor.take(count.saturating_mul(N as u64), what)?;
        let decode = if self.byte_order == ByteOrder::Little { little } else { big };
        let (numbers, _) = bytes.as_chunks::<N>();
        Ok(numbers.iter().map(|&number| decode(number)).collect())
    }

    /// A count or a length.
    fn count(&mut self, what: impl Fn() -> String) -> Result<u64, GgufError> {
        if self.narrow { self.u32(what).map(u64::from) } else { self.u64(what) }
    }

    fn text(&mut self, what: impl Fn() -> String) -> Result<String, GgufError> {
        let length = self.count(&what)?;
        Ok(String::from_utf8_lossy(self.cursor.take(length, what)?).into_owned())
    }

    fn metadata(&mut self, count: u64) -> Result<Metadata, GgufError> {
        let mut seen = HashSet::with_capacity(count as usize);
        let mut entries = Vec::with_capacity(count as usize);
        for index in 0..count {
            let what = || format!("key {index}");
            let length = self.count(what)?;
            let key = self.cursor.checked_name(length, limits::KEY, what)?;
            if !seen.insert(key) {
                return Err(GgufError::DuplicateKey { key: key.to_owned() });
            }
            entries.push((key.to_owned(), self.value(key)?));
        }
        Ok(Metadata::from_distinct(entries))
    }

    /// `enum gguf_type` of `gguf.h`.
    fn value(&mut self, key: &str) -> Result<Value, GgufError> {
        let what = || format!("key {key}");
        Ok(match self.u32(what)? {
            0 => Value::U8(self.u8(what)?),
            1 => Value::I8(self.i8(what)?),
            2 => Value::U16(self.u16(what)?),
            3 => Value::I16(self.i16(what)?),
            4 => Value::U32(self.u32(what)?),
            5 => Value::I32(self.i32(what)?),
            6 => Value::F32(self.f32(what)?),
            7 => Value::Bool(self.u8(what)? != 0),
            8 => Value::String(self.text(what)?),
            9 => Value::Array(self.array_value(key)?),
            10 => Value::U64(self.u64(what)?),
            11 => Value::I64(self.i64(what)?),
            12 => Value::F64(self.f64(what)?),
            id => return Err(GgufError::UnknownValueType { key: key.to_owned(), id }),
        })
    }

    fn array_value(&mut self, key: &str) -> Result<Array, GgufError> {
        let what = || format!("key {key}");
        let id = self.u32(what)?;
        let count = self.count(what)?;
        macro_rules! numbers {
            ($number:ident) => {
                self.array(count, what, $number::from_le_bytes, $number::from_be_bytes)?
            };
        }
        Ok(match id {
            0 => Array::U8(numbers!(u8)),
            1 => Array::I8(numbers!(i8)),
            2 => Array::U16(numbers!(u16)),
            3 => Array::I16(numbers!(i16)),
            4 => Array::U32(numbers!(u32)),
            5 => Array::I32(numbers!(i32)),
            6 => Array::F32(numbers!(f32)),
            7 => Array::Bool(numbers!(u8).into_iter().map(|byte| byte != 0).collect()),
            8 => Array::String(self.texts(count, what)?),
            9 => return Err(GgufError::NestedArray { key: key.to_owned() }),
            10 => Array::U64(numbers!(u64)),
            11 => Array::I64(numbers!(i64)),
            12 => Array::F64(numbers!(f64)),
            id => return Err(GgufError::UnknownValueType { key: key.to_owned(), id }),
        })
    }

    fn texts(&mut self, count: u64, what: impl Fn() -> String) -> Result<Vec<String>, GgufError> {
        // An empty text consists only of its length.
        let min_bytes = if self.narrow { 4 } else { 8 };
        self.cursor.need(count.saturating_mul(min_bytes), &what)?;
        (0..count).map(|_| self.text(&what)).collect()
    }

    fn tensors(&mut self, count: u64) -> Result<Vec<RawTensor>, GgufError> {
        let tensors = (0..count).map(|index| self.tensor(index)).collect::<Result<Vec<_>, _>>()?;
        let mut seen = HashSet::with_capacity(tensors.len());
        match tensors.iter().find(|tensor| !seen.insert(&tensor.name)) {
            Some(RawTensor { name, .. }) => Err(GgufError::DuplicateTensor { name: name.clone() }),
            None => Ok(tensors),
        }
    }

    fn tensor(&mut self, index: u64) -> Result<RawTensor, GgufError> {
        let what = || format!("tensor {index}");
        let length = self.count(what)?;
        // ggml allows 63 bytes; other programs use more.
        let name = self.cursor.checked_name(length, limits::KEY, what)?.to_owned();
        let what = || format!("the description of tensor {name}");
        let dimensions = self.u32(what)?;
        if dimensions > DIMENSIONS {
            let count = u64::from(dimensions);
            return Err(GgufError::DimensionCount { name, count });
        }
        let shape = (0..dimensions).map(|_| self.count(what)).collect::<Result<Vec<_>, _>>()?;
        let format = StoredFormat(self.u32(what)?);
        let offset = self.u64(what)?;
        let size = format.size_of(&shape);
        Ok(RawTensor { name, shape, format, offset, size })
    }
}
