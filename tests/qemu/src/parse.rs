//! Reads what `xl` prints, as scripts on Xen do: by the column names and formats of Xen's own tool.

use anyhow::{Context, Result, bail, ensure};

/// One line of `xl list`.
#[derive(Clone, Debug, PartialEq)]
pub struct Listed {
    /// The domain's name.
    pub name: String,
    /// Its id.
    pub id: u32,
    /// Its memory in MiB.
    pub mem: u64,
    /// Number of its vCPUs.
    pub vcpus: u32,
    /// The state letters, six places of which those that do not hold are `-`.
    pub state: String,
    /// CPU time it has used, in seconds.
    pub time: f64,
}

/// Reads `xl list`.
pub fn list(text: &str) -> Result<Vec<Listed>> {
    let mut lines = text.lines();
    let heading = lines.next().context("`xl list` printed nothing")?;
    let names: Vec<&str> = heading.split_whitespace().collect();
    ensure!(names == ["Name", "ID", "Mem", "VCPUs", "State", "Time(s)"], "`xl list` has the heading {heading:?}");
    lines.map(|line| listed(line).with_context(|| format!("`xl list` has the line {line:?}"))).collect()
}

fn listed(line: &str) -> Result<Listed> {
    let mut fields = line.split_whitespace();
    let mut next = |name| fields.next().with_context(|| format!("no {name}"));
    let found = Listed {
        name: next("Name")?.to_owned(),
        id: next("ID")?.parse().context("ID")?,
        mem: next("Mem")?.parse().context("Mem")?,
        vcpus: next("VCPUs")?.parse().context("VCPUs")?,
        state: next("State")?.to_owned(),
        time: next("Time(s)")?.parse().context("Time(s)")?,
    };
    // Behind the `s` of a domain that was shut down stands why: it rebooted, was suspended, crashed, or its watchdog fired.
    let letters = found.state.chars().zip(["r", "b", "p", "s", "rscw", "d"]);
    ensure!(
        found.state.len() == 6 && letters.into_iter().all(|(had, letters)| letters.contains(had) || had == '-'),
        "the state is {:?}",
        found.state
    );
    Ok(found)
}

/// The value of one key of `xl info` (`key : value` lines).
pub fn info(text: &str, key: &str) -> Result<String> {
    for line in text.lines() {
        if let Some((name, value)) = line.split_once(':')
            && name.trim() == key
        {
            return Ok(value.trim().to_owned());
        }
    }
    bail!("`xl info` has no {key}:\n{text}")
}

/// One line of `xl vcpu-list`.
#[derive(Clone, Debug, PartialEq)]
pub struct Vcpu {
    /// The domain's name.
    pub name: String,
    /// The domain's id.
    pub id: u32,
    /// The vCPU's number.
    pub vcpu: u32,
    /// The pCPU it is on, or none.
    pub cpu: Option<u32>,
    /// The state letters.
    pub state: String,
}

/// Reads `xl vcpu-list`.
pub fn vcpu_list(text: &str) -> Result<Vec<Vcpu>> {
    let lines = text.lines().filter(|line| !line.trim_start().starts_with("Name"));
    lines.map(|line| vcpu(line).with_context(|| format!("`xl vcpu-list` has the line {line:?}"))).collect()
}

fn vcpu(line: &str) -> Result<Vcpu> {
    let mut fields = line.split_whitespace();
    let mut next = |name| fields.next().with_context(|| format!("no {name}"));
    Ok(Vcpu {
        name: next("Name")?.to_owned(),
        id: next("ID")?.parse().context("ID")?,
        vcpu: next("VCPU")?.parse().context("VCPU")?,
        cpu: match next("CPU")? {
            "-" => None,
            number => Some(number.parse().context("CPU")?),
        },
        state: next("State")?.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::{info, list, vcpu_list};

    const LIST: &str = "\
Name                                        ID   Mem VCPUs\tState\tTime(s)
Domain-0                                     0  1024     1     r-----       4.5
guest                                        1   256     2     -b----       1.7";

    #[test]
    fn the_list_of_xen_itself_is_read() -> anyhow::Result<()> {
        let domains = list(LIST)?;
        let [dom0, guest] = domains.as_slice() else { anyhow::bail!("{} lines", domains.len()) };
        assert_eq!((dom0.id, dom0.state.as_str(), guest.name.as_str()), (0, "r-----", "guest"));
        assert_eq!((guest.mem, guest.vcpus), (256, 2));
        Ok(())
    }

    #[test]
    fn a_list_with_other_columns_or_state_letters_is_refused() {
        assert!(list(&LIST.replace("VCPUs", "CPUs")).is_err());
        assert!(list(&LIST.replace("-b----", "b-----")).is_err());
        assert!(list("").is_err());
    }

    #[test]
    fn a_key_of_xl_info_is_found_whatever_stands_before_the_colon() -> anyhow::Result<()> {
        assert_eq!(info("host                   : xenolith\nfree_memory : 12", "free_memory")?, "12");
        assert!(info("", "free_memory").is_err());
        Ok(())
    }

    #[test]
    fn a_vcpu_that_never_ran_is_on_no_pcpu() -> anyhow::Result<()> {
        let text = "Name  ID  VCPU   CPU State   Time(s) Affinity (Hard / Soft)\nguest 1 1 - --p 0.0 all / all\n";
        assert_eq!(vcpu_list(text)?.first().map(|vcpu| vcpu.cpu), Some(None));
        Ok(())
    }
}
