//! The Linux guest of the campaigns: the demo guest with Debian's stress-ng, make and a C compiler, and sources to
//! compile that need no library.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use flate2::Compression;
use flate2::write::GzEncoder;

use crate::cpio::Archive;
use crate::foreign;
use crate::linux::LinuxGuest;
use crate::paths::{self, Paths};
use crate::rootfs::Packer;
use crate::ui;

/// The initial file system's name in the store.
pub const RAMDISK: &str = "load.cpio.gz";

/// The guest's configuration.
pub const CONFIG: &str = "name = \"load\"\nkernel = \"/store/vmlinuz\"\nramdisk = \"/store/load.cpio.gz\"\n\
    extra = \"console=hvc0 quiet panic=1\"\nmemory = 512\nvcpus = 1\non_reboot = \"destroy\"\n";

/// Files that are compiled.
const SOURCES: usize = 150;

/// `compile`: compiles all the sources with a process for each vCPU, twice, to the same result, and no file is lost.
const COMPILE: &str = r#"set -e
rm -rf /tmp/a /tmp/b
for out in /tmp/a /tmp/b; do
    mkdir $out
    make -s -j $(nproc) -f /load/Makefile OUT=$out
done
cmp /tmp/a/all.o /tmp/b/all.o
[ $(ls /tmp/a | wc -l) = COUNT ]
"#;

/// As kernels are made: every file on its own, and all of them into one object.
const MAKEFILE: &str = "\
SOURCES := $(wildcard /load/src/*.c)
OBJECTS := $(patsubst /load/src/%.c,$(OUT)/%.o,$(SOURCES))
$(OUT)/all.o: $(OBJECTS)
\ttcc -r -o $@ $^
$(OUT)/%.o: /load/src/%.c /load/src/list.h
\ttcc -c -o $@ $<
";

/// What every source includes.
const HEADER: &str = "\
struct list { struct list *next, *prev; };
static inline void list_add(struct list *new, struct list *head) {
    new->next = head->next; new->prev = head;
    head->next->prev = new; head->next = new;
}
static inline unsigned long mix(unsigned long a, unsigned long b) { return (a ^ b) * 0x9E3779B97F4A7C15ul; }
";

/// Fetches and makes the initial file system.
pub fn ramdisk(paths: &Paths, guest: &LinuxGuest) -> Result<PathBuf> {
    let packages = [foreign::fetch(paths.foreign(), foreign::LOAD)?, foreign::fetch(paths.foreign(), foreign::LINUX)?];
    let made = paths.foreign().join("guest").join(RAMDISK);
    let this_program = std::env::current_exe()?;
    if !paths::is_fresh(&made, &[&guest.initramfs, &this_program]) {
        ui::say("guest", "initial file system for Linux under load");
        let tools = pack(&packages.each_ref().map(PathBuf::as_path))?;
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(&tools)?;
        // Linux takes archives that follow one another for one.
        let all = [std::fs::read(&guest.initramfs)?, encoder.finish()?].concat();
        std::fs::write(&made, all).with_context(|| format!("cannot write {}", made.display()))?;
    }
    Ok(made)
}

fn pack(packages: &[&Path]) -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    let mut packer = Packer::new(&mut archive, packages);
    for program in ["usr/bin/stress-ng", "usr/bin/make", "usr/bin/tcc"] {
        packer.program(program)?;
    }
    archive.file("load/compile", COMPILE.replace("COUNT", &(SOURCES + 1).to_string()).as_bytes())?;
    archive.file("load/Makefile", MAKEFILE.as_bytes())?;
    archive.file("load/src/list.h", HEADER.as_bytes())?;
    for number in 0..SOURCES {
        archive.file(&format!("load/src/part{number}.c"), source(number)?.as_bytes())?;
    }
    archive.finish()
}

/// A source file: functions that differ, and a table of them.
fn source(number: usize) -> Result<String> {
    let mut text = "#include \"list.h\"\n".to_owned();
    for n in 0..60 {
        write!(
            text,
            "static unsigned long step{n}(struct list *head, struct list *item, unsigned long seed)\n{{\n    \
             unsigned long sum = {number};\n    for (unsigned long i = 0; i < {n} + (seed & 15); i++) {{\n        \
             switch (mix(sum, i) % 5) {{\n        case 0: list_add(item, head); break;\n        \
             case {}: sum += mix(seed, {n}ul); break;\n        default: sum ^= i << {};\n        }}\n    }}\n    \
             return sum;\n}}\n",
            1 + n % 4,
            n % 60
        )?;
    }
    writeln!(text, "unsigned long (*part{number}[])(struct list *, struct list *, unsigned long) = {{")?;
    for n in 0..60 {
        writeln!(text, "    step{n},")?;
    }
    text.push_str("};\n");
    Ok(text)
}
