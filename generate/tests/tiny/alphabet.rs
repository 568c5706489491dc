//! The letters of byte-level vocabularies.

/// GPT-2's letters for the 256 bytes in its own order: `bytes_to_unicode` of OpenAI's encoder.py.
pub fn alphabet() -> Vec<char> {
    let printable: Vec<u8> = (b'!'..=b'~').chain(0xa1..=0xac).chain(0xae..=0xff).collect();
    let others = (0..=255_u8).filter(|byte| !printable.contains(byte)).count() as u32;
    let shown = printable.iter().map(|&byte| char::from(byte));
    shown.chain((0..others).map(|n| char::from_u32(256 + n).unwrap())).collect()
}
