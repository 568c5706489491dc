//! Texts that end an answer, found wherever its pieces are cut.

/// Passes text on, up to the first of some texts.
#[derive(Debug)]
pub struct StopTexts {
    stops: Vec<String>,
    /// What may be the beginning of one of them.
    held: String,
    found: bool,
}

impl StopTexts {
    /// For texts that are not empty.
    pub fn new(stops: Vec<String>) -> Self {
        StopTexts { stops, held: String::new(), found: false }
    }

    /// Whether one of them has come.
    pub fn found(&self) -> bool {
        self.found
    }

    /// Takes more text and returns what is certain to be before any of them.
    pub fn push(&mut self, piece: &str) -> String {
        if self.found {
            return String::new();
        }
        self.held.push_str(piece);
        if let Some(at) = self.stops.iter().filter_map(|stop| self.held.find(stop)).min() {
            self.found = true;
            self.held.truncate(at);
            return std::mem::take(&mut self.held);
        }
        let certain =
            self.held.len() - self.stops.iter().map(|stop| self.begun(stop)).max().unwrap_or(0);
        let rest = self.held.split_off(certain);
        std::mem::replace(&mut self.held, rest)
    }

    /// The rest, when no more text comes.
    pub fn finish(self) -> String {
        if self.found { String::new() } else { self.held }
    }

    /// Bytes at the end of what is held that `stop` begins with.
    fn begun(&self, stop: &str) -> usize {
        let longest = self.held.len().min(stop.len() - 1);
        let ends_so = |&n: &usize| stop.is_char_boundary(n) && self.held.ends_with(&stop[..n]);
        (1..=longest).rev().find(ends_so).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn through(stops: &[&str], text: &str, size: usize) -> (String, bool) {
        let mut filter = StopTexts::new(stops.iter().map(|&stop| stop.to_owned()).collect());
        let characters: Vec<char> = text.chars().collect();
        let mut out = String::new();
        for piece in characters.chunks(size) {
            out += &filter.push(&piece.iter().collect::<String>());
        }
        let found = filter.found();
        (out + &filter.finish(), found)
    }

    #[test]
    fn the_first_of_several_ends_the_text_however_it_is_cut() {
        for size in 1..8 {
            assert_eq!(through(&["END", "Ey"], "an EEyE END x", size), ("an E".to_owned(), true));
            assert_eq!(through(&["é\n"], "caféé\nx", size), ("café".to_owned(), true));
            assert_eq!(through(&["abab"], "aabababc", size), ("aab"[..1].to_owned(), true));
            assert_eq!(through(&["xyz"], "xyxyxx", size), ("xyxyxx".to_owned(), false));
            assert_eq!(through(&[], "all of it", size), ("all of it".to_owned(), false));
        }
    }
}
