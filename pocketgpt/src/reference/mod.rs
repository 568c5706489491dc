//! The reference of the book, made from the program: each command from its arguments' definitions,
//! each key of a run file from its type.

mod commands;
mod run_file;

use std::io::Write;

use clap::Command;

/// Examples of `pocketgpt reference`.
pub const EXAMPLES: &str = "Examples:\n  pocketgpt reference schema > run-file.schema.json\n  \
                            pocketgpt reference commands > docs/book/src/reference/commands.md";

#[derive(clap::Args)]
pub struct Args {
    /// What to print.
    #[arg(value_enum)]
    page: Page,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Page {
    /// Every command with its flags, as Markdown.
    Commands,
    /// Every key of a run file with its type and default, as Markdown.
    RunFile,
    /// The JSON Schema of a run file, with which editors complete and check it.
    Schema,
}

/// Prints the page that `args` asks for.
///
/// # Errors
/// Standard output cannot be written.
pub fn run(command: Command, args: &Args) -> anyhow::Result<()> {
    let schema = config::run_file_schema();
    let text = match args.page {
        Page::Commands => commands::page(command),
        Page::RunFile => run_file::page(&schema),
        Page::Schema => serde_json::to_string_pretty(&schema)? + "\n",
    };
    std::io::stdout().lock().write_all(text.as_bytes())?;
    Ok(())
}

/// `text` in one line of Markdown, in which nothing of it is taken for HTML or emphasis.
fn escaped(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut out = String::with_capacity(line.len());
    let mut in_code = false;
    for character in line.chars() {
        in_code ^= character == '`';
        match character {
            '<' if !in_code => out.push_str("&lt;"),
            '*' | '_' | '\\' if !in_code => out.extend(['\\', character]),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markdown_shows_what_was_written() {
        assert_eq!(escaped("a <b>\n  c_d `e_<f>` *"), "a &lt;b> c\\_d `e_<f>` \\*");
        assert_eq!(escaped("\"blk\\.0\\.=Q8_0\""), "\"blk\\\\.0\\\\.=Q8\\_0\"");
    }
}
