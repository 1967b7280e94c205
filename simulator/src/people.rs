//! People: who reaches into which slot when, and what they do there.
//!
//! Everyone waits an exponential time, does one thing, and waits again. A visit has two moments: the hand reaches in
//! ([`Happening::Hand`]) and leaves ([`Happening::Rest`]); goods move at the second. A schedule is a person without a
//! will: it visits each weighed slot a fixed number of times.
//!
//! ```text
//!  Wake ─► choose ─► Reach ── hand_min_s..hand_max_s ──► Leave ─► (misplace, tidy: carry) ─► Reach at the other slot
//! ```

use crate::cell::Change;
use crate::clock::{Micros, micros};
use crate::random::Stream;
use crate::scenario::{PeopleSpec, Scenario, ScheduleSpec, Source, UnitsSpec};
use crate::stock::{Stock, Unit, Visit};
use crate::truth::Kind;
use std::collections::BTreeMap;

/// Slots a person looks at before giving up.
const LOOKS_MAX: usize = 8;
/// Walk from one slot to another, s.
const WALK_S: (f64, f64) = (3.0, 12.0);

/// What others can notice of people.
#[derive(Debug, Clone, PartialEq)]
pub enum Happening {
    /// Something happens to a slot's cell.
    Cell {
        /// When.
        at: Micros,
        /// The slot.
        slot: usize,
        /// What.
        change: Change,
    },
    /// A movement is entered on a device.
    Tell {
        /// When.
        at: Micros,
        /// Index in the truth.
        movement: usize,
    },
}

#[derive(Debug)]
enum Deed {
    /// Take so many units of the slot's SKU, and carry them to another slot or keep them.
    Take { units: i64, to: Option<usize> },
    /// Take one unit that belongs elsewhere, and bring it home.
    Fetch,
    /// Put these.
    Put(Vec<Unit>),
}

#[derive(Debug)]
struct Plan {
    person: usize,
    slot: usize,
    kind: Kind,
    deed: Deed,
}

#[derive(Debug)]
enum Step {
    Wake { person: usize },
    Schedule { slot: usize, left: u32 },
    Reach(Plan),
    Leave { plan: Plan, from: Micros },
}

#[derive(Debug)]
struct Person {
    group: usize,
    will: Stream,
    basket: Vec<Unit>,
}

/// Everybody, and what they are about to do.
#[derive(Debug)]
pub struct Crowd {
    groups: Vec<PeopleSpec>,
    people: Vec<Person>,
    schedule: Option<ScheduleSpec>,
    /// Scheduled visits of a slot draw from its own stream.
    routines: Vec<Stream>,
    agenda: BTreeMap<(Micros, u64), Step>,
    planned: u64,
    /// From here on nobody reaches in any more.
    pub rest_from: Micros,
}

/// The "person" of scheduled visits.
const NOBODY: usize = usize::MAX;

impl Crowd {
    /// Everybody of a scenario.
    pub fn new(scenario: &Scenario, stock: &Stock) -> Self {
        let mut crowd = Self {
            groups: scenario.people.clone(),
            people: Vec::new(),
            schedule: scenario.schedule.clone(),
            routines: Vec::new(),
            agenda: BTreeMap::new(),
            planned: 0,
            rest_from: micros(scenario.duration_s - scenario.quiet_tail_s),
        };
        for (group, spec) in scenario.people.iter().enumerate() {
            for _ in 0..spec.count {
                let person = crowd.people.len();
                let will = Stream::new(scenario.seed, "person", person as u64);
                crowd.people.push(Person { group, will, basket: Vec::new() });
                crowd.wake_later(person, 0);
            }
        }
        if let Some(spec) = &scenario.schedule {
            for slot in 0..stock.len() {
                let mut routine = Stream::new(scenario.seed, "schedule", slot as u64);
                let first = spec.warm_up_s + routine.uniform(0.0, spec.gap_s);
                crowd.routines.push(routine);
                if stock.line(slot).source == Source::Weight && spec.events_per_slot > 0 {
                    crowd.plan(micros(first), Step::Schedule { slot, left: spec.events_per_slot });
                }
            }
        }
        crowd
    }

    fn plan(&mut self, at: Micros, step: Step) {
        self.planned += 1;
        self.agenda.insert((at, self.planned), step);
    }

    fn wake_later(&mut self, person: usize, now: Micros) {
        let Person { group, will, .. } = &mut self.people[person];
        let g = &self.groups[*group];
        let per_hour = g.pick_per_hour
            + g.put_back_per_hour
            + g.restock_per_hour
            + g.misplace_per_hour
            + g.tidy_per_hour;
        if let Some(wait) = will.wait_us(per_hour) {
            self.plan(now.saturating_add(wait), Step::Wake { person });
        }
    }

    /// Lets everything before `until` happen, in order.
    pub fn advance(&mut self, until: Micros, stock: &mut Stock, out: &mut Vec<Happening>) {
        while let Some(entry) = self.agenda.first_entry() {
            let at = entry.key().0;
            if at >= until {
                return;
            }
            match entry.remove() {
                Step::Wake { person } if at < self.rest_from => {
                    self.wake(person, at, stock);
                    self.wake_later(person, at);
                }
                Step::Schedule { slot, left } if at < self.rest_from => {
                    self.routine(slot, left, at, stock);
                }
                Step::Reach(plan) if at < self.rest_from => {
                    out.push(Happening::Cell { at, slot: plan.slot, change: Change::Hand });
                    let leave = at + self.hand_us(&plan);
                    self.plan(leave, Step::Leave { plan, from: at });
                }
                // Who still carries something then takes it along.
                Step::Wake { .. } | Step::Schedule { .. } | Step::Reach(_) => {}
                Step::Leave { plan, from } => self.leave(plan, from, at, stock, out),
            }
        }
    }

    fn hand_us(&mut self, plan: &Plan) -> Micros {
        let seconds = match (self.people.get_mut(plan.person), &self.schedule) {
            (Some(p), _) => {
                let g = &self.groups[p.group];
                p.will.uniform(g.hand_min_s, g.hand_max_s)
            }
            (None, Some(s)) => self.routines[plan.slot].uniform(s.hand_min_s, s.hand_max_s),
            (None, None) => 0.0,
        };
        micros(seconds)
    }

    fn wake(&mut self, index: usize, at: Micros, stock: &mut Stock) {
        let others = self.people.len() - 1;
        let person = &mut self.people[index];
        let group = &self.groups[person.group];
        let Some((slot, kind, deed)) = person.choose(group, stock) else { return };
        let company = kind == Kind::Pick && person.will.chance(group.together);
        if company && others > 0 {
            let will = &mut person.will;
            let other = (index + 1 + will.below(others)) % (others + 1);
            let later = micros(will.uniform(0.0, group.hand_min_s));
            let deed = Deed::Take { units: amount(&group.units, will), to: None };
            let plan = Plan { person: other, slot, kind, deed };
            self.plan(at.saturating_add(later), Step::Reach(plan));
        }
        self.plan(at, Step::Reach(Plan { person: index, slot, kind, deed }));
    }

    fn routine(&mut self, slot: usize, left: u32, at: Micros, stock: &mut Stock) {
        let Some(spec) = &self.schedule else { return };
        let will = &mut self.routines[slot];
        let (there, free) = (stock.line(slot).units, stock.free(slot));
        let wanted = amount(&spec.units, will);
        let picks = if there == 0 || free == 0 { there > 0 } else { will.chance(0.5) };
        let gap = micros(spec.gap_s);
        let (kind, deed) = if picks {
            (Kind::Pick, Deed::Take { units: wanted.min(there), to: None })
        } else {
            (Kind::Restock, Deed::Put(stock.supply(slot, wanted.min(free))))
        };
        self.plan(at, Step::Reach(Plan { person: NOBODY, slot, kind, deed }));
        if left > 1 {
            self.plan(at + gap, Step::Schedule { slot, left: left - 1 });
        }
    }

    fn leave(
        &mut self,
        plan: Plan,
        from: Micros,
        at: Micros,
        stock: &mut Stock,
        out: &mut Vec<Happening>,
    ) {
        let Plan { person, slot, kind, deed } = plan;
        let visit = Visit { from, at, slot, kind };
        let (moved, told, carry) = match deed {
            Deed::Take { units, to } => {
                let (taken, told) = stock.take(visit, units);
                let moved = taken.len() as i64;
                match (to, self.people.get_mut(person)) {
                    (Some(to), _) => (moved, told, Some((to, taken))),
                    (None, Some(p)) => {
                        p.basket.extend(taken);
                        (moved, told, None)
                    }
                    (None, None) => (moved, told, None),
                }
            }
            Deed::Fetch => match stock.fetch(visit) {
                Some(unit) => (1, None, Some((unit.home, vec![unit]))),
                None => (0, None, None),
            },
            Deed::Put(units) => (units.len() as i64, stock.put(visit, &units), None),
        };
        let change = Change::Rest { goods_mg: stock.goods_mg(slot), units: moved };
        out.push(Happening::Cell { at, slot, change });
        let Some(p) = self.people.get_mut(person) else { return };
        // Who carries goods about tells nobody.
        let scans = matches!(kind, Kind::Pick | Kind::PutBack | Kind::Restock);
        if let Some(movement) = told.filter(|_| scans)
            && !p.will.chance(self.groups[p.group].forgets)
        {
            out.push(Happening::Tell { at, movement });
        }
        if let Some((to, units)) = carry.filter(|(_, units)| !units.is_empty()) {
            let walk = micros(p.will.uniform(WALK_S.0, WALK_S.1));
            let plan = Plan { person, slot: to, kind, deed: Deed::Put(units) };
            self.plan(at + walk, Step::Reach(plan));
        }
    }
}

impl Person {
    /// What this person does now, if anything comes to mind.
    fn choose(&mut self, g: &PeopleSpec, stock: &mut Stock) -> Option<(usize, Kind, Deed)> {
        let Self { will, basket, .. } = self;
        let kinds = [
            (Kind::Pick, g.pick_per_hour),
            (Kind::PutBack, g.put_back_per_hour),
            (Kind::Restock, g.restock_per_hour),
            (Kind::Misplace, g.misplace_per_hour),
            (Kind::Tidy, g.tidy_per_hour),
        ];
        let kind = kinds[will.weighted(&kinds.map(|(_, rate)| rate))?].0;
        let mine = |slot: usize| g.source.is_none_or(|s| s == stock.line(slot).source);
        let stocked = |slot: usize| mine(slot) && stock.line(slot).units > 0;
        let (slot, deed) = match kind {
            Kind::Pick => {
                let slot = look(stock.len(), will, stocked)?;
                let units = amount(&g.units, will).min(stock.line(slot).units);
                (slot, Deed::Take { units, to: None })
            }
            Kind::PutBack => {
                if basket.is_empty() {
                    return None;
                }
                let slot = basket[will.below(basket.len())].home;
                let most = amount(&g.units, will).min(stock.free(slot)) as usize;
                let mut back = Vec::new();
                basket.retain(|unit| {
                    let goes = unit.home == slot && back.len() < most;
                    if goes {
                        back.push(*unit);
                    }
                    !goes
                });
                (slot, Deed::Put(back))
            }
            Kind::Restock => {
                let wanting =
                    |slot| mine(slot) && 2 * stock.free(slot) >= stock.slot(slot).capacity;
                let slot = look(stock.len(), will, wanting)?;
                let count = amount(&g.restock_units, will).min(stock.free(slot));
                (slot, Deed::Put(stock.supply(slot, count)))
            }
            Kind::Misplace => {
                let slot = look(stock.len(), will, stocked)?;
                let strange = |to: usize| stock.slot(to).sku != stock.slot(slot).sku;
                let to = look(stock.len(), will, |to| strange(to) && stock.free(to) > 0)?;
                (slot, Deed::Take { units: 1, to: Some(to) })
            }
            Kind::Tidy => ((0..stock.len()).find(|s| stock.line(*s).foreign > 0)?, Deed::Fetch),
        };
        Some((slot, kind, deed))
    }
}

/// A random slot that `suits`, if a few looks find one.
fn look(slots: usize, will: &mut Stream, suits: impl Fn(usize) -> bool) -> Option<usize> {
    (0..LOOKS_MAX).map(|_| will.below(slots)).find(|slot| suits(*slot))
}

/// Draws a number of units: P(n) ∝ decay^(n−1).
fn amount(spec: &UnitsSpec, will: &mut Stream) -> i64 {
    let weights = || std::iter::successors(Some(1.0), |w| Some(w * spec.decay));
    let total: f64 = weights().take(spec.max as usize).sum();
    let mut x = will.uniform(0.0, total);
    for (n, weight) in (1..spec.max).zip(weights()) {
        if x < weight {
            return n;
        }
        x -= weight;
    }
    spec.max
}
