//! Makes what the QEMU cases boot from.

use anyhow::Result;
use qemu_tests::suite::Lab;

use crate::build;
use crate::linux;
use crate::paths::{Paths, write_if_changed};
use crate::store;
use crate::xen;

/// The disk of the guest that writes patterns, as a file of Dom0 on Xen.
const SCRATCH: usize = 16 << 20;

/// The configurations of the guests that run on Xen too.
const ON_XEN: &[(&str, &str)] = &[
    ("hello.cfg", "name = \"hello\"\nkernel = \"/guest/hello\"\nmemory = 16\nvcpus = 1\n"),
    (
        "blkcheck.cfg",
        "name = \"blkcheck\"\nkernel = \"/guest/blkcheck\"\nmemory = 16\nvcpus = 1\n\
         disk = [ \"/guest/scratch.img,raw,xvda,w\" ]\n",
    ),
];

/// The guest that breaks rules has a second vCPU to race with, and a disk and an interface to break the rings of.
const HOSTILE: &str = "name = \"hostile\"\nkernel = \"/store/hostile\"\nmemory = 32\nvcpus = 2\n\
    disk = [ \"/store/scratch.img,raw,xvda,w\" ]\nvif = [ \"\" ]\non_crash = \"destroy\"\non_reboot = \"destroy\"\n";

/// A disk for each of the guests that run at once.
const DISKS: u32 = 8;
const DISK_SIZE: &str = "16M";

/// Prepares the images, and Debian's Xen when it is wanted.
pub fn prepare(paths: &Paths, with_xen: bool) -> Result<Lab> {
    let folder = paths.images().join("test-store");
    store::demo(paths, &linux::guest(paths)?, &folder)?;
    for (image, _) in build::TEST_IMAGES {
        store::copy(&paths.image(image), &folder.join(image))?;
    }
    write_if_changed(&folder.join("hostile.cfg"), HOSTILE.as_bytes())?;
    for index in 0..DISKS {
        let disk = folder.join(format!("disk{index}.ext4"));
        if !disk.is_file() {
            linux::make_disk(&paths.foreign().join("guest"), &disk, DISK_SIZE)?;
        }
    }
    // Not the image of `run`: a person may have changed that one from Dom0's prompt.
    let image = paths.image("test-store.img");
    store::prepare(&folder, &image)?;
    let peer = if with_xen {
        let mut files = vec![("scratch.img".to_owned(), vec![0; SCRATCH])];
        for (name, text) in ON_XEN {
            files.push(((*name).to_owned(), text.as_bytes().to_vec()));
        }
        for name in ["hello", "blkcheck"] {
            files.push((name.to_owned(), std::fs::read(paths.image(name))?));
        }
        Some(xen::with_files(&xen::peer(paths)?, &files, &paths.image("xen-dom0.cpio"))?)
    } else {
        None
    };
    Ok(Lab { xenolith: paths.image("xenolith"), dom0: paths.image("dom0"), store: image, peer })
}
