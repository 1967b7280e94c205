//! Connections to readers: plain TCP, or TLS with the authority that `[readers] ca_file` names.
//!
//! The files are read anew for each connection: a renewed certificate is taken at the next one. A reader over TLS is believed only
//! under the name or address the bus has for it; there is no way to leave that out, for then TLS would keep nobody away.

use std::{io, sync::Arc};

use actors::reader::{Dial, Pipe, ReaderAddress};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::ServerName,
    version::{TLS12, TLS13},
};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::{
    config::Readers,
    tls::{Pair, TlsError, pair},
};

/// The way to readers by these settings.
pub fn dial(settings: Readers) -> Dial {
    let settings = Arc::new(settings);
    Arc::new(move |address: &ReaderAddress| {
        let (settings, address) = (Arc::clone(&settings), address.clone());
        Box::pin(async move { connect(&settings, &address).await })
    })
}

async fn connect(settings: &Readers, address: &ReaderAddress) -> io::Result<Box<dyn Pipe>> {
    let stream = TcpStream::connect(&address.place).await?;
    stream.set_nodelay(true)?;
    if !address.tls {
        return Ok(Box::new(stream));
    }
    let config = tls(settings).map_err(io::Error::other)?;
    let name = ServerName::try_from(address.host().to_owned()).map_err(io::Error::other)?;
    Ok(Box::new(TlsConnector::from(Arc::new(config)).connect(name, stream).await?))
}

fn tls(settings: &Readers) -> Result<ClientConfig, TlsError> {
    let refused = |error: rustls::Error| TlsError::Refused(error.to_string());
    let Some(path) = &settings.ca_file else {
        return Err(TlsError::Unset(
            "[readers] ca_file names no authority, and llrps:// needs that of the reader's certificate",
        ));
    };
    let mut roots = RootCertStore::empty();
    for certificate in pair::certificates(path, &pair::read(path)?)? {
        roots.add(certificate).map_err(refused)?;
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(refused)?
        .with_root_certificates(roots);
    let mut config = match settings.cert_file.as_ref().zip(settings.key_file.as_ref()) {
        None => config.with_no_client_auth(),
        Some((certificate, key)) => {
            let pair =
                Pair::parse((certificate, &pair::read(certificate)?), (key, &pair::read(key)?))?;
            config.with_client_auth_cert(pair.chain, pair.key).map_err(refused)?
        }
    };
    config.resumption = rustls::client::Resumption::disabled();
    Ok(config)
}
