//! What a process printed, line by line, for waiting and for the report of a failure.

use std::{
    io::{BufRead, BufReader, Read},
    sync::{Arc, Condvar, Mutex},
    time::{Duration, Instant},
};

/// Lines shown of a failure.
const SHOWN_LINES: usize = 200;

#[derive(Default)]
struct Inner {
    lines: Vec<String>,
    /// Pipes that are still open.
    open: usize,
}

/// Lines of one or more processes, standard output and error together.
#[derive(Clone, Default)]
pub struct Log {
    inner: Arc<(Mutex<Inner>, Condvar)>,
}

impl Log {
    /// Reads a pipe to its end on a thread of its own.
    pub fn follow(&self, pipe: impl Read + Send + 'static) {
        self.inner.0.lock().unwrap().open += 1;
        let log = self.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(pipe).split(b'\n').map_while(Result::ok) {
                log.push(String::from_utf8_lossy(&line).into_owned());
            }
            log.inner.0.lock().unwrap().open -= 1;
            log.inner.1.notify_all();
        });
    }

    /// Adds a line.
    pub fn push(&self, line: String) {
        self.inner.0.lock().unwrap().lines.push(line);
        self.inner.1.notify_all();
    }

    /// How many lines there are: a mark to look from.
    pub fn len(&self) -> usize {
        self.inner.0.lock().unwrap().lines.len()
    }

    /// Nothing was printed.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Everything from a mark on.
    pub fn text(&self, from: usize) -> String {
        self.inner.0.lock().unwrap().lines[from..].join("\n")
    }

    /// The first line from a mark on that `wanted` accepts; `None` when all pipes closed or `wait` passed without one.
    pub fn wait_for(
        &self,
        from: usize,
        wait: Duration,
        wanted: impl Fn(&str) -> bool,
    ) -> Option<String> {
        let until = Instant::now() + wait;
        let (inner, changed) = &*self.inner;
        let mut inner = inner.lock().unwrap();
        loop {
            if let Some(found) = inner.lines[from..].iter().find(|line| wanted(line)) {
                return Some(found.clone());
            }
            let left = until.saturating_duration_since(Instant::now());
            if inner.open == 0 || left.is_zero() {
                return None;
            }
            inner = changed.wait_timeout(inner, left).unwrap().0;
        }
    }

    /// Every pipe is read to its end: whoever wrote has ended.
    pub fn is_closed(&self) -> bool {
        self.inner.0.lock().unwrap().open == 0
    }

    /// Waits until every pipe is read to its end, so that the last words are in.
    pub fn wait_closed(&self) {
        let (inner, changed) = &*self.inner;
        let limit = Duration::from_secs(5);
        drop(
            changed
                .wait_timeout_while(inner.lock().unwrap(), limit, |inner| inner.open > 0)
                .unwrap(),
        );
    }

    /// Prints the last lines, for a test that failed.
    pub fn show(&self) {
        let inner = self.inner.0.lock().unwrap();
        let from = inner.lines.len().saturating_sub(SHOWN_LINES);
        eprintln!("── the hub's log, last {} lines", inner.lines.len() - from);
        for line in &inner.lines[from..] {
            eprintln!("   {line}");
        }
    }
}
