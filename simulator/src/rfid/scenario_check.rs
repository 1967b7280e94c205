//! The names and ranges of a scenario's values, each refusal naming its key.

use std::collections::BTreeSet;

use super::Model;
use super::scenario::{
    DURATION_S_MAX, DWELL_S_MIN, EpochSpec, GeometrySpec, GroupSpec, NeighbourSpec, PLACES_MAX,
    Personality, SKUS_MAX, Scenario, TAGS_MAX, ZoneSpec,
};

impl Scenario {
    /// Checks every name and range; the error is (key, detail).
    pub(super) fn check(&self) -> Check {
        within(self.duration_s, 1.0, DURATION_S_MAX, "duration_s")?;
        let mut zones = BTreeSet::new();
        for (i, zone) in self.zone.iter().enumerate() {
            need(zones.insert(&*zone.name), &format!("zone[{i}].name"), "is given twice")?;
        }
        need((1..=PLACES_MAX).contains(&self.place.len()), "place", "1 to 1000 are needed")?;
        let (mut places, mut ports) = (BTreeSet::new(), BTreeSet::new());
        for (i, place) in self.place.iter().enumerate() {
            let key = |field: &str| format!("place[{i}].{field}");
            need(places.insert(&*place.name), &key("name"), "is given twice")?;
            need(zones.contains(&*place.zone), &key("zone"), "no such zone")?;
            need(place.antenna > 0, &key("antenna"), "ports are numbered from 1")?;
            let port = (&*place.reader, place.antenna);
            need(ports.insert(port), &key("antenna"), "the reader's port is given twice")?;
            for x in
                place.position.iter().flat_map(|p| p.at.into_iter().chain(p.goods).chain(p.spread))
            {
                within(x, -1e4, 1e4, &key("position"))?;
            }
            let portal =
                |z: &ZoneSpec| z.name == place.zone && z.personality == Personality::Portal;
            let is_portal = self.zone.iter().any(portal);
            need(
                is_portal == place.side.is_some(),
                &key("side"),
                "portals have sides, and only they",
            )?;
        }
        need(!self.group.is_empty(), "group", "at least one is needed")?;
        let tags = self.group.iter().map(|group| group.tags).fold(0, usize::saturating_add);
        need(tags <= TAGS_MAX, "group", &format!("more than {TAGS_MAX} tags"))?;
        let skus = self.group.iter().map(|group| group.skus).fold(0, usize::saturating_add);
        need(skus <= SKUS_MAX, "group", &format!("more than {SKUS_MAX} SKUs"))?;
        for (i, group) in self.group.iter().enumerate() {
            group.check(&format!("group[{i}]"), &places)?;
        }
        need(!self.models.is_empty(), "models", "at least one is needed")?;
        let placed = self.place.iter().all(|place| place.position.is_some());
        let geometry = self.models.contains(&Model::Geometry);
        need(placed || !geometry, "place.position", "geometry needs one for every place")?;
        within(self.judge.arrival_s, 0.0, 3_600.0, "judge.arrival_s")?;
        within(self.judge.departure_s, 0.0, 3_600.0, "judge.departure_s")?;
        self.epoch.check(&places)?;
        self.geometry.check()
    }
}

impl GroupSpec {
    fn check(&self, at: &str, places: &BTreeSet<&str>) -> Check {
        let key = |field: &str| format!("{at}.{field}");
        need(self.tags > 0, &key("tags"), "at least one is needed")?;
        need(self.batch > 0, &key("batch"), "at least one travels")?;
        need(self.skus > 0, &key("skus"), "at least one is needed")?;
        need(!self.home.is_empty(), &key("home"), "at least one is needed")?;
        known(&self.home, places, &key("home"))?;
        within(self.dwell_s, DWELL_S_MIN, DURATION_S_MAX, &key("dwell_s"))?;
        within(self.away, 0.0, 1.0, &key("away"))?;
        range(self.walk_s, 0.0, 3_600.0, &key("walk_s"))?;
        within(self.unload_s, 0.0, 3_600.0, &key("unload_s"))?;
        for (i, trip) in self.trip.iter().enumerate() {
            let key = |field: &str| format!("{at}.trip[{i}].{field}");
            within(trip.weight, 0.0, 1e6, &key("weight"))?;
            for leg in &trip.legs {
                known(&leg.to, places, &key("legs.to"))?;
                range(leg.walk_s, 0.0, 3_600.0, &key("legs.walk_s"))?;
                range(leg.stay_s, 0.0, DURATION_S_MAX, &key("legs.stay_s"))?;
                within(leg.mean_s, 0.0, DURATION_S_MAX, &key("legs.mean_s"))?;
            }
        }
        Ok(())
    }
}

impl EpochSpec {
    fn check(&self, places: &BTreeSet<&str>) -> Check {
        range(self.read_rate, 0.0, 1.0, "epoch.read_rate")?;
        within(self.ghost_rate, 0.0, 1.0, "epoch.ghost_rate")?;
        within(self.fade_start, 0.0, 1.0, "epoch.fade_start")?;
        let [least, most] = self.fade_epochs;
        need(1 <= least && least <= most, "epoch.fade_epochs", "must be 1 or more, in order")?;
        within(self.faded_rate, 0.0, 1.0, "epoch.faded_rate")?;
        within(self.shadow_per_hour, 0.0, 3_600.0, "epoch.shadow_per_hour")?;
        range(self.shadow_s, 0.0, 3_600.0, "epoch.shadow_s")?;
        within(self.moving_factor, 0.0, 1.0, "epoch.moving_factor")?;
        within(self.signal_dbm, -90.0, 0.0, "epoch.signal_dbm")?;
        range(self.ghost_loss_db, 0.0, 60.0, "epoch.ghost_loss_db")?;
        for (i, neighbour) in self.neighbour.iter().enumerate() {
            let key = |field: &str| format!("epoch.neighbour[{i}].{field}");
            let NeighbourSpec { of, heard_by, rate, loss_db } = neighbour;
            need(places.contains(&**of), &key("of"), "no such place")?;
            need(places.contains(&**heard_by), &key("heard_by"), "no such place")?;
            need(of != heard_by, &key("heard_by"), "a place is no neighbour of itself")?;
            within(*rate, 0.0, 1.0, &key("rate"))?;
            range(*loss_db, -20.0, 60.0, &key("loss_db"))?;
        }
        Ok(())
    }
}

impl GeometrySpec {
    fn check(&self) -> Check {
        let key = |field: &str| format!("geometry.{field}");
        within(self.power_dbm, -20.0, 40.0, &key("power_dbm"))?;
        within(self.gain_dbi, -10.0, 20.0, &key("gain_dbi"))?;
        within(self.sensitivity_dbm, -40.0, 10.0, &key("sensitivity_dbm"))?;
        within(self.path_exponent, 1.0, 6.0, &key("path_exponent"))?;
        within(self.shadow_sigma_db, 0.0, 20.0, &key("shadow_sigma_db"))?;
        within(self.round_sigma_db, 0.1, 20.0, &key("round_sigma_db"))?;
        range(self.reflection, 0.0, 0.99, &key("reflection"))?;
        within(self.round_tags, 1.0, 1e6, &key("round_tags"))?;
        within(self.blocks_per_hour, 0.0, 3_600.0, &key("blocks_per_hour"))?;
        within(self.block_s, 0.01, 3_600.0, &key("block_s"))?;
        within(self.block_db, 0.0, 60.0, &key("block_db"))?;
        within(self.block_share, 0.0, 1.0, &key("block_share"))?;
        range(self.pallet_loss_db, 0.0, 60.0, &key("pallet_loss_db"))?;
        within(self.gaps_per_hour, 0.0, 3_600.0, &key("gaps_per_hour"))?;
        range(self.gap_s, 0.0, 3_600.0, &key("gap_s"))?;
        within(self.ghosts_per_hour, 0.0, 3_600.0, &key("ghosts_per_hour"))?;
        within(self.ghost_s, 0.01, 3_600.0, &key("ghost_s"))?;
        within(self.ghost_rate, 0.0, 1.0, &key("ghost_rate"))?;
        range(self.ghost_loss_db, 0.0, 60.0, &key("ghost_loss_db"))?;
        self.gate.into_iter().try_for_each(|x| within(x, -1e4, 1e4, &key("gate")))
    }
}

type Check = Result<(), (String, String)>;

fn need(ok: bool, key: &str, detail: &str) -> Check {
    if ok { Ok(()) } else { Err((key.to_owned(), detail.to_owned())) }
}

fn within(x: f64, lo: f64, hi: f64, key: &str) -> Check {
    // A comparison with NaN is false, so NaN is refused too.
    need(x >= lo && x <= hi, key, &format!("{x} is not within {lo}..={hi}"))
}

fn range([from, to]: [f64; 2], lo: f64, hi: f64, key: &str) -> Check {
    within(from, lo, hi, key)?;
    within(to, from, hi, key)
}

fn known(names: &[String], places: &BTreeSet<&str>, key: &str) -> Check {
    match names.iter().find(|name| !places.contains(&***name)) {
        None => Ok(()),
        Some(name) => need(false, key, &format!("there is no place {name:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rfid::scenario::SCENARIOS;

    /// The key that is refused when the text of a built-in scenario is changed.
    fn refused(from: &str, to: &str) -> String {
        let text = SCENARIOS.into_iter().find(|(name, _)| *name == "portal").unwrap().1;
        assert!(text.contains(from), "{from}");
        Scenario::parse("changed", &text.replacen(from, to, 1)).unwrap_err().to_string()
    }

    #[test]
    fn every_built_in_scenario_is_valid_and_says_what_it_is_about() {
        for (name, text) in SCENARIOS {
            Scenario::builtin(name).unwrap();
            assert!(text.starts_with("# "), "{name}");
        }
        let unknown = Scenario::builtin("no-such-scenario").unwrap_err().to_string();
        assert!(unknown.contains("shelf-0.6"), "{unknown}");
    }

    #[test]
    fn what_cannot_be_is_refused_by_its_key() {
        for (from, to, key) in [
            ("duration_s = 3600", "duration_s = nan", "duration_s"),
            ("zone = \"floor\"", "zone = \"flor\"", "place[0].zone"),
            ("name = \"rack-2\"", "name = \"rack-1\"", "place[1].name"),
            ("antenna = 2", "antenna = 1", "place[1].antenna"),
            ("antenna = 1", "antenna = 0", "place[0].antenna"),
            ("side = \"inside\"\n", "", "place[2].side"),
            ("tags = 30", "tags = 0", "group[0].tags"),
            ("tags = 30", "tags = 2000000", "group"),
            ("skus = 5", "skus = 200000", "group"),
            ("dwell_s = 240", "dwell_s = 0", "group[0].dwell_s"),
            ("home = [\"rack-1\"", "home = [\"nowhere\"", "group[0].home"),
            ("to = [\"exit-in\"]", "to = [\"exit\"]", "group[0].trip[0].legs.to"),
            ("walk_s = [2, 5]\n", "walk_s = [5, 2]\n", "group[0].walk_s"),
            ("read_rate = [0.6, 0.8]", "read_rate = [0.6, 1.8]", "epoch.read_rate"),
            ("heard_by = \"exit-out\"", "heard_by = \"exit-in\"", "epoch.neighbour[0].heard_by"),
            ("power_dbm = 15.0", "power_dbm = 99", "geometry.power_dbm"),
            ("models = [", "models = [] #", "models"),
        ] {
            let why = refused(from, to);
            assert!(why.starts_with(&format!("scenario changed: {key}: ")), "{key}: {why}");
        }
        // An unknown key is refused with its line.
        assert!(refused("seed = 3", "sed = 3").contains("sed"));
        // Positions are needed where geometry is meant.
        let at =
            "position = { at = [-6, 0, 2.5], goods = [-6, 1.5, 1.2], spread = [0.5, 0.2, 0.5] }";
        assert!(refused(at, "").contains("place.position"));
    }
}
