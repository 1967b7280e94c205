//! A device that keeps what is not acknowledged, and what all devices together know: the oracle.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use actors::ports::rng::{Rng, SplitMix};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{Instant, sleep, timeout},
};
use turmoil::net::{TcpStream, tcp::OwnedWriteHalf};

/// Where the hub listens.
pub const PORT: u16 = 1_883;
/// Readings a device has to tell.
pub const READINGS: u64 = 400;
/// A device that hears nothing for so long connects anew.
const PATIENCE: Duration = Duration::from_millis(700);

/// Id of a device.
pub fn id(device: u64) -> String {
    format!("d{device}")
}

/// What the devices know: the oracle.
#[derive(Debug, Default)]
pub struct Truth {
    /// What each reading says.
    pub deltas: BTreeMap<(u64, u64), i64>,
    pub acknowledged: BTreeSet<(u64, u64)>,
    pub repeated: u64,
}

/// A device that tells its readings, keeps what was not acknowledged, and sends that again.
pub struct Device {
    number: u64,
    rng: SplitMix,
    truth: Arc<Mutex<Truth>>,
    /// Sent at least once and not acknowledged.
    kept: BTreeSet<u64>,
    next: u64,
}

impl Device {
    /// A device that has said nothing yet.
    pub fn new(number: u64, rng: SplitMix, truth: &Arc<Mutex<Truth>>) -> Self {
        Self { number, rng, truth: Arc::clone(truth), kept: BTreeSet::new(), next: 1 }
    }

    /// Tells everything.
    pub async fn live(mut self) -> turmoil::Result {
        while self.next <= READINGS || !self.kept.is_empty() {
            // Whatever ends a connection, the next one goes on.
            let _ = self.connection().await;
            sleep(Duration::from_millis(self.rng.jitter_ms(200))).await;
        }
        Ok(())
    }

    async fn connection(&mut self) -> io::Result<()> {
        let late = |_| io::Error::from(io::ErrorKind::TimedOut);
        let stream = timeout(PATIENCE, TcpStream::connect(("hub", PORT))).await.map_err(late)??;
        let (mut read, mut write) = stream.into_split();
        give(&mut write, id(self.number).as_bytes()).await?;
        for seq in self.kept.clone() {
            self.truth.lock().unwrap().repeated += 1;
            self.send(&mut write, seq).await?;
        }
        let mut heard = Instant::now();
        let mut acks = Vec::new();
        loop {
            if self.next <= READINGS {
                let seq = self.next;
                self.next += 1;
                self.kept.insert(seq);
                self.send(&mut write, seq).await?;
                if self.rng.bits().is_multiple_of(9) {
                    self.truth.lock().unwrap().repeated += 1;
                    self.send(&mut write, seq).await?;
                }
            }
            let pause = Duration::from_millis(self.rng.jitter_ms(60));
            if self.kept.is_empty() {
                if self.next > READINGS {
                    return Ok(());
                }
                sleep(pause).await;
                continue;
            }
            match timeout(pause, read.read_buf(&mut acks)).await {
                Ok(Ok(1..)) => heard = Instant::now(),
                Ok(Ok(0)) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(Err(error)) => return Err(error),
                Err(_) if heard.elapsed() > PATIENCE => return Err(io::ErrorKind::TimedOut.into()),
                Err(_) => {}
            }
            while let Some((seq, rest)) = acks.split_first_chunk() {
                let seq = u64::from_be_bytes(*seq);
                self.kept.remove(&seq);
                self.truth.lock().unwrap().acknowledged.insert((self.number, seq));
                acks = rest.to_vec();
            }
        }
    }

    async fn send(&self, write: &mut OwnedWriteHalf, seq: u64) -> io::Result<()> {
        let delta = {
            let mut truth = self.truth.lock().unwrap();
            let new = [-3, -2, -1, 1, 2, 3, 4, 5, 6][(self.rng.bits() % 9) as usize];
            *truth.deltas.entry((self.number, seq)).or_insert(new)
        };
        let mut bytes = seq.to_be_bytes().to_vec();
        let reading =
            format!(r#"{{"seq":{seq},"boot":"b","values":{{"sku":"sku","delta":{delta}}}}}"#);
        bytes.extend_from_slice(reading.as_bytes());
        give(write, &bytes).await
    }
}

async fn give(write: &mut OwnedWriteHalf, bytes: &[u8]) -> io::Result<()> {
    let mut out = u16::try_from(bytes.len()).unwrap().to_be_bytes().to_vec();
    out.extend_from_slice(bytes);
    write.write_all(&out).await
}
