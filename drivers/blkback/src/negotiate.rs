//! What the two ends of a block device tell each other through the store (Xen public/io/blkif.h).

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use driver_api::DiskInfo;
use driver_api::published::{BadFrontEnd, optional, required};
use hypercall_abi::blkif::{VDISK_READONLY, keys};
use hypercall_abi::ids::{GrantRef, Port};

use crate::limits::Limits;
use crate::request::PAGES_OF_ONE;

/// Rings of one device at most: as many vCPUs of a guest can ask without waiting for each other.
const MAX_QUEUES: u32 = 4;

/// The keys and values to write in the back end's directory before it goes to `InitWait`.
pub fn advertise(disk: &DiskInfo, limits: &Limits) -> Vec<(&'static str, String)> {
    let flag = |on: bool| u8::from(on).to_string();
    let info = if disk.read_only { VDISK_READONLY } else { 0 };
    let discard = disk.discard && !disk.read_only;
    let mut entries = alloc::vec![
        (keys::MAX_RING_PAGE_ORDER, limits.ring_page_order.min(4).to_string()),
        (keys::MULTI_QUEUE_MAX_QUEUES, MAX_QUEUES.to_string()),
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

/// A ring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueParams {
    /// Its pages, in order.
    pub ring: Vec<GrantRef>,
    /// The front end's unbound port.
    pub port: Port,
}

/// What the front end published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Params {
    /// Its rings; at least one.
    pub queues: Vec<QueueParams>,
    /// It keeps its grants in place between requests.
    pub persistent: bool,
}

impl Params {
    /// The most pages that a device with these limits is going to have mapped at a time: a host that has room for that many never
    /// fails a request.
    pub fn most_mapped(&self, limits: &Limits) -> usize {
        let queues = self.queues.len().max(1);
        // The last request that is taken may count for more than was left, and one that is refused maps its tables as well.
        let last = usize::from(limits.indirect_segments).div_ceil(PAGES_OF_ONE).max(1);
        let weight = (limits.in_flight / queues).max(1) - 1 + last;
        let rings: usize = self.queues.iter().map(|queue| queue.ring.len()).sum();
        let kept = if self.persistent { usize::from(limits.persistent_grants) } else { 0 };
        // What is in the way of a request in the cache waits to be unmapped as long as the request does.
        rings + kept + queues * weight * (PAGES_OF_ONE + 1)
    }

    /// Reads the front end's keys through `lookup`.
    ///
    /// # Errors
    /// A key is missing or cannot be understood.
    pub fn parse(mut lookup: impl FnMut(&str) -> Option<String>) -> Result<Self, BadFrontEnd> {
        let lookup = &mut lookup;
        if let Some(value) = lookup(keys::PROTOCOL)
            && !matches!(value.as_str(), keys::PROTOCOL_ARM | "x86_64-abi")
        {
            // The 64-bit x86 layout is the same as Arm's, byte for byte; the 32-bit one is not.
            return Err(BadFrontEnd { key: keys::PROTOCOL.to_string(), value: Some(value) });
        }
        let persistent = optional::<u32>(keys::FEATURE_PERSISTENT, lookup)?.unwrap_or(0) != 0;
        let order = optional::<u32>(keys::RING_PAGE_ORDER, lookup)?;
        if let Some(order) = order.filter(|order| *order > 4) {
            return Err(BadFrontEnd { key: keys::RING_PAGE_ORDER.to_string(), value: Some(order.to_string()) });
        }
        let queues = match optional::<u32>(keys::MULTI_QUEUE_NUM_QUEUES, lookup)? {
            // A front end with one ring keeps to the older layout, whether it has heard of several or not.
            None | Some(1) => alloc::vec![queue("", order, lookup)?],
            Some(count) if (1..=MAX_QUEUES).contains(&count) => {
                (0..count).map(|number| queue(&format!("queue-{number}/"), order, lookup)).collect::<Result<_, _>>()?
            }
            Some(count) => {
                let key = keys::MULTI_QUEUE_NUM_QUEUES.to_string();
                return Err(BadFrontEnd { key, value: Some(count.to_string()) });
            }
        };
        Ok(Self { queues, persistent })
    }
}

/// The ring whose keys begin with `below`.
fn queue(
    below: &str,
    order: Option<u32>,
    lookup: &mut impl FnMut(&str) -> Option<String>,
) -> Result<QueueParams, BadFrontEnd> {
    let port = Port(required(&format!("{below}{}", keys::EVENT_CHANNEL), lookup)?);
    let only = format!("{below}{}", keys::RING_REF);
    let ring = match order {
        None => alloc::vec![GrantRef(required(&only, lookup)?)],
        // A front end that writes an order of 0 may use either name for the one page.
        Some(0) => match optional(&only, lookup)? {
            Some(reference) => alloc::vec![GrantRef(reference)],
            None => alloc::vec![GrantRef(required(&format!("{only}0"), lookup)?)],
        },
        Some(order) => (0..1u32 << order)
            .map(|page| required(&format!("{only}{page}"), lookup).map(GrantRef))
            .collect::<Result<_, _>>()?,
    };
    Ok(QueueParams { ring, port })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(entries: &[(&str, &str)]) -> Result<Params, BadFrontEnd> {
        Params::parse(|key| {
            let found = entries.iter().find(|(name, _)| *name == key);
            found.map(|(_, value)| value.to_string())
        })
    }

    #[test]
    fn linux_with_one_ring_page_is_understood() {
        let params =
            parse(&[("ring-ref", "8"), ("event-channel", "9"), ("protocol", "arm-abi"), ("feature-persistent", "1")]);
        let queue = QueueParams { ring: alloc::vec![GrantRef(8)], port: Port(9) };
        assert_eq!(params, Ok(Params { queues: alloc::vec![queue], persistent: true }));
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
        assert_eq!(params.unwrap().queues[0].ring, [4, 5, 6, 7].map(GrantRef));
    }

    #[test]
    fn linux_with_two_rings_of_two_pages_is_understood() {
        let params = parse(&[
            ("multi-queue-num-queues", "2"),
            ("ring-page-order", "1"),
            ("queue-0/ring-ref0", "4"),
            ("queue-0/ring-ref1", "5"),
            ("queue-0/event-channel", "1"),
            ("queue-1/ring-ref0", "6"),
            ("queue-1/ring-ref1", "7"),
            ("queue-1/event-channel", "2"),
        ]);
        let queue = |pages: [u32; 2], port| QueueParams { ring: pages.map(GrantRef).to_vec(), port: Port(port) };
        assert_eq!(params.unwrap().queues, [queue([4, 5], 1), queue([6, 7], 2)]);
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
        for count in ["0", "5"] {
            let said = format!("the front end's multi-queue-num-queues is \"{count}\"");
            assert_eq!(bad(&[("multi-queue-num-queues", count), ("event-channel", "1"), ("ring-ref", "8")]), said);
        }
        let one_of_two = [("queue-0/event-channel", "1"), ("queue-0/ring-ref", "8"), ("multi-queue-num-queues", "2")];
        assert_eq!(bad(&one_of_two), "the front end has no queue-1/event-channel");
        assert_eq!(
            bad(&[("event-channel", "1"), ("protocol", "x86_32-abi")]),
            "the front end's protocol is \"x86_32-abi\""
        );
    }

    #[test]
    fn every_key_that_is_asked_for_is_one_of_the_protocol() {
        let plain = |key: &str| {
            let number = |name| key.strip_prefix(name).and_then(|rest: &str| rest.parse::<u32>().ok());
            matches!(key, keys::EVENT_CHANNEL | keys::RING_REF) || number(keys::RING_REF).is_some_and(|page| page < 16)
        };
        let of_device = [keys::PROTOCOL, keys::FEATURE_PERSISTENT, keys::RING_PAGE_ORDER, keys::MULTI_QUEUE_NUM_QUEUES];
        for (order, count) in (0..=4u32).flat_map(|order| (1..=MAX_QUEUES).map(move |count| (order, count))) {
            let of_queue: Vec<_> = (0..count).map(|number| format!("queue-{number}/")).collect();
            let params = Params::parse(|key| {
                let below = of_queue.iter().find_map(|queue| key.strip_prefix(queue.as_str()));
                let known = below.map_or_else(|| plain(key) && count == 1, |key| plain(key) && count > 1);
                assert!(known || of_device.contains(&key), "{key}");
                match key {
                    keys::PROTOCOL => None,
                    keys::RING_PAGE_ORDER => Some(order.to_string()),
                    keys::MULTI_QUEUE_NUM_QUEUES => Some(count.to_string()),
                    _ => Some("1".to_string()),
                }
            });
            assert_eq!(params.unwrap().queues.len(), count as usize);
        }
    }
}
