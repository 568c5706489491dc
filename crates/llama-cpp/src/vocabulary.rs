//! Vocabularies on which llama.cpp ends the program (`llama-vocab.cpp` asserts that the texts of
//! the tokens differ).

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::Path;

use gguf::{Metadata, RawHeader};

use crate::LlamaError;

const MODEL: &str = "tokenizer.ggml.model";
const TOKENS: &str = "tokenizer.ggml.tokens";

/// Kinds of vocabulary whose tokens llama.cpp does not read.
const WITHOUT_TOKENS: [&str; 2] = ["no_vocab", "none"];

/// Refuses the GGUF at `path` if two of its tokens are one to llama.cpp.
pub(crate) fn check(path: &Path) -> Result<(), LlamaError> {
    let header = RawHeader::open(path)?;
    match repeated(&header.metadata) {
        Some((first, second, text)) => {
            let path = path.to_owned();
            Err(LlamaError::RepeatedToken { path, text: text.into_owned(), first, second })
        }
        None => Ok(()),
    }
}

/// The first two tokens with one text, and the text.
fn repeated(metadata: &Metadata) -> Option<(usize, usize, Cow<'_, str>)> {
    if metadata.string(MODEL).is_ok_and(|model| WITHOUT_TOKENS.contains(&model)) {
        return None;
    }
    // Anything but a list of texts is refused by llama.cpp with an error.
    let tokens = metadata.strings(TOKENS).ok()?;
    let mut ids = HashMap::with_capacity(tokens.len());
    tokens.iter().enumerate().find_map(|(id, token)| {
        let text = as_read(id, token);
        ids.insert(text.clone(), id).map(|first| (first, id, text))
    })
}

/// The text of a token as llama.cpp reads it: up to a NUL, and with a name where it is empty.
fn as_read(id: usize, token: &str) -> Cow<'_, str> {
    match token.split('\0').next() {
        None | Some("") => Cow::Owned(format!("[EMPTY_{id}]")),
        Some(text) => Cow::Borrowed(text),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that fails says where")]
mod tests {
    use std::fs::File;

    use gguf::{Array, TensorType, Value, Writer};

    use super::*;
    use crate::Llama;

    fn metadata(model: &str, tokens: &[&str]) -> Metadata {
        let mut metadata = Metadata::new();
        metadata.set("general.architecture", Value::String("llama".into()));
        metadata.set(MODEL, Value::String(model.into()));
        let tokens = tokens.iter().map(|&token| token.to_owned()).collect();
        metadata.set(TOKENS, Value::Array(Array::String(tokens)));
        metadata
    }

    #[test]
    fn texts_that_llama_cpp_reads_as_one_are_found() {
        for (tokens, expected) in [
            (&["a", "b", "a"][..], Some((0, 2))),
            (&["a", "b\0c", "b"][..], Some((1, 2))),
            (&["[EMPTY_1]", ""][..], Some((0, 1))),
            (&["", "", "\0x"][..], None),
            (&["a", "A", " a", ""][..], None),
            (&[][..], None),
        ] {
            let metadata = metadata("gpt2", tokens);
            let found = repeated(&metadata).map(|(first, second, _)| (first, second));
            assert_eq!(found, expected, "{tokens:?}");
        }
        assert_eq!(repeated(&metadata("no_vocab", &["a", "a"])), None);
    }

    #[test]
    fn such_a_file_is_an_error_and_not_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("twice.gguf");
        let metadata = metadata("gpt2", &["x", "y", "y"]);
        let tensors = [("output_norm.weight".to_owned(), vec![2], TensorType::F32)];
        let mut writer = Writer::new(File::create(&path).unwrap(), &metadata, &tensors).unwrap();
        writer.write_tensor("output_norm.weight", &[0; 8]).unwrap();
        writer.finish().unwrap();
        let error = Llama::load(&path).err().unwrap().to_string();
        assert!(error.contains("twice.gguf: the tokens 1 and 2 are both \"y\""), "{error}");
    }
}
