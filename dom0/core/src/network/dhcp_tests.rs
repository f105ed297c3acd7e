//! Clients that keep to the protocol, and others.

use alloc::vec::Vec;

use proptest::prelude::*;

use super::*;

const SERVER: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 1);

fn server(prefix: u8) -> DhcpServer {
    DhcpServer::new(Cidr { address: SERVER, prefix })
}

fn mac(n: u16) -> Mac {
    let [high, low] = n.to_be_bytes();
    Mac([0, 0x16, 0x3E, 0, high, low])
}

/// A client's message.
fn message(kind: DhcpMessageType, mac: Mac, change: impl FnOnce(&mut DhcpRepr<'_>)) -> Vec<u8> {
    let mut repr = DhcpRepr {
        message_type: kind,
        transaction_id: 77,
        secs: 0,
        client_hardware_address: EthernetAddress(mac.0),
        client_ip: Ipv4Addr::UNSPECIFIED,
        your_ip: Ipv4Addr::UNSPECIFIED,
        server_ip: Ipv4Addr::UNSPECIFIED,
        router: None,
        subnet_mask: None,
        relay_agent_ip: Ipv4Addr::UNSPECIFIED,
        broadcast: false,
        requested_ip: None,
        client_identifier: None,
        server_identifier: None,
        parameter_request_list: None,
        dns_servers: None,
        max_size: None,
        lease_duration: None,
        renew_duration: None,
        rebind_duration: None,
        additional_options: &[],
    };
    change(&mut repr);
    let mut bytes = alloc::vec![0; repr.buffer_len()];
    repr.emit(&mut DhcpPacket::new_unchecked(&mut bytes)).unwrap();
    bytes
}

/// What the server says: kind, address, where it goes.
fn ask(server: &mut DhcpServer, message: &[u8], port: u16, now: u64) -> Option<(DhcpMessageType, Ipv4Addr, Ipv4Addr)> {
    let mut bytes = [0; ANSWER];
    let answer = server.answer(message, |_| Some(port), now, &mut bytes)?;
    let packet = DhcpPacket::new_checked(&bytes[..answer.len]).unwrap();
    let reply = DhcpRepr::parse(&packet).unwrap();
    assert_eq!((reply.transaction_id, reply.server_identifier), (77, Some(SERVER)));
    if reply.message_type != DhcpMessageType::Nak {
        assert_eq!((reply.router, reply.dns_servers.unwrap().first().copied()), (Some(SERVER), Some(SERVER)));
    }
    let given = (reply.message_type == DhcpMessageType::Ack).then_some(reply.your_ip);
    let client = Mac(reply.client_hardware_address.0);
    assert_eq!(answer.given, given.filter(|ip| !ip.is_unspecified()).map(|ip| (ip, client)));
    Some((reply.message_type, reply.your_ip, answer.to))
}

/// Goes through the four messages; the address.
fn obtain(server: &mut DhcpServer, mac: Mac, port: u16, now: u64) -> Option<Ipv4Addr> {
    let discover = message(DhcpMessageType::Discover, mac, |_| {});
    let (kind, address, to) = ask(server, &discover, port, now)?;
    assert_eq!((kind, to), (DhcpMessageType::Offer, Ipv4Addr::BROADCAST));
    let request = message(DhcpMessageType::Request, mac, |repr| {
        (repr.requested_ip, repr.server_identifier) = (Some(address), Some(SERVER));
    });
    assert_eq!(ask(server, &request, port, now), Some((DhcpMessageType::Ack, address, Ipv4Addr::BROADCAST)));
    Some(address)
}

#[test]
fn each_client_gets_an_address_of_its_own_and_the_same_one_again() {
    let mut server = server(24);
    let first: Vec<_> = (0..100).map(|n| obtain(&mut server, mac(n), n, 0).unwrap()).collect();
    let mut distinct = first.clone();
    distinct.sort();
    distinct.dedup();
    assert_eq!((distinct.len(), distinct[0]), (100, Ipv4Addr::new(10, 1, 0, 2)));
    let again: Vec<_> = (0..100).map(|n| obtain(&mut server, mac(n), n, 10).unwrap()).collect();
    assert_eq!(first, again);
}

#[test]
fn a_lease_is_renewed_by_its_client_and_ends_without_that() {
    let mut server = server(24);
    let address = obtain(&mut server, mac(1), 1, 0).unwrap();
    let renew = message(DhcpMessageType::Request, mac(1), |repr| repr.client_ip = address);
    assert_eq!(ask(&mut server, &renew, 1, 1800), Some((DhcpMessageType::Ack, address, address)));
    let greedy = message(DhcpMessageType::Request, mac(2), |repr| repr.requested_ip = Some(address));
    let refused = Some((DhcpMessageType::Nak, Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST));
    assert_eq!(ask(&mut server, &greedy, 2, 1800 + 3599), refused);
    assert_eq!(server.leases(5400).count(), 0);
    assert_eq!(ask(&mut server, &greedy, 2, 5400), Some((DhcpMessageType::Ack, address, Ipv4Addr::BROADCAST)));
}

#[test]
fn addresses_that_are_not_a_guests_are_never_given() {
    let mut server = server(29);
    for wanted in [SERVER, "10.1.0.0".parse().unwrap(), "10.1.0.7".parse().unwrap(), "10.2.0.2".parse().unwrap()] {
        let request = message(DhcpMessageType::Request, mac(1), |repr| repr.requested_ip = Some(wanted));
        assert_eq!(ask(&mut server, &request, 1, 0).map(|(kind, ..)| kind), Some(DhcpMessageType::Nak), "{wanted}");
    }
}

#[test]
fn a_client_that_takes_another_servers_offer_keeps_nothing_here() {
    let mut server = server(24);
    let discover = message(DhcpMessageType::Discover, mac(1), |_| {});
    ask(&mut server, &discover, 1, 0).unwrap();
    let other = message(DhcpMessageType::Request, mac(1), |repr| {
        (repr.requested_ip, repr.server_identifier) = (Some(SERVER), Some("10.1.0.9".parse().unwrap()));
    });
    assert_eq!((ask(&mut server, &other, 1, 0), server.leases(0).count()), (None, 0));
}

#[test]
fn an_address_that_is_released_is_free_and_one_that_is_declined_is_not() {
    let mut server = server(29);
    let address = obtain(&mut server, mac(1), 1, 0).unwrap();
    let release = message(DhcpMessageType::Release, mac(1), |repr| repr.client_ip = address);
    assert_eq!(ask(&mut server, &release, 1, 0), None);
    assert_eq!(obtain(&mut server, mac(2), 2, 0), Some(address));
    let decline = message(DhcpMessageType::Decline, mac(2), |repr| repr.requested_ip = Some(address));
    assert_eq!(ask(&mut server, &decline, 2, 0), None);
    assert_ne!(obtain(&mut server, mac(3), 3, 599), Some(address));
    assert_eq!(obtain(&mut server, mac(4), 4, 600), Some(address));
}

#[test]
fn a_port_that_invents_stations_takes_addresses_from_itself_alone() {
    let mut server = server(24);
    let honest: Vec<_> = (0..20).map(|n| obtain(&mut server, mac(n), n, 0).unwrap()).collect();
    for n in 1000..5000 {
        obtain(&mut server, mac(n), 99, 1).unwrap();
    }
    let again: Vec<_> = (0..20).map(|n| obtain(&mut server, mac(n), n, 2).unwrap()).collect();
    assert_eq!(honest, again);
    assert!(obtain(&mut server, mac(500), 50, 3).is_some(), "a guest that comes later gets an address");
    assert_eq!(server.leases(3).count(), 253);
}

#[test]
fn a_station_that_was_not_seen_on_the_bridge_gets_no_answer() {
    let mut server = server(24);
    let discover = message(DhcpMessageType::Discover, mac(1), |_| {});
    assert_eq!(server.answer(&discover, |_| None, 0, &mut [0; ANSWER]), None);
    let group = message(DhcpMessageType::Discover, Mac([0xFF; 6]), |_| {});
    assert_eq!(ask(&mut server, &group, 1, 0), None);
}

proptest! {
    #[test]
    fn no_message_makes_the_server_panic_or_give_an_address_twice(
        noise in proptest::collection::vec(any::<u8>(), 0..400),
        steps in proptest::collection::vec((0..9u8, 0..12u16, any::<u8>(), 0..2_000u64), 0..60),
    ) {
        let mut server = server(29);
        server.answer(&noise, |_| Some(1), 0, &mut [0; ANSWER]);
        let mut now = 0;
        for (kind, client, host, pause) in steps {
            now += pause;
            let address = Ipv4Addr::new(10, 1, 0, host % 8);
            let bytes = message(DhcpMessageType::from(kind), mac(client), |repr| {
                (repr.requested_ip, repr.client_ip) = (Some(address), if host > 128 { address } else { Ipv4Addr::UNSPECIFIED });
            });
            server.answer(&bytes, |_| Some(client % 4), now, &mut [0; ANSWER]);
            let mut given: Vec<_> = server.leases(now).map(|(address, ..)| address).collect();
            let count = given.len();
            given.sort();
            given.dedup();
            prop_assert_eq!(given.len(), count);
            prop_assert!(given.iter().all(|address| *address != SERVER));
        }
    }
}
