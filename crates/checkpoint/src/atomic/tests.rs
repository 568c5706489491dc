use std::io::Write;

use super::*;

fn put(path: &Path, overwrite: bool, text: &str) -> Result<(), String> {
    write_file(path, overwrite, |out| {
        out.write_all(text.as_bytes()).unwrap();
        Ok::<_, AtomicError>(())
    })
    .map_err(|error| error.to_string())
}

fn put_dir(path: &Path, overwrite: bool, text: &str) -> Result<(), String> {
    write_dir(path, overwrite, |folder| {
        fs::create_dir(folder.join("inner")).unwrap();
        fs::write(folder.join("inner/a"), text).unwrap();
        Ok::<_, AtomicError>(())
    })
    .map_err(|error| error.to_string())
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn an_existing_file_needs_force() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.txt");
    put(&path, false, "old").unwrap();
    let error = put(&path, false, "new").unwrap_err();
    assert!(error.contains("a.txt exists already; use --force"), "{error}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "old");
    put(&path, true, "new").unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "new");
    assert_eq!(names(folder.path()), ["a.txt"]);
}

#[test]
fn a_writer_that_fails_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.txt");
    put(&path, false, "old").unwrap();
    let result = write_file(&path, true, |out| {
        out.write_all(b"half").unwrap();
        Err::<(), _>(AtomicError::NoName { path: PathBuf::from("x") })
    });
    assert!(result.is_err());
    assert_eq!(fs::read_to_string(&path).unwrap(), "old");
    assert_eq!(names(folder.path()), ["a.txt"]);
}

#[test]
fn a_target_that_appears_while_writing_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.txt");
    let result = write_file(&path, false, |_| {
        fs::write(&path, "theirs").unwrap();
        Ok::<_, AtomicError>(())
    });
    assert!(matches!(result, Err(AtomicError::Exists { .. })), "{result:?}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "theirs");
}

#[test]
fn a_folder_is_replaced_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out");
    put_dir(&path, false, "old").unwrap();
    let error = put_dir(&path, false, "new").unwrap_err();
    assert!(error.contains("use --force"), "{error}");
    fs::write(path.join("only-in-old"), "").unwrap();
    put_dir(&path, true, "new").unwrap();
    assert_eq!(fs::read_to_string(path.join("inner/a")).unwrap(), "new");
    assert_eq!(names(&path), ["inner"]);
    assert_eq!(names(folder.path()), ["out"]);
}

#[test]
fn a_folder_that_appears_meanwhile_is_not_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out");
    let result = write_dir(&path, false, |_| {
        fs::create_dir(&path).unwrap();
        fs::write(path.join("a"), "theirs").unwrap();
        Ok::<_, AtomicError>(())
    });
    assert!(matches!(result, Err(AtomicError::Exists { .. })), "{result:?}");
    assert_eq!(fs::read_to_string(path.join("a")).unwrap(), "theirs");
    assert_eq!(names(folder.path()), ["out"]);
}

#[test]
fn an_empty_folder_counts_as_missing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out");
    fs::create_dir(&path).unwrap();
    put_dir(&path, false, "new").unwrap();
    assert_eq!(names(&path), ["inner"]);
    assert_eq!(names(folder.path()), ["out"]);
}

#[test]
fn a_folder_and_a_file_do_not_replace_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let (file, dir) = (folder.path().join("file"), folder.path().join("dir"));
    put(&file, false, "").unwrap();
    put_dir(&dir, false, "").unwrap();
    assert!(put(&dir, true, "").unwrap_err().contains("dir is a folder; name a file"));
    assert!(put_dir(&file, true, "").unwrap_err().contains("file is a file; name a folder"));
}

#[test]
fn an_unwritable_folder_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let blocker = folder.path().join("blocker");
    put(&blocker, false, "").unwrap();
    for error in [put(&blocker.join("a"), false, ""), put_dir(&blocker.join("a"), false, "")]
        .map(Result::unwrap_err)
    {
        assert!(error.starts_with("cannot write in the folder"), "{error}");
        assert!(error.contains("blocker"), "{error}");
        assert!(!error.contains('\n'), "{error}");
    }
}

#[test]
fn a_path_without_a_name_is_refused() {
    assert!(put(Path::new("/"), true, "").unwrap_err().contains("does not end in a name"));
    assert!(put_dir(Path::new("a/.."), true, "").unwrap_err().contains("does not end in a name"));
}

#[test]
fn missing_parents_are_made() {
    let folder = tempfile::tempdir().unwrap();
    put(&folder.path().join("a/b/c.txt"), false, "x").unwrap();
    put_dir(&folder.path().join("d/e/f"), false, "x").unwrap();
    assert_eq!(names(folder.path()), ["a", "d"]);
}

/// A process number that no process has.
fn dead_pid() -> u32 {
    let mut child = std::process::Command::new("true").spawn().unwrap();
    child.wait().unwrap();
    child.id()
}

#[cfg(unix)]
#[test]
fn leftovers_of_the_dead_are_removed_and_those_of_the_living_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.txt");
    let dead = format!(".a.txt.pocketgpt-tmp-{}-abc123", dead_pid());
    let dead_dir = format!(".a.txt.pocketgpt-tmp-{}-dir456", dead_pid());
    let living = format!(".a.txt.pocketgpt-tmp-{}-def456", std::process::id());
    let locked = format!(".a.txt.pocketgpt-tmp-{}-lock99", dead_pid());
    let foreign = format!(".b.txt.pocketgpt-tmp-{}-abc123", dead_pid());
    for name in [&dead, &living, &locked, &foreign] {
        fs::write(folder.path().join(name), "").unwrap();
    }
    fs::create_dir(folder.path().join(&dead_dir)).unwrap();
    let lock = File::open(folder.path().join(&locked)).unwrap();
    lock.lock().unwrap();
    put(&path, false, "new").unwrap();
    let mut expected = vec![living, locked, foreign, "a.txt".to_owned()];
    expected.sort();
    assert_eq!(names(folder.path()), expected);
}

#[cfg(unix)]
#[test]
fn new_files_follow_the_umask() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let (plain, ours) = (folder.path().join("plain"), folder.path().join("ours"));
    fs::write(&plain, "").unwrap();
    put(&ours, false, "").unwrap();
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode();
    assert_eq!(mode(&ours), mode(&plain));
}

#[test]
fn a_reader_of_a_replaced_folder_never_finds_half() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out");
    put_dir(&path, false, "0").unwrap();
    std::thread::scope(|scope| {
        let writer =
            scope.spawn(|| (1..50).for_each(|i| put_dir(&path, true, &i.to_string()).unwrap()));
        while !writer.is_finished() {
            assert!(path.is_dir());
        }
    });
    assert_eq!(fs::read_to_string(path.join("inner/a")).unwrap(), "49");
}

#[test]
fn a_scratch_folder_goes_with_its_guard_and_is_kept_while_the_file_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.txt");
    let scratch = scratch_for(&path, false).unwrap();
    fs::write(scratch.path().join("part"), "part").unwrap();
    put(&path, false, "new").unwrap();
    assert_eq!(fs::read_to_string(scratch.path().join("part")).unwrap(), "part");
    drop(scratch);
    assert_eq!(names(folder.path()), ["a.txt"]);
    let error = scratch_for(&path, false).unwrap_err().to_string();
    assert!(error.contains("a.txt exists already; use --force"), "{error}");
}

#[cfg(unix)]
#[test]
fn a_device_or_a_pipe_is_never_replaced() {
    use std::os::unix::fs::FileTypeExt;
    let folder = tempfile::tempdir().unwrap();
    let (pipe, link) = (folder.path().join("pipe"), folder.path().join("link"));
    make_pipe(&pipe);
    // Writing to it would fail, replacing it would not.
    std::os::unix::fs::symlink("/dev/full", &link).unwrap();
    for (path, expected) in [(&pipe, "pipe is a named pipe"), (&link, "link is a device")] {
        let error = put(path, true, "new").unwrap_err();
        assert!(error.contains(expected) && error.contains("name another output"), "{error}");
        assert!(put_dir(path, true, "new").unwrap_err().contains("name a folder"));
    }
    assert!(pipe.symlink_metadata().unwrap().file_type().is_fifo());
    assert!(link.symlink_metadata().unwrap().is_symlink());
    assert_eq!(names(folder.path()), ["link", "pipe"]);
}

#[cfg(unix)]
#[test]
fn what_only_looks_like_a_leftover_stays_and_does_not_stop_the_writer() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let planted = format!(".mydata.pocketgpt-tmp-{}-abc123", dead_pid());
    make_pipe(&at(&planted));
    make_pipe(&at(".mydata.tmp-1-x"));
    for name in [".mydata.tmp-2024-backup", ".mydata.pocketgpt-tmp-2024-mycopy1"] {
        fs::create_dir(at(name)).unwrap();
        fs::write(at(name).join("a"), "somebody's").unwrap();
    }
    put(&at("mydata"), false, "new").unwrap();
    let mut expected = vec![
        ".mydata.pocketgpt-tmp-2024-mycopy1",
        &planted,
        ".mydata.tmp-1-x",
        ".mydata.tmp-2024-backup",
        "mydata",
    ];
    expected.sort_unstable();
    assert_eq!(names(folder.path()), expected);
    assert_eq!(fs::read_to_string(at(".mydata.tmp-2024-backup/a")).unwrap(), "somebody's");
}

#[cfg(unix)]
#[test]
fn nobody_else_may_read_a_secret_at_any_moment() {
    use std::os::unix::fs::PermissionsExt;
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secret");
    put(&path, false, "an old one that all may read").unwrap();
    write_secret_file(&path, true, |out| {
        let new = names(folder.path()).into_iter().find(|name| name.starts_with('.')).unwrap();
        assert_eq!(mode(&folder.path().join(new)), 0o600);
        out.write_all(b"new").unwrap();
        Ok::<_, AtomicError>(())
    })
    .unwrap();
    assert_eq!(mode(&path), 0o600);
}

#[cfg(unix)]
fn make_pipe(path: &Path) {
    assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
}
