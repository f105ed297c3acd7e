//! Which VLANs (IEEE 802.1Q) a port is a member of, and in which form their frames pass there.

use alloc::rc::Rc;
use core::fmt;
use core::str::FromStr;

/// The numbers that VLANs have.
const NUMBERS: core::ops::RangeInclusive<u16> = 1..=4094;
/// Words of a set of all numbers.
const WORDS: usize = 4096 / 64;

/// What a frame in a VLAN looks like at a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// Without a tag.
    Untagged,
    /// With the VLAN's tag.
    Tagged,
}

/// The VLANs of a port, in words that Xen has for them (`vlan` in xl-network-configuration(5)).
///
/// Frames without a tag are in the *native* VLAN (Xen: PVID), those with a tag in the tag's. A port that was told nothing is in
/// none: that is VLAN 0 here, whose frames may carry any tag as they carry any other data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vlans {
    /// The VLAN of frames without a tag; `None` if they are refused.
    native: Option<u16>,
    /// The VLANs whose frames carry a tag; `None` if there is none of them.
    tagged: Option<Rc<[u64; WORDS]>>,
}

impl Default for Vlans {
    fn default() -> Self {
        Vlans { native: Some(0), tagged: None }
    }
}

impl Vlans {
    /// Whether it is what a port has that was told nothing.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// The same, but frames without a tag are in no VLAN if nothing was said of them: for ports that lead to a network which
    /// others have set up.
    pub fn or_untagged_in_none(self) -> Self {
        Vlans { native: self.native.or(Some(0)), ..self }
    }

    fn is_tagged(&self, vlan: u16) -> bool {
        let word = self.tagged.as_ref().and_then(|words| words.get(usize::from(vlan / 64)));
        word.is_some_and(|word| word >> (vlan % 64) & 1 != 0)
    }

    /// The VLAN of a frame that comes in with this tag; `None` if it may not.
    pub(crate) fn of(&self, tag: Option<u16>) -> Option<u16> {
        match (tag, self.native) {
            (None, native) => native,
            (Some(_), Some(0)) if self.tagged.is_none() => Some(0),
            // A tag that gives a priority and no VLAN.
            (Some(0), Some(0)) => Some(0),
            (Some(vlan), _) => self.is_tagged(vlan).then_some(vlan),
        }
    }

    /// What a frame of this VLAN looks like when it goes out, if it does.
    pub(crate) fn form(&self, vlan: u16) -> Option<Form> {
        if self.native == Some(vlan) {
            return Some(Form::Untagged);
        }
        self.is_tagged(vlan).then_some(Form::Tagged)
    }

    /// Whether tags name VLANs here. Frames that carry a tag as data cannot go out then: it would be taken for another VLAN's.
    pub(crate) fn reads_tags(&self) -> bool {
        self.tagged.is_some()
    }

    fn add(&mut self, vlan: u16) {
        let words = Rc::make_mut(self.tagged.get_or_insert_with(|| Rc::new([0; WORDS])));
        if let Some(word) = words.get_mut(usize::from(vlan / 64)) {
            *word |= 1 << (vlan % 64);
        }
    }
}

/// A text that names no VLANs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotVlans;

impl fmt::Display for NotVlans {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VLANs are numbers from {} to {}, such as 10, 10p/20 or 10/20-29", NUMBERS.start(), NUMBERS.end())
    }
}

impl core::error::Error for NotVlans {}

/// One part of the text.
enum Term {
    /// `10p`.
    Native(u16),
    /// `10`, `10-19`, `10+5x3`: the first, the distance to the next, how many.
    Tagged(u16, u16, u16),
}

impl FromStr for Term {
    type Err = NotVlans;

    fn from_str(text: &str) -> Result<Self, NotVlans> {
        let number = |text: &str| text.parse::<u16>().map_err(|_| NotVlans);
        let vlan = |text: &str| number(text).ok().filter(|vlan| NUMBERS.contains(vlan)).ok_or(NotVlans);
        if let Some(native) = text.strip_suffix('p') {
            return vlan(native).map(Term::Native);
        }
        if let Some((first, last)) = text.split_once('-') {
            let (first, last) = (vlan(first)?, vlan(last)?);
            let more = last.checked_sub(first).ok_or(NotVlans)?;
            return Ok(Term::Tagged(first, 1, more + 1));
        }
        if let Some((first, more)) = text.split_once('+') {
            let (step, count) = more.split_once('x').ok_or(NotVlans)?;
            let (first, step, count) = (vlan(first)?, number(step)?, number(count)?);
            let last = u32::from(first) + u32::from(step) * u32::from(count);
            let fits = u16::try_from(last).is_ok_and(|last| NUMBERS.contains(&last)) && step > 0;
            return if fits { Ok(Term::Tagged(first, step, count.saturating_add(1))) } else { Err(NotVlans) };
        }
        Ok(Term::Tagged(vlan(text)?, 1, 1))
    }
}

impl FromStr for Vlans {
    type Err = NotVlans;

    /// Reads parts with `/` between. A single number is a native VLAN and nothing else.
    fn from_str(text: &str) -> Result<Self, NotVlans> {
        let mut vlans = Vlans { native: None, tagged: None };
        if let Ok(single) = text.parse() {
            vlans.native = Some(single).filter(|vlan| NUMBERS.contains(vlan));
            return if vlans.native.is_some() { Ok(vlans) } else { Err(NotVlans) };
        }
        for term in text.split('/') {
            match term.parse()? {
                Term::Native(_) if vlans.native.is_some() => return Err(NotVlans),
                Term::Native(vlan) => vlans.native = Some(vlan),
                Term::Tagged(first, step, count) => (0..count).for_each(|turn| vlans.add(first + turn * step)),
            }
        }
        Ok(vlans)
    }
}

impl fmt::Display for Vlans {
    /// What [`FromStr`] reads as the same; nothing for ports that were told nothing.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut between = "";
        if let Some(native) = self.native.filter(|native| *native != 0) {
            write!(f, "{native}{}", if self.reads_tags() { "p" } else { "" })?;
            between = "/";
        }
        let mut next = *NUMBERS.start();
        while let Some(first) = (next..=*NUMBERS.end()).find(|vlan| self.is_tagged(*vlan)) {
            let last = (first..=*NUMBERS.end()).take_while(|vlan| self.is_tagged(*vlan)).last().unwrap_or(first);
            // A number that stands alone would be read as native.
            let alone = between.is_empty() && !(last + 1..=*NUMBERS.end()).any(|vlan| self.is_tagged(vlan));
            if first == last && !alone {
                write!(f, "{between}{first}")?
            } else {
                write!(f, "{between}{first}-{last}")?
            }
            between = "/";
            next = last + 1;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vlans(text: &str) -> Vlans {
        text.parse().unwrap()
    }

    #[test]
    fn a_single_number_is_the_vlan_of_frames_without_a_tag_alone() {
        let access = vlans("10");
        assert_eq!((access.of(None), access.of(Some(10)), access.of(Some(0))), (Some(10), None, None));
        assert_eq!((access.form(10), access.form(0)), (Some(Form::Untagged), None));
    }

    #[test]
    fn a_trunk_has_tagged_vlans_and_one_native_at_most() {
        let trunk = vlans("10p/20/30-32/100+10x4");
        assert_eq!((trunk.of(None), trunk.of(Some(20)), trunk.of(Some(10))), (Some(10), Some(20), None));
        assert_eq!((trunk.form(10), trunk.form(31), trunk.form(33)), (Some(Form::Untagged), Some(Form::Tagged), None));
        assert!([100, 110, 120, 130, 140].iter().all(|vlan| trunk.of(Some(*vlan)) == Some(*vlan)));
        assert_eq!(trunk.of(Some(150)), None);
        let pure = vlans("10/20");
        assert_eq!((pure.of(None), pure.of(Some(0)), pure.or_untagged_in_none().of(None)), (None, None, Some(0)));
    }

    #[test]
    fn a_port_that_was_told_nothing_reads_no_tags() {
        let none = Vlans::default();
        assert_eq!((none.of(None), none.of(Some(10)), none.form(10)), (Some(0), Some(0), None));
        assert!(none.is_none() && !vlans("10").is_none());
    }

    #[test]
    fn vlans_survive_their_text() {
        for text in ["10", "10p/20", "10/20-22/40", "20-20", "1-4094", "5p/7-7", "4094"] {
            assert_eq!(vlans(&vlans(text).to_string()), vlans(text), "{text}");
        }
        assert_eq!(vlans("30/10p/11/12/20-20").to_string(), "10p/11-12/20/30");
        assert_eq!(Vlans::default().to_string(), "");
    }

    #[test]
    fn what_names_no_vlans_is_refused() {
        for text in
            ["", "0", "4095", "ten", "10p/20p", "10/", "9-8", "10+x3", "10+0x3", "4000+50x2", "10u", "-1", "1-4095"]
        {
            assert_eq!(text.parse::<Vlans>(), Err(NotVlans), "{text}");
        }
    }
}
