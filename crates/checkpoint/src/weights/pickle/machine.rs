//! The stack machine.

use std::collections::HashMap;

use safetensors::Dtype;

use super::functions::Named;
use super::{Function, Object, Pickle, PickleError, Shown, Span, Storage, Tensor, Value, text};

/// Most instructions of one pickle, each of which adds at most one value of 16 bytes. A model of
/// 100,000 tensors takes 4 million.
pub const MOST_STEPS: usize = 8_000_000;

/// Most objects of one pickle, of some 60 bytes each. A tensor takes six.
const MOST_OBJECTS: usize = 2_000_000;

/// Most dimensions of a tensor.
const MOST_DIMENSIONS: usize = 8;

/// The protocol that `torch.save` writes.
const PROTOCOL: u8 = 2;

/// Runs the pickle at the start of `bytes`.
pub(super) fn run(bytes: &[u8]) -> Result<Pickle<'_>, PickleError> {
    let mut machine = Machine {
        bytes,
        at: 0,
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
        objects: Vec::new(),
    };
    for _ in 0..MOST_STEPS {
        let start = machine.at;
        let root = machine.step().map_err(|reason| PickleError { at: start, reason })?;
        if let Some(root) = root {
            let Machine { at, objects, .. } = machine;
            return Ok(Pickle { bytes, objects, root, length: at });
        }
    }
    let reason = format!("more than {MOST_STEPS} instructions");
    Err(PickleError { at: machine.at, reason })
}

struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    stack: Vec<Value>,
    /// Sizes of the stack at which a group of values begins.
    marks: Vec<usize>,
    /// Values that are used more than once, by their number in the pickle.
    memo: HashMap<u32, Value>,
    objects: Vec<Object>,
}

impl<'a> Machine<'a> {
    /// Runs one instruction; returns the value of the whole pickle if it was the last one.
    fn step(&mut self) -> Result<Option<Value>, String> {
        let [code] = self.take()?;
        match code {
            0x80 => {
                let [protocol] = self.take()?;
                if protocol != PROTOCOL {
                    return Err(format!("protocol {protocol}, expected {PROTOCOL}"));
                }
            }
            b'.' => return self.pop().map(Some),
            b'(' => self.marks.push(self.stack.len()),
            b'N' => self.stack.push(Value::None),
            0x88 => self.stack.push(Value::Bool(true)),
            0x89 => self.stack.push(Value::Bool(false)),
            b'J' => {
                let number = i32::from_le_bytes(self.take()?);
                self.stack.push(Value::Int(number.into()));
            }
            b'K' => {
                let [number] = self.take()?;
                self.stack.push(Value::Int(number.into()));
            }
            b'M' => {
                let number = u16::from_le_bytes(self.take()?);
                self.stack.push(Value::Int(number.into()));
            }
            0x8a => {
                let number = self.long()?;
                self.stack.push(Value::Int(number));
            }
            b'G' => {
                let number = f64::from_be_bytes(self.take()?);
                self.stack.push(Value::Float(number));
            }
            b'X' => {
                let length = u32::from_le_bytes(self.take()?);
                let span = self.span(length)?;
                self.stack.push(Value::Text(span));
            }
            b')' => self.push_object(Object::Tuple(Vec::new()))?,
            b't' => {
                let items = self.group()?;
                self.push_object(Object::Tuple(items))?;
            }
            0x85..=0x87 => {
                let items = self.pop_many(usize::from(code - 0x84))?;
                self.push_object(Object::Tuple(items))?;
            }
            b']' => self.push_object(Object::List(Vec::new()))?,
            b'}' => self.push_object(Object::Dict(Vec::new()))?,
            b'a' => {
                let item = self.pop()?;
                self.list()?.push(item);
            }
            b'e' => {
                let items = self.group()?;
                self.list()?.extend(items);
            }
            b's' => {
                let pair = self.pop_many(2)?;
                self.dict()?.push((pair[0], pair[1]));
            }
            b'u' => {
                let items = self.group()?;
                let (pairs, rest) = items.as_chunks::<2>();
                if !rest.is_empty() {
                    return Err("a dictionary with a key without a value".to_owned());
                }
                self.dict()?.extend(pairs.iter().map(|&[key, value]| (key, value)));
            }
            b'q' => {
                let [number] = self.take()?;
                self.remember(number.into())?;
            }
            b'r' => {
                let number = u32::from_le_bytes(self.take()?);
                self.remember(number)?;
            }
            b'h' => {
                let [number] = self.take()?;
                self.recall(number.into())?;
            }
            b'j' => {
                let number = u32::from_le_bytes(self.take()?);
                self.recall(number)?;
            }
            b'c' => self.name()?,
            b'R' => self.call()?,
            b'b' => self.set_state()?,
            b'Q' => self.storage()?,
            _ => return Err(format!("instruction 0x{code:02x}, which torch.save does not write")),
        }
        Ok(None)
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let taken = rest.first_chunk::<N>().ok_or("the pickle is cut short")?;
        self.at += N;
        Ok(*taken)
    }

    /// The next `length` bytes, which are UTF-8.
    fn span(&mut self, length: u32) -> Result<Span, String> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let bytes = rest.get(..length as usize).ok_or("the pickle is cut short within a text")?;
        std::str::from_utf8(bytes).map_err(|_| "a text that is not UTF-8")?;
        let start = u32::try_from(self.at).map_err(|_| "a pickle of 4 GiB or more")?;
        self.at += length as usize;
        Ok(Span { start, length })
    }

    /// A signed little-endian integer, whose length in bytes is the next byte.
    fn long(&mut self) -> Result<i64, String> {
        let [length] = self.take()?;
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let bytes = rest.get(..length.into()).ok_or("the pickle is cut short within a number")?;
        if bytes.len() > 8 {
            return Err(format!("an integer of {length} bytes, expected at most 8"));
        }
        let is_negative = bytes.last().is_some_and(|&byte| byte >= 0x80);
        let mut number = [if is_negative { 0xff } else { 0 }; 8];
        number[..bytes.len()].copy_from_slice(bytes);
        self.at += bytes.len();
        Ok(i64::from_le_bytes(number))
    }

    /// The lower end of the values that may be taken from the stack.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn pop(&mut self) -> Result<Value, String> {
        if self.stack.len() <= self.floor() {
            return Err("an instruction that finds too few values on the stack".to_owned());
        }
        self.stack.pop().ok_or_else(|| "an empty stack".to_owned())
    }

    fn pop_many(&mut self, count: usize) -> Result<Vec<Value>, String> {
        match self.stack.len().checked_sub(count).filter(|&start| start >= self.floor()) {
            Some(start) => Ok(self.stack.split_off(start)),
            None => Err("an instruction that finds too few values on the stack".to_owned()),
        }
    }

    /// The values from the last mark on.
    fn group(&mut self) -> Result<Vec<Value>, String> {
        let mark = self.marks.pop().ok_or("the end of a group that never began")?;
        Ok(self.stack.split_off(mark))
    }

    fn push_object(&mut self, object: Object) -> Result<(), String> {
        if self.objects.len() == MOST_OBJECTS {
            return Err(format!("more than {MOST_OBJECTS} objects"));
        }
        self.stack.push(Value::Object(self.objects.len() as u32));
        self.objects.push(object);
        Ok(())
    }

    /// The object on top of the stack, which stays there.
    fn top(&mut self) -> Result<&mut Object, String> {
        let top = self.pop()?;
        self.stack.push(top);
        let Value::Object(number) = top else {
            return Err("something is added to a value that has no parts".to_owned());
        };
        self.objects
            .get_mut(number as usize)
            .ok_or_else(|| "an object that is not there".to_owned())
    }

    fn list(&mut self) -> Result<&mut Vec<Value>, String> {
        match self.top()? {
            Object::List(items) => Ok(items),
            _ => Err("a value is added to something that is not a list".to_owned()),
        }
    }

    fn dict(&mut self) -> Result<&mut Vec<(Value, Value)>, String> {
        match self.top()? {
            Object::Dict(entries) => Ok(entries),
            _ => Err("a key is added to something that is not a dictionary".to_owned()),
        }
    }

    fn remember(&mut self, number: u32) -> Result<(), String> {
        let top = self.pop()?;
        self.stack.push(top);
        self.memo.insert(number, top);
        Ok(())
    }

    fn recall(&mut self, number: u32) -> Result<(), String> {
        let value = self.memo.get(&number);
        let value = *value.ok_or_else(|| format!("value {number}, which was never stored"))?;
        self.stack.push(value);
        Ok(())
    }

    /// `module\nname\n`
    fn name(&mut self) -> Result<(), String> {
        let [module, name] = [self.line()?, self.line()?];
        let value = match Named::find(module, name) {
            Some(Named::Function(function)) => Value::Function(function),
            Some(Named::Opaque) => Value::Opaque,
            None => {
                return Err(format!(
                    "it refers to {}.{}, which weights do not need",
                    Shown(module),
                    Shown(name)
                ));
            }
        };
        self.stack.push(value);
        Ok(())
    }

    fn line(&mut self) -> Result<&'a str, String> {
        /// Longest name of a function, in bytes.
        const LONGEST: usize = 1024;
        let bytes: &'a [u8] = self.bytes;
        let rest = bytes.get(self.at..).unwrap_or_default();
        let line = rest.iter().take(LONGEST).position(|&byte| byte == b'\n');
        let length = line.ok_or("the name of a function that does not end")?;
        self.at += length + 1;
        std::str::from_utf8(&rest[..length])
            .map_err(|_| "the name of a function that is not UTF-8".to_owned())
    }

    /// `function(arguments)`
    fn call(&mut self) -> Result<(), String> {
        let pair = self.pop_many(2)?;
        let arguments = self.tuple(pair[1])?;
        match (pair[0], arguments.as_slice()) {
            (Value::Function(Function::OrderedDict), []) => {
                self.push_object(Object::Dict(Vec::new()))
            }
            (Value::Function(Function::OrderedDict), _) => {
                Err("an OrderedDict with arguments, expected an empty one".to_owned())
            }
            (Value::Function(Function::RebuildTensor), arguments) => {
                let tensor = self.tensor(arguments)?;
                self.push_object(Object::Tensor(Box::new(tensor)))
            }
            (Value::Function(Function::RebuildParameter), &[tensor, ..])
                if matches!(self.object(tensor), Some(Object::Tensor(_))) =>
            {
                self.stack.push(tensor);
                Ok(())
            }
            (Value::Function(Function::Opaque), _) => {
                self.stack.push(Value::Opaque);
                Ok(())
            }
            _ => {
                Err("a call of something that is not a function, or with wrong arguments"
                    .to_owned())
            }
        }
    }

    /// `object.__dict__.update(state)`: for an `OrderedDict` the state is `_metadata`, which holds
    /// version numbers of modules and no weights.
    fn set_state(&mut self) -> Result<(), String> {
        let state = self.pop()?;
        let is_dict = matches!(self.object(state), Some(Object::Dict(_)));
        match self.top()? {
            Object::Dict(_) if is_dict => Ok(()),
            _ => Err("a state for an object that has none".to_owned()),
        }
    }

    /// `('storage', class, key, device, elements)`, and in the older format `None` after them.
    fn storage(&mut self) -> Result<(), String> {
        let arguments = self.pop()?;
        let arguments = self.tuple(arguments)?;
        let parts = match arguments.as_slice() {
            [parts @ .., Value::None] if parts.len() == 5 => parts,
            parts => parts,
        };
        let &[
            Value::Text(kind),
            Value::Function(Function::Storage(dtype)),
            Value::Text(key),
            _,
            Value::Int(elements),
        ] = parts
        else {
            return Err("a reference that is not to a storage of its own".to_owned());
        };
        if text(self.bytes, kind) != "storage" {
            return Err("a reference that is not to a storage".to_owned());
        }
        let elements =
            usize::try_from(elements).map_err(|_| format!("a storage of {elements} elements"))?;
        self.push_object(Object::Storage(Storage { dtype, key, elements }))
    }

    /// The view that the arguments of `_rebuild_tensor_v2` describe, after checking that it is
    /// inside of its storage.
    fn tensor(&self, arguments: &[Value]) -> Result<Tensor, String> {
        let &[storage, Value::Int(offset), shape, strides, ..] = arguments else {
            return Err("a tensor without a storage, an offset, a shape and strides".to_owned());
        };
        let Some(&Object::Storage(storage)) = self.object(storage) else {
            return Err("a tensor that looks into no storage".to_owned());
        };
        let offset = usize::try_from(offset).map_err(|_| format!("a tensor at offset {offset}"))?;
        let (shape, strides) = (self.sizes(shape)?, self.sizes(strides)?);
        if shape.len() != strides.len() || shape.len() > MOST_DIMENSIONS {
            return Err(format!(
                "a tensor of shape {shape:?} with strides {strides:?}, expected one for each of at \
                 most {MOST_DIMENSIONS} dimensions"
            ));
        }
        let tensor = Tensor { storage, offset, shape, strides };
        match tensor.is_inside() {
            true => Ok(tensor),
            false => Err(format!(
                "a tensor of shape {:?} with strides {:?} at offset {offset} of a storage of {} \
                 elements, which it does not fit into; save it with .contiguous()",
                tensor.shape, tensor.strides, storage.elements
            )),
        }
    }

    fn sizes(&self, value: Value) -> Result<Vec<usize>, String> {
        let sizes = self.tuple(value)?.into_iter().map(|size| match size {
            Value::Int(size) => usize::try_from(size).ok(),
            _ => None,
        });
        sizes.collect::<Option<_>>().ok_or_else(|| "a shape that is not of sizes".to_owned())
    }

    fn tuple(&self, value: Value) -> Result<Vec<Value>, String> {
        match self.object(value) {
            // A tuple of this machine is short wherever its values are read.
            Some(Object::Tuple(items)) if items.len() <= LONGEST_TUPLE => Ok(items.clone()),
            _ => Err("arguments that are not a short tuple".to_owned()),
        }
    }

    fn object(&self, value: Value) -> Option<&Object> {
        match value {
            Value::Object(number) => self.objects.get(number as usize),
            _ => None,
        }
    }
}

/// Most values of a tuple whose values are read: arguments of a function, a shape.
const LONGEST_TUPLE: usize = 16;

impl Tensor {
    /// Whether all elements are inside of the storage, and are not more than it has.
    fn is_inside(&self) -> bool {
        let elements = self.shape.iter().try_fold(1_usize, |n, &size| n.checked_mul(size));
        let reach = |end: usize, (&size, &step): (&usize, &usize)| {
            end.checked_add(size.saturating_sub(1).checked_mul(step)?)
        };
        let last = self.shape.iter().zip(&self.strides).try_fold(self.offset, reach);
        match (elements, last) {
            (Some(0), _) => self.offset <= self.storage.elements,
            (Some(elements), Some(last)) => {
                elements <= self.storage.elements && last < self.storage.elements
            }
            _ => false,
        }
    }

    /// The strides, if they differ from those of a row-major tensor without gaps.
    pub fn odd_strides(&self) -> Option<&[usize]> {
        let mut expected = 1_usize;
        let mut dimensions = self.shape.iter().zip(&self.strides).rev();
        let is_plain = dimensions.all(|(&size, &step)| {
            let fits = size == 1 || step == expected;
            expected = expected.saturating_mul(size);
            fits
        });
        (!is_plain && !self.shape.contains(&0)).then_some(self.strides.as_slice())
    }
}

impl Storage {
    /// Size in bytes.
    pub fn bytes(&self) -> Option<u64> {
        let width = Dtype::bitsize(&self.dtype) / 8;
        self.elements.checked_mul(width).map(|bytes| bytes as u64)
    }
}
