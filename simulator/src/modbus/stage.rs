//! The buses of a world on the stage: banks that show what its scales show, servers before them, and what befalls them.

use crate::clock::Micros;
use crate::modbus::{
    Bank, Faults, Framing, Line, Power, Served,
    server::serve,
    trouble::{Change, TimedChange, Troubles},
};
use crate::scenario::BusFraming;
use crate::world::{TimedScale, World};
use std::collections::BTreeMap;
use std::io;
use std::net::TcpListener;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};

#[derive(Debug)]
struct Bus {
    line: Line,
    served: Served,
    troubles: Troubles,
}

/// The buses, in the order of the scenario.
#[derive(Debug)]
pub struct Stage(Vec<Bus>);

impl Stage {
    /// Serves the world's buses on these ports. Needs a runtime.
    ///
    /// # Errors
    /// A port cannot be used.
    pub fn open(world: &World, listeners: Vec<TcpListener>) -> io::Result<Self> {
        let scenario = world.scenario();
        let mut buses = Vec::new();
        for (index, (spec, listener)) in scenario.modbus.iter().zip(listeners).enumerate() {
            let mut banks = BTreeMap::new();
            for (number, device) in world.devices().iter().enumerate() {
                if let Some(on) = device.modbus.filter(|on| on.bus == index) {
                    let faults = Faults::new(spec.faults, scenario.seed, number as u64);
                    banks.insert(on.unit, Bank::new(on.make, faults));
                }
            }
            let line: Line = Arc::new(Mutex::new(banks));
            let framing = match spec.framing {
                BusFraming::Tcp => Framing::Tcp,
                BusFraming::Rtu => Framing::Rtu { baud: spec.baud },
            };
            let served = serve(listener, framing, Arc::clone(&line))?;
            let troubles = Troubles::new(&spec.trouble, scenario.seed, index as u64);
            buses.push(Bus { line, served, troubles });
        }
        Ok(Self(buses))
    }

    /// Puts what a scale shows into its registers.
    pub fn show(&self, world: &World, shown: &TimedScale) {
        let Some(on) = world.devices()[shown.device].modbus else { return };
        let mut banks = self.0[on.bus].line.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(scale) = banks.get_mut(&on.unit).and_then(|b| b.scales.get_mut(shown.channel)) {
            *scale = Some(shown.scale);
        }
    }

    /// What befalls until `end` and was not told yet: the bus's number with each change.
    pub fn troubles_until(&mut self, end: Micros) -> Vec<(usize, TimedChange)> {
        let of = |(number, bus): (usize, &mut Bus)| {
            bus.troubles
                .until(end)
                .into_iter()
                .map(move |change| (number, change))
                .collect::<Vec<_>>()
        };
        self.0.iter_mut().enumerate().flat_map(of).collect()
    }

    /// Lets it happen.
    pub fn befall(&self, bus: usize, TimedChange { unit, change, .. }: TimedChange) {
        let bus = &self.0[bus];
        if unit.is_none() {
            match change {
                Change::Off => bus.served.powered.store(false, Relaxed),
                Change::Starting => bus.served.powered.store(true, Relaxed),
                Change::On | Change::Stuck | Change::Loose => {}
            }
        }
        let mut banks = bus.line.lock().unwrap_or_else(PoisonError::into_inner);
        for (_, bank) in banks.iter_mut().filter(|(own, _)| unit.is_none_or(|unit| unit == **own)) {
            match change {
                Change::Off => bank.switch(Power::Off),
                Change::Starting => bank.switch(Power::Starting),
                Change::On => bank.switch(Power::On),
                Change::Stuck => bank.stick(true),
                Change::Loose => bank.stick(false),
            }
        }
    }
}
