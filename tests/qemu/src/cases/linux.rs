//! Debian's kernel, unmodified, as a guest.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};

use super::case;
use super::life::wait_gone;
use super::net::enter;
use crate::config::Disk;
use crate::machine::Machine;
use crate::suite::{Case, Lab};

pub(super) const CASES: &[Case] = &[
    case("linux_boots_with_1_vcpu_and_its_disk_keeps_what_it_is_given", |lab| with_vcpus(lab, 1)),
    case("linux_boots_with_2_vcpus_and_its_disk_keeps_what_it_is_given", |lab| with_vcpus(lab, 2)),
    case("linux_boots_with_4_vcpus_and_its_disk_keeps_what_it_is_given", |lab| with_vcpus(lab, 4)),
    case("linux_on_a_gicv2_reads_xenstore_with_debians_own_tools", xenstore),
    case("linux_drives_the_uart_that_dom0_emulates", uart),
    case("linux_powers_off_when_asked_through_xenstore", shutdown),
    case("linux_reboots_into_a_new_domain_of_the_same_name", reboot),
    case("a_panic_of_linux_is_followed_by_on_reboot_as_on_xen", panic),
    case("a_disk_attached_while_linux_runs_appears_as_xvdb_and_grows_as_its_file_memory_or_disk_does", attach),
    case("linux_reaches_user_space_within_0_95_s", quick_boot),
];

/// The prompt of the demo guest's shell.
pub(super) const PROMPT: &str = "linux# ";

/// Time for what a guest does in the emulator on a busy host.
pub(super) const LONG: Duration = Duration::from_secs(120);

/// Creates the guest with its console attached and waits for its shell.
pub(super) fn start(machine: &mut Machine, overrides: &str) -> Result<String> {
    machine.send(&format!("xl create -c /store/linux.cfg {overrides}\r"))?;
    machine.expect("linux: user space after", LONG)?;
    machine.expect(PROMPT, LONG)
}

/// Runs a command in the guest that must succeed.
pub(super) fn inside(machine: &mut Machine, command: &str) -> Result<String> {
    let done = machine.inside(PROMPT, command, LONG)?;
    ensure!(done.status == 0, "`{command}` in the guest failed with {}:\n{}", done.status, done.text);
    Ok(done.text)
}

/// Leaves the guest's console.
pub(super) fn leave(machine: &mut Machine) -> Result<()> {
    machine.send("\x1d")?;
    machine.prompt(LONG)?;
    Ok(())
}

/// With one vCPU it keeps to the 2-level ABI for events, so that both are used.
fn with_vcpus(lab: &Lab, vcpus: u32) -> Result<()> {
    let mut machine = lab.boot()?;
    let (extra, abi) = if vcpus == 1 { ("xen.fifo_events=0", "2-level") } else { ("", "FIFO-based") };
    let said = start(&mut machine, &format!("vcpus={vcpus} extra='console=hvc0 quiet panic=1 {extra}'"))?;
    inside(&mut machine, &format!("dmesg | grep 'Using {abi} ABI'"))?;
    ensure!(said.contains(&format!("{vcpus} vCPU")), "the guest counts other vCPUs:\n{said}");
    ensure!(said.contains("/dev/xvda is mounted"), "the guest has no disk:\n{said}");
    // Each of its vCPUs has a ring of the disk to itself.
    inside(&mut machine, &format!("[ $(ls /sys/block/xvda/mq | wc -l) = {vcpus} ]"))?;
    inside(&mut machine, "dd if=/dev/urandom of=/tmp/data bs=1M count=64 2>/dev/null")?;
    inside(&mut machine, "cp /tmp/data /mnt/data && sync && umount /mnt && mount -t ext4 /dev/xvda /mnt")?;
    inside(&mut machine, "cmp /tmp/data /mnt/data")?;
    inside(&mut machine, "umount /mnt")?;
    has_the_date(&mut machine)?;
    leave(&mut machine)?;
    if vcpus == 2 {
        debuggers(&mut machine)?;
    }
    machine.ok("xl destroy linux")?;
    Ok(())
}

/// Four programs, two for each vCPU, have breakpoints, watchpoints and single steps, beside guests with breakpoints of theirs.
fn debuggers(machine: &mut Machine) -> Result<()> {
    machine.ok("xl block-attach linux /store/debugger.img,raw,xvdb,r")?;
    for pcpu in [0, 1] {
        let own = format!("name=beside{pcpu} cpus={pcpu} on_crash='preserve' extra='breakpoint={}'", pcpu + 2);
        machine.ok(&format!("xl create /store/conform.cfg {own}"))?;
    }
    enter(machine, "linux")?;
    inside(
        machine,
        "until [ -b /dev/xvdb ]; do usleep 20000; done; cp /dev/xvdb /tmp/debugger; chmod +x /tmp/debugger",
    )?;
    let each = "(/tmp/debugger $n 200 && echo $n >> /tmp/right) &";
    inside(machine, &format!("sh -c 'for n in 0 3 5 7; do {each} done; wait'; [ $(wc -l < /tmp/right) = 4 ]"))?;
    leave(machine)?;
    for pcpu in [0, 1] {
        wait_gone(machine, &format!("beside{pcpu}"))?;
    }
    Ok(())
}

/// The guest's wall clock is the machine's, which is the host's.
fn has_the_date(machine: &mut Machine) -> Result<()> {
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).map(|since| since.as_secs());
    let before = now()?;
    let said = inside(machine, "date +%s")?;
    let found: u64 = said.trim().parse().with_context(|| format!("`date` in the guest says {said}"))?;
    // The machine's clock counts whole seconds, and its time may pass more slowly than the host's.
    ensure!((before.saturating_sub(10)..=now()? + 2).contains(&found), "the guest's date is {found}, not {before}");
    Ok(())
}

/// On QEMU's own choice of a machine, where Linux has to drive the other GIC: events, timers and IPIs of two vCPUs.
fn xenstore(lab: &Lab) -> Result<()> {
    let mut config = lab.config();
    config.gic = 2;
    let mut machine = Machine::boot(&config)?;
    start(&mut machine, "vcpus=2")?;
    inside(
        &mut machine,
        "grep -q 'GIC-0.*arch_timer' /proc/interrupts && grep -q 'IPI0.*Rescheduling' /proc/interrupts",
    )?;
    let said = inside(&mut machine, "xenstore-ls device")?;
    ensure!(said.contains("51712"), "no disk in the guest's part of XenStore:\n{said}");
    inside(&mut machine, "xenstore-write data/note here && xenstore-read data/note | grep -q here")?;
    leave(&mut machine)
}

/// Output, input and the interrupt of the emulated UART; and that the user can leave, and the domain go, while both its
/// consoles print without end.
fn uart(lab: &Lab) -> Result<()> {
    let mut machine = lab.boot()?;
    start(&mut machine, "vuart='sbsa_uart'")?;
    // The driver throws away what comes before it has the device, so it says when it has.
    machine.send("exec 3<>/dev/ttyAMA0; echo ready >&3; read -r heard <&3; echo it was $heard\r")?;
    leave(&mut machine)?;
    machine.send("xl console -t vuart linux\r")?;
    machine.expect("ready", LONG)?;
    machine.send("typed by the user\r")?;
    machine.expect("typed by the user", LONG)?;
    leave(&mut machine)?;
    machine.send("xl console linux\r")?;
    machine.expect("it was typed by the user", LONG)?;
    machine.expect(PROMPT, LONG)?;
    machine.send("cat /dev/zero >&3 &\r")?;
    machine.expect(PROMPT, LONG)?;
    // Nobody is kept at the console of a domain that prints without end.
    machine.send("yes without end\r")?;
    machine.expect("without end\r\nwithout end\r\n", LONG)?;
    leave(&mut machine)?;
    machine.ok("xl destroy linux")?;
    wait_gone(&mut machine, "linux")
}

fn shutdown(lab: &Lab) -> Result<()> {
    let mut machine = lab.boot()?;
    start(&mut machine, "")?;
    leave(&mut machine)?;
    let done = machine.sh_within("xl shutdown -w linux", LONG)?;
    ensure!(done.status == 0, "{done:?}");
    wait_gone(&mut machine, "linux")
}

fn reboot(lab: &Lab) -> Result<()> {
    let mut machine = lab.boot()?;
    start(&mut machine, "")?;
    leave(&mut machine)?;
    let before = machine.ok("xl domid linux")?;
    machine.ok("xl reboot linux")?;
    for _ in 0..120 {
        machine.ok("sleep 0.5")?;
        let after = machine.sh("xl domid linux")?;
        // The name is there before the new domain is complete, and on a busy host long before.
        let console = format!("xenstore-read /local/domain/{}/console/port", after.text.trim());
        if after.status == 0 && after.text != before && machine.sh(&console)?.status == 0 {
            machine.send("xl console linux\r")?;
            machine.expect(PROMPT, LONG)?;
            return leave(&mut machine);
        }
    }
    anyhow::bail!("the domain has its old id {before} after a reboot")
}

/// Linux on Arm does not tell Xen of a panic: it reboots when its command line says so, and on Xen too.
fn panic(lab: &Lab) -> Result<()> {
    let mut machine = lab.boot()?;
    start(&mut machine, "on_reboot=destroy")?;
    machine.send("echo c > /proc/sysrq-trigger\r")?;
    machine.expect("Kernel panic", LONG)?;
    machine.prompt(LONG)?;
    wait_gone(&mut machine, "linux")
}

fn attach(lab: &Lab) -> Result<()> {
    let mut config = lab.config();
    let file = std::env::temp_dir().join(format!("xenolith-growing-{}.img", std::process::id()));
    std::fs::File::create(&file)?.set_len(8 << 20)?;
    config.disks.push(Disk { serial: "growing".to_owned(), file: file.clone(), snapshot: true });
    let mut machine = Machine::boot(&config)?;
    std::fs::remove_file(&file)?;
    start(&mut machine, "\"disk=['ram:8M,raw,xvdc,w','/dev/vdb,raw,xvdd,w']\"")?;
    leave(&mut machine)?;
    machine.ok("xl block-attach linux /store/scratch.img,raw,xvdb,w")?;
    enter(&mut machine, "linux")?;
    inside(&mut machine, "sleep 1; test -b /dev/xvdb && dd if=/dev/xvdb of=/dev/null bs=1M")?;
    leave(&mut machine)?;
    machine.fails("xl block-resize linux xvdb 8", &["xvdb", "not larger"])?;
    machine.fails("xl block-resize linux xvdd 32", &["xvdd", "only disks of files and of memory"])?;
    machine.ok("xl block-resize linux xvdb 20")?;
    machine.ok("xl block-resize linux xvdc 20")?;
    // QEMU's own prompt is behind the same line.
    machine.send("\x01c")?;
    machine.expect("(qemu) ", LONG)?;
    machine.send("block_resize growing 20M\r")?;
    machine.expect("(qemu) ", LONG)?;
    machine.send("\x01c")?;
    enter(&mut machine, "linux")?;
    for disk in ["xvdb", "xvdc", "xvdd"] {
        inside(&mut machine, &format!("until grep -q 40960 /sys/block/{disk}/size; do usleep 100000; done"))?;
        inside(&mut machine, &format!("dmesg | grep '{disk}: detected capacity change from [0-9]* to 40960'"))?;
        let end = "bs=1M seek=19 count=1 oflag=direct conv=notrunc 2>/dev/null";
        inside(
            &mut machine,
            &format!("dd if=/dev/urandom of=/tmp/end bs=1M count=1 2>/dev/null; dd if=/tmp/end of=/dev/{disk} {end}"),
        )?;
        inside(&mut machine, &format!("dd if=/dev/{disk} bs=1M skip=19 iflag=direct 2>/dev/null | cmp - /tmp/end"))?;
    }
    leave(&mut machine)?;
    machine.ok("xl block-detach linux xvdb")?;
    let listed = machine.ok("ls -l /store/scratch.img")?;
    ensure!(listed.contains("20971520"), "the file has another size: {listed}");
    Ok(())
}

fn quick_boot(lab: &Lab) -> Result<()> {
    let mut config = lab.config();
    config.smp = 1;
    config.icount = true;
    let mut machine = Machine::boot(&config)?;
    machine.send("xl create -c /store/linux.cfg\r")?;
    machine.expect("linux: user space after ", LONG)?;
    let said = machine.expect(" s", LONG)?;
    let uptime: f64 = said.trim_end_matches(" s").trim().parse().with_context(|| format!("an uptime: {said:?}"))?;
    ensure!(uptime <= 0.95, "user space after {uptime} s of the guest's own uptime");
    Ok(())
}
