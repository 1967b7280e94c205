//! `stockfold journal`: check every record of a stopped hub's journal, or keep what is sound.
//!
//! A hub that never recorded anything has prepared its segments and begun none. To salvage that is a journal without a sound
//! header, which it will not guess about; here it is told from one whose headers were lost by what lies behind their place.

use std::{io, process::ExitCode};

use actors::{
    journal::{Lost, SalvageError, format::HEADER_BYTES, salvage},
    ports::fs::{FileIo, Fs, RealFs},
};
use anyhow::Context;
use clap::Subcommand;
use hub::{config::Config, data_dir::DataDir};
use indicatif::ProgressBar;

/// Bytes read at once.
const READ_BYTES: usize = 1 << 20;

/// What can be done with a journal.
#[derive(Debug, Subcommand)]
pub enum JournalCommand {
    /// Read every record and list every damage. Changes nothing. Exit code 1 when something is damaged.
    Verify,
    /// Keep every sound record, write gaps over what cannot be read, and say what is lost. Keeps a copy of the files first.
    Salvage {
        /// Do it; without, only what would be done is said.
        #[arg(long)]
        yes: bool,
    },
}

/// Carries it out.
pub fn journal(config: &Config, command: JournalCommand) -> anyhow::Result<ExitCode> {
    let dir = config.data_dir().join("journal");
    anyhow::ensure!(
        dir.is_dir(),
        "there is no journal in {}; name the hub's --data-dir",
        dir.display()
    );
    let data_dir = DataDir::lock(&config.data_dir())?;
    let fs = RealFs::new(&dir)?;
    let look = |repair: bool| -> anyhow::Result<(u64, Vec<Lost>)> {
        let bar = ProgressBar::new(0);
        let found = salvage(&fs, repair, |done, of| {
            bar.set_length(of);
            bar.set_position(done);
        });
        bar.finish_and_clear();
        match found {
            Err(SalvageError::Nothing) if is_untouched(&fs)? => Ok((0, Vec::new())),
            found => Ok(found?),
        }
    };
    let (records, lost) = look(false)?;
    println!("{records} sound records");
    for lost in &lost {
        let damage = lost.as_damage();
        println!(
            "damaged at offset {} ({} byte {}): {}",
            damage.offset, damage.file, damage.byte, damage.what
        );
    }
    match command {
        JournalCommand::Verify => {
            println!(
                "{}",
                match (lost.is_empty(), records) {
                    (true, 0) => "The journal is empty and sound.",
                    (true, _) => "The journal is sound.",
                    (false, _) => "The journal is damaged.",
                }
            );
            Ok(if lost.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        JournalCommand::Salvage { .. } if lost.is_empty() => {
            println!("Nothing to salvage.");
            Ok(ExitCode::SUCCESS)
        }
        JournalCommand::Salvage { yes: false } => {
            println!(
                "Nothing was changed. `stockfold journal salvage --yes` gives up what is listed above and keeps the rest."
            );
            Ok(ExitCode::FAILURE)
        }
        JournalCommand::Salvage { yes: true } => {
            let copy = data_dir.path().join("journal-damaged");
            anyhow::ensure!(
                !copy.exists(),
                "{} is there from an earlier salvage; move it away first, so that no evidence is overwritten",
                copy.display()
            );
            std::fs::create_dir(&copy)
                .with_context(|| format!("cannot make {}", copy.display()))?;
            for entry in std::fs::read_dir(&dir)? {
                let entry = entry?;
                let to = copy.join(entry.file_name());
                std::fs::copy(entry.path(), &to)
                    .and_then(|_| std::fs::File::open(&to)?.sync_all())
                    .with_context(|| format!("cannot copy {}", entry.path().display()))?;
            }
            let (records, lost) = look(true)?;
            let gone: u64 = lost.iter().map(|l| l.next_seq.saturating_sub(l.first_seq)).sum();
            println!(
                "Salvaged: {records} records kept, {gone} records lost. The damaged files are in {}.",
                copy.display()
            );
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Whether no file holds anything behind its header's place: nothing was ever recorded, because a header is synced before the
/// first record.
fn is_untouched(fs: &impl Fs) -> io::Result<bool> {
    let mut bytes = vec![0u8; READ_BYTES];
    for name in fs.list()? {
        let file = fs.open(&name)?;
        let mut at = HEADER_BYTES as u64;
        loop {
            let read = file.read_at(&mut bytes, at)?;
            if bytes[..read].iter().any(|byte| *byte != 0) {
                return Ok(false);
            }
            if read < bytes.len() {
                break;
            }
            at += read as u64;
        }
    }
    Ok(true)
}
