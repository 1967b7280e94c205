//! Servers of the simulator beside a test that runs programs and waits for them: on a thread and a runtime of their own.

use std::{sync::mpsc, thread::JoinHandle};

use tokio::sync::oneshot;

/// The thread; what runs there ends with this.
pub(crate) struct Aside {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Aside {
    /// Has something started there, and hands it out.
    pub fn start<T: Send + 'static>(start: impl FnOnce() -> T + Send + 'static) -> (T, Self) {
        let (tell, told) = mpsc::channel();
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            runtime.enable_all().build().unwrap().block_on(async move {
                tell.send(start()).unwrap_or_else(|_| panic!("nobody waits"));
                let _ = stopped.await;
            });
        });
        (told.recv().unwrap(), Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        drop(self.stop.take());
        let _ = self.thread.take().map(JoinHandle::join);
    }
}
