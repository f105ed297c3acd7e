//! The trees against what `libxl` writes.

use hypercall_abi::ids::Port;

use super::*;
use crate::config::DomainConfig;
use crate::disk::{Access, Disk};
use crate::uuid::Uuid;

const GUEST: DomId = DomId(5);

fn value<'a>(nodes: &'a [Node], path: &str) -> &'a str {
    let node = nodes.iter().rfind(|node| node.path == path).unwrap_or_else(|| panic!("no node {path}"));
    &node.value
}

/// Permissions that a node ends up with: its own, or those of the nearest parent.
fn perms(nodes: &[Node], path: &str) -> Perms {
    let mut path = path;
    loop {
        if let Some(perms) = nodes.iter().filter(|node| node.path == path).find_map(|node| node.perms) {
            return perms;
        }
        path = path.rsplit_once('/').expect("some parent has permissions").0;
    }
}

fn domain_nodes() -> Vec<Node> {
    let text = "name='web'\nkernel='/k'\nmemory=256\nmaxmem=512\nvcpus=1\nmaxvcpus=2";
    let config = DomainConfig::parse("web.cfg", text, &[]).unwrap();
    let uuid = Uuid::from_random([1; 16]);
    DomainNodes { domid: GUEST, uuid: &uuid, config: &config, store_port: Port(1) }.nodes()
}

#[test]
fn a_domain_finds_itself_in_its_directory() {
    let nodes = domain_nodes();
    assert_eq!(value(&nodes, "/local/domain/5/name"), "web");
    assert_eq!(value(&nodes, "/local/domain/5/domid"), "5");
    assert_eq!(value(&nodes, "/local/domain/5/memory/target"), "262144");
    assert_eq!(value(&nodes, "/local/domain/5/memory/static-max"), "524288");
    assert_eq!(value(&nodes, "/local/domain/5/cpu/0/availability"), "online");
    assert_eq!(value(&nodes, "/local/domain/5/cpu/1/availability"), "offline");
    assert_eq!(value(&nodes, "/local/domain/5/store/ring-ref"), (0x39001).to_string());
    let vm = value(&nodes, "/local/domain/5/vm").to_owned();
    assert_eq!(value(&nodes, &format!("{vm}/name")), "web");
}

#[test]
fn a_guest_may_write_its_answers_but_not_its_name() {
    let nodes = domain_nodes();
    assert_eq!(perms(&nodes, "/local/domain/5/name").owner, DomId::DOM0);
    assert_eq!(perms(&nodes, "/local/domain/5/memory/target").owner, DomId::DOM0);
    assert_eq!(perms(&nodes, "/local/domain/5/control/shutdown").owner, GUEST);
    assert_eq!(perms(&nodes, "/local/domain/5/data").owner, GUEST);
    assert_eq!(perms(&nodes, "/libxl/5/type"), Perms::PRIVATE);
}

#[test]
fn parents_are_written_before_their_children() {
    for nodes in [domain_nodes(), console(GUEST, Port(2))] {
        for (index, node) in nodes.iter().enumerate() {
            let late = nodes[index..].iter().any(|later| node.path.starts_with(&format!("{}/", later.path)));
            assert!(!late, "{} comes before its parent", node.path);
        }
    }
}

#[test]
fn a_disk_has_a_front_end_and_a_back_end_that_know_each_other() {
    let disk = Disk::parse("/store/disk.img,raw,xvda,ro").unwrap();
    let nodes = vbd(GUEST, &disk);
    let (front, back) = ("/local/domain/5/device/vbd/51712", "/local/domain/0/backend/vbd/5/51712");
    assert_eq!(value(&nodes, &format!("{front}/backend")), back);
    assert_eq!(value(&nodes, &format!("{back}/frontend")), front);
    assert_eq!(value(&nodes, &format!("{back}/mode")), "r");
    assert_eq!(value(&nodes, &format!("{back}/discard-enable")), "0");
    assert_eq!(value(&nodes, &format!("{front}/virtual-device")), "51712");
    assert_eq!(perms(&nodes, &format!("{front}/state")), Perms { owner: GUEST, reader: Some(DomId::DOM0) });
    assert_eq!(perms(&nodes, &format!("{back}/params")), Perms { owner: DomId::DOM0, reader: Some(GUEST) });
    assert!(nodes.last().unwrap().path.ends_with("/state"));
}

#[test]
fn a_back_end_reads_back_what_was_written() {
    let disk = Disk::parse("/dev/vda1,raw,xvdb,rw").unwrap();
    let nodes = vbd(GUEST, &disk);
    let base = "/local/domain/0/backend/vbd/5/51728";
    let read = |name: &str| nodes.iter().find(|n| n.path == format!("{base}/{name}")).map(|n| n.value.clone());
    let info = vbd_info(read).unwrap();
    assert_eq!(info.params, "/dev/vda1");
    assert_eq!((info.access, info.discard), (Access::ReadWrite, true));
    assert_eq!(paths::parse_backend(paths::VBD, &format!("{base}/state")), Some((GUEST, 51728, "state")));
    assert_eq!(paths::parse_backend(paths::VBD, "/local/domain/0/backend/vif/5/0"), None);
}

#[test]
fn the_console_directory_is_the_guests_to_read_only() {
    let nodes = console(GUEST, Port(2));
    assert_eq!(value(&nodes, "/local/domain/5/console/port"), "2");
    assert_eq!(value(&nodes, "/local/domain/5/console/ring-ref"), (0x39000).to_string());
    assert_eq!(perms(&nodes, "/local/domain/5/console/ring-ref"), Perms::readable_by(GUEST));
}

#[test]
fn removal_covers_every_node_that_was_written() {
    let uuid = Uuid::from_random([1; 16]);
    let gone = removal(GUEST, &uuid);
    let disk = Disk::parse("/store/disk.img,raw,xvda").unwrap();
    for nodes in [domain_nodes(), console(GUEST, Port(2)), vuart(GUEST), vbd(GUEST, &disk), interface()] {
        for node in nodes {
            let covered = gone.iter().any(|path| node.path == *path || node.path.starts_with(&format!("{path}/")));
            assert!(covered, "{} would be left behind", node.path);
        }
    }
}

#[test]
fn permissions_have_the_wire_form_of_xenstore() {
    assert_eq!(Perms::readable_by(GUEST).wire(), "n0\0r5\0");
    assert_eq!(Perms::owned_by(GUEST).wire(), "n5\0");
}

fn interface() -> Vec<Node> {
    let spec = crate::vif::Vif::parse("bridge=lan0,vlan=10p/20,ip=10.0.0.2").unwrap();
    vif(GUEST, 1, vswitch::Mac([0, 0x16, 0x3E, 1, 2, 3]), &spec)
}

#[test]
fn an_interface_has_its_address_on_both_sides_and_the_bridge_on_ours() {
    let nodes = interface();
    let (front, back) = ("/local/domain/5/device/vif/1", "/local/domain/0/backend/vif/5/1");
    assert_eq!(value(&nodes, &format!("{front}/mac")), "00:16:3e:01:02:03");
    assert_eq!(value(&nodes, &format!("{back}/mac")), "00:16:3e:01:02:03");
    assert_eq!(value(&nodes, &format!("{front}/handle")), "1");
    assert_eq!(value(&nodes, &format!("{back}/bridge")), "lan0");
    assert_eq!(perms(&nodes, &format!("{back}/bridge")).owner, DomId::DOM0);
    assert!(nodes.last().unwrap().path.ends_with("/state"));
}

#[test]
fn an_interface_is_read_back_as_it_was_written() {
    let nodes = interface();
    let own = "/libxl/5/device/vif/1";
    let read = |name: &str| nodes.iter().find(|n| n.path == format!("{own}/{name}")).map(|n| n.value.clone());
    let vif = vif_info(read).unwrap();
    assert_eq!((vif.bridge.as_str(), vif.ip.as_deref()), ("lan0", Some("10.0.0.2")));
    assert_eq!(vif.vlans.to_string(), "10p/20");
    assert_eq!(vif.mac.map(|mac| mac.to_string()).as_deref(), Some("00:16:3e:01:02:03"));
}
