//! Every command of the shell with its arguments, typed.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use hypercall_abi::ids::DomId;

use crate::config::CpuSet;
use crate::network::{BridgeConfig, Forward, Transport};

/// A parsed command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// An empty line or a comment.
    Nothing,
    /// `xl ...`
    Xl(Xl),
    /// `xenstore-...`
    Store(Store),
    /// `ls [path...]`
    Ls {
        /// What to list; empty for the folder `/store`.
        paths: Vec<String>,
        /// `-l`: with sizes.
        long: bool,
    },
    /// `cat file...`
    Cat(Vec<String>),
    /// `sleep seconds`, in milliseconds.
    Sleep(u64),
    /// Switches the machine off.
    Poweroff,
    /// Restarts the machine.
    Reboot,
    /// `bridge ...`
    Bridge(Bridge),
    /// `iperf3 -s bridge`: a server at Dom0's address on a bridge.
    Iperf(String),
    /// `help [command]`
    Help(Option<String>),
    /// `time command`: says how long it took.
    Timed(Box<Command>),
}

/// A subcommand of `bridge`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bridge {
    /// `bridge show [bridge...]`: ports and their counters.
    Show(Vec<String>),
    /// `bridge showmacs bridge`: addresses that were seen.
    Addresses(String),
    /// `bridge info [bridge...]`: modes and addresses.
    Info(Vec<String>),
    /// `bridge add bridge mode [key=value...]`
    Add(BridgeConfig),
    /// `bridge del bridge`
    Delete(String),
    /// `bridge link interface up|down`
    Link {
        /// The interface's name.
        interface: String,
        /// Whether it is to be up.
        up: bool,
    },
    /// `bridge nat bridge`: connections, and ports that lead to guests.
    Nat(String),
    /// `bridge forward bridge protocol/port address:port`
    Forward(String, Forward),
    /// `bridge unforward bridge protocol/port`
    Unforward(String, Transport, u16),
}

/// A domain as the user names it: by id or by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DomainRef {
    /// Digits alone are an id.
    Id(DomId),
    /// Anything else is a name.
    Name(String),
}

impl DomainRef {
    /// Reads a domain argument. Digits that fit no domid are left to fail as a name.
    pub fn parse(text: &str) -> Self {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        match text.parse() {
            Ok(id) if digits => Self::Id(DomId(id)),
            _ => Self::Name(text.into()),
        }
    }
}

impl core::fmt::Display for DomainRef {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Id(id) => id.fmt(f),
            Self::Name(name) => f.write_str(name),
        }
    }
}

/// One domain, or all but Dom0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// `-a`
    All,
    /// The one named.
    One(DomainRef),
}

/// Which console to attach to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConsoleKind {
    /// The PV console.
    Pv,
    /// The emulated UART.
    Vuart,
}

/// A subcommand of `xl`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Xl {
    /// `xl create [-c] [-p] FILE [key=value ...]`
    Create {
        /// The configuration file.
        file: String,
        /// `key=value` arguments.
        overrides: Vec<String>,
        /// `-c`: attach to the console.
        console: bool,
        /// `-p`: leave it paused.
        paused: bool,
    },
    /// `xl list [-l] [-v] [domain...]`
    List {
        /// `-l`: JSON.
        long: bool,
        /// `-v`: with UUID and reason.
        verbose: bool,
        /// Empty for all.
        domains: Vec<DomainRef>,
    },
    /// `xl destroy domain`
    Destroy(DomainRef),
    /// `xl shutdown [-w] -a|domain`
    Shutdown {
        /// Whom.
        target: Target,
        /// `-w`: until it is gone.
        wait: bool,
    },
    /// `xl reboot [-w] -a|domain`
    Reboot {
        /// Whom.
        target: Target,
        /// `-w`: until the one that was asked is gone.
        wait: bool,
    },
    /// `xl pause domain`
    Pause(DomainRef),
    /// `xl unpause domain`
    Unpause(DomainRef),
    /// `xl console [-t pv|vuart] domain`
    Console {
        /// Whose.
        domain: DomainRef,
        /// Which.
        kind: ConsoleKind,
    },
    /// `xl info`
    Info,
    /// `xl dmesg [-c]`
    Dmesg {
        /// `-c`: forget what was shown.
        clear: bool,
    },
    /// `xl domid name`
    Domid(String),
    /// `xl domname id`
    Domname(DomId),
    /// `xl rename domain name`
    Rename {
        /// Whom.
        domain: DomainRef,
        /// The new name.
        name: String,
    },
    /// `xl mem-set domain memory`
    MemSet {
        /// Whose.
        domain: DomainRef,
        /// How much it is to have, in KiB.
        kib: u64,
    },
    /// `xl vcpu-list [domain...]`
    VcpuList(Vec<DomainRef>),
    /// `xl vcpu-pin domain vcpu|all hard|-|all [soft|-|all]`
    VcpuPin {
        /// Whose.
        domain: DomainRef,
        /// Which; `None` is all.
        vcpu: Option<u32>,
        /// Where they may run; `None` keeps it.
        hard: Option<CpuSet>,
        /// Where they prefer to run; `None` keeps it.
        soft: Option<CpuSet>,
    },
    /// `xl vcpu-set [-i] domain count`
    VcpuSet {
        /// Whose.
        domain: DomainRef,
        /// How many are to be online.
        count: u32,
        /// `-i`: more than there are pCPUs as well.
        ignore_host: bool,
    },
    /// `xl sched-credit2 [-d domain [-w weight] [-c cap]] [-p pool]`
    Share {
        /// `-d`: of whom; `None` is all.
        domain: Option<DomainRef>,
        /// `-p`: of which pool; `None` is all.
        pool: Option<String>,
        /// `-w`: the new weight.
        weight: Option<u32>,
        /// `-c`: the new cap.
        cap: Option<u32>,
    },
    /// `xl cpupool-...`
    Pool(Pool),
    /// `xl block-attach domain disk-spec...`
    BlockAttach {
        /// To whom.
        domain: DomainRef,
        /// The specification, its components joined by commas.
        disk: String,
    },
    /// `xl block-detach [-f] domain vdev`
    BlockDetach {
        /// From whom.
        domain: DomainRef,
        /// The virtual device's name or number.
        vdev: String,
        /// `-f`: do not wait for the guest.
        force: bool,
    },
    /// `xl block-resize domain vdev size`
    BlockResize {
        /// Whose.
        domain: DomainRef,
        /// The virtual device's name or number.
        vdev: String,
        /// How much it is to hold, in KiB.
        kib: u64,
    },
    /// `xl block-list domain...`
    BlockList(Vec<DomainRef>),
    /// `xl network-attach domain [key=value...]`
    NetworkAttach {
        /// To whom.
        domain: DomainRef,
        /// The specification, its pairs joined by commas.
        vif: String,
    },
    /// `xl network-detach [-f] domain interface`
    NetworkDetach {
        /// From whom.
        domain: DomainRef,
        /// The interface's number or address.
        vif: String,
        /// `-f`: do not wait for the guest.
        force: bool,
    },
    /// `xl network-list domain...`
    NetworkList(Vec<DomainRef>),
    /// `xl uptime [-s] [domain...]`
    Uptime {
        /// `-s`: one short line each.
        short: bool,
        /// Empty for all.
        domains: Vec<DomainRef>,
    },
    /// `xl top [-b] [-n] [-d seconds] [-i iterations]`
    Top {
        /// `-b`: print on, rather than repaint the screen.
        batch: bool,
        /// `-n`: a line for each network interface.
        networks: bool,
        /// Milliseconds between two pictures.
        delay_ms: u64,
        /// How many pictures; `None` until a key is pressed.
        iterations: Option<u64>,
    },
    /// `xl trace ...`
    Trace(Trace),
    /// `xl help [subcommand]`
    Help(Option<String>),
}

/// `xl trace ...`
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trace {
    /// `xl trace start file`
    Start(String),
    /// `xl trace stop`
    Stop,
    /// `xl trace status`
    Status,
}

/// `xl cpupool-...`
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pool {
    /// `xl cpupool-list [-c] [pool]`
    List {
        /// `-c`: which pCPUs each has.
        cpus: bool,
        /// `None` is all.
        pool: Option<String>,
    },
    /// `xl cpupool-create [file] [key=value ...]`
    Create {
        /// The configuration file, if there is one.
        file: Option<String>,
        /// `key=value` arguments.
        overrides: Vec<String>,
    },
    /// `xl cpupool-destroy pool`
    Destroy(String),
    /// `xl cpupool-rename pool name`
    Rename(String, String),
    /// `xl cpupool-cpu-add pool cpus`
    Add(String, CpuSet),
    /// `xl cpupool-cpu-remove pool cpus`
    Remove(String, CpuSet),
    /// `xl cpupool-migrate domain pool`
    Migrate(DomainRef, String),
}

/// A `xenstore-*` command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Store {
    /// `xenstore-ls [-f] [-p] [path]`
    Ls {
        /// Where to start.
        path: String,
        /// `-f`: whole paths instead of indentation.
        full: bool,
        /// `-p`: with permissions.
        perms: bool,
    },
    /// `xenstore-read [-p] [-R] key...`
    Read {
        /// What.
        keys: Vec<String>,
        /// `-p`: the key before the value.
        prefix: bool,
        /// `-R`: the bytes as they are.
        raw: bool,
    },
    /// `xenstore-write [-R] key value [key value...]`
    Write {
        /// What, and the value's bytes with escapes resolved.
        pairs: Vec<(String, Vec<u8>)>,
    },
    /// `xenstore-rm [-t] key...`
    Rm {
        /// What.
        keys: Vec<String>,
        /// `-t`: parents too that become empty.
        tidy: bool,
    },
    /// `xenstore-list [-p] key...`
    List {
        /// What.
        keys: Vec<String>,
        /// `-p`: with the key before the child's name.
        prefix: bool,
    },
    /// `xenstore-exists key...`
    Exists(Vec<String>),
    /// `xenstore-watch [-n NR] key...`
    Watch {
        /// What.
        keys: Vec<String>,
        /// `-n`: how many events; `None` until a key is pressed.
        events: Option<u64>,
    },
    /// `xenstore-chmod [-u] [-r] key mode...`
    Chmod {
        /// What.
        key: String,
        /// Modes in wire form, such as `n0` and `r5`; checked.
        modes: Vec<String>,
        /// `-u`: all parents too.
        upto: bool,
        /// `-r`: all below too.
        recurse: bool,
    },
}
