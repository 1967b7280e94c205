//! The device's end of a serial line: a pseudo-terminal whose other end is under a path that stays.

use rustix::{
    fs::{OFlags, fcntl_setfl},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{OptionalActions, tcgetattr, tcsetattr},
};
use std::{
    fs::File,
    io::{self, ErrorKind, Read, Write},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

/// A port; it is pulled with this.
#[derive(Debug)]
pub struct Port {
    path: PathBuf,
    ends: Option<(File, File)>,
}

impl Port {
    /// A port that is plugged in under a path, which must not exist.
    ///
    /// # Errors
    /// No pseudo-terminal can be had, or the path cannot be made.
    pub fn open(path: &Path) -> io::Result<Self> {
        let mut port = Self { path: path.to_owned(), ends: None };
        port.plug()?;
        Ok(port)
    }

    /// Where the hub opens it.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// It is plugged in.
    #[must_use]
    pub fn is_plugged(&self) -> bool {
        self.ends.is_some()
    }

    /// Plugs it in, under the path it had.
    ///
    /// # Errors
    /// No pseudo-terminal can be had, or the path cannot be made.
    pub fn plug(&mut self) -> io::Result<()> {
        if self.is_plugged() {
            return Ok(());
        }
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY)?;
        grantpt(&master)?;
        unlockpt(&master)?;
        let name = ptsname(&master, Vec::new())?;
        let name = name.into_string().map_err(|_| io::Error::from(ErrorKind::InvalidData))?;
        // Held open, or the master ends whenever the hub closes the line.
        let keep = File::options().read(true).write(true).open(&name)?;
        let mut settings = tcgetattr(&keep)?;
        settings.make_raw();
        tcsetattr(&keep, OptionalActions::Now, &settings)?;
        fcntl_setfl(&master, OFlags::NONBLOCK)?;
        symlink(&name, &self.path)?;
        self.ends = Some((File::from(master), keep));
        Ok(())
    }

    /// Pulls it: the path is gone, and whoever has it open is told.
    pub fn pull(&mut self) {
        if self.ends.take().is_some() {
            // Somebody else may have removed it; gone is gone.
            let _ = std::fs::remove_file(&self.path);
        }
    }

    /// Says what fits on the line; the rest is lost, as it is on a line that nobody reads. The bytes that went out.
    pub fn say(&mut self, bytes: &[u8]) -> usize {
        let Some((master, _)) = &mut self.ends else { return 0 };
        let mut written = 0;
        while let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
            match master.write(rest) {
                Ok(0) | Err(_) => break,
                Ok(more) => written += more,
            }
        }
        written
    }

    /// What the hub has said since the last look, as far as it fits.
    pub fn hear(&mut self, buffer: &mut [u8]) -> usize {
        // Nothing there yet and a broken line are the same for a device: it hears nothing.
        self.ends.as_mut().and_then(|(master, _)| master.read(buffer).ok()).unwrap_or(0)
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        self.pull();
    }
}
