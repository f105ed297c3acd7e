//! The command table: names, usage and descriptions, for parsing, `help` and completion alike.

/// Where candidates for a word come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Nowhere.
    Nothing,
    /// The shell's commands.
    Command,
    /// The subcommands of `xl`.
    XlCommand,
    /// Names of domains.
    Domain,
    /// Files and folders.
    File,
    /// Paths of XenStore.
    StorePath,
    /// Names of CPU pools.
    Pool,
    /// One of these.
    Words(&'static [&'static str]),
}

/// One command.
pub(super) struct Spec {
    /// What the user types.
    pub name: &'static str,
    /// Arguments, as usage shows them.
    pub usage: &'static str,
    /// One line.
    pub about: &'static str,
    /// Options, one line each; may be empty.
    pub options: &'static str,
    /// Fewest positional arguments.
    pub least: usize,
    /// Most positional arguments.
    pub most: usize,
    /// What its first argument names.
    pub first: Source,
    /// What its further arguments name.
    pub further: Source,
}

const ANY: usize = usize::MAX;

const fn spec(
    name: &'static str,
    usage: &'static str,
    about: &'static str,
    options: &'static str,
    arguments: (usize, usize),
    sources: (Source, Source),
) -> Spec {
    Spec { name, usage, about, options, least: arguments.0, most: arguments.1, first: sources.0, further: sources.1 }
}

const SHARE_USAGE: &str = "[-d <Domain> [-w[=WEIGHT]|-c[=CAP]]] [-p CPUPOOL]";
const SHARE_OPTIONS: &str = "-d DOMAIN, --domain=DOMAIN     Domain to modify\n\
                             -w WEIGHT, --weight=WEIGHT     Weight (int)\n\
                             -c CAP, --cap=CAP              Cap (int), in per cent of one CPU; 0 is none\n\
                             -p CPUPOOL, --cpupool=CPUPOOL  Restrict output to CPUPOOL";

/// The subcommands of `xl`.
pub(super) const XL: [Spec; 37] = {
    use Source::{Domain, File, Nothing, Pool, Words};
    [
        spec(
            "create",
            "<ConfigFile> [options] [vars]",
            "Create a domain from config file <filename>",
            "-c                      Connect to the console after the domain is created.\n\
             -p                      Leave the domain paused after it is created.",
            (1, ANY),
            (File, Nothing),
        ),
        spec(
            "list",
            "[options] [Domain]",
            "List information about all/some domains",
            "-l, --long              Output all VM details\n\
             -v, --verbose           Prints out UUIDs and security context",
            (0, ANY),
            (Domain, Domain),
        ),
        spec("destroy", "<Domain>", "Terminate a domain immediately", "", (1, 1), (Domain, Nothing)),
        spec(
            "shutdown",
            "[options] <-a|Domain>",
            "Issue a shutdown signal to a domain",
            "-a, --all               Shutdown all guest domains.\n\
             -w, --wait              Wait for guest(s) to shutdown.",
            (0, 1),
            (Domain, Nothing),
        ),
        spec(
            "reboot",
            "[options] <-a|Domain>",
            "Issue a reboot signal to a domain",
            "-a, --all               Reboot all guest domains.\n\
             -w, --wait              Wait for guest(s) to reboot.",
            (0, 1),
            (Domain, Nothing),
        ),
        spec("pause", "<Domain>", "Pause execution of a domain", "", (1, 1), (Domain, Nothing)),
        spec("unpause", "<Domain>", "Unpause a paused domain", "", (1, 1), (Domain, Nothing)),
        spec(
            "console",
            "[options] <Domain>",
            "Attach to domain's console (Ctrl-] leaves)",
            "-t <type>               console type, pv or vuart",
            (1, 1),
            (Domain, Nothing),
        ),
        spec("info", "", "Get information about Xen host", "", (0, 0), (Nothing, Nothing)),
        spec(
            "dmesg",
            "[-c]",
            "Read and/or clear dmesg buffer",
            "-c                      Clear dmesg buffer as well as printing it",
            (0, 0),
            (Nothing, Nothing),
        ),
        spec("domid", "<DomainName>", "Convert a domain name to domain id", "", (1, 1), (Domain, Nothing)),
        spec("domname", "<DomainId>", "Convert a domain id to domain name", "", (1, 1), (Nothing, Nothing)),
        spec("rename", "<Domain> <NewDomainName>", "Rename a domain", "", (2, 2), (Domain, Nothing)),
        spec(
            "mem-set",
            "<Domain> <MemMB['b'[bytes]|'k'[KB]|'m'[MB]|'g'[GB]|'t'[TB]]>",
            "Set the current memory usage for a domain",
            "",
            (2, 2),
            (Domain, Nothing),
        ),
        spec("vcpu-list", "[Domain, ...]", "List the VCPUs for all/some domains", "", (0, ANY), (Domain, Domain)),
        spec(
            "vcpu-pin",
            "<Domain> <VCPU|all> <Hard affinity|-|all> [Soft affinity|-|all]",
            "Set which CPUs a VCPU can use",
            "",
            (3, 4),
            (Domain, Nothing),
        ),
        spec(
            "vcpu-set",
            "[option] <Domain> <vCPUs>",
            "Set the number of active VCPUs allowed for the domain",
            "-i, --ignore-host       Don't limit the vCPU based on the host CPU count",
            (2, 2),
            (Domain, Nothing),
        ),
        spec(
            "sched-credit2",
            SHARE_USAGE,
            "Get/set credit2 scheduler parameters",
            SHARE_OPTIONS,
            (0, 0),
            (Nothing, Nothing),
        ),
        spec("sched", SHARE_USAGE, "The same as sched-credit2", SHARE_OPTIONS, (0, 0), (Nothing, Nothing)),
        spec(
            "cpupool-list",
            "[-c|--cpus] [<CPU Pool>]",
            "List CPU pools on host",
            "-c, --cpus              Output list of CPUs used by a pool",
            (0, 1),
            (Pool, Nothing),
        ),
        spec(
            "cpupool-create",
            "[<ConfigFile>] [Variable=value ...]",
            "Create a new CPU pool",
            "name=<name>             Name of the pool\n\
             sched=<credit2|null>    Scheduler: shares by weight, or a CPU for each vCPU\n\
             cpus=<cpu list>         CPUs that are in no pool (default: the first of them)",
            (1, ANY),
            (File, Nothing),
        ),
        spec("cpupool-destroy", "<CPU Pool>", "Deactivates a CPU pool", "", (1, 1), (Pool, Nothing)),
        spec("cpupool-rename", "<CPU Pool> <new name>", "Renames a CPU pool", "", (2, 2), (Pool, Nothing)),
        spec("cpupool-cpu-add", "<CPU Pool> <CPU list>", "Adds CPUs to a CPU pool", "", (2, 2), (Pool, Nothing)),
        spec(
            "cpupool-cpu-remove",
            "<CPU Pool> <CPU list>",
            "Removes CPUs from a CPU pool; a CPU in no pool runs nobody",
            "",
            (2, 2),
            (Pool, Nothing),
        ),
        spec("cpupool-migrate", "<Domain> <CPU Pool>", "Moves a domain into a CPU pool", "", (2, 2), (Domain, Pool)),
        spec(
            "block-attach",
            "<Domain> <disk-spec-component(s)>...",
            "Create a new virtual block device",
            "",
            (2, ANY),
            (Domain, File),
        ),
        spec(
            "block-detach",
            "[option] <Domain> <DevId>",
            "Destroy a domain's virtual block device",
            "-f, --force             do not wait for the domain to release the device",
            (2, 2),
            (Domain, Nothing),
        ),
        spec(
            "block-resize",
            "<Domain> <DevId> <Size>",
            "Make a virtual block device of a file or of memory larger",
            "",
            (3, 3),
            (Domain, Nothing),
        ),
        spec("block-list", "<Domain(s)>", "List virtual block devices for a domain", "", (1, ANY), (Domain, Domain)),
        spec(
            "network-attach",
            "<Domain> [mac=<mac>] [bridge=<bridge>] [vlan=<vlans>] [rate=<rate>] [antispoof=<0|1>] [mtu=<mtu>] \
             [ip=<ip>] [vifname=<name>]",
            "Create a new virtual network device",
            "",
            (1, ANY),
            (Domain, Nothing),
        ),
        spec(
            "network-detach",
            "[option] <Domain> <DevId|mac>",
            "Destroy a domain's virtual network device",
            "-f, --force             do not wait for the domain to release the device",
            (2, 2),
            (Domain, Nothing),
        ),
        spec(
            "network-list",
            "<Domain(s)>",
            "List virtual network interfaces for a domain",
            "",
            (1, ANY),
            (Domain, Domain),
        ),
        spec(
            "uptime",
            "[-s] [Domain]",
            "Print uptime for all/some domains",
            "-s, --short             Print one short line for each domain",
            (0, ANY),
            (Domain, Domain),
        ),
        spec(
            "top",
            "[options]",
            "Monitor a host and the domains in real time",
            "-b, --batch             print one picture after the other\n\
             -n, --networks          a line for each network interface\n\
             -d, --delay=SECONDS     seconds between two pictures (default 3)\n\
             -i, --iterations=COUNT  how many pictures",
            (0, 0),
            (Nothing, Nothing),
        ),
        spec(
            "trace",
            "start <File>|stop|status",
            "Trace what the hypervisor does to a file in /store",
            "start FILE              begin; an older trace in the file is gone\n\
             stop                    end, and say how many records there are, and how many were lost\n\
             status                  say so, and go on",
            (1, 2),
            (Words(&["start", "stop", "status"]), File),
        ),
        spec("help", "[command]", "Show help for all commands or for one", "", (0, 1), (Source::XlCommand, Nothing)),
    ]
};

/// The commands of the shell itself.
pub(super) const SHELL: [Spec; 18] = {
    use Source::{File, Nothing, StorePath, Words};
    [
        spec("xl", "<subcommand> [args]", "Manage domains; see 'xl help'", "", (0, ANY), (Source::XlCommand, Nothing)),
        spec(
            "xenstore-ls",
            "[-f] [-p] [path]",
            "List nodes of XenStore with their values",
            "-f                      whole paths instead of indentation\n\
             -p                      with permissions",
            (0, 1),
            (StorePath, Nothing),
        ),
        spec(
            "xenstore-read",
            "[-p] [-R] key [...]",
            "Print values of XenStore",
            "-p                      with the key before the value\n\
             -R                      raw bytes",
            (1, ANY),
            (StorePath, StorePath),
        ),
        spec(
            "xenstore-write",
            "[-R] key value [...]",
            "Write values to XenStore",
            "-R                      do not resolve escapes in the value",
            (2, ANY),
            (StorePath, StorePath),
        ),
        spec(
            "xenstore-rm",
            "[-t] key [...]",
            "Remove nodes from XenStore",
            "-t                      also remove parents that become empty",
            (1, ANY),
            (StorePath, StorePath),
        ),
        spec(
            "xenstore-list",
            "[-p] key [...]",
            "List names of nodes below a node",
            "-p                      with the key before the name",
            (1, ANY),
            (StorePath, StorePath),
        ),
        spec("xenstore-exists", "key [...]", "Test whether nodes exist", "", (1, ANY), (StorePath, StorePath)),
        spec(
            "xenstore-watch",
            "[-n NR] key [...]",
            "Print paths below a node as they change (Ctrl-C ends)",
            "-n NR                   end after NR events",
            (1, ANY),
            (StorePath, StorePath),
        ),
        spec(
            "xenstore-chmod",
            "[-u] [-r] key <mode [modes...]>",
            "Set permissions of a node: n, r, w or b followed by a domid",
            "-u                      all parents too\n\
             -r                      all nodes below too",
            (2, ANY),
            (StorePath, Nothing),
        ),
        spec("ls", "[-l] [path ...]", "List files", "-l                      with sizes", (0, ANY), (File, File)),
        spec("cat", "file [...]", "Print files", "", (1, ANY), (File, File)),
        spec(
            "bridge",
            "<subcommand> [args]",
            "Show, make and remove bridges, the networks of guests",
            "show [bridge ...]       ports, with frames in, out, refused and dropped\n\
             showmacs <bridge>       the addresses that a bridge has seen\n\
             info [bridge ...]       modes and addresses\n\
             add <bridge> <mode> [ip=<address/bits|dhcp|none>] [gateway=<ip>] [dns=<ip>] [nic=<name>] [vlan=<vlans>]\n\
                                     [uplink=<bridge>] [echo=<0|1>]\n\
                                     make a bridge; the mode is host-only, nat or bridge\n\
             del <bridge>            remove a bridge that nobody uses\n\
             link <interface> <up|down>\n\
                                     let everything pass at an interface, or nothing\n\
             nat <bridge>            connections of guests, and ports that lead to them\n\
             forward <bridge> <tcp|udp>/<port> <ip>:<port>\n\
                                     lead a port of Dom0's address outside to a guest\n\
             unforward <bridge> <tcp|udp>/<port>",
            (1, ANY),
            (Words(&["show", "showmacs", "info", "add", "del", "link", "nat", "forward", "unforward"]), Nothing),
        ),
        spec(
            "iperf3",
            "-s bridge",
            "Serve iperf3 clients at Dom0's address on a bridge, one stream at a time",
            "",
            (0, 1),
            (Nothing, Nothing),
        ),
        spec("time", "<command> [args]", "Run a command and say how long it took", "", (0, ANY), (Nothing, Nothing)),
        spec("sleep", "seconds", "Wait", "", (1, 1), (Nothing, Nothing)),
        spec("poweroff", "", "Switch the machine off", "", (0, 0), (Nothing, Nothing)),
        spec("reboot", "", "Restart the machine", "", (0, 0), (Nothing, Nothing)),
        spec("help", "[command]", "Show help for all commands or for one", "", (0, 1), (Source::Command, Nothing)),
    ]
};

/// The entry of that name.
pub(super) fn find(table: &'static [Spec], name: &str) -> Option<&'static Spec> {
    table.iter().find(|spec| spec.name == name)
}
