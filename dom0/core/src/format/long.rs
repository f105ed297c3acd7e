//! `xl list -l`: configurations as JSON, in the shape of libxl's `libxl_domain_config`.

use core::fmt::{self, Write};

use super::json::{Json, LIST, MAP};
use crate::config::{Action, DomainConfig, Vuart};
use crate::disk::{Access, Disk, Kind};
use crate::layout::GicVersion;
use crate::uuid::Uuid;
use crate::vif::Vif;

/// A domain of `xl list -l`.
#[derive(Debug, Clone, Copy)]
pub struct LongDomain<'a> {
    /// Id.
    pub domid: u16,
    /// Name now.
    pub name: &'a str,
    /// UUID.
    pub uuid: Uuid,
    /// Memory it has, MiB.
    pub memory_mib: u64,
    /// vCPUs there are.
    pub max_vcpus: u32,
    /// vCPUs online.
    pub vcpus: u32,
    /// The interrupt controller that it sees.
    pub gic: GicVersion,
    /// Its configuration; Dom0 has none.
    pub config: Option<&'a DomainConfig>,
    /// Disks it has now, which may have changed since its creation.
    pub disks: &'a [Disk],
    /// Network interfaces it has now, likewise.
    pub vifs: &'a [Vif],
}

/// Writes the list.
///
/// # Errors
/// Those of `out`.
pub fn list_long<'a>(out: &mut impl Write, domains: impl IntoIterator<Item = LongDomain<'a>>) -> fmt::Result {
    Json::new(out).nested(LIST, |json| {
        for domain in domains {
            json.nested(MAP, |json| {
                json.number("domid", u64::from(domain.domid))?;
                json.under("config", MAP, |json| config(json, &domain))
            })?;
        }
        Ok(())
    })?;
    out.write_str("\n")
}

fn config<W: Write>(json: &mut Json<'_, W>, domain: &LongDomain<'_>) -> fmt::Result {
    json.under("c_info", MAP, |json| {
        json.text("type", "pvh")?;
        json.text("name", domain.name)?;
        json.text("uuid", &alloc::format!("{}", domain.uuid))
    })?;
    json.under("b_info", MAP, |json| build_info(json, domain))?;
    if !domain.disks.is_empty() {
        json.under("disks", LIST, |json| domain.disks.iter().try_for_each(|disk| disk_info(json, disk)))?;
    }
    if !domain.vifs.is_empty() {
        json.under("nics", LIST, |json| domain.vifs.iter().try_for_each(|vif| vif_info(json, vif)))?;
    }
    match domain.config {
        None => Ok(()),
        Some(config) => {
            json.text("on_poweroff", action(config.on_poweroff))?;
            json.text("on_reboot", action(config.on_reboot))?;
            json.text("on_crash", action(config.on_crash))
        }
    }
}

fn build_info<W: Write>(json: &mut Json<'_, W>, domain: &LongDomain<'_>) -> fmt::Result {
    json.number("max_vcpus", u64::from(domain.max_vcpus))?;
    json.under("avail_vcpus", LIST, |json| (0..domain.vcpus).try_for_each(|vcpu| json.element(u64::from(vcpu))))?;
    let maximum = domain.config.map_or(domain.memory_mib, |config| config.maxmem_mib);
    json.number("max_memkb", maximum << 10)?;
    json.number("target_memkb", domain.memory_mib << 10)?;
    let Some(config) = domain.config else {
        return json.under("type.pvh", MAP, |_| Ok(()));
    };
    json.number("max_grant_frames", u64::from(config.max_grant_frames))?;
    json.number("event_channels", u64::from(config.max_event_channels))?;
    json.text("kernel", &config.kernel)?;
    if !config.cmdline.is_empty() {
        json.text("cmdline", &config.cmdline)?;
    }
    if let Some(ramdisk) = &config.ramdisk {
        json.text("ramdisk", ramdisk)?;
    }
    if let Some(device_tree) = &config.device_tree {
        json.text("device_tree", device_tree)?;
    }
    json.under("type.pvh", MAP, |_| Ok(()))?;
    json.under("arch_arm", MAP, |json| {
        json.text("gic_version", domain.gic.name())?;
        match config.vuart {
            Vuart::None => Ok(()),
            Vuart::Sbsa => json.text("vuart", "sbsa_uart"),
        }?;
        if config.nr_spis == 0 { Ok(()) } else { json.number("nr_spis", u64::from(config.nr_spis)) }
    })
}

fn disk_info<W: Write>(json: &mut Json<'_, W>, disk: &Disk) -> fmt::Result {
    json.nested(MAP, |json| {
        json.text("pdev_path", &alloc::format!("{}", disk.target))?;
        json.text("vdev", disk.vdev.name())?;
        json.text("backend", "phy")?;
        json.text("format", "raw")?;
        json.number("removable", u64::from(disk.removable))?;
        json.number("readwrite", u64::from(disk.access == Access::ReadWrite))?;
        json.number("is_cdrom", u64::from(disk.kind == Kind::Cdrom))?;
        json.text("discard_enable", if disk.discard_enabled() { "True" } else { "False" })
    })
}

fn vif_info<W: Write>(json: &mut Json<'_, W>, vif: &Vif) -> fmt::Result {
    json.nested(MAP, |json| {
        json.number("mtu", u64::from(vif.mtu))?;
        if let Some(mac) = vif.mac {
            json.text("mac", &alloc::format!("{mac}"))?;
        }
        if let Some(ip) = &vif.ip {
            json.text("ip", ip)?;
        }
        json.text("bridge", &vif.bridge)?;
        if let Some(name) = &vif.name {
            json.text("ifname", name)?;
        }
        json.text("nictype", "vif")
    })
}

/// The actions under the names that libxl's JSON has for them.
const fn action(action: Action) -> &'static str {
    match action {
        Action::Destroy => "destroy",
        Action::Restart => "restart",
        Action::RenameRestart => "restart_rename",
        Action::Preserve => "preserve",
        Action::CoredumpDestroy => "coredump_destroy",
        Action::CoredumpRestart => "coredump_restart",
    }
}
