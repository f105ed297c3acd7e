//! `bridge`: what connects the interfaces of domains, to each other and to the world.

use alloc::format;
use alloc::string::String;

use dom0_core::format::{address_list, bridge_info, bridge_list, nat_state};
use dom0_core::network::{DEFAULT, FILE};
use dom0_core::shell::{Bridge, Command, parse};
use fat32::FatError;

use super::{Failure, Outcome, Shell};
use crate::disks::FileError;
use crate::switch::SwitchError;

impl From<SwitchError> for Failure {
    fn from(error: SwitchError) -> Self {
        Failure(format!("{error}"))
    }
}

impl Shell {
    /// Makes the bridges that [`FILE`] names; without it, those that suit most people, if there is a network device.
    pub async fn set_up_networks(&self) {
        let lines = match self.toolstack.disks.read_file(FILE).await {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(FileError::NoStore | FileError::Fat(FatError::NotFound)) => {
                if !self.toolstack.switch.has_nic() {
                    return;
                }
                String::from(DEFAULT)
            }
            Err(error) => return log::error!("{FILE}: {error}"),
        };
        for (number, line) in (1..).zip(lines.lines()) {
            let outcome = match parse(line) {
                Ok(Command::Nothing) => Ok(()),
                Ok(Command::Bridge(bridge)) => self.bridge(bridge).await,
                Ok(_) => Err(Failure(String::from("only 'bridge' commands may stand here"))),
                Err(error) => Err(Failure(format!("{error}"))),
            };
            if let Err(Failure(reason)) = outcome {
                log::error!("{FILE}:{number}: {reason}");
            }
        }
    }

    /// `bridge`.
    pub(super) async fn bridge(&self, bridge: Bridge) -> Outcome {
        let switch = &self.toolstack.switch;
        match bridge {
            Bridge::Show(names) => self.show_bridges(&names).await,
            Bridge::Addresses(name) => self.show_addresses(&name).await,
            Bridge::Info(names) => self.show_modes(&names).await,
            Bridge::Add(config) => Ok(switch.add(config)?),
            Bridge::Delete(name) => Ok(switch.delete(&name).await?),
            Bridge::Link { interface, up } => Ok(switch.set_link(&interface, up)?),
            Bridge::Nat(name) => {
                let mut text = String::new();
                nat_state(&mut text, &switch.nat_state(&name)?)?;
                self.say(&text).await
            }
            Bridge::Forward(name, forward) => {
                Ok(switch.way_out(&name)?.forward(forward).map_err(SwitchError::Forward)?)
            }
            Bridge::Unforward(name, transport, port) => {
                Ok(switch.way_out(&name)?.unforward(transport, port).map_err(SwitchError::Forward)?)
            }
        }
    }

    async fn show_bridges(&self, names: &[String]) -> Outcome {
        let all = self.toolstack.switch.show();
        known(names, |name| all.iter().any(|(bridge, _)| bridge == name))?;
        let chosen = all.iter().filter(|(bridge, _)| names.is_empty() || names.contains(bridge));
        let mut text = String::new();
        bridge_list(&mut text, chosen.map(|(bridge, ports)| (bridge.as_str(), ports.as_slice())))?;
        self.say(&text).await
    }

    async fn show_modes(&self, names: &[String]) -> Outcome {
        let all = self.toolstack.switch.info();
        known(names, |name| all.iter().any(|info| info.name == name))?;
        let mut text = String::new();
        bridge_info(&mut text, all.iter().filter(|info| names.is_empty() || names.contains(&info.name)))?;
        self.say(&text).await
    }

    async fn show_addresses(&self, bridge: &str) -> Outcome {
        let seen = self.toolstack.switch.addresses(bridge);
        let seen = seen.ok_or_else(|| SwitchError::Unknown(String::from(bridge)))?;
        let mut text = String::new();
        address_list(&mut text, seen.iter().map(|(mac, vlan, port, age)| (*mac, *vlan, port.as_str(), *age)))?;
        self.say(&text).await
    }
}

/// Refuses the first name that no bridge has.
fn known(names: &[String], is_known: impl Fn(&str) -> bool) -> Outcome {
    match names.iter().find(|name| !is_known(name)) {
        Some(unknown) => Err(SwitchError::Unknown(unknown.clone()).into()),
        None => Ok(()),
    }
}
