use super::*;

/// A pickle of protocol 2 with these instructions.
fn pickle(instructions: &[&[u8]]) -> Vec<u8> {
    [b"\x80\x02".as_slice(), &instructions.concat(), b"."].concat()
}

fn text(text: &str) -> Vec<u8> {
    [b"X".as_slice(), &(text.len() as u32).to_le_bytes(), text.as_bytes()].concat()
}

fn refusal(bytes: &[u8]) -> String {
    Pickle::read(bytes).unwrap_err().to_string()
}

/// `('storage', torch.FloatStorage, '0', 'cpu', elements)`, looked up.
fn storage(elements: u8) -> Vec<u8> {
    let parts: [&[u8]; 7] = [
        b"(",
        &text("storage"),
        b"ctorch\nFloatStorage\n",
        &text("0"),
        &text("cpu"),
        &[b'K', elements],
        b"tQ",
    ];
    parts.concat()
}

/// `_rebuild_tensor_v2(storage, offset, shape, strides, ...)` with shape and strides of two.
fn tensor(elements: u8, offset: u8, shape: [i32; 2], strides: [i32; 2]) -> Vec<u8> {
    let pair = |pair: [i32; 2]| {
        let number = |n: i32| [b"J".as_slice(), &n.to_le_bytes()].concat();
        [number(pair[0]), number(pair[1]), b"\x86".to_vec()].concat()
    };
    pickle(&[
        b"ctorch._utils\n_rebuild_tensor_v2\n(",
        &storage(elements),
        &[b'K', offset],
        &pair(shape),
        &pair(strides),
        b"\x89NtR",
    ])
}

/// The bytes of `pickle.dumps(..., protocol=2)` in Python.
#[test]
fn values_are_what_python_writes() {
    // {"a": [1, 300, -70000, 2**40, True, None, 1.5], "b": ("x", (1, 2), ())}
    let bytes = b"\x80\x02}q\x00(X\x01\x00\x00\x00aq\x01]q\x02(K\x01M,\x01J\x90\xee\xfe\xff\x8a\
        \x06\x00\x00\x00\x00\x00\x01\x88NG?\xf8\x00\x00\x00\x00\x00\x00eX\x01\x00\x00\x00bq\x03X\
        \x01\x00\x00\x00xq\x04K\x01K\x02\x86q\x05)\x87q\x06u.rest";
    let pickle = Pickle::read(bytes).unwrap();
    assert_eq!(pickle.length(), bytes.len() - 4);
    let list = pickle.get(pickle.root(), "a").unwrap();
    let Some(Object::List(list)) = pickle.object(list) else { panic!("{list:?}") };
    let numbers = [1, 300, -70000, 1 << 40].map(Value::Int);
    assert_eq!(list[..4], numbers);
    assert_eq!(list[4..], [Value::Bool(true), Value::None, Value::Float(1.5)]);
    let tuple = pickle.get(pickle.root(), "b").unwrap();
    assert_eq!(pickle.kind(tuple), "a tuple");
    assert!(pickle.get(pickle.root(), "c").is_none());
}

#[test]
fn a_call_of_anything_else_is_refused_by_its_name() {
    for name in ["posix\nsystem", "builtins\neval", "torch.hub\nload", "torch\nload", "os\nsystem"]
    {
        let call: [&[u8]; 4] = [b"c", name.as_bytes(), b"\n", &text("true")];
        let error = refusal(&pickle(&[&call.concat(), b"\x85R"]));
        assert!(error.contains(&name.replace('\n', ".")), "{error}");
    }
    // A name that would write to a terminal.
    let error = refusal(&pickle(&[b"ca\x1b[2J\nb\n"]));
    assert!(!error.contains('\x1b'), "{error}");
    for (instructions, code) in
        [(b"i".as_slice(), "0x69"), (b"\x93", "0x93"), (b"\x81", "0x81"), (b"P0\n", "0x50")]
    {
        let error = refusal(&pickle(&[instructions]));
        assert!(error.contains(code), "{error}");
    }
    assert!(refusal(b"\x80\x04.").contains("protocol 4, expected 2"));
}

#[test]
fn tensors_stay_inside_of_their_storages() {
    let read = |bytes: &[u8]| Pickle::read(bytes).map(|_| ());
    read(&tensor(12, 0, [3, 4], [4, 1])).unwrap();
    read(&tensor(12, 0, [4, 3], [1, 4])).unwrap();
    read(&tensor(12, 5, [2, 2], [4, 1])).unwrap();
    read(&tensor(12, 12, [0, 4], [4, 1])).unwrap();
    for outside in [
        tensor(12, 1, [3, 4], [4, 1]),
        tensor(12, 0, [3, 4], [5, 1]),
        tensor(12, 13, [0, 4], [4, 1]),
        // A view that repeats its values could take any amount of memory.
        tensor(1, 0, [i32::MAX, i32::MAX], [0, 0]),
        tensor(12, 0, [13, 1], [0, 1]),
        tensor(12, 0, [2, 2], [i32::MAX, i32::MAX]),
    ] {
        let error = read(&outside).unwrap_err().to_string();
        assert!(error.contains("does not fit into"), "{error}");
    }
    let error = read(&tensor(12, 0, [-1, 4], [4, 1])).unwrap_err().to_string();
    assert!(error.contains("a shape that is not of sizes"), "{error}");
}

#[test]
fn odd_strides_are_those_that_are_not_row_major() {
    let strides = |shape: &[usize], strides: &[usize]| {
        let storage =
            Storage { dtype: Dtype::F32, key: Span { start: 0, length: 0 }, elements: 99 };
        let (shape, strides) = (shape.to_vec(), strides.to_vec());
        Tensor { storage, offset: 0, shape, strides }.odd_strides().is_some()
    };
    assert!(!strides(&[2, 3], &[3, 1]));
    assert!(!strides(&[1, 3], &[77, 1]));
    assert!(!strides(&[3, 1], &[1, 5]));
    assert!(!strides(&[0, 3], &[5, 5]));
    assert!(!strides(&[], &[]));
    assert!(strides(&[2, 3], &[1, 2]));
    assert!(strides(&[2, 3], &[4, 1]));
    assert!(strides(&[3], &[2]));
}

#[test]
fn what_is_cut_short_or_contradicts_itself_is_refused() {
    let whole = tensor(12, 0, [3, 4], [4, 1]);
    for length in 0..whole.len() {
        Pickle::read(&whole[..length]).unwrap_err();
    }
    for (instructions, expected) in [
        (b"h\x07".as_slice(), "value 7, which was never stored"),
        (b"0", "0x30"),
        (b"t", "never began"),
        (b"(\x85", "too few values"),
        (b"N(.", "too few values"),
        (b"}(Nu", "a key without a value"),
        (b"NNa", "no parts"),
        (b")Na", "not a list"),
        (b"]NNs", "not a dictionary"),
        (b"N)R", "not a function"),
        (b"ccollections\nOrderedDict\nN\x85R", "an OrderedDict with arguments"),
        (b"ctorch._utils\n_rebuild_tensor_v2\n)R", "without a storage"),
        (b"ctorch._utils\n_rebuild_parameter\nN\x85R", "wrong arguments"),
        (b"N\x85Q", "not to a storage"),
        (b"]}b", "a state for an object that has none"),
        (b"\x8a\x09123456789", "an integer of 9 bytes"),
        (b"X\x01\x00\x00\x00\xff", "not UTF-8"),
        (b"X\xff\xff\xff\xffa", "cut short within a text"),
    ] {
        let error = refusal(&pickle(&[instructions]));
        assert!(error.contains(expected), "{expected}: {error}");
    }
}

/// Every tuple holds the one before it twice: 2^64 values, if all were traversed.
#[test]
fn values_that_repeat_themselves_cost_nothing() {
    let mut instructions = b")q\x00".to_vec();
    for _ in 0..64 {
        instructions.extend(b"h\x00h\x00\x86q\x00");
    }
    // A list that contains itself.
    instructions.extend(b"]q\x01h\x01a\x86");
    let bytes = pickle(&[&instructions]);
    let pickle = Pickle::read(&bytes).unwrap();
    assert_eq!(pickle.kind(pickle.root()), "a tuple");
}

#[test]
fn a_pickle_without_end_is_refused() {
    let values = vec![b'N'; MOST_STEPS];
    assert!(refusal(&values).contains("instructions"));
    let objects = vec![b']'; MOST_STEPS];
    assert!(refusal(&objects).contains("objects"));
    // A number that would need a table of four thousand million entries.
    let bytes = pickle(&[b"Nr\xff\xff\xff\xff"]);
    Pickle::read(&bytes).unwrap();
}
