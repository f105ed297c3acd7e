//! The words of `bridge`, right and wrong.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::net::{Ipv4Addr, SocketAddrV4};

use super::{BridgeConfig, Cidr, Forward, Ip, Mode, Transport};

fn add(line: &str) -> Result<BridgeConfig, String> {
    let words: Vec<String> = line.split(' ').map(String::from).collect();
    BridgeConfig::parse(&words[0], &words[1], &words[2..]).map_err(|error| error.to_string())
}

fn cidr(text: &str) -> Ip {
    Ip::Static(Cidr::parse(text).unwrap())
}

#[test]
fn each_mode_has_what_people_expect_of_it() {
    let host_only = add("lan host-only").unwrap();
    assert_eq!((host_only.mode, host_only.ip, host_only.nic), (Mode::HostOnly, Ip::None, None));
    let nat = add("xenbr0 nat").unwrap();
    assert_eq!((nat.mode, nat.ip, nat.nic), (Mode::Nat, cidr("10.1.0.1/24"), None));
    let bridge = add("uplink bridge").unwrap();
    assert_eq!((bridge.mode, bridge.ip, bridge.nic.as_deref()), (Mode::Bridge, Ip::Dhcp, Some("eth0")));
}

#[test]
fn addresses_and_servers_can_be_named() {
    let bridge = add("up bridge ip=192.168.7.2/16 gateway=192.168.0.1 dns=192.168.0.53 nic=eth1").unwrap();
    assert_eq!((bridge.ip, bridge.nic.as_deref()), (cidr("192.168.7.2/16"), Some("eth1")));
    assert_eq!(bridge.gateway, Some(Ipv4Addr::new(192, 168, 0, 1)));
    assert_eq!(bridge.dns, Some(SocketAddrV4::new(Ipv4Addr::new(192, 168, 0, 53), 53)));
    let nat = add("n nat ip=172.16.0.1/28 dns=10.0.2.2:5353").unwrap();
    assert_eq!(nat.dns, Some(SocketAddrV4::new(Ipv4Addr::new(10, 0, 2, 2), 5353)));
    assert_eq!(add("n nat uplink=second").unwrap().uplink.as_deref(), Some("second"));
    assert_eq!(add("up bridge ip=none").unwrap().ip, Ip::None);
    assert_eq!(add("up bridge vlan=10p/20-22").unwrap().vlans.to_string(), "10p/20-22");
    assert_eq!(["n nat", "n nat echo=0", "n nat echo=1"].map(|line| add(line).unwrap().echo), [false, false, true]);
}

#[test]
fn what_is_wrong_is_named() {
    let error = |line: &str| add(line).unwrap_err();
    assert_eq!(error("a/b nat"), "'a/b' cannot be the name of a bridge or interface");
    assert_eq!(error("lan routed"), "mode 'routed' is not one of host-only, nat and bridge");
    assert_eq!(error("lan host-only nic=eth0"), "parameter 'nic=eth0' is not supported in this mode");
    assert_eq!(
        error("lan nat ip=dhcp"),
        "ip 'dhcp' is not an address with the size of its network, such as 10.1.0.1/24"
    );
    assert_eq!(error("lan host-only uplink=up"), "parameter 'uplink=up' is not supported in this mode");
    assert_eq!(error("lan nat vlan=10"), "parameter 'vlan=10' is not supported in this mode");
    assert!(error("up bridge vlan=x").starts_with("vlan 'x': VLANs are numbers"));
    assert!(error("lan nat ip=10.1.0.0/24").contains("10.1.0.0/24"));
    assert!(error("lan nat ip=10.1.0.255/24").contains("10.1.0.255/24"));
    assert!(error("lan nat ip=10.1.0.1/31").contains("10.1.0.1/31"));
    assert_eq!(
        error("lan nat ip=10.1.0.1/16"),
        "ip '10.1.0.1/16': the network of a nat bridge has a size from 24 to 29"
    );
    assert_eq!(error("lan nat ip=10.1.0.1/24 ip=10.1.0.2/24"), "ip respecified");
    assert_eq!(error("lan nat dns=ns"), "'ns' is not an address, such as 10.1.0.1 or 10.1.0.1:53");
    assert_eq!(error("lan nat echo=yes"), "parameter 'echo=yes' is not supported in this mode");
    assert_eq!(error("lan host-only echo=1"), "echo=1 needs an address of Dom0's on the bridge");
    assert!(error("up bridge gateway=10.0.0.1").starts_with("gateway '10.0.0.1'"));
    assert!(error("up bridge ip=10.0.0.1/24 gateway=10.0.1.1").starts_with("gateway '10.0.1.1'"));
}

#[test]
fn a_forward_names_two_ends() {
    let forward = Forward::parse("tcp/8080", "10.1.0.2:80").unwrap();
    assert_eq!((forward.transport, forward.port), (Transport::Tcp, 8080));
    assert_eq!(forward.to, SocketAddrV4::new(Ipv4Addr::new(10, 1, 0, 2), 80));
    let error = |from: &str, to: &str| Forward::parse(from, to).unwrap_err().to_string();
    for from in ["8080", "icmp/1", "tcp/0", "udp/65536"] {
        assert_eq!(
            error(from, "10.1.0.2:80"),
            alloc::format!("'{from}' is not a protocol with a port, such as tcp/8080")
        );
    }
    for to in ["10.1.0.2", "10.1.0.2:0", "web:80"] {
        assert!(error("udp/53", to).starts_with(&alloc::format!("'{to}' is not an address with a port")));
    }
}

#[test]
fn networks_overlap_when_one_holds_an_address_of_the_other() {
    let overlap = |a: &str, b: &str| {
        let (a, b) = (Cidr::parse(a).unwrap(), Cidr::parse(b).unwrap());
        assert_eq!(a.overlaps(b), b.overlaps(a));
        a.overlaps(b)
    };
    assert!(overlap("10.1.0.1/24", "10.1.0.200/24") && overlap("10.1.0.1/24", "10.1.0.65/29"));
    assert!(!overlap("10.1.0.1/24", "10.1.1.1/24") && !overlap("10.1.0.1/29", "10.1.0.9/29"));
}
