//! One reader's connection: what it heard is written down and published every [`PERIOD`].
//!
//! While the hub is away messages wait, at most [`WAITING_MESSAGES_MAX`]; what does not fit is given up, and the make tells of it
//! as the real one does.

use crate::{
    clock::WallClock,
    llrp::Source,
    mqtt::{
        client::{self, ClientError, Config, Notice, Order},
        session::Message,
    },
    publish::Format,
};
use std::{pin::pin, time::Duration};
use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval},
};

/// Between two looks at what was heard.
pub const PERIOD: Duration = Duration::from_millis(500);
/// Messages that wait for the connection.
pub const WAITING_MESSAGES_MAX: usize = 256;
/// Notices of the connection that wait.
const NOTICES_MAX: usize = 256;

/// Publishes what a reader hears, until it is dropped.
///
/// # Errors
/// [`ClientError`] when the hub will not have this device.
pub async fn feed(
    config: Config,
    mut format: Format,
    mut source: Source,
) -> Result<(), ClientError> {
    let device = config.device.clone();
    let topic = format.topic(&device);
    let clock = WallClock::start();
    let (orders, inbox) = mpsc::channel(WAITING_MESSAGES_MAX);
    let (tell, mut notices) = mpsc::channel(NOTICES_MAX);
    let mut connection = pin!(client::run(config, inbox, tell));
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut heard_us, mut sent) = (clock.unix_us(), 0);
    let mut publish = |topic: String, payload: Vec<u8>| {
        sent += 1;
        orders.try_send(Order::Publish(Message { tag: sent, topic, payload })).is_ok()
    };
    loop {
        tokio::select! {
            ended = &mut connection => return ended,
            Some((_, notice)) = notices.recv() => match notice {
                Notice::Connected => {
                    if let Some((topic, text)) = format.greeting(&device) {
                        publish(topic, text.to_vec());
                    }
                }
                Notice::Lost(why) => tracing::warn!(device, why, "connection lost; trying on"),
                Notice::Refused(_, code) => tracing::warn!(device, code, "message refused"),
                Notice::Acked(_) | Notice::Received { .. } => {}
            },
            _ = ticks.tick() => {
                let now_us = clock.unix_us();
                let reads = source(heard_us, now_us);
                heard_us = now_us;
                let messages = format.messages(&reads, now_us);
                for message in messages {
                    if !publish(topic.clone(), message) {
                        format.give_up();
                    }
                }
            }
        }
    }
}
