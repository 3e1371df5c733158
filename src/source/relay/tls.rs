//! TLS to a relay: files and names in, a handshake or one clear sentence out.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore,
    SignatureScheme,
};
use tokio_rustls::TlsConnector;

use super::{DialError, Wire};
use crate::text;

/// What HTTP/2 is called in the handshake.
const H2: &[u8] = b"h2";
/// How to get the relay's CA, as Cilium's chart makes it.
const FETCH_CA: &str = "kubectl -n kube-system get secret hubble-relay-server-certs \
                        -o jsonpath='{.data.ca\\.crt}' | base64 -d > hubble-ca.crt";

/// What TLS was asked for. Its files are read anew for every connection.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsOptions {
    /// CAs that the relay's certificate may be signed by; empty: those of the system.
    pub ca_cert_files: Vec<PathBuf>,
    /// Certificate and key that the relay gets to see.
    pub client: Option<(PathBuf, PathBuf)>,
    /// The name that the relay's certificate must have; `None`: what the way says.
    pub server_name: Option<String>,
    /// Talk to whoever answers.
    pub allow_insecure: bool,
}

/// Why TLS cannot even be begun: a sentence that names the file or value, and the remedy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TlsError(String);

/// TLS, ready for a handshake.
pub(super) struct Tls {
    connector: TlsConnector,
    name: ServerName<'static>,
    options: TlsOptions,
}

// === impl TlsOptions ===

impl TlsOptions {
    /// Whether these files and names can be used at all; `fallback` is the way's own server name.
    pub fn check(&self, fallback: Option<&str>) -> Result<(), TlsError> {
        self.load(fallback).map(drop)
    }

    pub(super) fn load(&self, fallback: Option<&str>) -> Result<Tls, TlsError> {
        let Some(name) = self.server_name.as_deref().or(fallback) else {
            return Err(TlsError(
                "with TLS over a Unix socket the name in the relay's certificate must be given: \
                 --tls-server-name"
                    .to_owned(),
            ));
        };
        let name = ServerName::try_from(name.to_owned()).map_err(|_| {
            let shown = text::visible(name, 100);
            TlsError(format!("{shown:?} is no name that a certificate can have: give --tls-server-name"))
        })?;
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|e| TlsError(format!("TLS cannot be set up: {e}")))?;
        let builder = if self.allow_insecure {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(Anyone(provider)))
        } else {
            builder.with_root_certificates(self.roots()?)
        };
        let mut config = match &self.client {
            None => builder.with_no_client_auth(),
            Some((cert, key)) => {
                let chain = certificates("--tls-client-cert-file", cert)?;
                let private = private_key(key)?;
                builder.with_client_auth_cert(chain, private).map_err(|e| {
                    let (cert, key) = (shown(cert), shown(key));
                    TlsError(match e {
                        Error::InconsistentKeys(_) => format!(
                            "the key in {key} does not fit the certificate in {cert}: give the pair that \
                             was made together (--tls-client-cert-file, --tls-client-key-file)"
                        ),
                        e => format!("certificate {cert} and key {key} cannot be used: {e}"),
                    })
                })?
            }
        };
        config.alpn_protocols = vec![H2.to_vec()];
        Ok(Tls { connector: TlsConnector::from(Arc::new(config)), name, options: self.clone() })
    }

    fn roots(&self) -> Result<RootCertStore, TlsError> {
        let mut roots = RootCertStore::empty();
        for file in &self.ca_cert_files {
            for certificate in certificates("--tls-ca-cert-files", file)? {
                roots.add(certificate).map_err(|e| {
                    TlsError(format!("--tls-ca-cert-files {}: not a CA certificate ({e})", shown(file)))
                })?;
            }
        }
        if self.ca_cert_files.is_empty() {
            let system = rustls_native_certs::load_native_certs();
            let (added, _) = roots.add_parsable_certificates(system.certs);
            if added == 0 {
                return Err(TlsError(
                    "this system has no CA certificates: give those of the relay with --tls-ca-cert-files"
                        .to_owned(),
                ));
            }
        }
        Ok(roots)
    }

    /// What the relay's certificate is held against.
    fn trust(&self) -> String {
        match &self.ca_cert_files[..] {
            [] => "any CA of this system".to_owned(),
            files => {
                let files: Vec<String> = files.iter().map(|f| shown(f)).collect();
                format!("a CA in {}", files.join(", "))
            }
        }
    }
}

fn shown(path: &Path) -> String {
    text::visible(&path.display().to_string(), 200).into_owned()
}

fn certificates(flag: &str, file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let error = |what: String| TlsError(format!("{flag} {}: {what}", shown(file)));
    let pem = std::fs::read(file).map_err(|e| error(format!("cannot be read: {e}")))?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match all {
        Ok(all) if !all.is_empty() => Ok(all),
        Ok(_) => Err(error("there is no certificate in it; it must be PEM (BEGIN CERTIFICATE)".to_owned())),
        Err(e) => Err(error(format!("not a PEM file: {e}"))),
    }
}

fn private_key(file: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let error = |what: String| TlsError(format!("--tls-client-key-file {}: {what}", shown(file)));
    let pem = std::fs::read(file).map_err(|e| error(format!("cannot be read: {e}")))?;
    PrivateKeyDer::from_pem_slice(&pem).map_err(|_| {
        error("there is no key in it; it must be PEM (BEGIN PRIVATE KEY), not encrypted".to_owned())
    })
}

// === impl Tls ===

impl Tls {
    /// The handshake over this wire. Nothing but TLS is ever written to it.
    pub(super) async fn over(&self, wire: Wire) -> Result<Wire, DialError> {
        let stream = self.connector.connect(self.name.clone(), wire).await.map_err(|e| self.refused(&e))?;
        if stream.get_ref().1.alpn_protocol() != Some(H2) {
            return Err(DialError::new("it speaks TLS, but not HTTP/2 over it, as a relay does")
                .remedy("Check host and port"));
        }
        Ok(Box::new(stream))
    }

    /// The name that the certificate must have.
    pub(super) fn name(&self) -> String {
        self.name.to_str().into_owned()
    }

    /// What an error of a handshake, or of the first read after it, means.
    pub(super) fn refused(&self, error: &io::Error) -> DialError {
        let rustls = error.get_ref().and_then(|e| e.downcast_ref::<Error>());
        match rustls {
            Some(Error::InvalidCertificate(error)) => self.bad_certificate(error),
            Some(Error::InvalidMessage(_)) => DialError::new(
                "TLS was asked for, but what answers does not speak TLS; nothing was sent in plaintext",
            )
            .remedy("Leave out --tls (and tls://) if this relay has no TLS: its Service has port 80 then"),
            Some(Error::AlertReceived(alert)) => self.alert(*alert),
            Some(error) => DialError::new(format!("the TLS handshake failed: {error}")),
            None => DialError::new(format!(
                "the connection broke during the TLS handshake ({error}), as happens when what answers \
                 does not speak TLS"
            ))
            .remedy("Leave out --tls (and tls://) if this relay has no TLS: its Service has port 80 then"),
        }
    }

    fn bad_certificate(&self, error: &CertificateError) -> DialError {
        use CertificateError as C;
        let trust = self.options.trust();
        match error {
            C::NotValidForName => DialError::new(format!("its certificate is not for {}", self.name())),
            C::NotValidForNameContext { presented, .. } => {
                let names: Vec<String> =
                    presented.iter().take(5).map(|name| certificate_name(name)).collect();
                DialError::new(format!(
                    "its certificate is for {}, not for {}",
                    names.join(", "),
                    self.name()
                ))
            }
            C::UnknownIssuer | C::BadSignature => {
                return DialError::new(format!("its certificate is not signed by {trust}")).remedy(format!(
                    "Give the relay's CA with --tls-ca-cert-files; with Cilium's chart: {FETCH_CA}"
                ));
            }
            C::Expired | C::ExpiredContext { .. } => {
                return DialError::new(format!("its certificate has expired ({error})"))
                    .remedy("Renew the relay's certificate, and check the clock of this machine");
            }
            C::NotValidYet | C::NotValidYetContext { .. } => {
                return DialError::new(format!("its certificate is not valid yet ({error})"))
                    .remedy("Check the clock of this machine");
            }
            error => return DialError::new(format!("its certificate is refused: {error}")),
        }
        .remedy(
            "Give the name that stands in it with --tls-server-name, for *.hubble-relay.cilium.io for \
             example instance.hubble-relay.cilium.io",
        )
    }

    /// What the relay says of us.
    fn alert(&self, alert: AlertDescription) -> DialError {
        use AlertDescription as A;
        match (&self.options.client, alert) {
            (None, A::CertificateRequired | A::HandshakeFailure | A::BadCertificate) => {
                DialError::new("the relay demands a client certificate (mTLS)")
                    .remedy("Give one with --tls-client-cert-file and --tls-client-key-file")
            }
            (Some((cert, _)), A::CertificateExpired) => {
                let cert = shown(cert);
                DialError::new(format!("the relay says that the client certificate in {cert} has expired"))
                    .remedy(format!("Renew it; its dates: openssl x509 -noout -dates -in {cert}"))
            }
            (
                Some((cert, _)),
                A::UnknownCA
                | A::BadCertificate
                | A::CertificateUnknown
                | A::DecryptError
                | A::CertificateRequired
                | A::AccessDenied
                | A::UnsupportedCertificate
                | A::CertificateRevoked,
            ) => {
                let cert = shown(cert);
                DialError::new(format!("the relay refuses the client certificate in {cert} ({alert:?})"))
                    .remedy("Give one that is signed by the relay's CA and is valid today")
            }
            _ => DialError::new(format!("the relay ended the TLS handshake ({alert:?})")),
        }
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A name as rustls shows it, `DnsName("x")`, without its kind.
fn certificate_name(name: &str) -> String {
    let name = name.split_once('(').map_or(name, |(_, rest)| rest.trim_end_matches(')'));
    text::visible(name.trim_matches('"'), 100).into_owned()
}

/// Takes every certificate, because the user said so.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let schemes = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, schemes)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let schemes = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, schemes)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
