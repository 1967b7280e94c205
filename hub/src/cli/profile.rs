//! `stockfold profile`: profiles as files, before any hub knows them. Nothing here needs a configuration or a running hub.

use std::{
    io::Read as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context;
use clap::{Args, Subcommand};
use device_profiles::{
    Profile, ProfileError, edgex,
    limits::{FRAME_BYTES_MAX, IMPORT_BYTES_MAX, PROFILE_BYTES_MAX},
    profile::Stream,
    shipped::{SHIPPED, shipped},
};

/// What can be done with profiles.
#[derive(Debug, Subcommand)]
pub enum ProfileCommand {
    /// List the profiles that come with the hub.
    List,
    /// Print the text of a profile that comes with the hub.
    Show {
        /// Its name.
        name: String,
    },
    /// Check profiles and say what they mean; exit code 1 when one is refused, with line and column.
    Check {
        /// The files.
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Decode a frame and print what it says as JSON; exit code 1 when it is rejected.
    Try(TryArgs),
    /// Turn an EdgeX device profile into a profile; what cannot be carried over is named in comments.
    Import {
        /// The EdgeX device profile (YAML).
        file: PathBuf,
        /// Write to this new file and not to standard output.
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
        /// How often the device is read, in milliseconds; EdgeX does not say it in the profile.
        #[arg(long, value_name = "MS", default_value_t = 1_000)]
        poll_ms: u32,
    },
}

/// A frame, and what it is read with.
#[derive(Debug, Args)]
#[group(skip)]
pub struct TryArgs {
    /// The profile: a file, or the name of one that comes with the hub.
    profile: String,
    /// The stream.
    stream: String,
    #[command(flatten)]
    frame: FrameArgs,
}

/// Where the frame is.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct FrameArgs {
    /// The frame as text.
    payload: Option<String>,
    /// The frame as hexadecimal digits; blanks and colons between them do not count.
    #[arg(long, value_name = "DIGITS")]
    hex: Option<String>,
    /// A file that is the frame.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

/// Carries it out.
pub fn profile(command: ProfileCommand) -> anyhow::Result<ExitCode> {
    match command {
        ProfileCommand::List => list(),
        ProfileCommand::Show { name } => {
            let text = shipped(&name).with_context(|| {
                format!("no profile named {name} comes with the hub; `stockfold profile list` names them")
            })?;
            print!("{text}");
            Ok(ExitCode::SUCCESS)
        }
        ProfileCommand::Check { files } => check(&files),
        ProfileCommand::Try(args) => try_frame(&args),
        ProfileCommand::Import { file, output, poll_ms } => {
            import(&file, output.as_deref(), poll_ms)
        }
    }
}

fn list() -> anyhow::Result<ExitCode> {
    println!("{:<20} {:<8} description", "profile", "codec");
    for (name, text) in SHIPPED {
        let profile = Profile::parse(text).with_context(|| format!("profile {name}"))?;
        println!("{name:<20} {:<8} {}", profile.codec.as_str(), profile.description);
    }
    Ok(ExitCode::SUCCESS)
}

fn check(files: &[PathBuf]) -> anyhow::Result<ExitCode> {
    let mut code = ExitCode::SUCCESS;
    for file in files {
        let text = text_of(file, PROFILE_BYTES_MAX)?;
        match Profile::parse(&text) {
            Ok(profile) => {
                println!("{}: profile {} is sound", file.display(), profile.name);
                explain(&profile);
            }
            Err(error) => {
                refuse(file, &text, &error);
                code = ExitCode::FAILURE;
            }
        }
    }
    Ok(code)
}

/// Says in the form of a compiler what is wrong and where, with the line itself.
fn refuse(file: &Path, text: &str, error: &ProfileError) {
    let Some(place) = error.place() else {
        eprintln!("{}: {}", file.display(), error.what());
        return;
    };
    eprintln!("{}:{}:{}: {}", file.display(), place.line, place.column, error.what());
    let (line, column) = (usize::try_from(place.line), usize::try_from(place.column));
    if let (Ok(line), Ok(column)) = (line, column)
        && let Some(written) = text.lines().nth(line.saturating_sub(1))
    {
        // A long line is shown from where the error is.
        let (written, column) = match column.checked_sub(80) {
            None => (written.chars().take(100).collect::<String>(), column),
            Some(far) => (written.chars().skip(far).take(100).collect(), 80),
        };
        let number = line.to_string();
        eprintln!("  {number} | {written}");
        eprintln!("  {} | {}^", " ".repeat(number.len()), " ".repeat(column.saturating_sub(1)));
    }
}

fn explain(profile: &Profile) {
    println!("  hash     {}", profile.hash);
    println!("  codec    {}", profile.codec.as_str());
    for pattern in &profile.topics {
        let to = pattern.fixed_stream().map(|name| format!(" → {name}")).unwrap_or_default();
        println!("  topic    {}{to} (filter {})", pattern.as_str(), pattern.filter());
    }
    let named = profile.streams.iter().map(|(name, stream)| (name.as_str(), stream));
    for (name, stream) in named.chain(profile.other.iter().map(|stream| ("*", stream))) {
        show_stream(name, stream);
    }
    for (name, command) in profile.modbus.iter().flat_map(|map| &map.commands) {
        let steps = command.steps.len();
        println!("  command  {name}: steps {steps}, at most {} a day", command.per_day_max);
    }
}

fn show_stream(name: &str, stream: &Stream) {
    println!(
        "  stream   {name}: {}, class {}, repeats told by {}",
        stream.kind.as_str(),
        stream.class.as_str(),
        stream.dedupe.as_str()
    );
    let Some(poll) = &stream.poll else { return };
    println!("           every {} ms, requests {}:", poll.every_ms, poll.requests.len());
    for request in &poll.requests {
        let (from, what) =
            (request.start, if request.table.is_bits() { "bits" } else { "registers" });
        let to = u32::from(from) + u32::from(request.count) - 1;
        println!(
            "           function {:02}, address {from} to {to} on the wire, {} {what}",
            request.table.function(),
            request.count
        );
    }
}

fn try_frame(args: &TryArgs) -> anyhow::Result<ExitCode> {
    let path = Path::new(&args.profile);
    let text = match shipped(&args.profile) {
        Some(text) if !path.exists() => text.to_owned(),
        _ => text_of(path, PROFILE_BYTES_MAX).with_context(|| {
            "name a file, or a profile that `stockfold profile list` shows".to_owned()
        })?,
    };
    let profile = match Profile::parse(&text) {
        Ok(profile) => profile,
        Err(error) => {
            refuse(path, &text, &error);
            return Ok(ExitCode::FAILURE);
        }
    };
    let frame = match (&args.frame.payload, &args.frame.hex, &args.frame.file) {
        (Some(payload), _, _) => payload.clone().into_bytes(),
        (_, Some(digits), _) => bytes_of(digits)?,
        (_, _, Some(file)) => bytes_in(file, FRAME_BYTES_MAX)?,
        (None, None, None) => anyhow::bail!("name a frame: its text, --hex or --file"),
    };
    println!("{:#}", hub::api::decoded(&profile, &args.stream, &frame));
    let sound = device_profiles::decode(&profile, &args.stream, &frame).is_ok();
    Ok(if sound { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn import(file: &Path, output: Option<&Path>, poll_ms: u32) -> anyhow::Result<ExitCode> {
    let text = text_of(file, IMPORT_BYTES_MAX)?;
    let made = edgex::import(&text, poll_ms)
        .with_context(|| format!("{} cannot be imported", file.display()))?;
    match output {
        None => print!("{made}"),
        Some(path) => {
            let new = std::fs::File::create_new(path);
            std::io::Write::write_all(
                &mut new.with_context(|| format!("cannot create {}", path.display()))?,
                made.as_bytes(),
            )
            .with_context(|| format!("cannot write {}", path.display()))?;
            println!(
                "Written to {}. Read its comments, then `stockfold profile check` it.",
                path.display()
            );
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A file of at most so many bytes; a longer one is refused without reading it to the end.
fn bytes_in(file: &Path, bytes_max: usize) -> anyhow::Result<Vec<u8>> {
    let cannot = || format!("cannot read {}", file.display());
    let opened = std::fs::File::open(file).with_context(cannot)?;
    let mut bytes = Vec::new();
    opened.take(bytes_max as u64 + 1).read_to_end(&mut bytes).with_context(cannot)?;
    if bytes.len() > bytes_max {
        anyhow::bail!("{} is longer than {bytes_max} bytes", file.display());
    }
    Ok(bytes)
}

/// A text file of at most so many bytes.
pub fn text_of(file: &Path, bytes_max: usize) -> anyhow::Result<String> {
    String::from_utf8(bytes_in(file, bytes_max)?)
        .with_context(|| format!("{} is not UTF-8 text", file.display()))
}

fn bytes_of(digits: &str) -> anyhow::Result<Vec<u8>> {
    let digits: Vec<u32> = digits
        .chars()
        .filter(|c| !c.is_whitespace() && *c != ':')
        .map(|c| c.to_digit(16).with_context(|| format!("{c:?} is no hexadecimal digit")))
        .collect::<Result<_, _>>()?;
    if !digits.len().is_multiple_of(2) {
        anyhow::bail!("--hex has an odd number of digits; a byte has two");
    }
    // Two digits below 16 each make one byte.
    Ok(digits.chunks_exact(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_digits_are_bytes() {
        assert_eq!(bytes_of("01 03:fF\n").unwrap(), [1, 3, 255]);
        assert!(bytes_of("012").is_err());
        assert!(bytes_of("0x1").is_err());
    }
}
