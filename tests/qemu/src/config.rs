//! The emulated machine, and the QEMU command line that makes it.
//!
//! `cargo xtask run` and every test build their command line here, so what a test boots is what a person
//! boots.

use std::path::PathBuf;

/// QEMU for this architecture.
pub const EMULATOR: &str = "qemu-system-aarch64";

/// Where the control domain's kernel is put: QEMU puts the FDT at 128 MiB above the start of RAM and reserves
/// up to 2 MiB for it; the hypervisor itself is at the start.
const MODULE_BASE: u64 = 0x4900_0000;

/// Room between two modules; no kernel or archive that is tested is larger.
const MODULE_STEP: usize = 0x0700_0000;

/// A file that QEMU's `guest-loader` puts into memory and announces as a `multiboot,module` node.
#[derive(Clone, Debug)]
pub enum Module {
    /// A kernel with its command line.
    Kernel(PathBuf, String),
    /// An initial file system.
    Ramdisk(PathBuf),
}

/// A disk of the machine.
#[derive(Clone, Debug)]
pub struct Disk {
    /// The serial number by which the control domain tells its disks apart.
    pub serial: String,
    /// The raw image.
    pub file: PathBuf,
    /// True when writes are dropped as the machine ends.
    pub snapshot: bool,
}

/// A network device, whose wire leads to QEMU's user-mode network: the machine is behind an address translation of
/// QEMU's own, where 10.0.2.2 is the host's loopback.
#[derive(Clone, Debug, Default)]
pub struct Nic {
    /// TCP ports of the host's loopback that lead to ports of the machine's first address, 10.0.2.15.
    pub forwards: Vec<(u16, u16)>,
}

/// Everything that decides the command line.
#[derive(Clone, Debug)]
pub struct Config {
    /// The emulator, a program in `PATH` or a path.
    pub emulator: PathBuf,
    /// QEMU's name of the CPU model.
    pub cpu: String,
    /// Version of the GIC: 2 or 3.
    pub gic: u32,
    /// Number of pCPUs.
    pub smp: u32,
    /// RAM, with QEMU's suffixes.
    pub mem: String,
    /// True to make one instruction one nanosecond, so that runs repeat exactly.
    pub icount: bool,
    /// With `icount`, how often that nanosecond is doubled, where more time is to pass for an instruction.
    pub icount_shift: u32,
    /// True to wait for a debugger on QEMU's usual port before the first instruction.
    pub gdb: bool,
    /// A Unix socket at which a debugger may come at any time.
    pub debugger: Option<PathBuf>,
    /// The hypervisor.
    pub kernel: PathBuf,
    /// The hypervisor's command line.
    pub cmdline: String,
    /// What is loaded beside the hypervisor.
    pub modules: Vec<Module>,
    /// The disks.
    pub disks: Vec<Disk>,
    /// The network device, if there is one.
    pub nic: Option<Nic>,
    /// Instead of that, two network devices that a cable joins, with the longest packet that it carries.
    pub cable: Option<u16>,
}

impl Config {
    /// A machine of the usual size with nothing to run beside the hypervisor.
    pub fn new(kernel: PathBuf) -> Self {
        Self {
            emulator: EMULATOR.into(),
            cpu: "cortex-a72".to_owned(),
            gic: 3,
            smp: 2,
            mem: "2G".to_owned(),
            icount: false,
            icount_shift: 0,
            gdb: false,
            debugger: None,
            kernel,
            cmdline: String::new(),
            modules: Vec::new(),
            disks: Vec::new(),
            nic: None,
            cable: None,
        }
    }

    /// The words after the emulator.
    pub fn arguments(&self) -> Vec<String> {
        let mut words = Vec::new();
        let mut option = |name: &str, value: String| words.extend([name.to_owned(), value]);
        // QEMU's own choice is a GICv2.
        let gic = if self.gic == 2 { String::new() } else { format!(",gic-version={}", self.gic) };
        option("-M", format!("virt,virtualization=on{gic}"));
        option("-cpu", self.cpu.clone());
        option("-smp", self.smp.to_string());
        option("-m", self.mem.clone());
        if self.icount {
            // QEMU 7.2 hangs in `sleep=off` once a debugger has stopped it.
            let sleep = if self.debugger.is_some() { "" } else { ",sleep=off" };
            option("-icount", format!("shift={}{sleep}", self.icount_shift));
        }
        option("-nic", "none".to_owned());
        option("-global", "virtio-mmio.force-legacy=false".to_owned());
        option("-kernel", self.kernel.display().to_string());
        if !self.cmdline.is_empty() {
            option("-append", self.cmdline.clone());
        }
        for (module, address) in self.modules.iter().zip((MODULE_BASE..).step_by(MODULE_STEP)) {
            option("-device", module.argument(address));
        }
        for disk in &self.disks {
            let Disk { serial, file, snapshot } = disk;
            let snapshot = if *snapshot { ",snapshot=on" } else { "" };
            let file = escape(&file.display().to_string());
            option("-drive", format!("if=none,id={serial},format=raw,discard=unmap{snapshot},file={file}"));
            option("-device", format!("virtio-blk-device,drive={serial},serial={serial}"));
        }
        if let Some(nic) = &self.nic {
            let forwards = nic.forwards.iter().map(|(host, port)| format!(",hostfwd=tcp:127.0.0.1:{host}-:{port}"));
            option("-netdev", format!("user,id=net0{}", forwards.collect::<String>()));
            option("-device", "virtio-net-device,netdev=net0".to_owned());
        }
        for (number, mtu) in self.cable.iter().flat_map(|mtu| [(0, mtu), (1, mtu)]) {
            option("-netdev", format!("hubport,id=end{number},hubid=0"));
            option("-device", format!("virtio-net-device,netdev=end{number},host_mtu={mtu}"));
        }
        if let Some(socket) = &self.debugger {
            option("-gdb", format!("unix:{},server=on,wait=off", escape(&socket.display().to_string())));
        }
        words.push("-nographic".to_owned());
        if self.gdb {
            words.extend(["-s".to_owned(), "-S".to_owned()]);
        }
        words
    }
}

impl Module {
    fn argument(&self, address: u64) -> String {
        match self {
            Module::Kernel(file, bootargs) => {
                let file = escape(&file.display().to_string());
                let bootargs =
                    if bootargs.is_empty() { String::new() } else { format!(",bootargs={}", escape(bootargs)) };
                format!("guest-loader,addr={address:#x},kernel={file}{bootargs}")
            }
            Module::Ramdisk(file) => {
                format!("guest-loader,addr={address:#x},initrd={}", escape(&file.display().to_string()))
            }
        }
    }
}

/// In QEMU's option lists a comma inside a value is written twice.
fn escape(value: &str) -> String {
    value.replace(',', ",,")
}

#[cfg(test)]
mod tests {
    use super::{Config, Disk, Module, Nic};

    #[test]
    fn commas_in_file_names_and_boot_arguments_do_not_end_the_option() {
        let mut config = Config::new("xenolith".into());
        config.modules.push(Module::Kernel("dom0".into(), "a=1,2".to_owned()));
        config.disks.push(Disk { serial: "store".to_owned(), file: "a,b.img".into(), snapshot: true });
        let line = config.arguments().join(" ");
        assert!(line.contains("guest-loader,addr=0x49000000,kernel=dom0,bootargs=a=1,,2"), "{line}");
        assert!(line.contains("snapshot=on,file=a,,b.img"), "{line}");
    }

    #[test]
    fn only_ports_that_are_asked_for_are_open_and_on_the_loopback_alone() {
        let mut config = Config::new("xenolith".into());
        assert!(!config.arguments().join(" ").contains("-netdev"));
        config.nic = Some(Nic { forwards: vec![(8080, 80), (2222, 22)] });
        let line = config.arguments().join(" ");
        let wanted = "-netdev user,id=net0,hostfwd=tcp:127.0.0.1:8080-:80,hostfwd=tcp:127.0.0.1:2222-:22";
        assert!(line.contains(wanted), "{line}");
    }

    #[test]
    fn the_modules_do_not_overlap() {
        let mut config = Config::new("xen".into());
        config.modules.push(Module::Kernel("Image".into(), String::new()));
        config.modules.push(Module::Ramdisk("dom0.cpio".into()));
        let line = config.arguments().join(" ");
        assert!(line.contains("addr=0x49000000,kernel=Image"), "{line}");
        assert!(line.contains("addr=0x50000000,initrd=dom0.cpio"), "{line}");
    }
}
