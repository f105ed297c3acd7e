//! What the two ends of a block device tell each other through the store (Xen public/io/blkif.h).

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use driver_api::DiskInfo;
use driver_api::published::{BadFrontEnd, optional, required};
use hypercall_abi::blkif::{VDISK_READONLY, keys};
use hypercall_abi::ids::{GrantRef, Port};

use crate::back_end::Limits;

/// Every key that [`RingParams::parse`] may ask for, relative to the front end's directory.
pub const FRONTEND_KEYS: &[&str] = &[
    keys::EVENT_CHANNEL,
    keys::PROTOCOL,
    keys::FEATURE_PERSISTENT,
    keys::RING_PAGE_ORDER,
    keys::RING_REF,
    "ring-ref0",
    "ring-ref1",
    "ring-ref2",
    "ring-ref3",
    "ring-ref4",
    "ring-ref5",
    "ring-ref6",
    "ring-ref7",
    "ring-ref8",
    "ring-ref9",
    "ring-ref10",
    "ring-ref11",
    "ring-ref12",
    "ring-ref13",
    "ring-ref14",
    "ring-ref15",
];

/// The keys and values to write in the back end's directory before it goes to `InitWait`.
pub fn advertise(disk: &DiskInfo, limits: &Limits) -> Vec<(&'static str, String)> {
    let flag = |on: bool| u8::from(on).to_string();
    let info = if disk.read_only { VDISK_READONLY } else { 0 };
    let discard = disk.discard && !disk.read_only;
    let mut entries = alloc::vec![
        (keys::MAX_RING_PAGE_ORDER, limits.ring_page_order.min(4).to_string()),
        (keys::FEATURE_BARRIER, flag(true)),
        (keys::FEATURE_FLUSH_CACHE, flag(true)),
        (keys::FEATURE_PERSISTENT, flag(limits.persistent_grants != 0)),
        (keys::FEATURE_DISCARD, flag(discard)),
        (keys::SECTORS, disk.sectors.to_string()),
        (keys::SECTOR_SIZE, disk.logical_block.to_string()),
        (keys::PHYSICAL_SECTOR_SIZE, disk.physical_block.to_string()),
        (keys::INFO, info.to_string()),
    ];
    if limits.indirect_segments != 0 {
        entries.push((keys::FEATURE_MAX_INDIRECT_SEGMENTS, limits.indirect_segments.to_string()));
    }
    if discard {
        entries.push((keys::DISCARD_GRANULARITY, disk.discard_granularity.to_string()));
        entries.push((keys::DISCARD_ALIGNMENT, flag(false)));
        entries.push((keys::DISCARD_SECURE, flag(false)));
    }
    entries.push(("hotplug-status", "connected".to_string()));
    entries
}

/// What the front end published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RingParams {
    /// The ring's pages, in order.
    pub ring: Vec<GrantRef>,
    /// The front end's unbound port.
    pub port: Port,
    /// It keeps its grants in place between requests.
    pub persistent: bool,
}

impl RingParams {
    /// Reads the front end's keys through `lookup`.
    ///
    /// # Errors
    /// A key is missing or cannot be understood.
    pub fn parse(mut lookup: impl FnMut(&str) -> Option<String>) -> Result<Self, BadFrontEnd> {
        let port = Port(required(keys::EVENT_CHANNEL, &mut lookup)?);
        if let Some(value) = lookup(keys::PROTOCOL)
            && !matches!(value.as_str(), keys::PROTOCOL_ARM | "x86_64-abi")
        {
            // The 64-bit x86 layout is the same as Arm's, byte for byte; the 32-bit one is not.
            return Err(BadFrontEnd { key: keys::PROTOCOL.to_string(), value: Some(value) });
        }
        let persistent = optional::<u32>(keys::FEATURE_PERSISTENT, &mut lookup)?.unwrap_or(0) != 0;
        let ring = match optional::<u32>(keys::RING_PAGE_ORDER, &mut lookup)? {
            None => alloc::vec![GrantRef(required(keys::RING_REF, &mut lookup)?)],
            // A front end that writes an order of 0 may use either name for the one page.
            Some(0) => match optional(keys::RING_REF, &mut lookup)? {
                Some(reference) => alloc::vec![GrantRef(reference)],
                None => alloc::vec![GrantRef(required("ring-ref0", &mut lookup)?)],
            },
            Some(order) if order <= 4 => (0..1u32 << order)
                .map(|page| required(&format!("ring-ref{page}"), &mut lookup).map(GrantRef))
                .collect::<Result<_, _>>()?,
            Some(order) => {
                return Err(BadFrontEnd { key: keys::RING_PAGE_ORDER.to_string(), value: Some(order.to_string()) });
            }
        };
        Ok(Self { ring, port, persistent })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(entries: &[(&str, &str)]) -> Result<RingParams, BadFrontEnd> {
        RingParams::parse(|key| {
            let found = entries.iter().find(|(name, _)| *name == key);
            found.map(|(_, value)| value.to_string())
        })
    }

    #[test]
    fn linux_with_one_ring_page_is_understood() {
        let params =
            parse(&[("ring-ref", "8"), ("event-channel", "9"), ("protocol", "arm-abi"), ("feature-persistent", "1")]);
        let expected = RingParams { ring: alloc::vec![GrantRef(8)], port: Port(9), persistent: true };
        assert_eq!(params, Ok(expected));
    }

    #[test]
    fn a_ring_of_four_pages_names_each() {
        let params = parse(&[
            ("ring-page-order", "2"),
            ("ring-ref0", "4"),
            ("ring-ref1", "5"),
            ("ring-ref2", "6"),
            ("ring-ref3", "7"),
            ("event-channel", "1"),
        ]);
        assert_eq!(params.unwrap().ring, [4, 5, 6, 7].map(GrantRef));
    }

    #[test]
    fn a_wrong_or_missing_key_is_named() {
        let bad = |entries: &[(&str, &str)]| parse(entries).unwrap_err().to_string();
        assert_eq!(bad(&[]), "the front end has no event-channel");
        assert_eq!(bad(&[("event-channel", "1"), ("ring-ref", "-1")]), "the front end's ring-ref is \"-1\"");
        assert_eq!(
            bad(&[("event-channel", "1"), ("ring-page-order", "31")]),
            "the front end's ring-page-order is \"31\""
        );
        assert_eq!(
            bad(&[("event-channel", "1"), ("protocol", "x86_32-abi")]),
            "the front end's protocol is \"x86_32-abi\""
        );
    }

    #[test]
    fn every_key_that_is_asked_for_is_in_the_list() {
        for order in 0..=4u32 {
            let _ = RingParams::parse(|key| {
                assert!(FRONTEND_KEYS.contains(&key), "{key}");
                match key {
                    keys::PROTOCOL => None,
                    keys::RING_PAGE_ORDER => Some(order.to_string()),
                    _ => Some("1".to_string()),
                }
            })
            .unwrap();
        }
    }
}
