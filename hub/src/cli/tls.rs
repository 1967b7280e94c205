//! `stockfold tls`: what devices need to believe the hub.

use std::process::ExitCode;

use anyhow::Context;
use clap::Subcommand;
use hub::{config::Config, tls::authority::certificate_file};

/// What can be asked of the hub's certificates.
#[derive(Debug, Subcommand)]
pub enum TlsCommand {
    /// Print the certificate of the hub's own authority (PEM): what a device must trust to connect with TLS, unless [tls]
    /// cert_file names a certificate of another authority.
    Ca,
}

/// Carries it out.
pub fn tls(config: &Config, command: &TlsCommand) -> anyhow::Result<ExitCode> {
    match command {
        TlsCommand::Ca => {
            let file = certificate_file(&config.data_dir());
            let pem = std::fs::read_to_string(&file).with_context(|| {
                format!(
                    "cannot read {}; the hub makes it at its first start: name the hub's --data-dir, and run as its user",
                    file.display()
                )
            })?;
            print!("{pem}");
            Ok(ExitCode::SUCCESS)
        }
    }
}
