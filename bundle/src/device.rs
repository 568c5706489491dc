//! How llama.cpp on the device tokenizes text. The device only has the GGUF's keys, so expected
//! tokens are computed from them.

use checkpoint::Vocabulary;
use data::Tokenizer;
use gguf::Metadata;

/// The tokenizer of one GGUF.
pub struct DeviceTokenizer {
    /// `None` if only llama.cpp implements its rules.
    tokenizer: Option<Tokenizer>,
    /// The tokens that end an answer.
    pub ends: Vec<u32>,
}

impl DeviceTokenizer {
    /// From the keys of a GGUF.
    pub fn of(metadata: &Metadata) -> Self {
        // llama.cpp does not read it.
        let metadata = &metadata.without(checkpoint::TOKENIZER_JSON_KEY);
        let id = |key: &str| metadata.unsigned(&format!("tokenizer.ggml.{key}_token_id")).ok();
        let stated =
            || ["eos", "eot", "eom"].into_iter().filter_map(|key| id(key)?.try_into().ok());
        let ends = match Vocabulary::from_gguf(metadata) {
            Ok(vocabulary) => vocabulary.ends(),
            Err(_) => stated().collect(),
        };
        DeviceTokenizer { tokenizer: Tokenizer::from_gguf(metadata).ok(), ends }
    }

    /// Whether llama.cpp can make tokens of a text with this GGUF.
    pub fn reads_text(metadata: &Metadata) -> bool {
        let model = metadata.string("tokenizer.ggml.model");
        model.is_ok_and(|model| !matches!(model, "no_vocab" | "none"))
    }

    /// The prompt as the device reads it.
    pub fn prompt(&self, text: &str) -> Option<Vec<u32>> {
        self.tokenizer.as_ref()?.encode_prompt(text).ok()
    }

    /// The special tokens as text, which a message must not be able to insert.
    pub fn specials(&self) -> Vec<String> {
        let specials = self.tokenizer.as_ref().map(Tokenizer::specials).unwrap_or_default();
        specials.into_iter().map(str::to_owned).collect()
    }

    /// The text that the device shows for `tokens`: special tokens are left out, and an incomplete
    /// character at the end too.
    pub fn shown(&self, tokens: &[u32]) -> Option<String> {
        let tokenizer = self.tokenizer.as_ref()?;
        let texts = tokens.iter().filter(|id| !tokenizer.is_special(**id));
        let bytes: Vec<u8> =
            texts.filter_map(|&id| tokenizer.token_bytes(id)).flatten().copied().collect();
        Some(whole_characters(&bytes))
    }
}

/// Bytes as text, without a character at the end that is not finished.
fn whole_characters(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        let invalid = chunk.invalid();
        let may_go_on =
            std::str::from_utf8(invalid).is_err_and(|error| error.error_len().is_none());
        if !invalid.is_empty() && !may_go_on {
            text.push(char::REPLACEMENT_CHARACTER);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::whole_characters;

    #[test]
    fn a_character_is_shown_once_it_is_whole() {
        let smile = "😀".as_bytes();
        assert_eq!(whole_characters(smile), "😀");
        assert_eq!(whole_characters(&smile[..2]), "");
        assert_eq!(whole_characters(b"a\xffb"), "a\u{fffd}b");
        assert_eq!(whole_characters(b""), "");
    }
}
