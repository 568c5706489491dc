//! Reads a text of any size in parts of bounded size that encode like the whole text.

use std::io::Read;

use anyhow::{Context, Result, bail};

/// Bytes read at a time: enough for every core to have several segments.
const BATCH: usize = 4 << 20;
/// Longest stretch without a safe place to split, in bytes. A longer one is not natural text, and
/// would need memory without a limit.
const LONGEST_RUN: usize = 64 << 20;

/// Where a part of a text begins. Reading that starts here gives the same parts as reading from the
/// beginning does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct PartStart {
    /// Bytes of text before the part.
    pub byte: u64,
    /// Bytes that were read when the part before this one was cut.
    pub read: u64,
}

/// Calls `visit` with the parts of a UTF-8 text in order, each ending at the last safe place that
/// `last_cut` finds in it. `reader` stands at `from`. Returns the end of the text.
///
/// # Errors
/// Invalid UTF-8, with its position in the text; a stretch of 64 MiB without a safe place; any
/// error of `reader` or `visit`.
pub(crate) fn for_each_part(
    reader: impl Read,
    from: PartStart,
    last_cut: impl Fn(&str) -> Option<usize>,
    visit: impl FnMut(&str, PartStart) -> Result<()>,
) -> Result<PartStart> {
    parts(reader, from, last_cut, visit, BATCH, LONGEST_RUN)
}

fn parts(
    mut reader: impl Read,
    from: PartStart,
    last_cut: impl Fn(&str) -> Option<usize>,
    mut visit: impl FnMut(&str, PartStart) -> Result<()>,
    batch: usize,
    longest_run: usize,
) -> Result<PartStart> {
    let mut pending: Vec<u8> = Vec::with_capacity(batch);
    let mut start = from;
    let mut total = from.byte;
    // What had been read behind `from` is read again, so that reading stops at the same places.
    let mut wanted = batch as u64 + from.read.saturating_sub(from.byte);
    loop {
        let read = reader
            .by_ref()
            .take(wanted)
            .read_to_end(&mut pending)
            .context("cannot read the text")? as u64;
        let at_end = read < wanted;
        total += read;
        wanted = batch as u64;
        let text = valid_prefix(&pending, start.byte, at_end)?;
        let cut = if at_end { Some(text.len()) } else { last_cut(text).filter(|&cut| cut > 0) };
        match cut {
            Some(cut) => {
                visit(&text[..cut], start)?;
                start = PartStart { byte: start.byte + cut as u64, read: total };
                pending.drain(..cut);
            }
            None if pending.len() > longest_run => bail!(
                "from byte {} on there are {} bytes without a place where this tokenizer's \
                 text can be cut (for most, a space, or a change between letters and other \
                 characters; for some, none), and at most {longest_run} are encoded at once; cut \
                 the text into shorter ones, or take a byte-level tokenizer for natural text",
                start.byte,
                pending.len()
            ),
            None => {}
        }
        if at_end {
            return Ok(start);
        }
    }
}

/// The text in `bytes`, without a last character whose remaining bytes have not been read yet.
fn valid_prefix(bytes: &[u8], offset: u64, at_end: bool) -> Result<&str> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(text),
        Err(error) if error.error_len().is_none() && !at_end => {
            let (text, _) = bytes.split_at(error.valid_up_to());
            Ok(std::str::from_utf8(text)?)
        }
        Err(error) => bail!(
            "the text is not UTF-8 at byte {}; convert it, for example with `iconv -t UTF-8`",
            offset + error.valid_up_to() as u64
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn before_space(text: &str) -> Option<usize> {
        text.rfind(' ')
    }

    fn collect(text: &[u8], batch: usize) -> Result<Vec<String>> {
        Ok(collect_from(text, PartStart::default(), batch)?
            .into_iter()
            .map(|(part, _)| part)
            .collect())
    }

    fn collect_from(
        text: &[u8],
        from: PartStart,
        batch: usize,
    ) -> Result<Vec<(String, PartStart)>> {
        let mut found = Vec::new();
        let visit = |part: &str, start: PartStart| {
            found.push((part.to_owned(), start));
            Ok(())
        };
        let end = parts(&text[from.byte as usize..], from, before_space, visit, batch, 16)?;
        assert_eq!(end.byte, text.len() as u64);
        Ok(found)
    }

    #[test]
    fn reading_from_the_start_of_any_part_gives_the_same_parts() {
        let text = "a \u{E4}b \u{4E2D}\u{6587} four letters \u{1F600} end of it".repeat(3);
        for batch in 1..40 {
            let whole = collect_from(text.as_bytes(), PartStart::default(), batch).unwrap();
            for at in 0..whole.len() {
                let rest = collect_from(text.as_bytes(), whole[at].1, batch).unwrap();
                assert_eq!(rest, whole[at..], "batch {batch}, part {at}");
            }
        }
    }

    #[test]
    fn parts_join_to_the_whole_at_every_size() {
        let text = "a \u{E4}b \u{4E2D}\u{6587} \u{1F600} end";
        for batch in 1..40 {
            let found = collect(text.as_bytes(), batch).unwrap();
            assert_eq!(found.concat(), text, "batch {batch}");
        }
        assert_eq!(collect(b"", 4).unwrap().concat(), "");
    }

    #[test]
    fn invalid_bytes_are_refused_with_their_position() {
        for batch in 1..12 {
            let error = collect(b"abc def \xFF gh", batch).unwrap_err();
            assert!(error.to_string().contains("at byte 8"), "{error}");
            let error = collect(b"abc \xE4\xB8", batch).unwrap_err();
            assert!(error.to_string().contains("at byte 4"), "{error}");
        }
    }

    #[test]
    fn a_run_without_end_is_refused() {
        let error = collect(&[b'x'; 64], 4).unwrap_err();
        assert!(error.to_string().contains("from byte 0 on"), "{error}");
    }
}
