//! Which files hold tests, and the folder that the tests of each may run playbooks from. No link is followed.

use std::path::{Path, PathBuf};

use crate::error::Fault;

/// A folder may lie so deep, and so many files may be found: a tree without an end is no tree of tests.
const DEEPEST: usize = 32;
const MOST: usize = 10_000;

/// A file of tests.
#[derive(Debug, Clone)]
pub struct TestFile {
    /// As it is shown, and opened.
    pub path: PathBuf,
    pub shown: String,
    /// The folder that its tests may run playbooks from.
    pub root: PathBuf,
    /// Where it lies under that folder, with `/` between the parts.
    pub inside: String,
    /// Why it is not read.
    pub refused: Option<&'static str>,
}

/// Finds the files of tests in folders, and takes files as they are.
pub fn find(paths: &[PathBuf], root: Option<&PathBuf>) -> Result<Vec<TestFile>, Fault> {
    let mut found = Vec::new();
    for path in paths {
        let about = std::fs::metadata(path).map_err(|error| {
            Fault::new("usage.file", format!("{}: cannot be read: {error}", path.display()))
                .hint("give folders to search for *_test.luau, or files")
                .cause(error)
        })?;
        let folder = if about.is_dir() {
            path.clone()
        } else {
            path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_owned()
        };
        let root = root.unwrap_or(&folder);
        let mut files = Vec::new();
        if about.is_dir() {
            walk(path, 0, &mut files)?;
        } else if is_script(path) {
            files.push((path.clone(), false));
        } else {
            return Err(Fault::new("usage.file", format!("{}: is neither a folder nor a .luau file", path.display()))
                .hint("give folders to search for *_test.luau, or files"));
        }
        for (path, link) in files {
            let inside = inside(&path, root)?;
            let shown = path.strip_prefix(".").unwrap_or(&path).display().to_string();
            let refused = link.then_some("it is a link: copy the file into the folder");
            if !found.iter().any(|known: &TestFile| known.path == path) {
                found.push(TestFile { path, shown, root: root.clone(), inside, refused });
            }
        }
    }
    Ok(found)
}

fn is_script(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "luau" || extension == "lua")
}

fn is_test(path: &Path) -> bool {
    is_script(path) && path.file_stem().and_then(|stem| stem.to_str()).is_some_and(|stem| stem.ends_with("_test"))
}

/// The files of tests below a folder, in order; each with whether it is a link.
fn walk(folder: &Path, depth: usize, found: &mut Vec<(PathBuf, bool)>) -> Result<(), Fault> {
    let failed = |error: std::io::Error| {
        Fault::new("usage.file", format!("{}: cannot be read: {error}", folder.display())).cause(error)
    };
    let mut entries: Vec<_> =
        std::fs::read_dir(folder).map_err(failed)?.collect::<Result<Vec<_>, _>>().map_err(failed)?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let kind = entry.file_type().map_err(failed)?;
        let path = entry.path();
        let hidden = entry.file_name().to_string_lossy().starts_with('.');
        if kind.is_dir() && !hidden && depth < DEEPEST {
            walk(&path, depth + 1, found)?;
        } else if (kind.is_file() || kind.is_symlink()) && is_test(&path) {
            found.push((path, kind.is_symlink()));
        }
        if found.len() > MOST {
            return Err(Fault::new("usage.file", format!("there are more than {MOST} files of tests"))
                .hint("give the folder that holds those that are meant"));
        }
    }
    Ok(())
}

/// The path of a file under a folder.
fn inside(path: &Path, root: &Path) -> Result<String, Fault> {
    let outside = || {
        Fault::new("usage.file", format!("{}: does not lie in {}", path.display(), root.display()))
            .hint("--root names a folder that holds all files of tests, and the playbooks that they run")
    };
    let whole = |path: &Path| {
        std::fs::canonicalize(path).map_err(|error| {
            Fault::new("usage.file", format!("{}: cannot be read: {error}", path.display())).cause(error)
        })
    };
    // The file itself may be a link, which is told later; its folder is what counts.
    let folder = whole(path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new(".")))?;
    let name = path.file_name().and_then(|name| name.to_str()).ok_or_else(outside)?;
    let under = folder.strip_prefix(whole(root)?).map_err(|_| outside())?;
    let mut parts: Vec<&str> = Vec::new();
    for part in under {
        parts.push(part.to_str().ok_or_else(outside)?);
    }
    parts.push(name);
    Ok(parts.join("/"))
}
