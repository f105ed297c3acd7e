//! Guests that open connections without end.

use core::net::Ipv4Addr;

use proptest::prelude::*;

use super::frames::{frame, packet};
use super::{OUTSIDE, SERVER, nat};
use crate::packet::SYN;
use crate::{CONNECTIONS, Nat, PortForward, Protocol, STRANGERS};

fn guest(host: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 1, 0, host)
}

fn open(nat: &mut Nat, host: u8, port: u16, remote: u16, now: u64) -> bool {
    let mut bytes = frame([1; 6], [2; 6], &packet(Protocol::Udp, (guest(host), port), (SERVER, remote), 0, b""));
    nat.outbound(&mut bytes, false, host.into(), now).is_ok()
}

fn knows(nat: &Nat, host: u8, port: u16) -> bool {
    nat.list().any(|(_, inside, _, _)| inside == (guest(host), port))
}

#[test]
fn a_guest_that_opens_connections_without_end_displaces_only_its_own() {
    let mut nat = nat();
    for port in 0..100 {
        assert!(open(&mut nat, 2, port, 1, 0));
        assert!(open(&mut nat, 3, port, 2, 0));
    }
    for n in 0..200_000u32 {
        let [_, high, middle, low] = n.to_be_bytes();
        open(&mut nat, 9, u16::from_be_bytes([middle, low]), 1000 + u16::from(high), 1);
    }
    assert_eq!(nat.connections(), usize::from(CONNECTIONS));
    assert!((0..100).all(|port| knows(&nat, 2, port) && knows(&nat, 3, port)), "an honest guest lost a connection");
    assert!(open(&mut nat, 4, 1, 1, 2) && knows(&nat, 4, 1), "a guest that comes later finds room");
}

#[test]
fn strangers_who_knock_at_a_forwarded_port_displace_only_each_other() {
    let mut nat = nat();
    nat.forward(PortForward { protocol: Protocol::Tcp, port: 80, to: (guest(2), 80) }).unwrap();
    assert!(open(&mut nat, 3, 7, 7, 0));
    for n in 0..50_000u32 {
        let from = (Ipv4Addr::from(0xCB00_0000 | n), 1);
        let mut bytes = frame([1; 6], [2; 6], &packet(Protocol::Tcp, from, (OUTSIDE, 80), SYN, b""));
        assert_eq!(nat.inbound(&mut bytes, false, 0), Ok(guest(2)));
    }
    assert!(knows(&nat, 3, 7));
    assert_eq!(nat.connections_of(STRANGERS), usize::from(CONNECTIONS) - 1);
}

#[test]
fn a_guest_that_is_gone_leaves_no_connection() {
    let mut nat = nat();
    (0..50).for_each(|port| assert!(open(&mut nat, 2, port, 1, 0) && open(&mut nat, 3, port, 2, 0)));
    nat.forget(2);
    assert_eq!((nat.connections(), nat.connections_of(2), nat.connections_of(3)), (50, 0, 50));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn everybody_keeps_a_fair_share_and_the_counts_are_true(
        steps in proptest::collection::vec((2..6u8, any::<u16>(), 0..4u16, 0..400u64), 1..6_000), forgotten in 2..6u8,
    ) {
        let mut nat = nat();
        let mut now = 0;
        for (index, (host, port, remote, pause)) in steps.into_iter().enumerate() {
            if index % 64 == 0 {
                now += pause;
                nat.sweep(now);
            }
            if index == 3_000 {
                nat.forget(forgotten.into());
            }
            open(&mut nat, host, port, remote, now);
            prop_assert!(nat.connections() <= usize::from(CONNECTIONS));
        }
        let counted: usize = (2..6u16).map(|owner| nat.connections_of(owner)).sum();
        prop_assert_eq!(counted, nat.connections());
        prop_assert_eq!(nat.list().count(), nat.connections());
        // No two connections to one end share a port.
        let mut ports: Vec<_> = nat.list().map(|(_, _, port, remote)| (port, remote)).collect();
        ports.sort_unstable();
        ports.dedup();
        prop_assert_eq!(ports.len(), nat.connections());
    }
}
