//! Rules about the sources that no lint knows: where `unsafe` may stand, how large the kernel may be.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use crate::paths::Paths;
use crate::ui;

/// Lines of Rust in `kernel/`, comments included, tests aside; what they are for is counted in `docs/design.md`, "Size".
const KERNEL_LINES: usize = 12_450;

/// Bytes of the hypervisor's image.
const IMAGE_SIZE: u64 = 256 << 10;

/// Bytes of the image of the smallest guest.
const HELLO_SIZE: u64 = 64 << 10;

/// Crates that are made of `unsafe`: all of the hardware layer, and the hypervisor's entry.
const UNSAFE_CRATES: &[&str] = &["kernel/hw", "kernel"];

/// The macro that makes an image's entry: its start symbol is an unsafe attribute.
const ENTRY: &str = "pv-guest-lib/src/lib.rs";

/// The attribute that most crates carry.
const FORBID: &str = "#![forbid(unsafe_code)]";

/// What a crate with a `sys` module says instead; the module allows what the rest may not do.
const DENY: &str = "#![deny(unsafe_code)]";

/// Checks that each crate forbids `unsafe`, or keeps it to the files that may have it.
pub fn unsafe_code(paths: &Paths) -> Result<()> {
    let mut wrong = Vec::new();
    for folder in crates(paths.root())? {
        let name = relative(paths.root(), &folder);
        if UNSAFE_CRATES.contains(&name.as_str()) {
            continue;
        }
        let sources = sources(&folder.join("src"))?;
        let root = sources
            .iter()
            .find(|file| file.ends_with("src/lib.rs") || file.ends_with("src/main.rs"))
            .with_context(|| format!("{name} has neither lib.rs nor main.rs"))?;
        let text = std::fs::read_to_string(root)?;
        let has_place = sources.iter().any(|file| may_be_unsafe(&relative(paths.root(), file)));
        let promises = text.contains(FORBID) || has_place && text.contains(DENY);
        if !promises {
            wrong.push(format!("{name} does not say {FORBID}, nor {DENY} with a sys module"));
        }
        let texts = read(paths.root(), &sources)?;
        let tests: Vec<String> = texts.iter().flat_map(|(path, text)| test_modules(path, text)).collect();
        for (path, text) in &texts {
            // A test may call what is unsafe; it reaches no machine.
            if let Some(line) = first_unsafe(text)
                && !may_be_unsafe(path)
                && !is_test_file(path, &tests)
            {
                wrong.push(format!("{path}:{line}: unsafe outside of kernel/hw, the entry macro or a sys module"));
            }
        }
    }
    if !wrong.is_empty() {
        bail!("{}", wrong.join("\n"));
    }
    Ok(())
}

/// Checks the kernel's size in lines.
pub fn kernel_lines(paths: &Paths) -> Result<()> {
    let files = read(paths.root(), &sources(&paths.root().join("kernel"))?)?;
    let tests: Vec<String> = files.iter().flat_map(|(path, text)| test_modules(path, text)).collect();
    let counted = files.iter().filter(|(path, _)| !is_test_file(path, &tests));
    let lines: usize = counted.map(|(_, text)| lines_without_tests(text)).sum();
    ui::say("test", &format!("kernel/ has {lines} lines of {KERNEL_LINES}"));
    ensure!(lines <= KERNEL_LINES, "kernel/ has {lines} lines, {KERNEL_LINES} are allowed");
    Ok(())
}

/// Checks the sizes of the hypervisor's image and of the smallest guest's.
pub fn image_sizes(paths: &Paths) -> Result<()> {
    for (name, allowed) in [("xenolith", IMAGE_SIZE), ("hello", HELLO_SIZE)] {
        let image = paths.image(name);
        let size = image.metadata().with_context(|| format!("{} is missing", image.display()))?.len();
        ui::say("test", &format!("the image {name} has {} of {}", ui::size(size), ui::size(allowed)));
        ensure!(size <= allowed, "the image {name} has {size} bytes, {allowed} are allowed");
    }
    Ok(())
}

/// True for the files in which `unsafe` may stand: a module called `sys`, or the one that makes entries.
fn may_be_unsafe(path: &str) -> bool {
    path == ENTRY || path.split('/').any(|part| part == "sys" || part == "sys.rs")
}

/// The number of the first line with the keyword `unsafe`, comments and strings aside.
fn first_unsafe(text: &str) -> Option<usize> {
    let has_keyword = |line: &str| {
        let code = line.split("//").next().unwrap_or_default();
        let quoted = code.split('"').step_by(2);
        let mut words = quoted.flat_map(|part| part.split(|c: char| !c.is_alphanumeric() && c != '_'));
        words.any(|word| word == "unsafe")
    };
    text.lines().position(has_keyword).map(|line| line + 1)
}

/// The files or folders of modules that a file declares for tests alone: fakes, and tests in files of their own.
fn test_modules(path: &str, text: &str) -> Vec<String> {
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
    let stem = name.trim_end_matches(".rs");
    let below = if ["mod", "lib", "main"].contains(&stem) { folder.to_owned() } else { format!("{folder}/{stem}") };
    let mut found = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if !line.starts_with("#[cfg(test)]") && !line.starts_with("#[cfg(any(test") {
            continue;
        }
        let mut place = None;
        for line in lines.by_ref() {
            if let Some(given) = line.strip_prefix("#[path = \"") {
                place = given.split('"').next().map(|given| format!("{folder}/{given}"));
            } else if !line.starts_with("#[") {
                let declared = line.strip_suffix(';').and_then(|line| line.rsplit_once("mod "));
                if let Some((_, module)) = declared {
                    found.push(place.unwrap_or_else(|| format!("{below}/{module}")));
                }
                break;
            }
        }
    }
    found
}

/// True when a file is a module that was declared for tests, or below one.
fn is_test_file(path: &str, modules: &[String]) -> bool {
    modules.iter().any(|module| {
        let rest = path.strip_prefix(module.as_str());
        rest.is_some_and(|rest| rest.is_empty() || rest == ".rs" || rest.starts_with('/'))
    })
}

/// Lines up to the module of tests, which stands last in a file.
fn lines_without_tests(text: &str) -> usize {
    let lines: Vec<&str> = text.lines().collect();
    let tests = lines.windows(2).position(|pair| pair[0] == "#[cfg(test)]" && pair[1].ends_with('{'));
    tests.unwrap_or(lines.len())
}

/// The folders with a crate.
fn crates(root: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut open = vec![root.to_path_buf()];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(&folder)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if path.is_dir() && name != "target" && !name.starts_with('.') {
                if path.join("Cargo.toml").is_file() {
                    found.push(path.clone());
                }
                open.push(path);
            }
        }
    }
    ensure!(!found.is_empty(), "no crate below {}", root.display());
    found.sort();
    Ok(found)
}

/// The Rust files below a folder.
fn sources(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut open = vec![folder.to_path_buf()];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))? {
            let path = entry?.path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// The files' paths relative to the workspace, with their text.
fn read(root: &Path, files: &[PathBuf]) -> Result<Vec<(String, String)>> {
    let read = |file: &PathBuf| {
        let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        Ok((relative(root, file), text))
    };
    files.iter().map(read).collect()
}

fn relative(root: &Path, path: &Path) -> String {
    path.strip_prefix(root).unwrap_or(path).to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::{first_unsafe, is_test_file, lines_without_tests, may_be_unsafe, test_modules};

    #[test]
    fn the_keyword_is_found_and_talk_about_it_is_not() {
        assert_eq!(first_unsafe("fn a() {}\nunsafe fn b() {}\n"), Some(2));
        assert_eq!(first_unsafe("#[unsafe(no_mangle)]"), Some(1));
        assert_eq!(first_unsafe("// unsafe\n#![forbid(unsafe_code)]\nlet a = \"unsafe\";\n"), None);
    }

    #[test]
    fn only_sys_modules_and_entries_may_be_unsafe() {
        assert!(may_be_unsafe("pv-guest-lib/src/sys/call.rs") && may_be_unsafe("drivers/pl011/src/sys.rs"));
        assert!(!may_be_unsafe("dom0/src/main.rs"));
        assert!(!may_be_unsafe("dom0/src/shell.rs") && !may_be_unsafe("dom0/core/src/system.rs"));
    }

    #[test]
    fn tests_do_not_count_as_lines_of_the_kernel() {
        assert_eq!(lines_without_tests("a\nb\n#[cfg(test)]\nmod tests {\n    c\n}\n"), 2);
        assert_eq!(lines_without_tests("a\n#[cfg(test)]\nmod tests;\nb\n"), 4);
        let declared = "#[cfg(test)]\nmod tests;\n#[cfg(any(test, feature = \"fake\"))]\npub mod fake;\nmod gate;\n";
        let modules = test_modules("core/src/lib.rs", declared);
        assert!(is_test_file("core/src/tests.rs", &modules) && is_test_file("core/src/fake/mem.rs", &modules));
        assert!(!is_test_file("core/src/gate.rs", &modules) && !is_test_file("core/src/fakery.rs", &modules));
        let named = "#[cfg(test)]\n#[path = \"exits_tests.rs\"]\nmod tests;\n";
        assert_eq!(test_modules("core/src/exits.rs", named), ["core/src/exits_tests.rs"]);
        assert_eq!(test_modules("core/src/exits.rs", "#[cfg(test)]\nmod more;\n"), ["core/src/exits/more"]);
    }
}
