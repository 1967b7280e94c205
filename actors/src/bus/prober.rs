//! A prober: a master that only reads, for a line whose units nobody named yet.
//!
//! It obeys the rules of the bus actor, and has more time: after any error but an exception it drops a TCP connection, and
//! drains a serial line for as long as a whole answer may take; and it never asks a unit for as many registers as in a request
//! that went unanswered ([`Unit`]). It cannot write: there is no such call.

use std::{collections::BTreeMap, time::Duration};

use device_profiles::{
    modbus::{ModbusMap, Request},
    profile::Poll,
};

use super::{
    BusAddress,
    link::{CallError, Items, Link},
    unit::Unit,
};

/// A line that is probed.
pub struct Prober {
    address: BusAddress,
    link: Option<Link>,
    units: BTreeMap<u8, Unit>,
}

impl Prober {
    /// A prober of the line at an address; it connects when it is asked to read.
    pub fn new(address: BusAddress) -> Self {
        Self { address, link: None, units: BTreeMap::new() }
    }

    /// Connects, unless it is connected. An error is the line's, and no unit's.
    pub async fn connect(&mut self) -> Result<(), CallError> {
        if self.link.is_none() {
            self.link = Some(Link::open(&self.address).await?);
        }
        Ok(())
    }

    /// Reads a stretch of a unit, as `map` says that it wants to be asked.
    pub async fn read(
        &mut self,
        unit: u8,
        map: &ModbusMap,
        request: Request,
    ) -> Result<Items, CallError> {
        let (of, mut link) = self.ready(unit).await?;
        let result = of.read(&mut link, map, request).await;
        self.put_back(link, map, result.as_ref().err()).await?;
        result
    }

    /// Polls a stream of a unit into an image.
    pub async fn image(
        &mut self,
        unit: u8,
        map: &ModbusMap,
        poll: &Poll,
    ) -> Result<Vec<u8>, CallError> {
        let (of, mut link) = self.ready(unit).await?;
        let result = of.image(&mut link, map, &poll.requests, &poll.blocks).await;
        self.put_back(link, map, result.as_ref().err()).await?;
        result
    }

    async fn ready(&mut self, unit: u8) -> Result<(&mut Unit, Link), CallError> {
        let link = match self.link.take() {
            Some(link) => link,
            None => Link::open(&self.address).await?,
        };
        Ok((self.units.entry(unit).or_insert_with(|| Unit::new(unit)), link))
    }

    /// Keeps a link that is in step, and mends one that is not.
    async fn put_back(
        &mut self,
        link: Link,
        map: &ModbusMap,
        error: Option<&CallError>,
    ) -> Result<(), CallError> {
        self.link = match error {
            None | Some(CallError::Exception(_)) => Some(link),
            Some(CallError::Down(_)) => None,
            Some(CallError::Timeout(_) | CallError::Foreign(_) | CallError::Length { .. }) => {
                link.mend(Duration::from_millis(map.timeout_ms.into())).await?
            }
        };
        Ok(())
    }
}
