//! The measuring guests on Debian's Xen, with a Dom0 that is the Debian Linux that they are.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use qemu_tests::machine::Machine;
use qemu_tests::xen::PROMPT;

use super::guest::{self, ALONE, DISK_MIB, END, Guest};
use super::{Found, scaled};
use crate::bench::xen::{BUILD, about};
use crate::paths::Paths;
use crate::ui;
use crate::xen;

/// Creates the guests one after the other, each when the one before has said what it waits for.
const SCRIPT: &str = r#"rmmod brd
insmod /modules/brd.ko rd_nr=1 rd_size=KIB
dd if=/dev/zero of=/dev/ram0 bs=1M > /dev/null 2>&1
iperf3 -s -D
log=/var/log/xen/console/guest-first.log
waits() { while ! grep -q "$1" $log; do xl domid first > /dev/null 2>&1 || break; sleep 1; done; }
start=$(/bin/date +%s%N)
xl create /guest/first.cfg
end=$(/bin/date +%s%N)
echo "io: create $(((end - start) / 1000))"
waits "ALONE"
xl create /guest/second.cfg
waits "END"
cat $log
BUILD
"#;

/// Time for everything on a busy host.
const LONG: Duration = Duration::from_secs(1200);

/// Boots, and measures.
pub fn measure(paths: &Paths, cpu: &str, guest: &Guest) -> Result<Found> {
    let read = |file: &std::path::Path| std::fs::read(file).with_context(|| format!("cannot read {}", file.display()));
    let texts =
        [("KIB", (DISK_MIB * 1024).to_string()), ("ALONE", ALONE.into()), ("END", END.into()), ("BUILD", BUILD.into())];
    let script = texts.iter().fold(SCRIPT.to_owned(), |text, (word, value)| text.replace(word, value));
    let mut files = vec![
        ("vmlinuz".to_owned(), read(&guest.kernel)?),
        ("guest.cpio".to_owned(), read(&guest.ramdisk)?),
        ("run".to_owned(), script.into_bytes()),
    ];
    files.extend(guest::configs("/guest", "/dev/ram0").map(|(name, text)| (name, text.into_bytes())));
    let mut peer = xen::with_files(&xen::peer(paths)?, &files, &paths.image("bench/io-dom0.cpio"))?;
    let whole = [read(&peer.archive)?, read(&guest.tools)?].concat();
    peer.archive = paths.image("bench/io-dom0.cpio");
    std::fs::write(&peer.archive, whole)?;
    let mut config = peer.config();
    cpu.clone_into(&mut config.cpu);
    config.icount = true;
    let spinner = ui::spinner("bench", "measuring on Debian's Xen with its Linux");
    let mut machine = Machine::start(&config, None)?;
    let booted = machine.expect(PROMPT, LONG)?;
    let done = machine.inside(PROMPT, "sh /guest/run", LONG).context("the measuring guest on Xen")?;
    spinner.finish_and_clear();
    ensure!(done.text.contains(END), "the measuring guest on Xen did not come to its end:\n{}", done.text);
    Ok(Found { figures: scaled(&guest::read(&done.text)), about: about(&(booted + &done.text)), said: done.text })
}
