//! What answers at an address where no relay does: looked at by hand, for one clear message.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use super::connector::Carrier;
use super::tls::Tls;
use super::{DialError, Wire};
use crate::text;

/// The first words of an HTTP/2 client and an empty SETTINGS frame (RFC 9113, 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00";
/// The smallest ClientHello that makes a TLS server answer, with an alert if nothing else (RFC 5246,
/// 7.4.1.2): version 1.2, 32 times `c` as the random, one cipher suite, no compression.
const CLIENT_HELLO: &[u8] =
    b"\x16\x03\x01\x00\x2d\x01\x00\x00\x29\x03\x03cccccccccccccccccccccccccccccccc\x00\x00\x02\xc0\x2f\x01\x00";

/// What was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Seen {
    /// HTTP/2: it may be a relay after all.
    Http2,
    /// HTTP/1, with its first line, safe to print.
    Http1(String),
    Tls,
    /// It takes the connection and closes it.
    Closed,
    /// It takes the connection and says nothing.
    Silent,
    /// It says something else, with its first line, safe to print.
    Other(String),
    /// It does not take a connection any more.
    Gone,
    /// It breaks off TLS, and says why.
    Refused(DialError),
}

/// Connects once or twice, waiting at most `wait` for each answer. Where TLS was asked for, nothing is
/// said outside of it.
pub(super) async fn probe(carrier: &Carrier, wait: Duration) -> Seen {
    if let Some(tls) = carrier.tls() {
        return within(carrier, tls, wait).await;
    }
    // First without a word: what a port-forward complains of can be lost when something is written to it.
    if let Some(Ok(answer)) = listen(carrier, wait / 2).await {
        return classify(&answer);
    }
    let seen = match ask(carrier, PREFACE, wait).await {
        Err(seen) => seen,
        Ok(answer) => classify(&answer),
    };
    if matches!(seen, Seen::Closed | Seen::Silent)
        && let Ok(answer) = ask(carrier, CLIENT_HELLO, wait).await
        && is_tls(&answer)
    {
        return Seen::Tls;
    }
    seen
}

/// What is said below TLS to somebody who says nothing; `None` if that is nothing too. Whatever the way
/// learns by it is in its note then.
pub(super) async fn listen(carrier: &Carrier, wait: Duration) -> Option<io::Result<Vec<u8>>> {
    let mut wire = dialled(carrier, wait).await.ok()?;
    let said = answer(&mut wire, &[], wait).await;
    if said.as_ref().is_ok_and(Vec::is_empty) { None } else { Some(said) }
}

/// The first bytes of the answer.
async fn ask(carrier: &Carrier, question: &[u8], wait: Duration) -> Result<Vec<u8>, Seen> {
    let mut wire = dialled(carrier, wait).await?;
    match answer(&mut wire, question, wait).await {
        Ok(answer) if answer.is_empty() => Err(Seen::Silent),
        Ok(answer) => Ok(answer),
        Err(_) => Err(Seen::Closed),
    }
}

/// The same within TLS. A server that does not like the client's certificate says so after the handshake,
/// and what is written by then can make the connection break before that is read: so it listens first.
async fn within(carrier: &Carrier, tls: &Tls, wait: Duration) -> Seen {
    let wire = match dialled(carrier, wait).await {
        Ok(wire) => wire,
        Err(seen) => return seen,
    };
    let mut wire = match timeout(wait, tls.over(wire)).await {
        Ok(Ok(wire)) => wire,
        Ok(Err(e)) => return Seen::Refused(e),
        Err(_) => return Seen::Silent,
    };
    for question in [&[][..], PREFACE] {
        match answer(&mut wire, question, wait).await {
            Ok(answer) if answer.is_empty() => {}
            Ok(answer) => return classify(&answer),
            Err(e) if e.get_ref().is_some_and(|e| e.is::<rustls::Error>()) => {
                return Seen::Refused(tls.refused(&e));
            }
            Err(_) => return Seen::Closed,
        }
    }
    Seen::Silent
}

async fn dialled(carrier: &Carrier, wait: Duration) -> Result<Wire, Seen> {
    match timeout(wait * 2, carrier.bare()).await {
        Ok(Ok(wire)) => Ok(wire),
        Ok(Err(_)) | Err(_) => Err(Seen::Gone),
    }
}

/// What comes back within `wait`; an error when the connection ends before that.
async fn answer(wire: &mut Wire, question: &[u8], wait: Duration) -> io::Result<Vec<u8>> {
    let mut answer = Vec::with_capacity(512);
    let exchange = async {
        wire.write_all(question).await?;
        wire.flush().await?;
        // Nine bytes tell everything but what an HTTP/1 server has to say.
        while answer.len() < 9 || answer.starts_with(b"HTTP/1") && answer.len() < 512 {
            if wire.read_buf(&mut answer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(())
    };
    match timeout(wait, exchange).await {
        Ok(Err(e)) if answer.is_empty() => Err(e),
        _ => Ok(answer),
    }
}

fn classify(answer: &[u8]) -> Seen {
    let text = String::from_utf8_lossy(answer);
    let line = text::visible(text.lines().next().unwrap_or_default(), 60).into_owned();
    if is_tls(answer) {
        Seen::Tls
    } else if text.starts_with("HTTP/1") {
        // Go and nginx answer in plain text when a TLS port is spoken to without TLS.
        if text.contains("HTTPS") {
            return Seen::Tls;
        }
        Seen::Http1(line)
    } else if answer.len() >= 9 && answer[3] == 4 && answer[5..9] == [0; 4] {
        Seen::Http2
    } else {
        Seen::Other(line)
    }
}

/// A record of the kind alert or handshake, of any version.
fn is_tls(answer: &[u8]) -> bool {
    matches!(answer, [0x15 | 0x16, 0x03, ..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers() {
        fn check(answer: &[u8], expected: Seen) {
            assert_eq!(classify(answer), expected);
        }
        check(b"HTTP/1.1 400 Bad Request\r\n\r\n", Seen::Http1("HTTP/1.1 400 Bad Request".to_owned()));
        check(b"HTTP/1.1 400 \x1b[2J\r\n\r\n", Seen::Http1("HTTP/1.1 400 \\u{1b}[2J".to_owned()));
        check(
            b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n",
            Seen::Tls,
        );
        check(b"\x15\x03\x03\x00\x02\x02\x46", Seen::Tls);
        check(b"\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x05\x00\x00\x40\x00", Seen::Http2);
        check(b"SSH-2.0-OpenSSH_9.6\r\n", Seen::Other("SSH-2.0-OpenSSH_9.6".to_owned()));
        check(b"\x00\x01", Seen::Other("\\u{0}\\u{1}".to_owned()));
        // The lengths in the hello are right.
        assert_eq!(CLIENT_HELLO.len(), 5 + 0x2d);
        assert_eq!(CLIENT_HELLO.len(), 5 + 4 + 0x29);
    }
}
