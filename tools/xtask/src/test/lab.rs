//! Makes what the QEMU cases boot from.

use anyhow::Result;
use qemu_tests::suite::{Case, Lab, Needs};
use qemu_tests::{pairs, shares};

use crate::build;
use crate::c;
use crate::linux;
use crate::paths::{Paths, write_if_changed};
use crate::store;
use crate::symbolize::Symbols;
use crate::ui;
use crate::xen;

use super::load;

/// The disk of the guest that writes patterns, as a file of Dom0 on Xen.
const SCRATCH: usize = 16 << 20;

/// The guests that run on Xen too: name, image and what else their configuration says.
const ON_XEN: &[(&str, &str, &str)] = &[
    ("hello", "hello", ""),
    ("blkcheck", "blkcheck", "disk = [ \"/guest/scratch.img,raw,xvda,w\" ]\n"),
    ("blkbench", "blkbench", "extra = \"mib=4\"\ndisk = [ \"/guest/scratch.img,raw,xvda,w\" ]\n"),
    ("parallel", "parallel", "vcpus = 2\n"),
    // With the UART Xen gives a guest shared interrupts, of which the guest asks.
    ("conform", "conform", "vcpus = 2\nvuart = \"sbsa_uart\"\n"),
    ("suspend", "example-suspend", ""),
    (
        "devices",
        "example-suspend",
        "extra = \"ip=10.0.0.84/24\"\ndisk = [ \"/guest/scratch.img,raw,xvda,w\" ]\nvif = [ \"bridge=xenbr0\" ]\n",
    ),
    ("httpd", "httpd", "extra = \"ip=10.0.0.80/24\"\nvif = [ \"bridge=xenbr0\" ]\n"),
    ("ping", "ping", "extra = \"ip=10.0.0.81/24 to=10.0.0.80 count=100 every=10\"\nvif = [ \"bridge=xenbr0\" ]\n"),
    ("sink", "netperf", "extra = \"ip=10.0.0.82/24\"\nvif = [ \"bridge=xenbr0\" ]\n"),
    ("source", "netperf", "extra = \"ip=10.0.0.83/24 to=10.0.0.82 mib=16\"\nvif = [ \"bridge=xenbr0\" ]\n"),
];

/// What Dom0 on Xen does in the cases. They are files because Xen's console drops what is typed faster than Dom0 reads.
const SCRIPTS: &[(&str, &str)] = &[("wait", WAIT), ("fetch", FETCH), ("suspend", SUSPEND), ("rules", RULES)];

/// `wait NAME WORDS`: waits until a guest has said the words, and shows all that it said.
const WAIT: &str = r#"log=/var/log/xen/console/guest-$1.log
waited=0
until grep -q "$2" $log || [ $waited = 90 ]; do sleep 1; waited=$((waited + 1)); done
cat $log
"#;

/// `fetch`: asks httpd for echoes and a hundred pages, takes its interface away, and asks it to end. `xl` waits until it has shut
/// down, and somebody else removes it then.
const FETCH: &str = r#"set -e
ping -c 20 -i 0.05 -q 10.0.0.80 | grep ' 0% packet loss'
for i in $(seq 100); do wget -q -O /dev/null http://10.0.0.80/; done
wget -q -O - http://10.0.0.80/stats
xl network-detach httpd 0
xl shutdown -w httpd
waited=0
while xl domid httpd > /dev/null 2>&1; do [ $waited -lt 30 ]; sleep 1; waited=$((waited + 1)); done
"#;

/// `suspend NAME`: suspends the guest and lets it go on, as one that was restored and as one whose suspension was cancelled, and
/// has it end through the store, whose watch it must have kept.
const SUSPEND: &str = r#"set -e
id=$(xl domid $1)
cp /guest/resume /tmp/resume
chmod +x /tmp/resume
again() {
    xenstore-write /local/domain/$id/control/shutdown suspend
    until xl list $1 | grep -q -e '-ss-'; do sleep 1; done
    /tmp/resume $id $3
    sh /guest/wait $1 "$2 after a suspension"
}
again $1 Restored
again $1 Cancelled cancel
! grep -q 10.0.0.84 /guest/$1.cfg || ping -c 20 -i 0.05 -q 10.0.0.84 | grep ' 0% packet loss'
xenstore-write /local/domain/$id/control/shutdown poweroff
until xl list $1 | grep -q -e '--s--'; do sleep 1; done
echo it went on
"#;

/// `rules FIRST LAST`: has the guest that asks for what the manuals promise look at one rule after the other, each in a domain of
/// its own, since one that does not hold may leave an interrupt behind; shows what it says of each.
const RULES: &str = r#"for n in $(seq $1 $2); do
    xl create /guest/conform.cfg "name='rule$n'" "extra='rule=$n'" > /dev/null 2>&1
    waited=0
    while xl domid rule$n > /dev/null 2>&1 && [ $waited -lt 150 ]; do usleep 200000; waited=$((waited + 1)); done
    xl destroy rule$n > /dev/null 2>&1
    grep conform: /var/log/xen/console/guest-rule$n.log
done
"#;

/// The guest that breaks rules has a second vCPU to race with, and a disk and an interface to break the rings of.
const HOSTILE: &str = "name = \"hostile\"\nkernel = \"/store/hostile\"\nmemory = 32\nvcpus = 2\n\
    disk = [ \"/store/scratch.img,raw,xvda,w\" ]\nvif = [ \"\" ]\non_crash = \"destroy\"\non_reboot = \"destroy\"\n";

/// The guest that asks for what the manuals promise: the second vCPU is whom it sends interrupts to.
const CONFORM: &str = "name = \"conform\"\nkernel = \"/store/conform\"\nmemory = 4\nvcpus = 2\nnr_spis = 988\n";

/// A guest in C has a disk, as those in Rust have.
fn in_c(name: &str) -> String {
    format!(
        "name = \"{name}\"\nkernel = \"/store/{name}\"\nmemory = 4\nvcpus = 1\n\
         disk = [ \"/store/scratch.img,raw,xvda,w\" ]\n"
    )
}

/// A program as a disk, from which a guest copies it.
fn whole_blocks(mut program: Vec<u8>) -> Vec<u8> {
    program.resize(program.len().next_multiple_of(512), 0);
    program
}

/// A disk for each of the guests that run at once.
const DISKS: u32 = 8;
const DISK_SIZE: &str = "16M";

/// Prepares the images, and what else these cases need.
pub fn prepare(paths: &Paths, cases: &[Case]) -> Result<Lab> {
    let needs = |what| cases.iter().any(|case| case.needs == what);
    let folder = paths.images().join("test-store");
    let guest = linux::guest(paths)?;
    store::demo(paths, &guest, &folder)?;
    if needs(Needs::Load) {
        store::copy(&load::ramdisk(paths, &guest)?, &folder.join(load::RAMDISK))?;
        write_if_changed(&folder.join("load.cfg"), load::CONFIG.as_bytes())?;
    }
    for (image, _) in build::TEST_IMAGES {
        store::copy(&paths.image(image), &folder.join(image))?;
    }
    for name in build::EXAMPLES {
        store::copy(&paths.image(&build::example(name)), &folder.join(build::example(name)))?;
    }
    write_if_changed(&folder.join("hostile.cfg"), HOSTILE.as_bytes())?;
    write_if_changed(&folder.join("conform.cfg"), CONFORM.as_bytes())?;
    write_if_changed(&folder.join("debugger.img"), &whole_blocks(c::for_linux(paths, "tests/linux/debugger.c")?))?;
    write_if_changed(&folder.join("busy.cfg"), shares::CONFIG.as_bytes())?;
    write_if_changed(&folder.join("pair.cfg"), pairs::CONFIG.as_bytes())?;
    write_if_changed(&folder.join("hammer.cfg"), shares::HAMMER.as_bytes())?;
    for name in c::guests() {
        store::copy(&paths.image(name), &folder.join(name))?;
        write_if_changed(&folder.join(format!("{name}.cfg")), in_c(name).as_bytes())?;
    }
    for index in 0..DISKS {
        let disk = folder.join(format!("disk{index}.ext4"));
        if !disk.is_file() {
            linux::make_disk(&paths.foreign().join("guest"), &disk, DISK_SIZE)?;
        }
    }
    // Not the image of `run`: a person may have changed that one from Dom0's prompt.
    let image = paths.image("test-store.img");
    store::prepare(&folder, &image)?;
    let peer = if needs(Needs::Xen) {
        let resume = c::for_linux(paths, "tests/xen/resume.c")?;
        let mut files = vec![("scratch.img".to_owned(), vec![0; SCRATCH]), ("resume".to_owned(), resume)];
        for (name, image, more) in ON_XEN {
            let vcpus = if more.contains("vcpus") { "" } else { "vcpus = 1\n" };
            let text = format!("name = \"{name}\"\nkernel = \"/guest/{image}\"\nmemory = 16\n{vcpus}{more}");
            files.push((format!("{name}.cfg"), text.into_bytes()));
        }
        for (name, text) in SCRIPTS {
            files.push(((*name).to_owned(), text.as_bytes().to_vec()));
        }
        let examples = build::EXAMPLES.iter().map(|name| build::example(name));
        for name in build::guests().chain(["conform"]).map(str::to_owned).chain(examples) {
            let image = std::fs::read(paths.image(&name))?;
            files.push((name, image));
        }
        Some(xen::with_files(&xen::peer(paths)?, &files, &paths.image("xen-dom0.cpio"))?)
    } else {
        None
    };
    Ok(Lab {
        xenolith: paths.image("xenolith"),
        lock_waits: Symbols::open(&paths.image("xenolith.elf"))?.lock_waits(&std::fs::read(paths.image("xenolith"))?),
        dom0: paths.image("dom0"),
        store: image,
        peer,
        say: |text| ui::say("qemu", text),
    })
}
