//! What a reader says of itself: whether it listens, what it could not keep, and which of its numbered events are missing.

use device_profiles::{DeviceId, ReaderEvent};

use crate::{
    book::Origin,
    effects::{Effects, EventKind},
    entry::HubTime,
    limits::NUMBERS_GAP_MAX,
    state::State,
};

impl State {
    /// What a reader says of itself.
    pub(crate) fn reader_event(
        &mut self,
        origin: &Origin,
        effects: &mut Effects,
        event: &ReaderEvent,
    ) {
        let Some(device) = &origin.device else { return };
        let readers = &mut self.rfid.readers;
        match event {
            ReaderEvent::Connected | ReaderEvent::Started => {
                readers.listen(device, true, origin.at);
            }
            ReaderEvent::Stopped => readers.listen(device, false, origin.at),
            ReaderEvent::Antenna { port, connected } => {
                if readers.plug(device, *port, *connected, origin.at) {
                    let kind = EventKind::Listening { antenna: Some(*port), on: *connected };
                    effects.tell(Some(device), origin.at, kind);
                }
            }
            ReaderEvent::Input { .. } | ReaderEvent::Filling { .. } => {}
            ReaderEvent::Overflow { reads } => {
                self.source_lost(device, origin.at, effects, reads.unwrap_or(1));
            }
            ReaderEvent::Trouble { text } => {
                let kind = EventKind::ReaderTrouble { text: text.clone() };
                effects.tell(Some(device), origin.at, kind);
            }
        }
    }

    /// The source numbers its events: what is missing is counted.
    pub(crate) fn event_numbers(
        &mut self,
        origin: &Origin,
        effects: &mut Effects,
        (first, last): (u64, u64),
        missing: u64,
    ) {
        let Some(id) = &origin.device else { return };
        let Some(reader) = self.rfid.readers.reader_mut(id) else { return };
        let gap = match reader.last_number {
            // Numbers that go back are of a source that began anew, or were told before.
            Some(known) if first > known && first - known <= NUMBERS_GAP_MAX => first - known - 1,
            Some(_) | None => 0,
        };
        let goes_back = reader
            .last_number
            .is_some_and(|known| last < known && known - last < NUMBERS_GAP_MAX && first > 1);
        if !goes_back {
            reader.last_number = Some(last);
        }
        let lost = gap.saturating_add(missing.min(NUMBERS_GAP_MAX));
        if lost > 0 {
            self.source_lost(id, origin.at, effects, lost);
        }
    }

    /// So many of a device's frames or reads never came.
    fn source_lost(&mut self, device: &DeviceId, at: HubTime, effects: &mut Effects, frames: u64) {
        if let Some(device) = self.devices.get_mut(device.as_str()) {
            device.ledger.counts.lose(frames);
        }
        effects.tell(Some(device), at, EventKind::SourceLoss { frames });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::DeviceSpec;
    use device_profiles::FacilityId;

    #[test]
    fn numbers_that_are_missing_are_counted() {
        let mut state = State::new(FacilityId::parse("f1").unwrap());
        let device = DeviceId::parse("gate").unwrap();
        let spec = DeviceSpec { id: device.clone(), slot: None, channels: Vec::new() };
        state.devices.get_or_insert_with(&device, || crate::device::Device::new(spec));
        state.rfid.antennas(&device, &[], HubTime(0));
        let origin = Origin { device: Some(device), ..state.own_origin(64) };
        let mut told = |numbers, missing| {
            let mut effects = Effects::default();
            state.event_numbers(&origin, &mut effects, numbers, missing);
            match effects.events.first().map(|event| &event.kind) {
                Some(EventKind::SourceLoss { frames }) => *frames,
                _ => 0,
            }
        };
        assert_eq!(told((100, 110), 0), 0, "where a source begins is not known");
        assert_eq!(told((111, 120), 0), 0);
        assert_eq!(told((124, 130), 2), 5, "three before and two within");
        assert_eq!(told((115, 118), 0), 0, "a repeat says nothing of what comes next");
        assert_eq!(told((131, 131), 0), 0);
        assert_eq!(told((1, 5), 0), 0, "the source began anew");
        assert_eq!(told((7, 7), 0), 1);
        assert_eq!(told((9 + NUMBERS_GAP_MAX, 9 + NUMBERS_GAP_MAX), 0), 0, "too far to be a gap");
        assert_eq!(state.ledger("gate").map(|hour| hour.counts.source_lost), Some(6));
    }
}
