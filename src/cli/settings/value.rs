//! Values as people type them.

use std::time::Duration;

use super::Mistakes;
use crate::text::visible;

/// A duration that is not zero; the error names the flag.
pub(in crate::cli) fn duration(flag: &str, text: &str) -> Result<Duration, String> {
    within(flag, text, Duration::from_secs(86_400))
}

/// One that is not longer than `most`: a day or a year.
pub(super) fn within(flag: &str, text: &str, most: Duration) -> Result<Duration, String> {
    let shown = visible(text, 40);
    match humantime::parse_duration(text.trim()) {
        Ok(duration) if duration.is_zero() => Err(format!("{flag} {shown:?}: must be more than zero")),
        Ok(duration) if duration > most => {
            let most = if most.as_secs() > 86_400 { "a year" } else { "a day" };
            Err(format!("{flag} {shown:?}: must be {most} at most"))
        }
        Ok(duration) => Ok(duration),
        Err(e) => Err(format!("{flag} {shown:?}: not a duration like 5s, 1m30s or 500ms ({e})")),
    }
}

/// `HOST:PORT`, or `:PORT` for every address of this machine.
pub(super) fn listen_address(text: &str) -> Result<String, String> {
    let port = text.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
    match port {
        Some(_) => Ok(text.to_owned()),
        None => Err(format!(
            "--metrics-listen {:?}: give HOST:PORT, or :PORT for every address of this machine",
            visible(text, 100)
        )),
    }
}

/// The value; a mistake goes to the others.
pub(in crate::cli) fn keep<T>(result: Result<T, String>, mistakes: &mut Mistakes) -> Option<T> {
    result.map_err(|mistake| mistakes.push(mistake)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let check = |text: &str, expected: Option<u64>| {
            assert_eq!(duration("--x", text).ok().map(|d| d.as_millis() as u64), expected, "{text:?}");
        };
        check("5s", Some(5000));
        check("1m30s", Some(90_000));
        check("0s", None);
        check("0", None);
        check("-5s", None);
        check("5", None);
        check("", None);
        check("30d", None);
    }
}
