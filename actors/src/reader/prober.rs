//! Who is at an address: connects, waits for the greeting, asks for capabilities and says good-bye. Nothing at the reader is
//! changed.

use std::time::Duration;

use device_profiles::llrp::Capabilities;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{Instant, timeout},
};

use super::{
    Dial, ReaderAddress, ReaderError, Session,
    actor::{READ_BYTES_MAX, connect, down, flush},
};

/// A reader tells what it can do within this time, in milliseconds, the connection included.
pub const LOOK_MS_MAX: u64 = 10_000;

/// Asks whoever is there what it can do.
pub async fn look(dial: &Dial, address: &ReaderAddress) -> Result<Capabilities, ReaderError> {
    let late = ReaderError::Timeout { what: "what it can do", ms: LOOK_MS_MAX };
    timeout(Duration::from_millis(LOOK_MS_MAX), ask(dial, address)).await.unwrap_or(Err(late))
}

async fn ask(dial: &Dial, address: &ReaderAddress) -> Result<Capabilities, ReaderError> {
    let began = Instant::now();
    let now_us = || u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
    let mut pipe = connect(dial, address).await?;
    let mut session = Session::look(now_us());
    let mut chunk = Vec::with_capacity(READ_BYTES_MAX);
    let ended = loop {
        if session.is_closed() {
            break Ok(());
        }
        if let Err(why) = flush(&mut *pipe, &mut session).await {
            break Err(why);
        }
        chunk.clear();
        let wait = Duration::from_micros(session.due_us().saturating_sub(now_us()));
        let step = match timeout(wait, pipe.read_buf(&mut chunk)).await {
            Err(_) => Ok(()),
            Ok(Ok(0)) => Err(ReaderError::Closed),
            Ok(Ok(_)) => session.receive(&chunk, now_us()),
            Ok(Err(error)) => Err(down(&error)),
        };
        // What a reader says of tags meanwhile is for whoever listens.
        while session.frame().is_some() {}
        if let Err(why) = step.and_then(|()| session.tick(now_us())) {
            break Err(why);
        }
    };
    // It knows already; whether its end is heard changes nothing.
    let _ = timeout(Duration::from_millis(LOOK_MS_MAX), pipe.shutdown()).await;
    match (session.capabilities(), ended) {
        // One that hangs up at good-bye instead of answering it has told all that was asked.
        (Some(capabilities), _) => Ok(capabilities.clone()),
        (None, Err(why)) => Err(why),
        (None, Ok(())) => Err(ReaderError::Closed),
    }
}
