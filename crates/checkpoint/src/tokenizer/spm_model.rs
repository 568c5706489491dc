//! The `tokenizer.model` of SentencePiece: the parts of the protobuf message `ModelProto` of
//! `sentencepiece_model.proto` that determine the tokens of a text.
//!
//! A message is a list of fields: a varint `number << 3 | wire type`, then a varint (type 0), eight
//! bytes (1), a varint length and as many bytes (2) or four bytes (5). Fields that are not listed
//! here are skipped, as protobuf requires.

/// Most pieces of a model, more than any real vocabulary.
const MAX_PIECES: usize = 1 << 22;

/// `SentencePiece.Type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PieceType {
    Normal,
    Control,
    UserDefined,
    /// Unknown, unused and byte pieces, which the conversion handles in the same way.
    Other,
}

/// `ModelProto.SentencePiece`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Piece {
    pub text: String,
    pub score: f32,
    pub kind: PieceType,
}

/// `ModelProto`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct SpmModel {
    pub pieces: Vec<Piece>,
    /// Whether the model is BPE. The default is Unigram.
    pub is_bpe: bool,
    pub byte_fallback: bool,
    pub unk_id: i64,
    pub unk_piece: String,
    /// The tables of the text normalization that SentencePiece compiled.
    pub charsmap: Vec<u8>,
    pub add_dummy_prefix: bool,
    pub remove_extra_whitespaces: bool,
    pub escape_whitespaces: bool,
}

impl SpmModel {
    /// Reads a file.
    ///
    /// # Errors
    /// The problem of the file.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let mut model = SpmModel {
            pieces: Vec::new(),
            is_bpe: false,
            byte_fallback: false,
            unk_id: 0,
            unk_piece: "<unk>".to_owned(),
            charsmap: Vec::new(),
            add_dummy_prefix: true,
            remove_extra_whitespaces: true,
            escape_whitespaces: true,
        };
        each_field(bytes, |number, value| {
            match (number, value) {
                (1, Field::Bytes(piece)) if model.pieces.len() < MAX_PIECES => {
                    let id = model.pieces.len();
                    let piece = Piece::parse(piece).map_err(|error| format!("piece {id}: {error}"));
                    model.pieces.push(piece?);
                }
                (1, Field::Bytes(_)) => return Err(format!("more than {MAX_PIECES} pieces")),
                (2, Field::Bytes(trainer)) => model.read_trainer(trainer)?,
                (3, Field::Bytes(normalizer)) => model.read_normalizer(normalizer)?,
                _ => {}
            }
            Ok(())
        })?;
        match model.pieces.is_empty() {
            true => Err("it holds no pieces".to_owned()),
            false => Ok(model),
        }
    }

    fn read_trainer(&mut self, message: &[u8]) -> Result<(), String> {
        each_field(message, |number, value| {
            match (number, value) {
                (3, Field::Varint(kind @ 1..=2)) => self.is_bpe = kind == 2,
                (3, Field::Varint(kind)) => {
                    return Err(format!("model type {kind}, expected 1 (Unigram) or 2 (BPE)"));
                }
                (35, Field::Varint(flag)) => self.byte_fallback = flag != 0,
                (40, Field::Varint(id)) => self.unk_id = id as i64,
                (45, Field::Bytes(text)) => self.unk_piece = utf8(text)?,
                _ => {}
            }
            Ok(())
        })
    }

    fn read_normalizer(&mut self, message: &[u8]) -> Result<(), String> {
        each_field(message, |number, value| {
            match (number, value) {
                (2, Field::Bytes(tables)) => self.charsmap = tables.to_vec(),
                (3, Field::Varint(flag)) => self.add_dummy_prefix = flag != 0,
                (4, Field::Varint(flag)) => self.remove_extra_whitespaces = flag != 0,
                (5, Field::Varint(flag)) => self.escape_whitespaces = flag != 0,
                _ => {}
            }
            Ok(())
        })
    }
}

impl Piece {
    fn parse(message: &[u8]) -> Result<Self, String> {
        let mut piece = Piece { text: String::new(), score: 0.0, kind: PieceType::Normal };
        each_field(message, |number, value| {
            match (number, value) {
                (1, Field::Bytes(text)) => piece.text = utf8(text)?,
                (2, Field::Four(bits)) => piece.score = f32::from_le_bytes(bits),
                (3, Field::Varint(kind)) => {
                    piece.kind = match kind {
                        1 => PieceType::Normal,
                        3 => PieceType::Control,
                        4 => PieceType::UserDefined,
                        _ => PieceType::Other,
                    }
                }
                _ => {}
            }
            Ok(())
        })?;
        match piece.score.is_finite() {
            true => Ok(piece),
            false => Err(format!("the score {}, expected a number", piece.score)),
        }
    }
}

/// The value of a field.
enum Field<'a> {
    Varint(u64),
    Eight,
    Bytes(&'a [u8]),
    Four([u8; 4]),
}

fn each_field<'a>(
    message: &'a [u8],
    mut visit: impl FnMut(u64, Field<'a>) -> Result<(), String>,
) -> Result<(), String> {
    let mut rest = message;
    while !rest.is_empty() {
        let at = message.len() - rest.len();
        let field = field(&mut rest);
        let (number, value) =
            field.ok_or_else(|| format!("no field of a SentencePiece model at byte {at}"))?;
        visit(number, value)?;
    }
    Ok(())
}

fn field<'a>(rest: &mut &'a [u8]) -> Option<(u64, Field<'a>)> {
    let key = varint(rest)?;
    let value = match key & 7 {
        0 => Field::Varint(varint(rest)?),
        1 => take::<8>(rest).map(|_| Field::Eight)?,
        2 => {
            let length = usize::try_from(varint(rest)?).ok()?;
            let (bytes, behind) = rest.split_at_checked(length)?;
            *rest = behind;
            Field::Bytes(bytes)
        }
        5 => Field::Four(take::<4>(rest)?),
        _ => return None,
    };
    (key >> 3 != 0).then_some((key >> 3, value))
}

/// Seven bits in each byte, the lowest first; the highest bit says that more follow.
fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for place in 0..10 {
        let [byte] = take::<1>(rest)?;
        value |= u64::from(byte & 0x7F) << (7 * place);
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (first, behind) = rest.split_first_chunk()?;
    *rest = behind;
    Some(*first)
}

fn utf8(bytes: &[u8]) -> Result<String, String> {
    String::from_utf8(bytes.to_vec()).map_err(|_| "text that is not UTF-8".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `<unk>` (unknown), `a` with score -1.5, and a BPE trainer with byte fallback.
    const FILE: &[u8] = b"\x0a\x09\x0a\x05<unk>\x18\x02\x0a\x08\x0a\x01a\x15\x00\x00\xc0\xbf\
        \x12\x05\x18\x02\x98\x02\x01\x1a\x02\x20\x00";

    #[test]
    fn pieces_and_settings() {
        let model = SpmModel::parse(FILE).unwrap();
        let texts: Vec<&str> = model.pieces.iter().map(|piece| piece.text.as_str()).collect();
        assert_eq!(texts, ["<unk>", "a"]);
        assert_eq!(model.pieces[1].score, -1.5);
        assert_eq!(model.pieces[0].kind, PieceType::Other);
        assert!(model.is_bpe && model.byte_fallback && model.add_dummy_prefix);
        assert!(!model.remove_extra_whitespaces);
    }

    #[test]
    fn hostile_bytes_are_refused_and_never_believed() {
        for end in 0..FILE.len() {
            // Truncation between two fields leaves a valid message.
            let _ = SpmModel::parse(&FILE[..end]);
        }
        let refused = |bytes: &[u8]| SpmModel::parse(bytes).unwrap_err();
        assert!(refused(b"").contains("no pieces"));
        assert!(refused(b"{\"version\"").contains("no field of a SentencePiece model at byte 0"));
        assert!(refused(b"\x0a\xff\xff\xff\xff\x7f").contains("at byte 0"));
        assert!(refused(b"\x0a\x03\x0a\x01\xff").contains("piece 0: text that is not UTF-8"));
        assert!(refused(b"\x0a\x05\x15\x00\x00\xc0\x7f").contains("piece 0: the score NaN"));
        assert!(refused(b"\x12\x02\x18\x03").contains("model type 3"));
        assert!(refused(&[0xFF; 64]).contains("at byte 0"));
    }
}
