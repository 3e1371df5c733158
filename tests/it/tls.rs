//! TLS to the relay: what is trusted, what is refused, and that nothing leaves in plaintext.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use cpg::demo::{DemoRelay, Masks, Options, Script, Step};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ServerConfig, WebPkiClientVerifier};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::runtime::Runtime;
use tokio::task::AbortHandle;
use tokio_rustls::TlsAcceptor;

use crate::live::{ONE, Running, Serving, policies, rules_or_none, sends, serving, until};
use crate::support::{Ran, cpg, denied, run, write};

/// The name in the certificate of Cilium's chart.
pub(crate) const NAME: &str = "instance.hubble-relay.cilium.io";

/// A CA, and what it signs.
pub(crate) struct Ca {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) pem: String,
}

/// A certificate and its key, PEM.
pub(crate) struct Pair {
    pub(crate) cert: String,
    pub(crate) key: String,
}

impl Ca {
    pub(crate) fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    pub(crate) fn signs(&self, name: &str) -> Pair {
        self.signs_with(name, |_| {})
    }

    /// One that was good until 2020.
    pub(crate) fn signs_expired(&self, name: &str) -> Pair {
        self.signs_with(name, |params| {
            (params.not_before, params.not_after) = (date_time_ymd(2019, 1, 1), date_time_ymd(2020, 1, 1));
        })
    }

    fn signs_with(&self, name: &str, change: impl Fn(&mut CertificateParams)) -> Pair {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        change(&mut params);
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        Pair { cert: cert.pem(), key: key.serialize_pem() }
    }
}

impl Pair {
    /// A server with this certificate, which asks for client certificates of `clients` if there is one.
    pub(crate) fn server(&self, clients: Option<&Ca>) -> ServerConfig {
        let chain = CertificateDer::pem_slice_iter(self.cert.as_bytes()).map(Result::unwrap).collect();
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap();
        let mut config = match clients {
            None => builder.with_no_client_auth(),
            Some(ca) => {
                let mut roots = RootCertStore::empty();
                roots.add(CertificateDer::from_pem_slice(ca.pem.as_bytes()).unwrap()).unwrap();
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
                builder.with_client_cert_verifier(verifier)
            }
        }
        .with_single_cert(chain, key)
        .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        config
    }
}

/// Stands before a relay: ends TLS where it is told to, and notes the first byte of each connection.
pub(crate) struct Front {
    pub(crate) address: String,
    first: Arc<Mutex<Vec<u8>>>,
    acceptor: Arc<Mutex<Option<TlsAcceptor>>>,
    open: Arc<Mutex<Vec<AbortHandle>>>,
    _runtime: Runtime,
}

impl Front {
    pub(crate) fn new(behind: &Serving, tls: Option<ServerConfig>) -> Self {
        let runtime = Runtime::new().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let first = Arc::new(Mutex::new(Vec::new()));
        let (noted, behind): (_, SocketAddr) = (Arc::clone(&first), behind.address.parse().unwrap());
        let acceptor = Arc::new(Mutex::new(tls.map(|config| TlsAcceptor::from(Arc::new(config)))));
        let open = Arc::new(Mutex::new(Vec::new()));
        let (tls, connections) = (Arc::clone(&acceptor), Arc::clone(&open));
        runtime.spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let (noted, acceptor) = (Arc::clone(&noted), tls.lock().unwrap().clone());
                let connection = tokio::spawn(async move {
                    let mut byte = [0];
                    if client.peek(&mut byte).await? == 1 {
                        noted.lock().unwrap().push(byte[0]);
                    }
                    let mut relay = TcpStream::connect(behind).await?;
                    match acceptor {
                        Some(acceptor) => {
                            let mut client = acceptor.accept(client).await?;
                            tokio::io::copy_bidirectional(&mut client, &mut relay).await
                        }
                        None => tokio::io::copy_bidirectional(&mut client, &mut relay).await,
                    }
                });
                connections.lock().unwrap().push(connection.abort_handle());
            }
        });
        Self { address, first, acceptor, open, _runtime: runtime }
    }

    /// Further connections get this certificate.
    pub(crate) fn serve_with(&self, config: ServerConfig) {
        *self.acceptor.lock().unwrap() = Some(TlsAcceptor::from(Arc::new(config)));
    }

    /// Breaks the open connections.
    pub(crate) fn cut(&self) {
        self.open.lock().unwrap().drain(..).for_each(|connection| connection.abort());
    }

    pub(crate) fn first_bytes(&self) -> Vec<u8> {
        self.first.lock().unwrap().clone()
    }
}

/// What a handshake begins with.
const HANDSHAKE: u8 = 0x16;

fn relay() -> Serving {
    serving(DemoRelay::new([sends(&[denied()]).then(Step::Hang)]))
}

/// Follows until the need of [`relay`] is in a file.
#[track_caller]
fn follows(dir: &Path, args: &[&str]) -> Ran {
    let common = ["generate", "--flush-interval", "100ms"];
    let child = Running::new(cpg(dir).args([&common, args].concat()));
    until("the need is in a file", || rules_or_none(dir).is_some_and(|r| r == [ONE]));
    child.signal("-TERM");
    child.end().code(0)
}

/// Fails to connect, within the time, with one error.
#[track_caller]
fn refused(dir: &Path, args: &[&str]) -> Ran {
    let start = Instant::now();
    let ran = run(dir, &[&["generate", "--timeout", "4s"], args].concat()).code(2);
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}: {}", start.elapsed(), ran.stderr);
    assert_eq!(ran.stderr.matches("error:").count(), 1, "{}", ran.stderr);
    ran
}

#[test]
fn tls_and_mtls() {
    let (ca, clients) = (Ca::new("relay"), Ca::new("clients"));
    let relay = relay();
    let plain = Front::new(&relay, Some(ca.signs(NAME).server(None)));
    let mutual = Front::new(&relay, Some(ca.signs(NAME).server(Some(&clients))));
    let dir = tempfile::tempdir().unwrap();
    let me = clients.signs("cpg");
    write(&dir.path().join("ca.crt"), &ca.pem);
    write(&dir.path().join("me.crt"), &me.cert);
    write(&dir.path().join("me.key"), &me.key);
    let trust = ["--tls-ca-cert-files", "ca.crt", "--tls-server-name", NAME];
    let pair = ["--tls-client-cert-file", "me.crt", "--tls-client-key-file", "me.key"];
    follows(dir.path(), &[&["--server", &plain.address, "--tls"][..], &trust].concat()).says("with TLS");
    // The scheme asks for it too.
    std::fs::remove_dir_all(dir.path().join("policies")).unwrap();
    let server = format!("tls://{}", mutual.address);
    follows(dir.path(), &[&["--server", &server][..], &trust, &pair].concat());
    // And the Hubble CLI's variables do; a CPG_ variable wins over them, a flag over that.
    std::fs::remove_dir_all(dir.path().join("policies")).unwrap();
    let child = Running::new(
        cpg(dir.path())
            .args(["generate", "--flush-interval", "100ms", "--tls-client-key-file", "me.key"])
            .env("HUBBLE_SERVER", &mutual.address)
            .env("HUBBLE_TLS", "true")
            .env("HUBBLE_TLS_CA_CERT_FILES", "ca.crt")
            .env("HUBBLE_TLS_SERVER_NAME", "wrong.example")
            .env("CPG_TLS_SERVER_NAME", NAME)
            .env("CPG_TLS_CLIENT_CERT_FILE", "me.crt")
            .env("CPG_TLS_CLIENT_KEY_FILE", "wrong.key"),
    );
    until("the need is in a file", || rules_or_none(dir.path()).is_some_and(|r| r == [ONE]));
    child.signal("-TERM");
    child.end().code(0);
    let first = [plain.first_bytes(), mutual.first_bytes()].concat();
    assert!(first.len() == 3 && first.iter().all(|b| *b == HANDSHAKE), "{first:?}");
}

#[test]
fn certificates_that_are_refused() {
    let (ca, other) = (Ca::new("relay"), Ca::new("other"));
    let relay = relay();
    let dir = tempfile::tempdir().unwrap();
    write(&dir.path().join("ca.crt"), &ca.pem);
    write(&dir.path().join("other.crt"), &other.pem);
    let check = |pair: &Pair, args: &[&str], says: &[&str]| {
        let front = Front::new(&relay, Some(pair.server(None)));
        let mut ran = refused(dir.path(), &[&["--server", &front.address, "--tls"], args].concat());
        ran = ran.says(&front.address).says("(tried for up to 4s)");
        for says in says {
            ran = ran.says(says);
        }
        assert!(front.first_bytes().iter().all(|b| *b == HANDSHAKE), "{:?}", front.first_bytes());
    };
    let (good, expired) = (ca.signs(NAME), ca.signs_expired(NAME));
    let named = ["--tls-server-name", NAME];
    check(
        &good,
        &[&["--tls-ca-cert-files", "other.crt"][..], &named].concat(),
        &["not signed by a CA in other.crt", "get secret hubble-relay-server-certs"],
    );
    // The CA that is named takes the place of the system's, and those are asked without one.
    check(&good, &named, &["not signed by any CA of this system", "--tls-ca-cert-files"]);
    check(
        &good,
        &["--tls-ca-cert-files", "ca.crt"],
        &["its certificate is for instance.hubble-relay.cilium.io, not for 127.0.0.1", "--tls-server-name"],
    );
    check(
        &expired,
        &[&["--tls-ca-cert-files", "ca.crt"][..], &named].concat(),
        &["its certificate has expired", "clock"],
    );
}

#[test]
fn client_certificates_that_are_refused() {
    let (ca, clients) = (Ca::new("relay"), Ca::new("clients"));
    let relay = relay();
    let front = Front::new(&relay, Some(ca.signs(NAME).server(Some(&clients))));
    let dir = tempfile::tempdir().unwrap();
    write(&dir.path().join("ca.crt"), &ca.pem);
    for (name, pair) in
        [("old", clients.signs_expired("cpg")), ("stranger", ca.signs("cpg")), ("good", clients.signs("cpg"))]
    {
        write(&dir.path().join(name).with_extension("crt"), &pair.cert);
        write(&dir.path().join(name).with_extension("key"), &pair.key);
    }
    let check = |client: &[&str], says: &[&str]| {
        let common =
            ["--server", &front.address, "--tls", "--tls-ca-cert-files", "ca.crt", "--tls-server-name", NAME];
        let mut ran = refused(dir.path(), &[&common, client].concat());
        for says in says {
            ran = ran.says(says);
        }
    };
    let pair = |cert, key| ["--tls-client-cert-file", cert, "--tls-client-key-file", key];
    check(&[], &["demands a client certificate (mTLS)", "--tls-client-cert-file", &front.address]);
    check(&pair("old.crt", "old.key"), &["client certificate in old.crt has expired", "openssl x509"]);
    check(&pair("stranger.crt", "stranger.key"), &["refuses the client certificate in stranger.crt"]);
    check(&pair("good.crt", "old.key"), &["the key in old.key does not fit the certificate in good.crt"]);
    check(&pair("good.crt", "ca.crt"), &["--tls-client-key-file ca.crt: there is no key in it"]);
    check(&pair("good.key", "good.key"), &["--tls-client-cert-file good.key: there is no certificate"]);
    check(&pair("none.crt", "good.key"), &["--tls-client-cert-file none.crt: cannot be read"]);
    check(&["--tls-client-cert-file", "good.crt"], &["give --tls-client-key-file too"]);
    check(&["--tls-client-key-file", "good.key"], &["give --tls-client-cert-file too"]);
    assert!(front.first_bytes().iter().all(|b| *b == HANDSHAKE), "{:?}", front.first_bytes());
}

#[test]
fn plain_to_tls_and_tls_to_plain() {
    let relay = relay();
    let secure = Front::new(&relay, Some(Ca::new("relay").signs(NAME).server(None)));
    let open = Front::new(&relay, None);
    let dir = tempfile::tempdir().unwrap();
    refused(dir.path(), &["--server", &secure.address])
        .says(&secure.address)
        .says("speaks TLS")
        .says("give --tls");
    for asks in [&["--server", &open.address, "--tls"][..], &["--server", &format!("tls://{}", open.address)]]
    {
        refused(dir.path(), &[asks, &["--tls-allow-insecure"]].concat())
            .says(&open.address)
            .says("does not speak TLS; nothing was sent in plaintext")
            .says("Leave out --tls");
    }
    let first = open.first_bytes();
    assert!(first.len() >= 2 && first.iter().all(|b| *b == HANDSHAKE), "{first:?}");
    assert!(relay.relay.requests().is_empty());
}

#[test]
fn insecure_is_said_and_needs_tls() {
    let relay = relay();
    let front = Front::new(&relay, Some(Ca::new("relay").signs("some.name").server(None)));
    let dir = tempfile::tempdir().unwrap();
    let args = ["--server", &front.address, "--tls", "--tls-allow-insecure"];
    follows(dir.path(), &args).says("whoever answers");
    for option in [
        &["--tls-allow-insecure"][..],
        &["--tls-ca-cert-files", "ca.crt"],
        &["--tls-server-name", NAME],
        &["--tls-client-cert-file", "a", "--tls-client-key-file", "b"],
    ] {
        refused(dir.path(), &[&["--server", &front.address], option].concat())
            .says(&format!("{} is given, but TLS was not asked for", option[0]));
    }
}

#[test]
fn a_relay_that_wants_a_login_is_refused_clearly() {
    let login = tonic::Status::unauthenticated("token required");
    let options = Options { masks: Masks::Ignore, refuse_all: Some(login), ..Options::default() };
    let relay = serving(DemoRelay::with([Script::default()], options));
    let dir = tempfile::tempdir().unwrap();
    refused(dir.path(), &["--server", &relay.address])
        .says("wants a login")
        .says("token required")
        .says("OIDC");
}

#[test]
fn a_unix_socket_and_ipv6() {
    let relay = relay();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("relay.sock");
    let runtime = Runtime::new().unwrap();
    let behind: SocketAddr = relay.address.parse().unwrap();
    let (unix, six) = runtime
        .block_on(async { (UnixListener::bind(&path).unwrap(), TcpListener::bind("[::1]:0").await.ok()) });
    let six_address = six.as_ref().map(|l| l.local_addr().unwrap().to_string());
    runtime.spawn(async move {
        while let Ok((mut client, _)) = unix.accept().await {
            let mut relay = TcpStream::connect(behind).await.unwrap();
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut client, &mut relay).await });
        }
    });
    follows(dir.path(), &["--server", &format!("unix://{}", path.display())]);
    if let (Some(six), Some(address)) = (six, six_address) {
        runtime.spawn(async move {
            while let Ok((mut client, _)) = six.accept().await {
                let mut relay = TcpStream::connect(behind).await.unwrap();
                tokio::spawn(async move { tokio::io::copy_bidirectional(&mut client, &mut relay).await });
            }
        });
        std::fs::remove_dir_all(dir.path().join("policies")).unwrap();
        follows(dir.path(), &["--server", &address]);
    }
    refused(dir.path(), &["--server", "unix:///no/such.sock"])
        .says("unix:///no/such.sock")
        .says("Check the path");
    refused(dir.path(), &["--server", "unix:///no/such.sock", "--tls"]).says("--tls-server-name");
    assert_eq!(policies(dir.path()), [ONE]);
}
