//! The DHCP server of a small network, where addresses run out.

use std::collections::BTreeMap;

use arbitrary::{Result, Unstructured};
use dom0_core::network::{ANSWER, Cidr, DhcpServer};
use smoltcp::wire::{DhcpMessageType, DhcpPacket, DhcpRepr, EthernetAddress, Ipv4Address};

/// Sends messages: an address has one holder, is one of the network's, and is not the server's own.
pub fn run(bytes: &[u8]) {
    let _ = story(&mut Unstructured::new(bytes));
}

fn story(u: &mut Unstructured<'_>) -> Result<()> {
    let network = Cidr::parse("10.1.0.1/29").expect("a network");
    let mut server = DhcpServer::new(network);
    let mut now = 0u64;
    while !u.is_empty() {
        now += u64::from(u.arbitrary::<u16>()?);
        let message = message(u)?;
        let port: u16 = u.int_in_range(0..=2)?;
        let mut answer = [0; ANSWER + 40];
        let outcome = server.answer(&message, |mac| (mac.0[0] == 2).then_some(port), now, &mut answer);
        if let Some(answer) = outcome {
            assert!(answer.len <= ANSWER, "an answer of {} bytes", answer.len);
        }
        let mut holders = BTreeMap::new();
        for (address, mac, _) in server.leases(now) {
            assert!(network.is_station(address) && address != network.address, "{address} was given");
            assert_eq!(holders.insert(address, mac), None, "{address} has two holders");
        }
        if u.ratio(1, 16)? {
            server.disown(port);
        }
    }
    Ok(())
}

/// A message of a client, or noise.
fn message(u: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    if u.ratio(1, 4)? {
        let len = usize::from(u.arbitrary::<u16>()?) % 700;
        return Ok(u.bytes(len.min(u.len()))?.to_vec());
    }
    let address = |u: &mut Unstructured<'_>| Ok(Ipv4Address::new(10, 1, 0, u.int_in_range(0..=9)?));
    let optional = |u: &mut Unstructured<'_>| Ok(if u.arbitrary()? { Some(address(u)?) } else { None });
    let mac = EthernetAddress([2, 0, 0, 0, 0, u.int_in_range(0..=9)?]);
    let repr = DhcpRepr {
        message_type: DhcpMessageType::from(u.int_in_range(0..=9u8)?),
        transaction_id: u.arbitrary()?,
        secs: 0,
        client_hardware_address: mac,
        client_ip: if u.ratio(1, 4)? { address(u)? } else { Ipv4Address::UNSPECIFIED },
        your_ip: Ipv4Address::UNSPECIFIED,
        server_ip: Ipv4Address::UNSPECIFIED,
        router: None,
        subnet_mask: None,
        relay_agent_ip: Ipv4Address::UNSPECIFIED,
        broadcast: u.arbitrary()?,
        requested_ip: optional(u)?,
        client_identifier: None,
        server_identifier: optional(u)?,
        parameter_request_list: None,
        dns_servers: None,
        max_size: None,
        lease_duration: None,
        renew_duration: None,
        rebind_duration: None,
        additional_options: &[],
    };
    let mut message = vec![0; repr.buffer_len()];
    repr.emit(&mut DhcpPacket::new_unchecked(&mut message[..])).map_err(|_| arbitrary::Error::IncorrectFormat)?;
    if u.ratio(1, 3)? {
        let at = u.choose_index(message.len())?;
        message[at] = u.arbitrary()?;
    }
    Ok(message)
}
