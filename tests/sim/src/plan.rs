//! What a seed draws before anything happens: how many campuses and boxes, which faults, how hostile.
//!
//! A seed without any fault is drawn, too: what fails without faults is easier to read. Leaves to others: when a fault
//! strikes (`world`).

use crate::chance::Chance;
use crate::theme::Theme;
use serde::Serialize;

/// Classes of faults; each is drawn on or off.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// A line between two nodes is cut and heals.
    Cut,
    /// A line carries in one direction only.
    OneWay,
    /// A connection is lost with what was under way.
    Drop,
    /// Messages arrive twice.
    Twice,
    /// Messages take long, and those of other streams overtake.
    Delay,
    /// A box's process dies before a commit or after it, and is started again.
    BoxCrash,
    /// Headquarters' process dies so.
    HubCrash,
    /// A box's disk is full for a while.
    BoxDiskFull,
    /// Headquarters' disk is full for a while.
    HubDiskFull,
    /// A box's database is put back to an older copy.
    BoxPutBack,
    /// Headquarters is restored from an older backup.
    HubRestore,
    /// Clocks drift and are set.
    Clock,
    /// A box is fenced while it lives on.
    Fence,
    /// Terminals lose power, answers to terminals are lost, terminals go to another box or decide alone.
    Terminal,
    /// A box's disk and key are copied and both run, or a fenced box is carried away and switched on again.
    Clone,
    /// A box signs what it may not.
    Liar,
    /// Headquarters is away for long, boxes cannot hear each other, and terminals turn to whoever answers or give up.
    Outage,
    /// Clerks do at once what contradicts, and cards are lost as soon as they are handed out.
    Clerks,
    /// For three days nobody does anything, while some lines are cut.
    Sleep,
}

/// So many of the classes may be drawn by every seed; the rest are drawn apart, so that what a seed drew before stays.
const DRAWN_BY_EVERY_SEED: usize = 14;

impl Class {
    /// All of them.
    pub const ALL: [Class; 19] = [
        Class::Cut,
        Class::OneWay,
        Class::Drop,
        Class::Twice,
        Class::Delay,
        Class::BoxCrash,
        Class::HubCrash,
        Class::BoxDiskFull,
        Class::HubDiskFull,
        Class::BoxPutBack,
        Class::HubRestore,
        Class::Clock,
        Class::Fence,
        Class::Terminal,
        Class::Clone,
        Class::Liar,
        Class::Outage,
        Class::Clerks,
        Class::Sleep,
    ];

    /// Name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Class::Cut => "cut",
            Class::OneWay => "one_way",
            Class::Drop => "drop",
            Class::Twice => "twice",
            Class::Delay => "delay",
            Class::BoxCrash => "box_crash",
            Class::HubCrash => "hub_crash",
            Class::BoxDiskFull => "box_disk_full",
            Class::HubDiskFull => "hub_disk_full",
            Class::BoxPutBack => "box_put_back",
            Class::HubRestore => "hub_restore",
            Class::Clock => "clock",
            Class::Fence => "fence",
            Class::Terminal => "terminal",
            Class::Clone => "clone",
            Class::Liar => "liar",
            Class::Outage => "outage",
            Class::Clerks => "clerks",
            Class::Sleep => "sleep",
        }
    }
}

/// One history, before it happens.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Plan {
    /// The seed of everything else that is drawn.
    pub seed: u64,
    /// The campus of each box.
    pub boxes: Vec<u16>,
    /// How many people.
    pub people: u64,
    /// Begins shortly before the business day is cut, and not at noon.
    pub at_night: bool,
    /// Guest pools hold little.
    pub poor_pools: bool,
    /// The tariff takes a discount that leaves parts of a fen.
    pub odd_prices: bool,
    /// Virtual time in which people eat and things fail, in milliseconds.
    pub busy_ms: i64,
    /// Faults that may strike.
    pub faults: Vec<Class>,
    /// What it is about beside money.
    pub themes: Vec<Theme>,
}

impl Plan {
    /// What a seed draws.
    pub fn of(seed: u64) -> Plan {
        let mut chance = Chance::new(seed);
        let boxes = match chance.below(4) {
            0 => vec![1, 1],
            1 => vec![1, 2],
            _ => vec![1, 1, 2],
        };
        let people = 2 + chance.below(4);
        let busy_ms = chance.between(40_000, 160_000);
        // One in eight has no fault at all, the others about a third of the classes.
        let faults = match chance.one_in(8) {
            true => Vec::new(),
            false => Class::ALL[..DRAWN_BY_EVERY_SEED].iter().copied().filter(|_| chance.one_in(3)).collect(),
        };
        let faults = drawn_apart(seed, faults);
        // Told by the seed itself, so that what is drawn for others is not shifted.
        let poor_pools = seed % 7 == 5 || faults.contains(&Class::Outage) && !seed.is_multiple_of(3);
        let (at_night, odd_prices) = (seed % 5 == 2, seed % 6 == 4);
        let themes = if faults.iter().copied().any(is_doubtful) { Vec::new() } else { Theme::of(seed) };
        Plan { seed, boxes, people, at_night, poor_pools, odd_prices, busy_ms, faults, themes }
    }

    /// A kept history, named: its seed, and after a colon its themes, where they are not those that the seed draws.
    fn named(name: &str) -> Option<Plan> {
        let (seed, themes) = name.split_once(':').map_or((name, None), |(seed, themes)| (seed, Some(themes)));
        let plan = Plan::of(seed.parse().ok()?);
        Some(match themes {
            Some(themes) => plan.about(Theme::named(themes)),
            None => plan,
        })
    }

    /// The same about these themes; neither copies nor liars go with any.
    pub fn about(mut self, themes: Vec<Theme>) -> Plan {
        if !themes.is_empty() {
            self.faults.retain(|class| !is_doubtful(*class));
        }
        Plan { themes, ..self }
    }

    /// Whether a history is about something.
    pub fn is(&self, theme: Theme) -> bool {
        self.themes.contains(&theme)
    }

    /// Whether nodes keep what they know in files.
    pub fn keeps_files(&self) -> bool {
        self.themes.iter().any(|theme| theme.keeps_files())
    }

    /// Whether a class of faults may strike.
    pub fn has(&self, class: Class) -> bool {
        self.faults.contains(&class)
    }

    /// Smaller histories that may fail in the same way, the boldest cut first.
    pub fn smaller(&self) -> Vec<Plan> {
        let mut smaller: Vec<Plan> = Vec::new();
        for without in &self.faults {
            let faults = self.faults.iter().copied().filter(|class| class != without).collect();
            smaller.push(Plan { faults, ..self.clone() });
        }
        for without in &self.themes {
            let themes = self.themes.iter().copied().filter(|theme| theme != without).collect();
            smaller.push(Plan { themes, ..self.clone() });
        }
        if self.boxes.len() > 1 {
            smaller.push(Plan { boxes: self.boxes[..self.boxes.len() - 1].to_vec(), ..self.clone() });
        }
        if self.people > 1 {
            smaller.push(Plan { people: self.people - 1, ..self.clone() });
        }
        if self.busy_ms > 5_000 {
            smaller.push(Plan { busy_ms: self.busy_ms * 2 / 3, ..self.clone() });
        }
        smaller
    }
}

/// Histories that have failed once; `None` where a line of the list names none.
pub fn kept() -> Option<Vec<Plan>> {
    let lines = include_str!("../kept.txt").lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    lines.map(|line| line.split_whitespace().next().and_then(Plan::named)).collect()
}

/// The references of themes take every box at its word, and for the only one of its number.
fn is_doubtful(class: Class) -> bool {
    matches!(class, Class::Clone | Class::Liar)
}

/// Half of the seeds draw some of the other classes, too, and a third of these nothing else.
fn drawn_apart(seed: u64, others: Vec<Class>) -> Vec<Class> {
    if !matches!(seed % 8, 1 | 2 | 4 | 6) {
        return others;
    }
    let mut chance = Chance::new(seed ^ 0xA9A7);
    let mut faults = if chance.one_in(3) { Vec::new() } else { others };
    faults.extend(Class::ALL[DRAWN_BY_EVERY_SEED..].iter().filter(|_| chance.one_in(3)));
    faults
}
