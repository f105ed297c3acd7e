//! What the two ends of a network device tell each other through the store (Xen public/io/netif.h).

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use driver_api::published::{BadFrontEnd, optional, required};
use hypercall_abi::ids::{GrantRef, Port};
use hypercall_abi::netif::keys;

use crate::mapped::MOST;

/// Pairs of rings that a front end may make.
const MAX_QUEUES: u32 = 4;

/// The keys and values to write in the back end's directory before it goes to `InitWait`.
pub fn advertise() -> Vec<(&'static str, String)> {
    let on = [
        keys::FEATURE_SG,
        keys::FEATURE_GSO_TCPV4,
        keys::FEATURE_GSO_TCPV6,
        keys::FEATURE_IPV6_CSUM_OFFLOAD,
        keys::FEATURE_RX_COPY,
        keys::FEATURE_CTRL_RING,
    ];
    // One event for both rings tells of the answers to what was sent and of what has come for it.
    let off = [keys::FEATURE_RX_FLIP, keys::FEATURE_SPLIT_EVENT_CHANNELS];
    let entry = |value: &'static str| move |key| (key, value.to_string());
    let mut entries: Vec<_> = on.into_iter().map(entry("1")).chain(off.into_iter().map(entry("0"))).collect();
    entries.push((keys::MULTI_QUEUE_MAX_QUEUES, MAX_QUEUES.to_string()));
    entries.push(("hotplug-status", "connected".to_string()));
    entries
}

/// What the front end takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Features {
    /// Frames of several slots.
    pub scatter: bool,
    /// TCP over IPv4 that is not segmented.
    pub gso_v4: bool,
    /// TCP over IPv6 that is not segmented.
    pub gso_v6: bool,
    /// Blank checksums over IPv4.
    pub checksum_v4: bool,
    /// Blank checksums over IPv6.
    pub checksum_v6: bool,
}

/// The ports of a pair of rings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Events<P> {
    /// One for both.
    Shared(P),
    /// One for each.
    Split {
        /// Of the transmit ring.
        tx: P,
        /// Of the receive ring.
        rx: P,
    },
}

/// A pair of rings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueParams {
    /// The transmit ring.
    pub tx: GrantRef,
    /// The receive ring.
    pub rx: GrantRef,
    /// The front end's unbound ports.
    pub events: Events<Port>,
}

/// The control ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CtrlParams {
    /// The ring.
    pub ring: GrantRef,
    /// The front end's unbound port.
    pub event: Port,
}

/// What the front end published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Params {
    /// Its rings; at least one pair.
    pub queues: Vec<QueueParams>,
    /// Its control ring, if it has one.
    pub ctrl: Option<CtrlParams>,
    /// What it takes.
    pub features: Features,
}

impl Params {
    /// The most pages that a device is going to have mapped at a time.
    pub fn most_mapped(&self) -> usize {
        // By the control ring each queue may have some kept, one list at a time.
        let kept = if self.ctrl.is_some() { 2 + self.queues.len() * MOST } else { 0 };
        2 * self.queues.len() + kept
    }

    /// Reads the front end's keys through `lookup`.
    ///
    /// # Errors
    /// A key is missing or cannot be understood.
    pub fn parse(mut lookup: impl FnMut(&str) -> Option<String>) -> Result<Self, BadFrontEnd> {
        let lookup = &mut lookup;
        // The other way, exchanging pages, is gone from every front end there is.
        if !flag(keys::REQUEST_RX_COPY, lookup)? {
            return Err(BadFrontEnd { key: keys::REQUEST_RX_COPY.to_string(), value: lookup(keys::REQUEST_RX_COPY) });
        }
        let queues = match optional::<u32>(keys::MULTI_QUEUE_NUM_QUEUES, lookup)? {
            // A front end with one pair keeps to the older layout, whether it has heard of several or not.
            None | Some(1) => alloc::vec![queue("", lookup)?],
            Some(count) if (1..=MAX_QUEUES).contains(&count) => {
                (0..count).map(|number| queue(&format!("queue-{number}/"), lookup)).collect::<Result<_, _>>()?
            }
            Some(count) => {
                let key = keys::MULTI_QUEUE_NUM_QUEUES.to_string();
                return Err(BadFrontEnd { key, value: Some(count.to_string()) });
            }
        };
        let features = Features {
            scatter: flag(keys::FEATURE_SG, lookup)?,
            gso_v4: flag(keys::FEATURE_GSO_TCPV4, lookup)?,
            gso_v6: flag(keys::FEATURE_GSO_TCPV6, lookup)?,
            checksum_v4: !flag(keys::FEATURE_NO_CSUM_OFFLOAD, lookup)?,
            checksum_v6: flag(keys::FEATURE_IPV6_CSUM_OFFLOAD, lookup)?,
        };
        let ctrl = match optional(keys::CTRL_RING_REF, lookup)? {
            Some(ring) => {
                Some(CtrlParams { ring: GrantRef(ring), event: Port(required(keys::EVENT_CHANNEL_CTRL, lookup)?) })
            }
            None => None,
        };
        Ok(Self { queues, ctrl, features })
    }
}

fn queue(below: &str, lookup: &mut impl FnMut(&str) -> Option<String>) -> Result<QueueParams, BadFrontEnd> {
    let events = match optional(&format!("{below}{}", keys::EVENT_CHANNEL_TX), lookup)? {
        Some(tx) => {
            Events::Split { tx: Port(tx), rx: Port(required(&format!("{below}{}", keys::EVENT_CHANNEL_RX), lookup)?) }
        }
        None => Events::Shared(Port(required(&format!("{below}{}", keys::EVENT_CHANNEL), lookup)?)),
    };
    Ok(QueueParams {
        tx: GrantRef(required(&format!("{below}{}", keys::TX_RING_REF), lookup)?),
        rx: GrantRef(required(&format!("{below}{}", keys::RX_RING_REF), lookup)?),
        events,
    })
}

fn flag(key: &str, lookup: &mut impl FnMut(&str) -> Option<String>) -> Result<bool, BadFrontEnd> {
    Ok(optional::<u32>(key, lookup)?.unwrap_or(0) != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(entries: &[(&str, &str)]) -> Result<Params, BadFrontEnd> {
        Params::parse(|key| entries.iter().find(|(name, _)| *name == key).map(|(_, value)| value.to_string()))
    }

    const LINUX: &[(&str, &str)] = &[
        ("multi-queue-num-queues", "1"),
        ("tx-ring-ref", "768"),
        ("rx-ring-ref", "769"),
        ("event-channel-tx", "7"),
        ("event-channel-rx", "8"),
        ("request-rx-copy", "1"),
        ("feature-rx-notify", "1"),
        ("feature-sg", "1"),
        ("feature-gso-tcpv4", "1"),
        ("feature-gso-tcpv6", "1"),
        ("feature-ipv6-csum-offload", "1"),
    ];

    #[test]
    fn linux_with_one_pair_of_rings_is_understood() {
        let all = Features { scatter: true, gso_v4: true, gso_v6: true, checksum_v4: true, checksum_v6: true };
        let events = Events::Split { tx: Port(7), rx: Port(8) };
        let queue = QueueParams { tx: GrantRef(768), rx: GrantRef(769), events };
        assert_eq!(parse(LINUX), Ok(Params { queues: alloc::vec![queue], ctrl: None, features: all }));
    }

    #[test]
    fn each_pair_of_several_is_named_in_a_folder_of_its_own() {
        let params = parse(&[
            ("multi-queue-num-queues", "2"),
            ("request-rx-copy", "1"),
            ("queue-0/tx-ring-ref", "1"),
            ("queue-0/rx-ring-ref", "2"),
            ("queue-0/event-channel", "3"),
            ("queue-1/tx-ring-ref", "4"),
            ("queue-1/rx-ring-ref", "5"),
            ("queue-1/event-channel", "6"),
        ])
        .unwrap();
        let events = Events::Shared(Port(6));
        assert_eq!(params.queues[1], QueueParams { tx: GrantRef(4), rx: GrantRef(5), events });
        assert!(params.features.checksum_v4 && !params.features.scatter);
    }

    #[test]
    fn a_control_ring_comes_with_its_port() {
        let with = |more: &[(&str, &str)]| parse(&[LINUX, more].concat());
        let ring = ("ctrl-ring-ref", "9");
        let params = with(&[ring, ("event-channel-ctrl", "11")]).unwrap();
        assert_eq!(params.ctrl, Some(CtrlParams { ring: GrantRef(9), event: Port(11) }));
        assert_eq!(with(&[ring]).unwrap_err().to_string(), "the front end has no event-channel-ctrl");
    }

    #[test]
    fn a_wrong_or_missing_key_is_named() {
        let bad = |entries: &[(&str, &str)]| parse(entries).unwrap_err().to_string();
        assert_eq!(bad(&[]), "the front end has no request-rx-copy");
        assert_eq!(bad(&[("request-rx-copy", "0")]), "the front end's request-rx-copy is \"0\"");
        assert_eq!(bad(&[("request-rx-copy", "1")]), "the front end has no event-channel");
        let many = [("request-rx-copy", "1"), ("multi-queue-num-queues", "9")];
        assert_eq!(bad(&many), "the front end's multi-queue-num-queues is \"9\"");
        let half = [("request-rx-copy", "1"), ("event-channel-tx", "1")];
        assert_eq!(bad(&half), "the front end has no event-channel-rx");
    }
}
