//! One generator thread: connects its share of the devices, then ticks.

use crate::load::connection::{Connection, Shared};
use crate::load::layout::device_id;
use crate::load::{LoadError, Plan, Record};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::{JoinSet, LocalSet};
use tokio::time::sleep;

/// From one tick to the next: how late a frame may be written, and an acknowledgement seen, for want of a tick.
const TICK: Duration = Duration::from_millis(2);
/// Handshakes at once.
const HANDSHAKES_MAX: usize = 32;
/// From the last connection to the schedule's start, µs.
const LEAD_US: u64 = 20_000;

/// Carries out thread number `thread`'s share of `plan`: devices `thread`, `thread + threads`, ….
pub(super) fn work(plan: &Plan, thread: usize, record: Arc<Record>) -> Result<(), LoadError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let local = LocalSet::new();
    let result = local.block_on(&runtime, share(plan.clone(), thread, Arc::clone(&record)));
    if result.is_err() {
        // The other threads must not wait for this one.
        record.stop();
    }
    result
}

async fn share(plan: Plan, thread: usize, record: Arc<Record>) -> Result<(), LoadError> {
    let shared = Shared::new(plan, Arc::clone(&record));
    let plan = &shared.plan;
    let connections: Vec<Rc<Connection>> = (thread..plan.devices())
        .step_by(plan.threads)
        .map(|device| Connection::new(&shared, device))
        .collect();
    connect_all(&shared, &connections).await?;
    for connection in &connections {
        tokio::task::spawn_local(Rc::clone(connection).listen());
    }
    if record.ready.fetch_add(1, Relaxed) + 1 == plan.threads {
        record.start_at(record.now_us() + LEAD_US);
    }
    let start_us = loop {
        match record.started_us() {
            Some(at) => break at,
            None if record.is_stopped() => return Ok(()),
            None => sleep(TICK).await,
        }
    };
    tick(&shared, &connections, start_us).await;
    record.schedule_over();
    let deadline_us = record.now_us() + plan.drain.as_micros() as u64;
    while record.now_us() < deadline_us && !connections.iter().all(|c| c.is_done()) {
        pump(&shared, record.now_us());
        rest(&shared).await;
    }
    connections.iter().for_each(|c| c.close());
    Ok(())
}

async fn connect_all(shared: &Rc<Shared>, connections: &[Rc<Connection>]) -> Result<(), LoadError> {
    let permits = Rc::new(Semaphore::new(HANDSHAKES_MAX));
    let mut tasks = JoinSet::new();
    for connection in connections {
        let (connection, permits) = (Rc::clone(connection), Rc::clone(&permits));
        tasks.spawn_local(async move {
            // The semaphore is never closed.
            let _permit = permits.acquire().await;
            connection.connect().await.map_err(|why| (connection.device, why))
        });
    }
    while let Some(done) = tasks.join_next().await {
        let failed = |(device, why)| LoadError::Connect {
            device: device_id(device),
            mqtt: shared.plan.mqtt.clone(),
            why,
        };
        done.map_err(|_| LoadError::Panicked)?.map_err(failed)?;
    }
    Ok(())
}

/// Follows the schedule to its end.
async fn tick(shared: &Rc<Shared>, connections: &[Rc<Connection>], start_us: u64) {
    let Shared { plan, record, .. } = &**shared;
    let (period_us, devices) = (plan.period_us(), plan.devices() as f64);
    let burst = u64::from(plan.burst_frames);
    let end_us = start_us + plan.total_us();
    // All connections of the thread, round after round, in the order of their moments.
    let mut turns = (0_u64..).flat_map(|round| {
        connections.iter().map(move |c| {
            let offset = (round as f64 + c.device as f64 / devices) * period_us;
            (start_us + offset as u64, c)
        })
    });
    let mut next = turns.next();
    loop {
        let now_us = record.now_us();
        if record.is_stopped() {
            return;
        }
        while let Some((at_us, connection)) = next.filter(|(at_us, _)| *at_us <= now_us) {
            if at_us >= end_us {
                break;
            }
            connection.due(burst);
            next = turns.next();
        }
        pump(shared, now_us);
        if now_us >= end_us {
            return;
        }
        rest(shared).await;
    }
}

/// Lets a tick pass. The thread sleeps and not the task: sockets that become readable meanwhile are then served with one
/// wake-up, where the runtime's own sleep would wake for each of them, and waking costs more than reading.
///
/// The runtime serves a few dozen tasks for each yield, so it is yielded until none has anything left: an acknowledgement
/// left unread would be measured as the hub's delay.
async fn rest(shared: &Shared) {
    std::thread::sleep(TICK);
    loop {
        let before = shared.reads.get();
        tokio::task::yield_now().await;
        if shared.reads.get() == before {
            return;
        }
    }
}

/// Writes on every connection that has something to write.
fn pump(shared: &Shared, now_us: u64) {
    let mut busy = std::mem::take(&mut *shared.busy.borrow_mut());
    busy.retain(|c| c.pump(now_us));
    shared.busy.borrow_mut().append(&mut busy);
}
