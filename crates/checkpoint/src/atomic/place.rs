//! Resolves paths, including those that do not exist yet.

use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

use super::AtomicError;

/// Refuses an `output` that equals `input`, contains it or lies inside of it: writing it with
/// `overwrite` would remove the input, or write into its folder.
///
/// Links are followed, and neither of the two has to exist.
///
/// # Errors
/// [`AtomicError::OverInput`].
pub fn ensure_outside(input: &Path, output: &Path) -> Result<(), AtomicError> {
    let (from, to) = (resolve(input), resolve(output));
    if from.starts_with(&to) || to.starts_with(&from) {
        return Err(AtomicError::OverInput { path: output.to_owned(), input: input.to_owned() });
    }
    Ok(())
}

/// Whether two paths are the same file, now or after they are written.
pub fn same_place(a: &Path, b: &Path) -> bool {
    resolve(a) == resolve(b)
}

/// The existing part of `path` with its links followed, and then the rest unchanged.
fn resolve(path: &Path) -> PathBuf {
    let whole = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    for existing in whole.ancestors() {
        let base = if existing.as_os_str().is_empty() { Path::new(".") } else { existing };
        if let (Ok(real), Ok(rest)) = (base.canonicalize(), whole.strip_prefix(existing)) {
            return join(real, rest);
        }
    }
    whole.to_owned()
}

fn join(mut real: PathBuf, rest: &Path) -> PathBuf {
    for component in rest.components() {
        match component {
            Component::ParentDir => drop(real.pop()),
            Component::Normal(name) => real.push(OsString::from(name)),
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    real
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inside_around_and_equal_are_refused_however_they_are_written() {
        let folder = tempfile::tempdir().unwrap();
        let at = |path: &str| folder.path().join(path);
        std::fs::create_dir_all(at("a/b")).unwrap();
        std::fs::write(at("a/b/file"), "").unwrap();
        for (input, output) in [
            ("a/b/file", "a/b"),
            ("a/b/file", "a/b/"),
            ("a/b/file", "a/../a/b/."),
            ("a/b/file", "a"),
            ("a/b", "a/b/new/deep"),
            ("a/b", "missing/../a/b/new"),
            ("a/b", "a/b"),
        ] {
            let error = ensure_outside(&at(input), &at(output)).unwrap_err().to_string();
            assert!(error.contains("name another output"), "{input} {output}: {error}");
        }
        for (input, output) in [("a/b/file", "a/c"), ("a/b", "a/bc"), ("a/b/file", "a/b/other")] {
            ensure_outside(&at(input), &at(output)).unwrap();
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_link_is_where_it_leads() {
        let folder = tempfile::tempdir().unwrap();
        let (real, link) = (folder.path().join("real"), folder.path().join("link"));
        std::fs::create_dir(&real).unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        assert!(ensure_outside(&real.join("model.gguf"), &link).is_err());
        assert!(same_place(&real.join("new"), &link.join("new")));
        assert!(!same_place(&real.join("new"), &link.join("other")));
    }
}
