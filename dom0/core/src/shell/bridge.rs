//! The arguments of `bridge`.

use alloc::string::String;
use alloc::vec::Vec;

use super::command::Bridge;
use super::options::Arguments;
use super::table::Spec;
use super::usage::{UsageError, bad};
use crate::network::{BridgeConfig, Forward, NetworkError, outside};

/// Sorts out the subcommand and its arguments.
pub(super) fn parse(spec: &'static Spec, arguments: Arguments) -> Result<Bridge, UsageError> {
    let mut words = arguments.positional.into_iter();
    let what = words.next().unwrap_or_default();
    let words: Vec<String> = words.collect();
    let wrong = |error: NetworkError| UsageError::Usage(alloc::format!("bridge {what}: {error}"));
    match (what.as_str(), words.as_slice()) {
        ("show", _) => Ok(Bridge::Show(words)),
        ("info", _) => Ok(Bridge::Info(words)),
        ("showmacs", [bridge]) => Ok(Bridge::Addresses(bridge.clone())),
        ("add", [bridge, mode, pairs @ ..]) => BridgeConfig::parse(bridge, mode, pairs).map(Bridge::Add).map_err(wrong),
        ("del", [bridge]) => Ok(Bridge::Delete(bridge.clone())),
        ("link", [interface, state]) if ["up", "down"].contains(&state.as_str()) => {
            Ok(Bridge::Link { interface: interface.clone(), up: state == "up" })
        }
        ("nat", [bridge]) => Ok(Bridge::Nat(bridge.clone())),
        ("forward", [bridge, from, to]) => {
            Forward::parse(from, to).map(|forward| Bridge::Forward(bridge.clone(), forward)).map_err(wrong)
        }
        ("unforward", [bridge, from]) => {
            outside(from).map(|(kind, port)| Bridge::Unforward(bridge.clone(), kind, port)).map_err(wrong)
        }
        ("forward" | "unforward", _) => {
            let text = alloc::format!("'bridge {what}' takes a bridge, a protocol with a port, and for whom it is.");
            Err(bad(spec, "", &text))
        }
        ("link", _) => Err(bad(spec, "", "'bridge link' takes an interface, as in 'bridge show', and up or down.")),
        ("showmacs" | "del" | "nat", _) => {
            Err(bad(spec, "", &alloc::format!("'bridge {what}' takes the name of one bridge.")))
        }
        ("add", _) => Err(bad(spec, "", "'bridge add' takes the name of a bridge and its mode.")),
        _ => Err(bad(spec, "", &alloc::format!("'bridge {what}': there is no such subcommand."))),
    }
}
