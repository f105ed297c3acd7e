//! Puts programs and kernel modules from unpacked packages into an initial file system, each with exactly
//! what it needs: the shared libraries that an ELF names, the modules that a module depends on.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use object::elf::{DT_NEEDED, FileHeader64};
use object::read::elf::{Dyn, FileHeader};
use object::{Endianness, Object, ObjectSection};

use crate::cpio::Archive;

/// Where the dynamic loader of the packages looks; the loader itself must stay in the first.
const LIBRARIES: &[&str] = &["lib", "lib/aarch64-linux-gnu", "usr/lib/aarch64-linux-gnu", "usr/lib"];

/// Copies from unpacked packages into an archive.
#[derive(Debug)]
pub struct Packer<'a> {
    archive: &'a mut Archive,
    packages: &'a [&'a Path],
    had: BTreeSet<String>,
}

impl<'a> Packer<'a> {
    /// Packs into `archive` what is found in any of the folders `packages`.
    pub fn new(archive: &'a mut Archive, packages: &'a [&'a Path]) -> Self {
        Self { archive, packages, had: BTreeSet::new() }
    }

    /// Adds the program at this path of the packages, under the same path, and its libraries.
    pub fn program(&mut self, path: &str) -> Result<()> {
        if !self.had.insert(path.to_owned()) {
            return Ok(());
        }
        let source = self.find(path).with_context(|| format!("no package brought {path}"))?;
        let data = std::fs::read(&source).with_context(|| format!("cannot read {}", source.display()))?;
        self.archive.file(path, &data)?;
        for library in needed(&data).with_context(|| format!("cannot read the libraries of {path}"))? {
            let place = LIBRARIES
                .iter()
                .map(|folder| format!("{folder}/{library}"))
                .find(|place| self.find(place).is_some())
                .with_context(|| format!("no package brought {library}, which {path} needs"))?;
            self.program(&place)?;
        }
        Ok(())
    }

    /// Adds modules of the kernel and what they depend on to `/modules`, with the order to load them in as the file `list`.
    pub fn modules(&mut self, list: &str, names: &[&str]) -> Result<()> {
        let kernel = self.find("lib/modules").context("no package brought lib/modules")?;
        let mut files = BTreeMap::new();
        index_modules(&kernel, &mut files)?;
        let mut order = Vec::new();
        for name in names {
            load_order(name, &files, &mut order)?;
        }
        let mut lines = String::new();
        for name in &order {
            let file = files.get(name).with_context(|| format!("no module {name}"))?;
            self.archive.file(&format!("modules/{name}.ko"), &std::fs::read(file)?)?;
            lines.push_str(&format!("{name}\n"));
        }
        self.archive.file(&format!("modules/{list}"), lines.as_bytes())
    }

    fn find(&self, path: &str) -> Option<PathBuf> {
        self.packages.iter().map(|folder| folder.join(path)).find(|file| file.exists())
    }
}

/// The shared libraries that an ELF names; none for a static program or a script.
fn needed(data: &[u8]) -> Result<Vec<String>> {
    let Ok(header) = FileHeader64::<Endianness>::parse(data) else {
        return Ok(Vec::new());
    };
    let endian = header.endian()?;
    let sections = header.sections(endian, data)?;
    let Some((entries, strings)) = sections.dynamic(endian, data)? else {
        return Ok(Vec::new());
    };
    let strings = sections.strings(endian, data, strings)?;
    let mut names = Vec::new();
    for entry in entries {
        if entry.tag(endian) == DT_NEEDED {
            let name = entry.string(endian, strings)?;
            names.push(String::from_utf8_lossy(name).into_owned());
        }
    }
    Ok(names)
}

/// All module files below a folder, by the name that the kernel uses.
fn index_modules(folder: &Path, files: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            index_modules(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "ko") {
            let stem = path.file_stem().unwrap_or_default().to_string_lossy();
            files.insert(kernel_name(&stem), path);
        }
    }
    Ok(())
}

/// Appends a module after everything it depends on.
fn load_order(name: &str, files: &BTreeMap<String, PathBuf>, order: &mut Vec<String>) -> Result<()> {
    let name = kernel_name(name);
    if order.contains(&name) {
        return Ok(());
    }
    let Some(file) = files.get(&name) else {
        bail!("the kernel package has no module {name}");
    };
    for before in dependencies(&std::fs::read(file)?)? {
        load_order(&before, files, order)?;
    }
    order.push(name);
    Ok(())
}

/// What the `depends=` field of a module's information says.
fn dependencies(module: &[u8]) -> Result<Vec<String>> {
    let elf = object::File::parse(module).context("a module is not an ELF")?;
    let section = elf.section_by_name(".modinfo").context("a module has no .modinfo")?;
    let text = String::from_utf8_lossy(section.data()?).into_owned();
    let depends = text.split('\0').find_map(|field| field.strip_prefix("depends=")).unwrap_or_default();
    Ok(depends.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect())
}

/// The kernel takes `-` and `_` in module names for the same.
fn kernel_name(name: &str) -> String {
    name.replace('-', "_")
}
