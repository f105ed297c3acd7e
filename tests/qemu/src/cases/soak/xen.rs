//! Which of the rules for a virtual processor Debian's Xen keeps: all but those that the guest's README lists.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::machine::Machine;
use crate::suite::{Case, Lab, Needs};
use crate::xen::PROMPT;

pub(super) const CASES: &[Case] = &[Case {
    name: "debians_xen_keeps_all_rules_for_a_virtual_processor_but_the_recorded_ones",
    needs: Needs::Xen,
    alone: true,
    run: rules,
}];

/// What says in a table which rules Xen does not keep.
const RECORD: &str = include_str!("../../../../guests/conform/README.md");

/// How many rules there are at least.
const RULES: usize = 67;

/// Rules that are looked at between two reports.
const PART: usize = 10;

/// Time for those, of which the broken ones wait for what does not come.
const LONG: Duration = Duration::from_secs(900);

fn rules(lab: &Lab) -> Result<()> {
    let recorded: BTreeSet<&str> = RECORD.lines().filter_map(|line| rule(line, "| ", " | ")).collect();
    let mut config = lab.peer()?.config();
    // What Xen does not keep to is at times a race: with instructions for a clock they all end the same way.
    config.icount = true;
    let mut machine = Machine::start(&config, None)?;
    machine.expect(PROMPT, LONG)?;
    let mut said = String::new();
    // Beyond the last one nothing is said of any.
    let seen = |said: &str| said.matches(" kept=1 ").count() + said.matches(" broken=1").count();
    for first in (0..).step_by(PART) {
        let part = machine.inside(PROMPT, &format!("sh /guest/rules {first} {}", first + PART - 1), LONG)?;
        said += &part.text;
        (lab.say)(&format!("{} rules, {} of them broken", seen(&said), said.matches(" broken=1").count()));
        if seen(&part.text) < PART {
            break;
        }
    }
    ensure!(seen(&said) >= RULES, "not all rules have been looked at:\n{said}");
    let broken: BTreeSet<&str> = said.lines().filter_map(|line| rule(line, "conform: ", ": FAILED")).collect();
    let differ: Vec<_> = broken.symmetric_difference(&recorded).collect();
    ensure!(differ.is_empty(), "recorded and not seen, or seen and not recorded: {differ:#?}\n{said}");
    Ok(())
}

/// The rule between these words of a line.
fn rule<'a>(line: &'a str, before: &str, after: &str) -> Option<&'a str> {
    let (rule, _) = line.strip_prefix(before)?.split_once(after)?;
    (!["rule", "---"].contains(&rule)).then_some(rule)
}
