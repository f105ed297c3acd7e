//! What a person gets wrong is one clear line that names it, and leaves nothing behind.

use anyhow::{Result, ensure};

use super::case;
use super::life::listed;
use crate::suite::{Case, Lab};

pub(super) const CASES: &[Case] = &[
    case("a_missing_config_is_named", missing_config),
    case("a_missing_kernel_is_named_with_its_key", missing_kernel),
    case("an_unknown_key_is_named", unknown_key),
    case("too_little_memory_is_refused_and_leaves_nothing", too_little_memory),
    case("a_second_domain_of_the_same_name_is_refused", same_name),
    case("an_unknown_domain_is_named", unknown_domain),
    case("an_unknown_command_is_named", unknown_command),
];

fn missing_config(lab: &Lab) -> Result<()> {
    lab.boot()?.fails("xl create /store/nowhere.cfg", &["/store/nowhere.cfg"])?;
    Ok(())
}

fn missing_kernel(lab: &Lab) -> Result<()> {
    let mut machine = lab.boot()?;
    machine.fails("xl create /store/hello.cfg kernel=\"/store/nothing\"", &["kernel", "/store/nothing"])?;
    ensure!(listed(&mut machine, "hello")?.is_none(), "a domain without a kernel is listed");
    Ok(())
}

fn unknown_key(lab: &Lab) -> Result<()> {
    lab.boot()?.fails("xl create /store/hello.cfg colour=\"red\"", &["colour"])?;
    Ok(())
}

fn too_little_memory(lab: &Lab) -> Result<()> {
    let mut machine = lab.boot()?;
    let before = machine.ok("xenstore-ls /")?;
    machine.fails("xl create /store/linux.cfg memory=4", &["memory"])?;
    machine.fails("xl create /store/hello.cfg memory=100000", &["memory"])?;
    let after = machine.ok("xenstore-ls /")?;
    ensure!(before == after, "XenStore was\n{before}\nand is\n{after}");
    Ok(())
}

fn same_name(lab: &Lab) -> Result<()> {
    let mut machine = lab.boot()?;
    machine.ok("xl create /store/hello.cfg")?;
    machine.fails("xl create /store/hello.cfg", &["hello"])?;
    machine.ok("xl destroy hello")?;
    Ok(())
}

fn unknown_domain(lab: &Lab) -> Result<()> {
    let mut machine = lab.boot()?;
    for verb in ["destroy", "pause", "unpause", "console", "domid"] {
        machine.fails(&format!("xl {verb} nobody"), &["nobody"])?;
    }
    Ok(())
}

fn unknown_command(lab: &Lab) -> Result<()> {
    let mut machine = lab.boot()?;
    machine.fails("frobnicate", &["frobnicate"])?;
    machine.fails("xl frobnicate", &["command not implemented"])?;
    Ok(())
}
