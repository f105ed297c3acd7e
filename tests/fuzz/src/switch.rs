//! A bridge with ports of two VLANs, of both, and of none; one behind a filter, some that can do little.

use std::rc::Rc;

use arbitrary::{Result, Unstructured};
use driver_api::fake::Machine;
use vswitch::{Bridge, Mac, PortConfig, SCRATCH_BYTES, Vlans};

use crate::frames::{self, Names};
use crate::station::{Station, send};

const MACS: [[u8; 6]; 6] =
    [[2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2], [2, 0, 0, 0, 0, 3], [0xFF; 6], [1, 0, 0x5E, 0, 0, 1], [0; 6]];
const HOSTS: [[u8; 4]; 3] = [[10, 0, 0, 1], [10, 0, 0, 2], [224, 0, 0, 1]];
/// The only address that may send behind the filter.
const OWN: Mac = Mac(MACS[0]);

/// Which of the ports is behind the filter.
const FILTERED: usize = 2;

/// What a port is told of VLANs, and what that means.
struct Membership {
    text: &'static str,
    /// The VLAN of frames without a tag.
    bare: Option<u16>,
    /// The VLANs of frames with one.
    tagged: &'static [u16],
}

const PORTS: [Membership; 7] = [
    Membership { text: "", bare: Some(0), tagged: &[] },
    Membership { text: "", bare: Some(0), tagged: &[] },
    Membership { text: "10", bare: Some(10), tagged: &[] },
    Membership { text: "10p/20", bare: Some(10), tagged: &[20] },
    Membership { text: "20", bare: Some(20), tagged: &[] },
    Membership { text: "10/20", bare: None, tagged: &[10, 20] },
    Membership { text: "10-20", bare: None, tagged: &[10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20] },
];

impl Membership {
    fn config(&self) -> Vlans {
        if self.text.is_empty() { Vlans::default() } else { self.text.parse().expect("VLANs") }
    }

    /// The VLAN of a frame at this port; `None` if it belongs to none of the port's.
    fn vlan(&self, frame: &[u8]) -> Option<u16> {
        let tag = frame.get(12..16).and_then(|bytes| bytes.strip_prefix(&[0x81, 0x00]));
        let number = tag.map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]) & 0xFFF);
        match number {
            // To a port without VLANs a tag is a part of the frame like any other.
            Some(number) if !self.text.is_empty() => Some(number).filter(|number| self.tagged.contains(number)),
            _ => self.bare,
        }
    }
}

/// Sends frames from port to port: none comes back, leaves its VLAN, or passes the filter under another address.
pub fn run(bytes: &[u8]) {
    let _ = story(&mut Unstructured::new(bytes));
}

fn story(u: &mut Unstructured<'_>) -> Result<()> {
    let machine = Machine::new();
    let bridge = Bridge::new(Rc::clone(&machine), machine.own(SCRATCH_BYTES), 99, || 1);
    let memory = machine.own(1 << 14);
    let ports: Vec<_> = PORTS
        .iter()
        .enumerate()
        .map(|(index, membership)| {
            let station = Station::new(&machine, index % 2 == 1);
            let only_from = (index == FILTERED).then_some(OWN);
            let config = PortConfig { vlans: membership.config(), only_from, ..PortConfig::default() };
            let plug = bridge.attach(format!("p{index}"), station.clone(), config);
            (station, plug)
        })
        .collect();
    while !u.is_empty() {
        let from = u.choose_index(ports.len())?;
        let deaf = u.choose_index(2 * ports.len())?;
        ports.iter().enumerate().for_each(|(index, (station, _))| station.full.set(index == deaf));
        let frame = frames::frame(u, Names { macs: &MACS, hosts: &HOSTS })?;
        let _ = send(&memory, &ports[from].1, &frame, frames::offload(u)?);
        for (index, (station, _)) in ports.iter().enumerate() {
            for heard in station.take() {
                assert_ne!(index, from, "a frame came back to its sender");
                let (there, here) = (PORTS[from].vlan(&frame), PORTS[index].vlan(&heard));
                assert!(there.is_some() && there == here, "a frame of VLAN {there:?} became one of {here:?}");
                let forged = from == FILTERED && heard.get(6..12) != Some(&OWN.0[..]);
                assert!(!forged, "a frame passed the filter under another address");
            }
        }
    }
    Ok(())
}
