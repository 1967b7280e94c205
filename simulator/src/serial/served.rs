//! A module on a port, on the wall clock.

use super::{Module, Port};
use crate::clock::WallClock;
use std::{
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::JoinHandle,
    time::Duration,
};

/// Between two steps of the module's time.
const TICK: Duration = Duration::from_millis(10);
/// Bytes heard at once.
const HEARD_BYTES: usize = 256;

#[derive(Debug)]
struct Bench {
    module: Module,
    port: Port,
}

/// A served module; it is pulled with this.
#[derive(Debug)]
pub struct Served {
    bench: Arc<Mutex<Bench>>,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Served {
    /// Serves a module on a port.
    ///
    /// # Errors
    /// No thread can be had.
    pub fn start(module: Module, port: Port) -> io::Result<Self> {
        let bench = Arc::new(Mutex::new(Bench { module, port }));
        let ended = Arc::new(AtomicBool::new(false));
        let (shared, over) = (Arc::clone(&bench), Arc::clone(&ended));
        let clock = WallClock::start();
        let live = move || {
            let mut heard = [0; HEARD_BYTES];
            while !over.load(Relaxed) {
                let mut bench = lock(&shared);
                let Bench { module, port } = &mut *bench;
                // Pulled, it has no power.
                if port.is_plugged() {
                    let length = port.hear(&mut heard);
                    module.receive(heard.get(..length).unwrap_or_default());
                    module.advance(clock.unix_us());
                    port.say(&module.outgoing());
                }
                drop(bench);
                std::thread::sleep(TICK);
            }
        };
        let thread = std::thread::Builder::new().name("r200".into()).spawn(live)?;
        Ok(Self { bench, ended, thread: Some(thread) })
    }

    /// Uses the module: to look at it, or to spoil it.
    pub fn with<T>(&self, use_it: impl FnOnce(&mut Module) -> T) -> T {
        use_it(&mut lock(&self.bench).module)
    }

    /// Pulls it out; plugged in again it has forgotten what it was doing.
    pub fn pull(&self) {
        let mut bench = lock(&self.bench);
        bench.port.pull();
        bench.module.restart();
    }

    /// Plugs it in again, under the path it had.
    ///
    /// # Errors
    /// No pseudo-terminal can be had.
    pub fn plug(&self) -> io::Result<()> {
        lock(&self.bench).port.plug()
    }
}

fn lock(bench: &Mutex<Bench>) -> MutexGuard<'_, Bench> {
    bench.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Served {
    fn drop(&mut self) {
        self.ended.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        llrp::crowd,
        serial::{Ending, Scanner},
    };
    use device_profiles::r200::{Deframer, frames};
    use std::{
        fs::File,
        io::{Read, Write},
        path::PathBuf,
        sync::mpsc,
    };

    const PATIENCE: Duration = Duration::from_secs(20);
    const MULTI: [u8; 10] = [0xBB, 0, 0x27, 0, 3, 0x22, 0xFF, 0xFF, 0x4A, 0x7E];

    fn port(name: &str) -> Port {
        let path: PathBuf =
            std::env::temp_dir().join(format!("stockfold-{name}-{}", std::process::id()));
        Port::open(&path).unwrap()
    }

    /// Pieces that come over a line, as they come; the end of the line closes the channel.
    fn listen(mut line: File) -> mpsc::Receiver<Vec<u8>> {
        let (tell, told) = mpsc::sync_channel(1_024);
        std::thread::spawn(move || {
            let mut piece = [0; 256];
            while let Ok(length @ 1..) = line.read(&mut piece) {
                if tell.send(piece[..length].to_vec()).is_err() {
                    break;
                }
            }
        });
        told
    }

    fn open(path: &std::path::Path) -> File {
        File::options().read(true).write(true).open(path).unwrap()
    }

    #[test]
    fn a_module_tells_its_tags_is_pulled_and_waits_to_be_told_again() {
        let port = port("r200");
        let path = port.path().to_owned();
        let module = Module::new(crowd(1, 5, 1, 200.0), 1, WallClock::start().unix_us());
        let served = Served::start(module, port).unwrap();
        for _ in 0..2 {
            let mut line = open(&path);
            assert_eq!(served.with(|module| module.rounds()), 0);
            line.write_all(&MULTI).unwrap();
            let (said, mut deframer, mut tags) = (listen(line), Deframer::default(), 0);
            while tags < 20 {
                let whole = deframer.push(&said.recv_timeout(PATIENCE).unwrap());
                tags += frames(&whole).0.iter().filter(|frame| frame.heard().is_some()).count();
            }
            assert_eq!(deframer.noise(), 0);
            served.pull();
            assert!(!path.exists());
            while said.recv_timeout(PATIENCE).is_ok() {}
            served.plug().unwrap();
        }
        drop(served);
        assert!(!path.exists());
    }

    #[test]
    fn a_scanner_types_lines() {
        for (ending, end) in [(Ending::Cr, "\r"), (Ending::Lf, "\n"), (Ending::CrLf, "\r\n")] {
            let mut scanner = Scanner::new(port("scanner"), ending);
            let said = listen(open(scanner.port.path()));
            assert!(scanner.scan("]C1", "0104006381333931"));
            let wanted = format!("]C10104006381333931{end}");
            let mut heard = Vec::new();
            while heard.len() < wanted.len() {
                heard.extend(said.recv_timeout(PATIENCE).unwrap());
            }
            assert_eq!(heard, wanted.as_bytes());
            scanner.port.pull();
            assert!(!scanner.scan("", "x"), "nobody hears it");
        }
    }
}
