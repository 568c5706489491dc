//! The likeliest next tokens of a GGUF for some token ids, by the forward pass in plain Rust.
//!
//!     cargo run --release -p pocketgpt-reference --example next_token -- model.gguf 15496 11 995

use std::error::Error;
use std::path::Path;

use gguf::{GgufFile, TensorSource};
use reference::Model;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (path, ids) = arguments.split_first().ok_or("usage: next_token MODEL.gguf ID...")?;
    let ids = ids.iter().map(|id| id.parse()).collect::<Result<Vec<u32>, _>>()?;

    let file = GgufFile::open(Path::new(path))?;
    let model = Model::load(&file)?;
    // A session keeps keys and values, so that each further token costs one position.
    let logits = model.session().push(&ids)?;

    let mut order: Vec<usize> = (0..logits.len()).collect();
    order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]));
    let texts = file.metadata().strings("tokenizer.ggml.tokens").ok();
    for id in order.into_iter().take(5) {
        let text = texts.and_then(|texts| texts.get(id)).map_or("", String::as_str);
        println!("{id:6}  {:8.4}  {text}", logits[id]);
    }
    Ok(())
}
