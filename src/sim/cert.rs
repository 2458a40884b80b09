//! The host's self-signed certificate: made once, kept beside the state, so that its fingerprint stays what was pinned.

use std::path::Path;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest, Sha256};

use super::state;
use crate::error::Fault;

/// A TLS configuration and the SHA-256 of its certificate, as colon-separated hexadecimal.
pub struct Identity {
    pub tls: Arc<ServerConfig>,
    pub fingerprint: String,
}

/// Reads the certificate in `folder`, or makes one there.
pub fn identity(folder: &Path) -> Result<Identity, Fault> {
    let path = folder.join("certificate.pem");
    let pem = match std::fs::read_to_string(&path) {
        Ok(pem) => pem,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let pem = generate()?;
            state::write_private(&path, pem.as_bytes())?;
            pem
        }
        Err(error) => return Err(state::broken(&path, error)),
    };
    let certificate = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|error| state::broken(&path, error))?;
    let key = PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|error| state::broken(&path, error))?;
    let fingerprint = fingerprint(&certificate);
    let tls = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(vec![certificate], key))
        .map_err(|error| state::broken(&path, error))?;
    Ok(Identity { tls: Arc::new(tls), fingerprint })
}

fn generate() -> Result<String, Fault> {
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    let made = rcgen::generate_simple_self_signed(names).map_err(|error| {
        Fault::new("sim.certificate", "no certificate could be made for the simulator").cause(error)
    })?;
    Ok(format!("{}{}", made.cert.pem(), made.signing_key.serialize_pem()))
}

fn fingerprint(certificate: &[u8]) -> String {
    let digest = Sha256::digest(certificate);
    digest.iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":")
}
