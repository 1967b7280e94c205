//! The sweep: small requests over a stretch of registers nobody named, around those that must not be read.
//!
//! Blocks are small because a device that has not all of a block refuses the whole of it; a refused block is asked for in
//! halves down to single registers.

use crate::modbus::{Request, Stretch, Table};

/// Registers asked for at once.
pub const SWEEP_REGISTERS_MAX: u16 = 8;

/// Requests over the addresses `from` to `to`, both included, that touch none of the forbidden stretches.
pub fn sweep(table: Table, from: u16, to: u16, forbidden: &[Stretch]) -> Vec<Request> {
    let barred =
        |at: u16| forbidden.iter().any(|s| s.table == table && (s.from..=s.to).contains(&at));
    let mut requests: Vec<Request> = Vec::new();
    for at in (from..=to).filter(|at| !barred(*at)) {
        match requests.last_mut() {
            Some(last) if last.count < SWEEP_REGISTERS_MAX && last.end() == u32::from(at) => {
                last.count += 1;
            }
            Some(_) | None => requests.push(Request { table, start: at, count: 1 }),
        }
    }
    requests
}

/// The halves of a request; none when it is for one register.
pub fn halves(request: Request) -> Option<[Request; 2]> {
    let first = request.count / 2;
    (first > 0).then(|| {
        let rest =
            Request { start: request.start + first, count: request.count - first, ..request };
        [Request { count: first, ..request }, rest]
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_register_that_may_be_read_is_read_once(
            from in 0u16..400, length in 0u16..300, bars in prop::collection::vec((0u16..700, 0u16..40), 0..4),
        ) {
            let to = from + length;
            let forbidden: Vec<Stretch> = bars
                .iter()
                .map(|(from, more)| Stretch { table: Table::Holding, from: *from, to: from + more })
                .collect();
            let mut read = Vec::new();
            for request in sweep(Table::Holding, from, to, &forbidden) {
                prop_assert!((1..=SWEEP_REGISTERS_MAX).contains(&request.count));
                read.extend(request.start..request.start + request.count);
            }
            let may = |at: &u16| !forbidden.iter().any(|s| (s.from..=s.to).contains(at));
            let wanted: Vec<u16> = (from..=to).filter(may).collect();
            prop_assert_eq!(read, wanted);
        }

        #[test]
        fn halves_are_the_whole(start in 0u16..1_000, count in 1u16..=125) {
            let whole = Request { table: Table::Input, start, count };
            match halves(whole) {
                None => prop_assert_eq!(count, 1),
                Some([a, b]) => {
                    prop_assert!(a.count > 0 && b.count > 0);
                    prop_assert_eq!((a.start, a.end(), b.end()), (start, u32::from(b.start), whole.end()));
                }
            }
        }
    }
}
