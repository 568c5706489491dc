//! The web chat, built from `bundle/app` and compiled into this program.
//!
//! Everything that it loads is included, also its WebAssembly, so that a bundle runs without a
//! network. A program that was built without Node.js does not have the web chat; its error says so.

use std::path::Path;

use anyhow::{Context, ensure};
use rust_embed::RustEmbed;

/// How to get a program that has the web chat.
pub const HOW_TO_BUILD: &str = "this program was built without the web chat: run `make build` \
    with Node.js 20 or newer, or add --no-app";

#[derive(RustEmbed)]
#[folder = "app/dist"]
#[allow_missing = true]
struct App;

/// Whether this program has the web chat.
pub fn is_built() -> bool {
    App::iter().next().is_some()
}

/// Identifies this program's web chat, in hexadecimal; also defined if the program has none.
pub fn digest() -> String {
    let mut hasher = blake3::Hasher::new();
    for name in App::iter() {
        hasher.update(name.as_bytes());
        hasher.update(&App::get(&name).map(|file| file.metadata.sha256_hash()).unwrap_or_default());
    }
    hasher.finalize().to_hex().to_string()
}

/// Writes the web chat to `folder/app`, which must not exist yet.
///
/// # Errors
/// When this program does not have the web chat, or the system refuses.
pub fn write(folder: &Path) -> anyhow::Result<()> {
    ensure!(is_built(), "{HOW_TO_BUILD}");
    let app = folder.join("app");
    std::fs::create_dir(&app).with_context(|| format!("cannot create {}", app.display()))?;
    for name in App::iter() {
        let path = app.join(name.as_ref());
        let file = App::get(&name).with_context(|| format!("{name} is listed and missing"))?;
        let parent = path.parent().context("a file lies in a folder")?;
        std::fs::create_dir_all(parent)
            .and_then(|()| std::fs::write(&path, file.data))
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}
