//! Ten thousand echoes between two Linux guests over each IP and with each MTU, none of which is lost.

use anyhow::Result;

use crate::cases::linux::{inside, leave};
use crate::cases::net::{enter, guest};
use crate::machine::Machine;
use crate::suite::{Case, Lab, Needs};

pub(super) const CASES: &[Case] = &[Case {
    name: "ten_thousand_pings_of_linux_to_linux_over_each_ip_with_each_mtu_lose_nothing",
    needs: Needs::Nothing,
    alone: true,
    run: pings,
}];

/// Pings for which one command waits.
const PART: u32 = 1_000;

/// Each waits for the one before, which with instructions for a clock takes no longer on a busy host.
fn pings(lab: &Lab) -> Result<()> {
    let mut config = lab.config();
    (config.smp, config.icount) = (1, true);
    let mut machine = Machine::boot(&config)?;
    for (name, number) in [("left", 1), ("right", 2)] {
        guest(&mut machine, name, number, "")?;
        enter(&mut machine, name)?;
        inside(&mut machine, &format!("ip -6 addr add fd00::{number}/64 dev eth0"))?;
        leave(&mut machine)?;
    }
    for mtu in [1500, 9000] {
        for name in ["right", "left"] {
            enter(&mut machine, name)?;
            inside(&mut machine, &format!("ip link set eth0 mtu {mtu}"))?;
            leave(&mut machine)?;
        }
        enter(&mut machine, "left")?;
        for (ping, headers, address) in [("ping", 28, "10.0.0.2"), ("ping6", 48, "fd00::2")] {
            (lab.say)(&format!("{ping} with MTU {mtu}"));
            let size = mtu - headers;
            // An address of IPv6 is of use once nobody else has claimed it.
            inside(&mut machine, &format!("until {ping} -c 1 -W 1 -q {address}; do :; done"))?;
            for _ in 0..10_000 / PART {
                let command = format!("{ping} -A -c {PART} -s {size} -q {address} | grep ' 0% packet loss'");
                inside(&mut machine, &command)?;
            }
        }
        leave(&mut machine)?;
    }
    Ok(())
}
