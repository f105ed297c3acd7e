//! Specifications from xl-disk-configuration(5), and ones that must be refused.

use super::*;

fn file(path: &str) -> Target {
    Target::File(path.to_owned())
}

#[test]
fn positional_and_named_forms_say_the_same() {
    let expected = Disk {
        target: file("/store/vol.img"),
        vdev: Vdev::parse("hda").unwrap(),
        access: Access::ReadWrite,
        kind: Kind::Disk,
        discard: None,
        removable: false,
    };
    for spec in [
        "/store/vol.img,,hda",
        "/store/vol.img,raw,hda,rw",
        "/store/vol.img, raw, hda, w",
        "format=raw, vdev=hda, access=rw, target=/store/vol.img",
        "vdev=hda,target=/store/vol.img",
        "phy:/store/vol.img,raw,hda",
    ] {
        assert_eq!(Disk::parse(spec), Ok(expected.clone()), "{spec}");
    }
}

#[test]
fn a_target_given_last_keeps_its_commas() {
    let disk = Disk::parse("vdev=xvda,target=/store/a,b=c").unwrap();
    assert_eq!(disk.target, file("/store/a,b=c"));
}

#[test]
fn devices_are_told_from_files() {
    let target = |spec| Disk::parse(spec).unwrap().target;
    assert_eq!(target("/dev/vda,raw,xvda"), Target::Whole("vda".to_owned()));
    assert_eq!(target("/dev/vdb12,raw,xvda"), Target::Partition { disk: "vdb".to_owned(), number: 12 });
    assert_eq!(target("disk.img,raw,xvda"), file("disk.img"));
    assert_eq!(Disk::parse("/dev/vda01,raw,xvda"), Err(DiskError::BadDevice("/dev/vda01".to_owned())));
    assert_eq!(Disk::parse("/dev/mapper/x,raw,xvda"), Err(DiskError::BadDevice("/dev/mapper/x".to_owned())));
}

#[test]
fn a_cdrom_is_read_only_and_removable() {
    let disk = Disk::parse("/store/a.iso,raw,hdc,devtype=cdrom").unwrap();
    assert_eq!((disk.access, disk.kind, disk.removable), (Access::ReadOnly, Kind::Cdrom, true));
}

#[test]
fn discard_follows_access_unless_it_is_said() {
    assert!(Disk::parse("/a,raw,xvda,rw").unwrap().discard_enabled());
    assert!(!Disk::parse("/a,raw,xvda,ro").unwrap().discard_enabled());
    assert!(!Disk::parse("/a,raw,xvda,rw,no-discard").unwrap().discard_enabled());
}

#[test]
fn refusals_name_the_parameter() {
    for (spec, error) in [
        ("", "no vdev"),
        ("/a", "no vdev"),
        (",raw,xvda", "no target"),
        ("/a,qcow2,xvda", "format 'qcow2' is not supported (only raw)"),
        ("ram:64,raw,xvda", "'ram:64' has no size such as ram:64M"),
        ("ram:0M,raw,xvda", "'ram:0M' has no size such as ram:64M"),
        ("ram:99999999G,raw,xvda", "'ram:99999999G' has no size such as ram:64M"),
        ("/a,raw,vda", "vdev 'vda' is not a virtual device such as xvda"),
        ("/a,raw,xvda,rx", "unknown value for access 'rx' (ro or rw)"),
        ("/a,raw,xvda,rw,more", "too many positional parameters, at 'more'"),
        ("/a,raw,vdev=xvda,vdev=xvdb", "vdev respecified"),
        ("/a,raw,xvda,script=block-nbd", "parameter 'script=block-nbd' is not supported"),
    ] {
        assert_eq!(Disk::parse(spec).unwrap_err().to_string(), error, "{spec}");
    }
}

#[test]
fn memory_is_a_target_by_its_size() {
    assert_eq!(Disk::parse("ram:64M,raw,xvda").unwrap().target, Target::Ram(64));
    assert_eq!(Disk::parse("ram:2G,raw,xvda").unwrap().target, Target::Ram(2048));
}

#[test]
fn a_target_prints_as_its_path() {
    for path in ["/store/x.img", "/dev/vda", "/dev/vda3", "ram:64M"] {
        assert_eq!(Target::parse(path).unwrap().to_string(), path);
    }
}
